//! What is kept of a result's texts and files where there is no room for all of them.

use codeexec_crds::{CodeExecutionStatus, ResultFile, StoredBytes, Truncated};
use codeexec_runner::encoding::{encoded_len, encoded_prefix, encoded_suffix};

use super::measure::file_bytes;

/// Bytes that are kept of either end of a stream, as encoded.
const END: usize = 64 * 1024;

/// Bytes that are always kept of each text, as encoded: of a stream its beginning, of an error its end, which names the
/// exception.
pub const HEAD: usize = 1024;

/// Longest line that stands where something was taken out of the middle.
const NOTE: usize = 64;

/// How much of its texts and files a result keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// All that the runner kept.
    Whole,
    /// The first and the last 64 KiB of each stream, and 128 KiB of files.
    Ends,
    /// The first KiB of each stream, and the last of the error. No file.
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

    /// The most that texts and files of these lengths take once they are cut.
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
            files: stored.files.min(self.of_files() as u64),
            rest: stored.rest,
        }
    }

    /// Cuts a result's texts and takes files away; what loses something is flagged. Whether anything was lost.
    pub fn shorten(self, status: &mut CodeExecutionStatus) -> bool {
        let mut truncated = status.truncated.unwrap_or_default();
        let Truncated {
            stdout,
            stderr,
            files: files_flag,
        } = &mut truncated;
        let mut cut = false;
        for (text, flag) in [(&mut status.output, stdout), (&mut status.stderr, stderr)] {
            if let Some(shorter) = text.as_deref().and_then(|text| self.of_stream(text)) {
                *text = Some(shorter);
                *flag = true;
                cut = true;
            }
        }
        if let Some(files) = &mut status.files
            && keep_files(files, self.of_files())
        {
            *files_flag = true;
            cut = true;
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

    /// Bytes of files.
    fn of_files(self) -> usize {
        match self {
            Self::Whole => usize::MAX,
            Self::Ends => 2 * END,
            Self::Heads => 0,
        }
    }

    fn of_stream(self, text: &str) -> Option<String> {
        match self {
            Self::Whole => None,
            Self::Ends => (encoded_len(text) > 2 * END + NOTE).then(|| ends(text)),
            Self::Heads => (encoded_len(text) > HEAD).then(|| encoded_prefix(text, HEAD).to_owned()),
        }
    }
}

/// Keeps half of the bytes of files. Whether any was lost: the last one goes as a whole.
pub fn keep_half(files: &mut Vec<ResultFile>) -> bool {
    let bytes = files.iter().map(file_bytes).sum::<usize>();
    keep_files(files, bytes / 2)
}

/// Keeps the files that fit into so many bytes, the first ones first. Whether any was lost.
fn keep_files(files: &mut Vec<ResultFile>, bytes: usize) -> bool {
    let (before, mut left) = (files.len(), bytes);
    files.retain(|file| match left.checked_sub(file_bytes(file)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    });
    files.len() < before
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

    fn file(path: &str, bytes: usize) -> ResultFile {
        ResultFile {
            path: path.to_owned(),
            mime_type: "text/plain".to_owned(),
            content: "A".repeat(bytes),
        }
    }

    fn left(files: Vec<ResultFile>) -> CodeExecutionStatus {
        CodeExecutionStatus {
            files: Some(files),
            ..printed("", "", None)
        }
    }

    fn paths(status: &CodeExecutionStatus) -> Vec<&str> {
        let files = status.files.iter().flatten();
        files.map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn the_first_files_that_fit_stay_where_streams_keep_their_ends() {
        let small = 30_000;
        let mut status = left(vec![
            file("a", small),
            file("large", 3 * END),
            file("b", small),
            file("c", 3 * small),
            file("d", small),
        ]);
        assert!(Room::Ends.shorten(&mut status));
        assert_eq!(paths(&status), ["a", "b", "d"]);
        let flagged = status.truncated.expect("flags");
        assert!(flagged.files && !flagged.stdout && !flagged.stderr);
    }

    #[test]
    fn no_file_stays_where_streams_keep_their_heads() {
        let mut status = left(vec![file("a", 1)]);
        assert!(Room::Heads.shorten(&mut status));
        assert_eq!(paths(&status), [""; 0]);
        assert!(status.truncated.is_some_and(|flags| flags.files));
        let mut none = left(Vec::new());
        assert!(!Room::Heads.shorten(&mut none), "there was nothing to lose");
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
            files in proptest::collection::vec(("[a<\u{2028}é]{1,8}", 0_usize..100_000), 0..6),
        ) {
            let text = pattern.repeat(times);
            let status = CodeExecutionStatus {
                files: Some(files.iter().map(|(path, bytes)| file(path, *bytes)).collect()),
                ..printed(&text, &pattern, Some(&pattern.repeat(error_times)))
            };
            let whole = stored(0, &status);
            for room in [Room::Whole, Room::Ends, Room::Heads] {
                let mut cut = status.clone();
                let lost = room.shorten(&mut cut);
                let (kept, reckoned) = (stored(0, &cut), room.kept(whole));
                prop_assert!(kept.stdout <= reckoned.stdout, "{room:?}: {kept:?} {reckoned:?}");
                prop_assert!(kept.stderr <= reckoned.stderr);
                prop_assert!(kept.error <= reckoned.error);
                prop_assert!(kept.files <= reckoned.files);
                prop_assert_eq!(lost, cut != status);
                prop_assert_eq!(cut.truncated.expect("flags").files, cut.files != status.files);
                prop_assert_eq!(cut.truncated.expect("flags").stdout, cut.output != status.output);
            }
        }
    }
}
