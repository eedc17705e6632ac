//! One execution as its frames tell it, live from the stream or afterwards from the Pod's log.

use sha2::{Digest, Sha256};

use crate::frames::{FileTotals, FromRunner, Output, ResultFile, RunResult, Stream, StreamTotals, hex};

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
    files: Vec<ResultFile>,
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
            FromRunner::File(file) if self.speaks => self.push_file(file),
            FromRunner::Output(_) | FromRunner::File(_) => {}
            FromRunner::Result(result) if result.uid == self.uid => self.set_result(*result),
            FromRunner::Result(_) => {}
        }
    }

    fn push_output(&mut self, output: &Output) {
        if !self.is_next(output.seq) {
            return;
        }
        match output.stream {
            Stream::Stdout => self.stdout.push_str(&output.data),
            Stream::Stderr => self.stderr.push_str(&output.data),
        }
    }

    fn push_file(&mut self, file: ResultFile) {
        if self.is_next(file.seq) {
            self.files.push(file);
        }
    }

    /// Whether a piece is new, and notes whether there is a gap before it.
    fn is_next(&mut self, seq: u64) -> bool {
        if self.result.is_some() || seq < self.next_seq {
            return false;
        }
        self.missed |= seq > self.next_seq;
        self.next_seq = seq.saturating_add(1);
        true
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

    /// The files that it left as results, as far as they are known, in the order in which the program made them.
    #[must_use]
    pub fn files(&self) -> &[ResultFile] {
        &self.files
    }

    /// Bytes of all that is known of its output and files, as they stand in the frames.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        let files = self.files.iter().map(|file| file.path.len() + file.content.len());
        self.stdout.len() + self.stderr.len() + files.sum::<usize>()
    }

    /// Whether it ended and every byte that the runner kept is here, by the runner's own digests.
    /// Where this is false after the end, the Pod's log may know more.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.result.as_ref().is_some_and(|result| {
            !self.missed
                && matches(&result.stdout, &self.stdout)
                && matches(&result.stderr, &self.stderr)
                && self.has_files_of(result)
        })
    }

    /// Whether every file that the runner took is here.
    fn has_files_of(&self, result: &RunResult) -> bool {
        FileTotals::of(&self.files, result.files.dropped) == result.files
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
            files: FileTotals::default(),
            run_ms: 1,
            cpu_ms: 1,
            peak_memory_bytes: 1,
            network: NetworkReport::default(),
        }))
    }

    fn started(uid: &str) -> FromRunner {
        FromRunner::Started(Started { uid: uid.to_owned() })
    }

    fn file(seq: u64, path: &str) -> ResultFile {
        ResultFile {
            seq,
            path: path.to_owned(),
            mime_type: "text/plain".to_owned(),
            content: "aGk=".to_owned(),
        }
    }

    /// What a runner says of a program that printed "a" and left these.
    fn with_files(files: &[ResultFile]) -> Vec<FromRunner> {
        let mut frames = vec![started("u"), output(0, "a")];
        frames.extend(files.iter().cloned().map(FromRunner::File));
        let FromRunner::Result(mut result) = result("u", "a") else {
            unreachable!("just made")
        };
        result.files = FileTotals::of(files, false);
        frames.push(FromRunner::Result(result));
        frames
    }

    fn told(frames: &[FromRunner]) -> Transcript {
        let mut transcript = Transcript::new("u");
        frames.iter().for_each(|frame| transcript.push(frame.clone()));
        transcript
    }

    #[test]
    fn files_come_in_their_order_from_the_stream_and_from_the_log() {
        let files = [file(1, "b"), file(2, "a")];
        let frames = with_files(&files);
        let log: Vec<u8> = frames.iter().flat_map(encode).collect();
        for transcript in [told(&frames), Transcript::from_log("u", &log)] {
            assert!(transcript.is_whole());
            assert_eq!(transcript.files(), files);
            assert_eq!(transcript.kept_bytes(), 1 + 2 * 5);
        }
    }

    #[test]
    fn a_file_that_is_missing_shows_wherever_it_stood() {
        let frames = with_files(&[file(1, "a"), file(2, "b"), file(3, "c")]);
        for lost in 2..5 {
            let mut frames = frames.clone();
            frames.remove(lost);
            assert!(!told(&frames).is_whole(), "without frame {lost}");
        }
    }

    #[test]
    fn a_file_that_was_changed_shows() {
        for change in [
            |file: &mut ResultFile| file.path.push('x'),
            |file: &mut ResultFile| file.mime_type = "image/png".to_owned(),
            |file: &mut ResultFile| file.content = "aGo=".to_owned(),
        ] {
            let mut frames = with_files(&[file(1, "a")]);
            let FromRunner::File(file) = &mut frames[2] else {
                panic!("the file comes third")
            };
            change(file);
            assert!(!told(&frames).is_whole());
        }
    }

    #[test]
    fn a_file_that_comes_twice_counts_once() {
        let mut frames = with_files(&[file(1, "a")]);
        frames.insert(3, frames[2].clone());
        assert!(told(&frames).is_whole());
    }

    #[test]
    fn the_result_of_a_runner_that_knows_no_files_is_whole_without_any() {
        let FromRunner::Result(result) = result("u", "") else {
            unreachable!("just made")
        };
        let mut json = serde_json::to_value(result).expect("plain data");
        json.as_object_mut().expect("fields").remove("files");
        let mut transcript = Transcript::new("u");
        transcript.set_result(serde_json::from_value(json).expect("it reads"));
        assert!(transcript.is_whole());
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
