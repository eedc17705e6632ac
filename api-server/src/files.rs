//! Files that are read again when they change: keys and certificates, as a Secret mounted into a Pod changes.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::time::sleep;

/// How often they are looked at. Their contents are compared, not their times: a mounted Secret is a link
/// that changes its target, and two writes can have the same time.
const EVERY: Duration = Duration::from_secs(1);

/// Largest file that is read, in bytes. Ten thousand keys have 1.5 MB.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Why a file can't be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The kernel says so.
    #[error("failed to read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// It is no such file.
    #[error("{path} is larger than {MAX_BYTES} bytes")]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
}

/// Some files and what they held when they were looked at last.
#[derive(Debug)]
pub struct Followed {
    paths: Vec<PathBuf>,
    contents: Vec<Vec<u8>>,
    /// Whether the last look failed, so that a row of failures is told once.
    is_lost: bool,
}

impl Followed {
    /// Reads them, in this order.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn open(paths: Vec<PathBuf>) -> Result<(Self, Vec<Vec<u8>>), FileError> {
        let contents = read(&paths).await?;
        let followed = Self {
            paths,
            contents: contents.clone(),
            is_lost: false,
        };
        Ok((followed, contents))
    }

    /// Waits until one of them holds something else, and returns what they hold. One that can't be read at
    /// the moment counts as unchanged.
    pub async fn changed(&mut self) -> Vec<Vec<u8>> {
        loop {
            sleep(EVERY).await;
            match read(&self.paths).await {
                Ok(contents) => {
                    self.is_lost = false;
                    if contents != self.contents {
                        self.contents.clone_from(&contents);
                        return contents;
                    }
                }
                Err(error) => {
                    if !self.is_lost {
                        tracing::warn!(%error, "what it held before stays in force");
                    }
                    self.is_lost = true;
                }
            }
        }
    }
}

async fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, FileError> {
    let mut contents = Vec::new();
    for path in paths {
        let failed = |source| FileError::Read {
            path: path.clone(),
            source,
        };
        let mut content = Vec::new();
        let file = File::open(path).await.map_err(failed)?;
        let mut bounded = file.take(MAX_BYTES + 1);
        bounded.read_to_end(&mut content).await.map_err(failed)?;
        if content.len() as u64 > MAX_BYTES {
            return Err(FileError::TooLarge { path: path.clone() });
        }
        contents.push(content);
    }
    Ok(contents)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_change_is_seen_through_links_and_after_a_while_without_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("one"), "1").unwrap();
        fs::write(at("two"), "2").unwrap();
        std::os::unix::fs::symlink(at("one"), at("link")).unwrap();
        let (mut followed, contents) = Followed::open(vec![at("link")]).await.unwrap();
        assert_eq!(contents, [b"1"]);
        fs::remove_file(at("link")).unwrap();
        let changed = tokio::spawn(async move { followed.changed().await });
        std::os::unix::fs::symlink(at("two"), at("link")).unwrap();
        assert_eq!(changed.await.unwrap(), [b"2"]);
    }

    #[tokio::test]
    async fn what_can_not_be_read_or_is_too_large_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        let error = Followed::open(vec![path.clone()]).await.unwrap_err().to_string();
        assert!(error.contains("large"), "{error}");
        fs::write(&path, vec![0; MAX_BYTES as usize + 1]).unwrap();
        let error = Followed::open(vec![path]).await.unwrap_err().to_string();
        assert!(error.contains("larger than"), "{error}");
    }
}
