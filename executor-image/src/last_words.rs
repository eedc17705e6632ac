//! The termination log: what Kubernetes keeps of a container when its log can't be read.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use codeexec_runner::frames::RunResult;

/// What the kubelet keeps.
const MOST_BYTES: usize = 4096;

/// The file, where there is one.
#[derive(Debug)]
pub struct LastWords {
    file: Option<File>,
    holds_result: Cell<bool>,
}

impl LastWords {
    /// Opens it before there is anybody who could put another file in its place.
    pub fn open(path: &Path) -> Self {
        Self {
            file: OpenOptions::new().write(true).open(path).ok(),
            holds_result: Cell::new(false),
        }
    }

    /// Takes an earlier program's result away: the next one may read the file, and is to have a result of its own.
    pub fn clear(&self) {
        if self.holds_result.replace(false) {
            self.write("");
        }
    }

    /// Leaves the result, as JSON.
    pub fn result(&self, result: &RunResult) {
        if let Ok(json) = serde_json::to_string(result) {
            self.write(&json);
            self.holds_result.set(true);
        }
    }

    /// Leaves the reason why there is no result, as `{"error": …}`. Not over a result: a runner that comes to grief
    /// between two programs has nothing to tell that matters more.
    pub fn error(&self, message: &str) {
        if self.holds_result.get() {
            return;
        }
        let message: String = message.chars().take(MOST_BYTES / 8).collect();
        self.write(&serde_json::json!({ "error": message }).to_string());
    }

    fn write(&self, text: &str) {
        if let Some(file) = self.file.as_ref().filter(|_| text.len() < MOST_BYTES) {
            // A container without room for its last words still ends. Emptied first: where Landlock is missing,
            // the program may have left something there.
            let _ = file
                .set_len(0)
                .and_then(|()| file.write_all_at(text.as_bytes(), 0));
        }
    }
}
