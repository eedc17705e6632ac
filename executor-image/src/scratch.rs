//! The folders that programs write to, where the image has them as links into the container's /dev/shm.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes the folder that each of these links leads to; what is no link is left as it is.
///
/// Comes before the interpreter starts: it is the only time when no path can have been put there by a program.
pub fn make(links: &[&Path]) -> io::Result<()> {
    for link in links {
        if let Ok(target) = fs::read_link(link) {
            let folder = link.parent().unwrap_or(link).join(target);
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
    }
    Ok(())
}
