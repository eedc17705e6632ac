//! What the program prints, on its way into frames: counted, decoded, cut at the limits, gathered.

use std::time::{Duration, Instant};

use codeexec_runner::encoding::{encoded_len, encoded_prefix};
use codeexec_runner::frames::{Output, OutputLimits, Stream, StreamTotals, hex};
use sha2::{Digest, Sha256};

/// How long output waits for more, so that a program that prints in a loop does not cost a frame each time.
const GATHER: Duration = Duration::from_millis(20);
/// How much text a frame holds.
const FRAME_BYTES: usize = 32 * 1024;

/// What is to be told at the end.
#[derive(Debug)]
pub struct Finished {
    /// The last frames.
    pub frames: Vec<Output>,
    /// What standard output came to.
    pub stdout: StreamTotals,
    /// What standard error came to.
    pub stderr: StreamTotals,
    /// The number of whatever comes after the last frame.
    pub next_seq: u64,
    /// What is left of the limit on encoded bytes.
    pub encoded_bytes_left: usize,
}

/// Both streams. Knows no file descriptor and no clock.
#[derive(Debug)]
pub struct Collector {
    room: OutputLimits,
    /// Something was dropped. What is kept are the first bytes, so everything after it is dropped too.
    full: bool,
    stdout: StreamState,
    stderr: StreamState,
    next_seq: u64,
    last_taken: Option<Instant>,
}

#[derive(Debug, Default)]
struct StreamState {
    /// The beginning of a character whose rest has not come yet.
    tail: Vec<u8>,
    pending: String,
    digest: Sha256,
    bytes: u64,
    truncated: bool,
}

impl Collector {
    /// Nothing printed yet.
    pub fn new(limits: OutputLimits) -> Self {
        Self {
            room: limits,
            full: false,
            stdout: StreamState::default(),
            stderr: StreamState::default(),
            next_seq: 0,
            last_taken: None,
        }
    }

    /// Takes bytes as they were read.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) {
        let kept = bytes.len().min(if self.full { 0 } else { self.room.bytes });
        self.room.bytes -= kept;
        let state = self.state(stream);
        state.bytes += bytes.len() as u64;
        let mut undecoded = std::mem::take(&mut state.tail);
        undecoded.extend_from_slice(&bytes[..kept]);
        let (text, tail) = decode(&undecoded);
        if kept < bytes.len() {
            // The cut may fall inside a character, whose beginning is dropped with the rest.
            state.truncated = true;
            self.full = true;
        } else {
            state.tail = tail.to_vec();
        }
        self.keep(stream, &text);
    }

    fn keep(&mut self, stream: Stream, text: &str) {
        let kept = encoded_prefix(text, self.room.encoded_bytes);
        self.room.encoded_bytes -= encoded_len(kept);
        let dropped = kept.len() < text.len();
        self.full |= dropped;
        let state = self.state(stream);
        state.truncated |= dropped;
        if dropped {
            state.tail.clear();
        }
        state.pending.push_str(kept);
    }

    /// When the next frames should go out, if there is anything for them.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let longest = self.stdout.pending.len().max(self.stderr.pending.len());
        match self.last_taken {
            _ if longest == 0 => None,
            Some(last) if longest < FRAME_BYTES => Some(last + GATHER),
            _ => Some(now),
        }
    }

    /// The frames that are due.
    pub fn take(&mut self, now: Instant) -> Vec<Output> {
        if self.due(now).is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.last_taken = Some(now);
        self.take_all()
    }

    /// Takes the last frames, and tells what each stream came to.
    pub fn finish(mut self) -> Finished {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let full = self.full;
            let state = self.state(stream);
            if std::mem::take(&mut state.tail).is_empty() {
                continue;
            }
            if full {
                state.truncated = true;
            } else {
                // The program ended inside a character.
                self.keep(stream, "\u{fffd}");
            }
        }
        Finished {
            frames: self.take_all(),
            next_seq: self.next_seq,
            encoded_bytes_left: self.room.encoded_bytes,
            stdout: self.stdout.totals(),
            stderr: self.stderr.totals(),
        }
    }

    fn take_all(&mut self) -> Vec<Output> {
        let mut frames = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let state = self.state(stream);
            let text = std::mem::take(&mut state.pending);
            state.digest.update(text.as_bytes());
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let (data, after) = rest.split_at(rest.floor_char_boundary(FRAME_BYTES));
                frames.push(Output {
                    stream,
                    seq: self.next_seq,
                    data: data.to_owned(),
                });
                self.next_seq += 1;
                rest = after;
            }
        }
        frames
    }

    fn state(&mut self, stream: Stream) -> &mut StreamState {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

impl StreamState {
    fn totals(self) -> StreamTotals {
        StreamTotals {
            bytes: self.bytes,
            truncated: self.truncated,
            sha256: hex(&self.digest.finalize()),
        }
    }
}

/// Text with U+FFFD for what is not UTF-8, and the bytes at the end that may still become a character.
fn decode(bytes: &[u8]) -> (String, &[u8]) {
    let mut text = String::with_capacity(bytes.len());
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        let invalid = chunk.invalid();
        if invalid.is_empty() {
            continue;
        }
        let unfinished = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if unfinished && chunks.peek().is_none() {
            return (text, invalid);
        }
        text.push(char::REPLACEMENT_CHARACTER);
    }
    (text, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use Stream::{Stderr, Stdout};

    fn limits(bytes: usize, encoded_bytes: usize) -> OutputLimits {
        OutputLimits { bytes, encoded_bytes }
    }

    fn ended(collector: Collector) -> (String, String, StreamTotals, StreamTotals) {
        let finished = collector.finish();
        let text = |stream| {
            finished
                .frames
                .iter()
                .filter(|f| f.stream == stream)
                .map(|f| f.data.as_str())
                .collect()
        };
        (text(Stdout), text(Stderr), finished.stdout, finished.stderr)
    }

    fn collected(
        limits: OutputLimits,
        pushes: &[(Stream, &[u8])],
    ) -> (String, String, StreamTotals, StreamTotals) {
        let mut collector = Collector::new(limits);
        pushes
            .iter()
            .for_each(|(stream, bytes)| collector.push(*stream, bytes));
        ended(collector)
    }

    #[test]
    fn text_does_not_depend_on_where_it_was_cut_into_reads() {
        let bytes = "aé€😀\u{2028}"
            .as_bytes()
            .iter()
            .chain(b"\xff\xe2\x82x\xf0\x9f")
            .copied()
            .collect::<Vec<_>>();
        let whole = String::from_utf8_lossy(&bytes).into_owned();
        for cut in 0..=bytes.len() {
            let (stdout, ..) = collected(
                limits(100, 100),
                &[(Stdout, &bytes[..cut]), (Stdout, &bytes[cut..])],
            );
            assert_eq!(stdout, whole, "cut at {cut}");
        }
    }

    #[test]
    fn exactly_the_limit_is_whole_and_one_byte_more_is_not() {
        let (text, _, totals, _) = collected(limits(4, 100), &[(Stdout, b"abcd")]);
        assert_eq!(
            (text.as_str(), totals.truncated, totals.bytes),
            ("abcd", false, 4)
        );
        let (text, _, totals, _) = collected(limits(4, 100), &[(Stdout, b"abc"), (Stdout, b"de")]);
        assert_eq!((text.as_str(), totals.truncated, totals.bytes), ("abcd", true, 5));
    }

    #[test]
    fn the_limit_is_of_both_streams_together_and_each_says_whether_it_lost_something() {
        let (out, err, stdout, stderr) = collected(
            limits(4, 100),
            &[(Stdout, b"abc"), (Stderr, b"de"), (Stderr, b"f")],
        );
        assert_eq!((out.as_str(), err.as_str()), ("abc", "d"));
        assert_eq!(
            (stdout.truncated, stderr.truncated, stderr.bytes),
            (false, true, 3)
        );
    }

    #[test]
    fn what_follows_a_gap_is_dropped_even_if_it_would_fit() {
        let (out, err, _, stderr) =
            collected(limits(100, 5), &[(Stdout, b"<<"), (Stdout, b"a"), (Stderr, b"b")]);
        assert_eq!((out.as_str(), err.as_str(), stderr.truncated), ("", "", true));
    }

    #[test]
    fn the_encoded_limit_counts_as_the_api_server_does() {
        let (out, _, totals, _) = collected(limits(100, 13), &[(Stdout, b"<\0ab")]);
        assert_eq!((out.as_str(), totals.truncated), ("<\0a", true));
        let (out, _, totals, _) = collected(limits(100, 14), &[(Stdout, b"<\0ab")]);
        assert_eq!((out.as_str(), totals.truncated), ("<\0ab", false));
    }

    #[test]
    fn a_cut_inside_a_character_leaves_no_garbage() {
        let (out, _, totals, _) = collected(limits(3, 100), &[(Stdout, "a€".as_bytes())]);
        assert_eq!((out.as_str(), totals.truncated), ("a", true));
        let (out, _, totals, _) = collected(limits(3, 100), &[(Stdout, b"a\xe2\x82"), (Stdout, b"\xac")]);
        assert_eq!((out.as_str(), totals.truncated), ("a", true));
        let (out, _, totals, _) = collected(limits(3, 100), &[(Stdout, b"a\xe2"), (Stderr, b"xyz")]);
        assert_eq!((out.as_str(), totals.truncated), ("a", true));
    }

    #[test]
    fn digests_are_of_the_text_in_the_frames() {
        let (out, _, totals, _) = collected(limits(2, 100), &[(Stdout, b"\xffbc")]);
        assert_eq!(out, "\u{fffd}b");
        assert_eq!(totals.sha256, hex(&Sha256::digest(out.as_bytes())));
    }

    #[test]
    fn what_is_left_and_the_next_number_are_told_at_the_end() {
        let mut collector = Collector::new(limits(100, 20));
        collector.push(Stdout, b"<a");
        collector.push(Stderr, b"b");
        let finished = collector.finish();
        assert_eq!((finished.frames.len(), finished.next_seq), (2, 2));
        assert_eq!(finished.encoded_bytes_left, 20 - 8);
    }

    #[test]
    fn the_first_piece_goes_at_once_and_the_next_are_gathered() {
        let start = Instant::now();
        let mut collector = Collector::new(OutputLimits::default());
        assert_eq!(collector.due(start), None);
        collector.push(Stdout, b"a");
        assert_eq!(collector.take(start).len(), 1);
        collector.push(Stdout, b"b");
        collector.push(Stderr, b"c");
        collector.push(Stdout, b"d");
        assert!(collector.take(start).is_empty());
        assert_eq!(collector.due(start), Some(start + GATHER));
        let frames = collector.take(start + GATHER);
        assert_eq!(
            frames
                .iter()
                .map(|f| (f.seq, f.data.as_str()))
                .collect::<Vec<_>>(),
            [(1, "bd"), (2, "c")]
        );
    }

    #[test]
    fn a_lot_of_output_does_not_wait_and_is_cut_between_characters() {
        let start = Instant::now();
        let mut collector = Collector::new(OutputLimits::default());
        collector.push(Stdout, b"x");
        collector.take(start);
        let text = "€".repeat(FRAME_BYTES / 2);
        collector.push(Stdout, text.as_bytes());
        let frames = collector.take(start);
        assert!(frames.len() > 1 && frames.iter().all(|frame| frame.data.len() <= FRAME_BYTES));
        assert_eq!(
            frames.iter().map(|frame| frame.data.as_str()).collect::<String>(),
            text
        );
    }
}
