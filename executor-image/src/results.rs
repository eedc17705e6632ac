//! What a program leaves in the results folder of its work directory, read when none of its processes is there any
//! more.
//!
//! All in there is the program's, and may be made to harm: links that lead out, pipes that nobody writes to, files
//! without end, folders without bottom. So nothing is opened by more than one name at a time, below a descriptor that
//! is older than the program, and never through a link; only what is a regular file is read; and everything is
//! bounded: depth, entries, files, bytes, time.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use codeexec_runner::encoding::encoded_file_len;
use codeexec_runner::frames::{FileTotals, ResultFile};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat, fstat, openat, statat};
use rustix::io::Errno;

use crate::media::{self, media_type};

/// Its name in the work directory.
pub const FOLDER: &str = "out";

/// How many names a path has at most: three folders and a file.
const DEPTH: usize = 4;
/// How many entries are looked at.
const ENTRIES: usize = 1000;
/// How many files are taken.
const FILES: usize = 32;
/// How large one is, so that its frame fits whatever room the request gives.
const FILE_BYTES: usize = 1024 * 1024;
/// How long its path is.
const PATH_BYTES: usize = 255;
/// How long all of it may take, of the 5 s that a Pod has after its program's timeout.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is read of a folder at once.
const CHUNK: usize = 8 * 1024;

/// How a folder on the way is opened.
const FOLDER_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// How a file is opened. Without waiting: what was a file at first sight could be a pipe.
const FILE_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Where a program's results will be.
#[derive(Debug)]
pub struct Results {
    /// Nothing where there is no such folder.
    work_dir: Option<OwnedFd>,
}

/// What was taken of them.
#[derive(Debug, Default)]
pub struct Taken {
    /// In the order in which the program finished them.
    pub files: Vec<ResultFile>,
    /// There was more.
    pub dropped: bool,
}

impl Taken {
    /// What a result says of them.
    pub fn totals(&self) -> FileTotals {
        FileTotals::of(&self.files, self.dropped)
    }
}

impl Results {
    /// Of the next program, before it is there: it could put another folder in this one's place.
    pub fn open(work_dir: &Path) -> Self {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self {
            work_dir: openat(CWD, work_dir, flags, Mode::empty()).ok(),
        }
    }

    /// Reads them. Only while no process is there that the program started.
    ///
    /// `encoded_bytes` is what they may take in a status. Pieces of output ended before `next_seq`.
    pub fn take(&self, encoded_bytes: usize, next_seq: u64) -> Taken {
        let Some(work_dir) = &self.work_dir else {
            return Taken::default();
        };
        let top = match openat(work_dir, FOLDER, FOLDER_FLAGS, Mode::empty()) {
            Ok(top) => top,
            Err(error) => {
                return Taken {
                    files: Vec::new(),
                    dropped: hides_something(work_dir, error),
                };
            }
        };
        let mut walk = Walk::begin(top);
        walk.look();
        walk.take(encoded_bytes, next_seq)
    }
}

/// Whether results may be behind a folder that can't be opened. A file of that name is no such thing: it may be the
/// program's input.
fn hides_something(work_dir: &OwnedFd, error: Errno) -> bool {
    let is_a_file = || {
        statat(work_dir, FOLDER, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| kind(&stat) == FileType::RegularFile)
    };
    error != Errno::NOENT && !is_a_file()
}

/// Why no more is looked at.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// This folder can't be read.
    Here,
    /// The bounds are reached.
    Everywhere,
}

/// A file that was seen.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    /// In nanoseconds since 1970.
    modified: i128,
    path: String,
}

#[derive(Debug)]
struct Walk {
    top: OwnedFd,
    until: Instant,
    /// Folders that were not looked into yet, by their paths.
    folders: VecDeque<String>,
    /// How many more entries may be looked at.
    left: usize,
    found: Vec<Seen>,
    dropped: bool,
}

impl Walk {
    fn begin(top: OwnedFd) -> Self {
        Self {
            top,
            until: Instant::now() + PATIENCE,
            folders: VecDeque::from([String::new()]),
            left: ENTRIES,
            found: Vec::new(),
            dropped: false,
        }
    }

    /// Looks for files, in the upper folders first.
    fn look(&mut self) {
        while let Some(folder) = self.folders.pop_front() {
            let looked = open_below(&self.top, &folder, FOLDER_FLAGS)
                .map_err(|_| Stop::Here)
                .and_then(|open| self.look_into(&open, &folder));
            self.dropped |= looked.is_err();
            if let Err(Stop::Everywhere) = looked {
                return;
            }
        }
    }

    fn look_into(&mut self, open: &OwnedFd, folder: &str) -> Result<(), Stop> {
        let mut buffer = [MaybeUninit::uninit(); CHUNK];
        let mut entries = RawDir::new(open, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|_| Stop::Here)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if Instant::now() >= self.until {
                return Err(Stop::Everywhere);
            }
            self.left = self.left.checked_sub(1).ok_or(Stop::Everywhere)?;
            let path = name.to_str().ok().and_then(|name| path(folder, name));
            let stat = statat(open, name, AtFlags::SYMLINK_NOFOLLOW).ok();
            match path.zip(stat) {
                Some((path, stat)) => self.note(path, &stat),
                None => self.dropped = true,
            }
        }
        Ok(())
    }

    fn note(&mut self, path: String, stat: &Stat) {
        match kind(stat) {
            FileType::RegularFile => self.found.push(Seen {
                modified: i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec),
                path,
            }),
            FileType::Directory if path.split('/').count() < DEPTH => self.folders.push_back(path),
            // A link, a pipe, a socket, or a folder that is too deep.
            _ => self.dropped = true,
        }
    }

    /// Reads what was found, the oldest first. One that is too large takes nothing from those after it.
    fn take(mut self, mut room: usize, next_seq: u64) -> Taken {
        self.found.sort_unstable();
        let mut taken = Taken {
            files: Vec::new(),
            dropped: self.dropped,
        };
        for seen in &self.found {
            if taken.files.len() == FILES || Instant::now() >= self.until {
                taken.dropped = true;
                break;
            }
            let seq = next_seq + taken.files.len() as u64;
            match read(&self.top, &seen.path, seq, room) {
                Some(file) => {
                    room -= encoded_file_len(&file.path, &file.mime_type, &file.content);
                    taken.files.push(file);
                }
                None => taken.dropped = true,
            }
        }
        taken
    }
}

/// The path of an entry, where it can be shown to anybody.
fn path(folder: &str, name: &str) -> Option<String> {
    let path = match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    };
    (path.len() <= PATH_BYTES && !path.contains(char::is_control)).then_some(path)
}

/// A file with everything that a frame says of it; nothing where it can't be had, or takes more than `room`.
fn read(top: &OwnedFd, path: &str, seq: u64, room: usize) -> Option<ResultFile> {
    let left = room.checked_sub(encoded_file_len(path, media::LONGEST, ""))?;
    // Each three bytes are four of base64.
    let most = (left / 4 * 3).min(FILE_BYTES);
    let open = open_below(top, path, FILE_FLAGS).ok()?;
    let stat = fstat(&open).ok()?;
    // Its size only saves reading one that says itself that it is too large.
    if kind(&stat) != FileType::RegularFile || usize::try_from(stat.st_size).ok()? > most {
        return None;
    }
    let mut content = Vec::new();
    File::from(open)
        .take(most as u64 + 1)
        .read_to_end(&mut content)
        .ok()?;
    if content.len() > most {
        return None;
    }
    Some(ResultFile {
        seq,
        path: path.to_owned(),
        mime_type: media_type(path, &content)?.to_owned(),
        content: BASE64_STANDARD.encode(content),
    })
}

/// Opens what is below a folder, one name after the other: for a whole path the kernel would follow links on the way.
fn open_below(top: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let (folders, last) = path.rsplit_once('/').unwrap_or(("", path));
    let mut open = openat(top, ".", FOLDER_FLAGS, Mode::empty())?;
    for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
        open = openat(&open, folder, FOLDER_FLAGS, Mode::empty())?;
    }
    if last.is_empty() {
        return Ok(open);
    }
    openat(&open, last, flags, Mode::empty())
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}
