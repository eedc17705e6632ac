//! All processes of the PID namespace but the runner.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Their folders in /proc.
pub fn others() -> impl Iterator<Item = PathBuf> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            name != "1" && name.bytes().all(|byte| byte.is_ascii_digit())
        })
}

/// How many threads they have together; a process has at least one.
pub fn threads_of_others() -> u64 {
    // The folder's links: two of any folder, and one for each thread in it.
    let threads =
        |process: PathBuf| fs::metadata(process.join("task")).map(|task| task.nlink().saturating_sub(2));
    others().filter_map(|process| threads(process).ok()).sum()
}
