//! One execution as its frames tell it, live from the stream or afterwards from the Pod's log.

use sha2::{Digest, Sha256};

use crate::frames::{FromRunner, Output, RunResult, Stream, StreamTotals, hex};

/// What the frames of one execution add up to.
///
/// A runner that is kept tells of several, one after the other. Output carries no name: it is whose `started` came
/// last, up to the result. A stream that was attached too late for that one shows the result alone, and is not
/// whole unless nothing was printed; the log has the rest.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    uid: String,
    started: bool,
    /// What is printed is its own.
    speaks: bool,
    next_seq: u64,
    missed: bool,
    stdout: String,
    stderr: String,
    result: Option<Box<RunResult>>,
}

impl Transcript {
    /// An empty transcript of the execution `uid`.
    #[must_use]
    pub fn new(uid: impl Into<String>) -> Self {
        Self {
            uid: uid.into(),
            ..Self::default()
        }
    }

    /// The transcript that a whole log tells.
    #[must_use]
    pub fn from_log(uid: impl Into<String>, log: &[u8]) -> Self {
        let mut transcript = Self::new(uid);
        for frame in crate::frames::Decoder::default().push(log) {
            transcript.push(frame);
        }
        transcript
    }

    /// Takes the next frame.
    pub fn push(&mut self, frame: FromRunner) {
        match frame {
            FromRunner::Ready(_) => {}
            // The answer to a repeated request comes in the middle of the output and changes nothing.
            FromRunner::Started(started) => {
                self.speaks = started.uid == self.uid;
                self.started |= self.speaks;
            }
            FromRunner::Output(output) if self.speaks => self.push_output(&output),
            FromRunner::Output(_) => {}
            FromRunner::Result(result) if result.uid == self.uid => self.set_result(*result),
            FromRunner::Result(_) => {}
        }
    }

    fn push_output(&mut self, output: &Output) {
        if self.result.is_some() || output.seq < self.next_seq {
            return;
        }
        self.missed |= output.seq > self.next_seq;
        self.next_seq = output.seq.saturating_add(1);
        match output.stream {
            Stream::Stdout => self.stdout.push_str(&output.data),
            Stream::Stderr => self.stderr.push_str(&output.data),
        }
    }

    /// Whether the program is known to have started.
    #[must_use]
    pub fn started(&self) -> bool {
        self.started
    }

    /// How it ended, once that is known.
    #[must_use]
    pub fn result(&self) -> Option<&RunResult> {
        self.result.as_deref()
    }

    /// Puts a result beside what the frames told, for a run whose last frame was lost.
    pub fn set_result(&mut self, result: RunResult) {
        self.started = true;
        self.result = Some(Box::new(result));
    }

    /// Standard output, as far as it is known.
    #[must_use]
    pub fn stdout(&self) -> &str {
        &self.stdout
    }

    /// Standard error, as far as it is known.
    #[must_use]
    pub fn stderr(&self) -> &str {
        &self.stderr
    }

    /// Whether it ended and every byte that the runner kept is here, by the runner's own digests.
    /// Where this is false after the end, the Pod's log may know more.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.result.as_ref().is_some_and(|result| {
            !self.missed && matches(&result.stdout, &self.stdout) && matches(&result.stderr, &self.stderr)
        })
    }
}

fn matches(totals: &StreamTotals, text: &str) -> bool {
    hex(&Sha256::digest(text.as_bytes())) == totals.sha256
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Ended, NetworkReport, Started, encode};

    fn output(seq: u64, data: &str) -> FromRunner {
        FromRunner::Output(Output {
            stream: Stream::Stdout,
            seq,
            data: data.to_owned(),
        })
    }

    fn result(uid: &str, stdout: &str) -> FromRunner {
        let totals = |text: &str| StreamTotals {
            bytes: text.len() as u64,
            truncated: false,
            sha256: hex(&Sha256::digest(text.as_bytes())),
        };
        FromRunner::Result(Box::new(RunResult {
            uid: uid.to_owned(),
            ended: Ended::Exited { code: 0 },
            oom_killed: false,
            stdout: totals(stdout),
            stderr: totals(""),
            run_ms: 1,
            cpu_ms: 1,
            peak_memory_bytes: 1,
            network: NetworkReport::default(),
        }))
    }

    fn started(uid: &str) -> FromRunner {
        FromRunner::Started(Started { uid: uid.to_owned() })
    }

    #[test]
    fn a_log_tells_the_same_as_the_live_stream() {
        let frames = [
            started("u"),
            output(0, "a"),
            started("u"),
            output(1, "b"),
            result("u", "ab"),
        ];
        let log: Vec<u8> = frames.iter().flat_map(encode).collect();
        let mut live = Transcript::new("u");
        frames.into_iter().for_each(|frame| live.push(frame));
        let read = Transcript::from_log("u", &log);
        assert!(live.is_whole() && read.is_whole());
        assert_eq!((live.stdout(), read.stdout()), ("ab", "ab"));
    }

    #[test]
    fn a_missed_piece_of_output_shows() {
        let mut transcript = Transcript::new("u");
        [started("u"), output(1, "b"), result("u", "ab")]
            .into_iter()
            .for_each(|frame| transcript.push(frame));
        assert!(transcript.result().is_some() && !transcript.is_whole());
    }

    #[test]
    fn a_piece_that_comes_twice_counts_once() {
        let mut transcript = Transcript::new("u");
        [started("u"), output(0, "a"), output(0, "a"), result("u", "a")]
            .into_iter()
            .for_each(|f| transcript.push(f));
        assert!(transcript.is_whole());
    }

    #[test]
    fn each_of_several_in_one_log_has_its_own_output() {
        let frames = [
            started("a"),
            output(0, "1"),
            result("a", "1"),
            started("b"),
            result("b", ""),
            started("c"),
            output(0, "2"),
            output(1, "3"),
            result("c", "23"),
        ];
        let log: Vec<u8> = frames.iter().flat_map(encode).collect();
        for (uid, printed) in [("a", "1"), ("b", ""), ("c", "23")] {
            let transcript = Transcript::from_log(uid, &log);
            assert!(transcript.is_whole(), "{uid}");
            assert_eq!(transcript.stdout(), printed, "{uid}");
        }
    }

    #[test]
    fn output_is_the_next_one_s_though_the_result_before_it_was_lost() {
        let mut transcript = Transcript::new("a");
        [started("a"), output(0, "1"), started("b"), output(1, "2")]
            .into_iter()
            .for_each(|frame| transcript.push(frame));
        assert_eq!(transcript.stdout(), "1");
    }

    #[test]
    fn output_of_before_the_start_is_somebody_else_s() {
        let mut transcript = Transcript::new("u");
        [output(0, "x"), started("u"), output(0, "a"), result("u", "a")]
            .into_iter()
            .for_each(|frame| transcript.push(frame));
        assert!(transcript.is_whole());
        assert_eq!(transcript.stdout(), "a");
    }

    #[test]
    fn another_execution_s_frames_say_nothing() {
        let mut transcript = Transcript::new("u");
        [started("v"), result("v", "")]
            .into_iter()
            .for_each(|frame| transcript.push(frame));
        assert!(!transcript.started() && transcript.result().is_none());
    }
}
