//! What is kept of a result's texts where there is no room for all of them.

use codeexec_crds::{CodeExecutionStatus, StoredBytes, Truncated};
use codeexec_runner::encoding::{encoded_len, encoded_prefix, encoded_suffix};

/// Bytes that are kept of either end of a stream, as encoded.
const END: usize = 64 * 1024;

/// Bytes that are always kept of each text, as encoded: of a stream its beginning, of an error its end, which names the
/// exception.
pub const HEAD: usize = 1024;

/// Longest line that stands where something was taken out of the middle.
const NOTE: usize = 64;

/// How much of its texts a result keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// All that the runner kept.
    Whole,
    /// The first and the last 64 KiB of each stream.
    Ends,
    /// The first KiB of each stream, and the last of the error.
    Heads,
}

impl Room {
    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Ends => "ends",
            Self::Heads => "heads",
        }
    }

    /// The most that texts of these lengths take once they are cut.
    #[must_use]
    pub fn kept(self, stored: StoredBytes) -> StoredBytes {
        let (stream, error) = match self {
            Self::Whole => return stored,
            Self::Ends => (2 * END + NOTE, usize::MAX),
            Self::Heads => (HEAD, HEAD),
        };
        StoredBytes {
            stdout: stored.stdout.min(stream as u64),
            stderr: stored.stderr.min(stream as u64),
            error: stored.error.min(error as u64),
            rest: stored.rest,
        }
    }

    /// Cuts a result's texts; a stream that loses something is flagged. Whether anything was lost.
    pub fn shorten(self, status: &mut CodeExecutionStatus) -> bool {
        let mut truncated = status.truncated.unwrap_or_default();
        let Truncated { stdout, stderr } = &mut truncated;
        let mut cut = false;
        for (text, flag) in [(&mut status.output, stdout), (&mut status.stderr, stderr)] {
            if let Some(shorter) = text.as_deref().and_then(|text| self.of_stream(text)) {
                *text = Some(shorter);
                *flag = true;
                cut = true;
            }
        }
        if cut {
            status.truncated = Some(truncated);
        }
        if self == Self::Heads
            && let Some(error) = &mut status.error
            && encoded_len(error) > HEAD
        {
            *error = encoded_suffix(error, HEAD).to_owned();
            cut = true;
        }
        cut
    }

    fn of_stream(self, text: &str) -> Option<String> {
        match self {
            Self::Whole => None,
            Self::Ends => (encoded_len(text) > 2 * END + NOTE).then(|| ends(text)),
            Self::Heads => (encoded_len(text) > HEAD).then(|| encoded_prefix(text, HEAD).to_owned()),
        }
    }
}

/// Both ends, with a line between them that says how much is missing.
fn ends(text: &str) -> String {
    let (head, tail) = (encoded_prefix(text, END), encoded_suffix(text, END));
    let dropped = text.len() - head.len() - tail.len();
    format!("{head}\n[... {dropped} bytes were not kept ...]\n{tail}")
}

#[cfg(test)]
mod tests {
    use codeexec_execution::budget::OUTPUT_BYTES;
    use proptest::prelude::*;

    use super::*;
    use crate::etcd::stored;

    fn printed(stdout: &str, stderr: &str, error: Option<&str>) -> CodeExecutionStatus {
        CodeExecutionStatus {
            output: Some(stdout.to_owned()),
            stderr: Some(stderr.to_owned()),
            error: error.map(ToOwned::to_owned),
            truncated: Some(Truncated::default()),
            ..CodeExecutionStatus::default()
        }
    }

    #[test]
    fn a_long_stream_keeps_both_ends_and_says_what_is_missing() {
        let text = format!("first{}last", "x".repeat(OUTPUT_BYTES));
        let mut status = printed(&text, "short", None);
        assert!(Room::Ends.shorten(&mut status));
        let output = status.output.expect("an output");
        assert!(output.starts_with("firstx") && output.ends_with("xlast"));
        let dropped = text.len() - 2 * END;
        assert!(output.contains(&format!("x\n[... {dropped} bytes were not kept ...]\nx")));
        assert_eq!(status.stderr.as_deref(), Some("short"));
        let flagged = status.truncated.expect("flags");
        assert!(flagged.stdout && !flagged.stderr);
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let status = printed(&"x".repeat(2 * END), "", Some("an error"));
        for room in [Room::Whole, Room::Ends] {
            let mut cut = status.clone();
            assert!(!room.shorten(&mut cut));
            assert_eq!(cut, status);
        }
    }

    #[test]
    fn of_a_traceback_the_end_stays() {
        let error = format!("Traceback\n{}\nValueError: no", "  line\n".repeat(1000));
        let mut status = printed("", "", Some(&error));
        assert!(Room::Heads.shorten(&mut status));
        let kept = status.error.expect("an error");
        assert!(kept.len() <= HEAD && kept.ends_with("ValueError: no"));
        assert_eq!(
            status.truncated,
            Some(Truncated::default()),
            "no stream lost anything"
        );
    }

    proptest! {
        /// Whatever was printed, however it encodes: the cut result takes no more than was reckoned.
        #[test]
        fn a_cut_result_takes_no_more_than_was_reckoned(
            pattern in "[ab<&\u{2028}\u{1}é😀\n\"]{1,8}",
            times in 0_usize..60_000,
            error_times in 0_usize..2000,
        ) {
            let text = pattern.repeat(times);
            let status = printed(&text, &pattern, Some(&pattern.repeat(error_times)));
            let whole = stored(0, &status);
            for room in [Room::Whole, Room::Ends, Room::Heads] {
                let mut cut = status.clone();
                let lost = room.shorten(&mut cut);
                let (kept, reckoned) = (stored(0, &cut), room.kept(whole));
                prop_assert!(kept.stdout <= reckoned.stdout, "{room:?}: {kept:?} {reckoned:?}");
                prop_assert!(kept.stderr <= reckoned.stderr);
                prop_assert!(kept.error <= reckoned.error);
                prop_assert_eq!(lost, cut != status);
                prop_assert_eq!(cut.truncated.expect("flags").stdout, cut.output != status.output);
            }
        }
    }
}
