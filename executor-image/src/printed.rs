//! One execution's output, picked out of a stream or a log in which there may be others'.

use crate::frames::{FromRunner, Output};

/// Knows whose turn it is, and what was seen.
///
/// A runner that is kept tells of several executions, one after the other. Output carries no name: it is whose
/// `started` came last, up to the result.
#[derive(Clone, Debug)]
pub struct Printed {
    uid: String,
    /// What is printed is its own.
    speaks: bool,
    next_seq: u64,
}

impl Printed {
    /// That of the execution `uid`, from the piece with this number on.
    #[must_use]
    pub fn from(uid: impl Into<String>, next_seq: u64) -> Self {
        Self {
            uid: uid.into(),
            speaks: false,
            next_seq,
        }
    }

    /// The number of the first piece that was not seen.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Takes the next frame. Says what was printed, unless it was seen before or is another's.
    pub fn push(&mut self, frame: FromRunner) -> Option<Output> {
        match frame {
            FromRunner::Started(started) => self.speaks = started.uid == self.uid,
            FromRunner::Result(result) => self.speaks &= result.uid != self.uid,
            FromRunner::Output(output) if self.speaks && output.seq >= self.next_seq => {
                self.next_seq = output.seq.saturating_add(1);
                return Some(output);
            }
            FromRunner::Output(_) | FromRunner::File(_) | FromRunner::Ready(_) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::frames::{Started, Stream};

    fn output(seq: u64, data: &str) -> FromRunner {
        FromRunner::Output(Output {
            stream: Stream::Stdout,
            seq,
            data: data.to_owned(),
        })
    }

    fn started(uid: &str) -> FromRunner {
        FromRunner::Started(Started { uid: uid.to_owned() })
    }

    fn seen(printed: &mut Printed, frames: impl IntoIterator<Item = FromRunner>) -> String {
        let outputs = frames.into_iter().filter_map(|frame| printed.push(frame));
        outputs.map(|output| output.data).collect()
    }

    #[test]
    fn each_piece_is_seen_once_and_a_reader_that_comes_back_goes_on_where_it_was() {
        let all = || [started("u"), output(0, "a"), output(1, "b"), output(2, "c")];
        let mut printed = Printed::from("u", 0);
        assert_eq!(seen(&mut printed, all().into_iter().take(3)), "ab");
        assert_eq!(seen(&mut printed, all()), "c");
        assert_eq!(seen(&mut Printed::from("u", 1), all()), "bc");
        assert_eq!(printed.next_seq(), 3);
    }

    #[test]
    fn what_others_print_before_and_after_it_is_not_its_own() {
        let totals = json!({"bytes": 2, "truncated": false, "sha256": ""});
        let end = json!({
            "type": "result", "uid": "u", "ended": {"how": "exited", "code": 0}, "oomKilled": false,
            "stdout": totals, "stderr": totals, "runMs": 1, "cpuMs": 1, "peakMemoryBytes": 1,
        });
        let end: FromRunner = serde_json::from_value(end).expect("a result");
        let log = [
            output(0, "1"),
            started("a"),
            output(0, "2"),
            started("u"),
            output(0, "3"),
            started("u"),
            output(1, "4"),
            end,
            output(2, "5"),
            started("b"),
            output(2, "6"),
        ];
        assert_eq!(seen(&mut Printed::from("u", 0), log), "34");
    }
}
