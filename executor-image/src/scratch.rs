//! The folders that programs write to: made before the first one, and emptied between two.
//!
//! In the image they are links into the container's /dev/shm; in local mode each is a file system of its own.

use std::ffi::{CStr, CString};
use std::fs::{self, DirBuilder};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RawDir, Timespec, Timestamps, UTIME_NOW, chmodat, fchmod, flistxattr,
    fremovexattr, fstat, futimens, openat, unlinkat,
};
use rustix::io::Errno;

/// How long the folders may take to be emptied.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most that the kernel lists of the names of a folder's attributes.
const ATTRIBUTES_BYTES: usize = 64 * 1024;
/// What is read of a folder at once.
const ENTRIES_BYTES: usize = 8 * 1024;
/// How a folder is opened.
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Both of a folder's times.
const NOW: Timestamps = Timestamps {
    last_access: UNTIL_NOW,
    last_modification: UNTIL_NOW,
};
const UNTIL_NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: UTIME_NOW,
};

/// A folder that is not as it was.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// What a link leads to can't be made.
    #[error("failed to make what {0:?} leads to")]
    Make(PathBuf, #[source] io::Error),
    /// Something in it stays, or there is too much in it.
    #[error("failed to empty {0:?}")]
    Empty(PathBuf, #[source] Errno),
    /// Something was put on it that stays.
    #[error("failed to give {0:?} its own mode and attributes back")]
    Reset(PathBuf, #[source] Errno),
}

/// All that a program can write to.
#[derive(Debug)]
pub struct Scratch {
    folders: Vec<Folder>,
}

/// One of them.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// Nothing where there is no such folder.
    as_made: Option<Look>,
}

/// What a program can leave on a folder that it can't remove.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    mode: Mode,
    attributes: Vec<CString>,
}

impl Scratch {
    /// Makes the folder that each link leads to; what is no link is left as it is.
    ///
    /// Comes before the interpreter starts: until then no path can have been put there by a program.
    pub fn make(work_dir: &Path) -> Result<Self, ScratchError> {
        // In the image the first one holds the others.
        let paths = [Path::new("/dev/shm"), Path::new("/tmp"), work_dir];
        paths.iter().try_for_each(|path| make(path))?;
        let folders = paths.map(|path| Folder {
            path: path.to_owned(),
            as_made: open_top(path).ok().and_then(|open| Look::of(&open).ok()),
        });
        Ok(Self {
            folders: folders.into(),
        })
    }

    /// Makes everything as it was. Only while no process is there that a program started: no path can change, then,
    /// between two looks at it.
    pub fn empty(&self) -> Result<(), ScratchError> {
        let until = Instant::now() + PATIENCE;
        self.folders.iter().try_for_each(|folder| folder.empty(until))?;
        // Links lead into a folder that is empty now.
        self.folders.iter().try_for_each(|folder| make(&folder.path))?;
        self.folders.iter().try_for_each(Folder::reset)
    }
}

fn make(path: &Path) -> Result<(), ScratchError> {
    let Ok(target) = fs::read_link(path) else {
        return Ok(());
    };
    let folder = path.parent().unwrap_or(path).join(target);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| ScratchError::Make(path.to_owned(), error))
}

impl Folder {
    fn empty(&self, until: Instant) -> Result<(), ScratchError> {
        // A program may have closed its own folder. What is somebody else's it can't have, and this can't either.
        let _ = chmodat(CWD, &self.path, Mode::RWXU, AtFlags::empty());
        match open_top(&self.path) {
            Err(Errno::NOENT) => Ok(()),
            open => open.and_then(|open| empty(open, until)),
        }
        .map_err(|error| ScratchError::Empty(self.path.clone(), error))
    }

    /// Takes away what a program left on the folder itself.
    fn reset(&self) -> Result<(), ScratchError> {
        let Some(as_made) = &self.as_made else {
            return Ok(());
        };
        let reset = || {
            let open = open_top(&self.path)?;
            for name in Look::of(&open)?.attributes {
                if !as_made.attributes.contains(&name) {
                    fremovexattr(&open, name)?;
                }
            }
            // Both fail on a folder of somebody else's, which a program can't have changed either.
            let _ = fchmod(&open, as_made.mode);
            let _ = futimens(&open, &NOW);
            (Look::of(&open)? == *as_made).then_some(()).ok_or(Errno::PERM)
        };
        reset().map_err(|error| ScratchError::Reset(self.path.clone(), error))
    }
}

impl Look {
    fn of(folder: &OwnedFd) -> Result<Self, Errno> {
        let mut names = vec![0; ATTRIBUTES_BYTES];
        let length = match flistxattr(folder, &mut names) {
            // A file system without any.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
            length => length?,
        };
        Ok(Self {
            mode: Mode::from_raw_mode(fstat(folder)?.st_mode),
            attributes: names[..length]
                .split_inclusive(|&byte| byte == 0)
                .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
                .map(CStr::to_owned)
                .collect(),
        })
    }
}

/// One of the container's own folders, through its own links.
fn open_top(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OPEN, Mode::empty())
}

/// Removes everything in a folder.
///
/// Walks with one descriptor and keeps no path, for a program can make folders in folders without end: back up it
/// goes by "..", and there finds the same one again, empty by then.
fn empty(top: OwnedFd, until: Instant) -> Result<(), Errno> {
    let flags = OPEN | OFlags::NOFOLLOW;
    let mut folder = top;
    let mut depth = 0_u64;
    loop {
        folder = match first_left(&folder, until)? {
            Some(inner) => {
                // One that its owner can't read. Never a link: only a folder can be full.
                chmodat(&folder, &inner, Mode::RWXU, AtFlags::empty())?;
                depth += 1;
                openat(&folder, &inner, flags, Mode::empty())?
            }
            None if depth == 0 => return Ok(()),
            None => {
                depth -= 1;
                openat(&folder, "..", flags, Mode::empty())?
            }
        }
    }
}

/// Removes what can be removed at once; the first folder that can't, because there is something in it.
fn first_left(folder: &OwnedFd, until: Instant) -> Result<Option<CString>, Errno> {
    let mut buffer = [MaybeUninit::uninit(); ENTRIES_BYTES];
    loop {
        let mut found = false;
        // Opened anew for each pass: one that removes what it reads may miss some.
        let pass = openat(folder, ".", OPEN, Mode::empty())?;
        let mut entries = RawDir::new(pass, &mut buffer);
        while let Some(entry) = entries.next() {
            if Instant::now() >= until {
                return Err(Errno::TIMEDOUT);
            }
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            found = true;
            if !remove(folder.as_fd(), name)? {
                return Ok(Some(name.to_owned()));
            }
        }
        if !found {
            return Ok(None);
        }
    }
}

/// Whether it could be removed: a folder with something in it can't.
fn remove(folder: impl AsFd, name: &CStr) -> Result<bool, Errno> {
    match unlinkat(&folder, name, AtFlags::empty()) {
        // A folder, in Linux's words and in POSIX's.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(true),
        done => return done.map(|()| true),
    }
    match unlinkat(&folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::mkdirat;

    use super::*;

    /// A folder of one test's own.
    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("codeexec-scratch-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("a temporary folder to write to");
        path
    }

    fn emptied(path: &Path, patience: Duration) -> Result<(), Errno> {
        empty(open_top(path)?, Instant::now() + patience)
    }

    #[test]
    fn everything_goes_but_what_links_lead_to() {
        let (outside, inside) = (folder("outside"), folder("inside"));
        fs::write(outside.join("file"), "stays").expect("just made");
        fs::create_dir_all(inside.join("a/b")).expect("just made");
        for at in ["link", "a/link", "a/b/link"] {
            symlink(&outside, inside.join(at)).expect("just made");
            symlink(outside.join("file"), inside.join(format!("{at} to file"))).expect("just made");
        }
        assert_eq!(emptied(&inside, PATIENCE), Ok(()));
        // It fails on a folder that is not empty.
        fs::remove_dir(&inside).expect("nothing is left");
        assert_eq!(
            fs::read_to_string(outside.join("file")).expect("still there"),
            "stays"
        );
        fs::remove_dir_all(outside).expect("one's own");
    }

    #[test]
    fn folders_in_folders_without_end_go_too() {
        let top = folder("deep");
        let mut at = open_top(&top).expect("just made");
        // Three times as deep as a path can name, with something beside each.
        for _ in 0..6000 {
            for name in ["a", "b"] {
                mkdirat(&at, name, Mode::RWXU).expect("just made");
            }
            at = openat(&at, "b", OPEN, Mode::empty()).expect("just made");
        }
        assert_eq!(emptied(&top, 10 * PATIENCE), Ok(()));
        fs::remove_dir(&top).expect("nothing is left");
    }

    #[test]
    fn what_takes_too_long_is_given_up() {
        let top = folder("long");
        fs::write(top.join("file"), "").expect("just made");
        assert_eq!(emptied(&top, Duration::ZERO), Err(Errno::TIMEDOUT));
        fs::remove_dir_all(top).expect("one's own");
    }
}
