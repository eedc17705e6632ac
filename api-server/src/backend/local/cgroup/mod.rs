//! A cgroup of its own for each program: the kernel holds its memory and its processes, and counts all of it,
//! what no process has mapped too.
//!
//! ```text
//!   v1:  memory/<own>/codeexec-<pid>-<n>    v2:  <own>/server                 (this process)
//!        pids/<own>/codeexec-<pid>-<n>           <own>/codeexec-<pid>-<n>     (a program)
//! ```

mod layout;
mod place;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::{JoinError, spawn_blocking};

use self::layout::Layout;
pub use self::layout::Version;
use self::place::{leftovers, own_prefix, place};
use super::processes::{children, kill_all};

/// Processes and threads in a cgroup. The runner ends a program at fewer, and says so; this is for what grows
/// faster than it counts.
const MOST_PROCESSES: &str = "512";

/// How long processes that were killed may take to be gone.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(10);

/// The same, when the server itself ends.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(3);

/// When a removal is tried again.
const REMOVAL_PAUSE: Duration = Duration::from_millis(5);

/// bwrap, the runner and the interpreter.
const PROCESSES_OF_A_SANDBOX: usize = 3;

/// "No such process", for which the standard library has no name.
const ESRCH: i32 = 3;

/// Why there is no cgroup for a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCgroup {
    /// Not wanted.
    #[error("--cgroup is off")]
    Off,
    /// Nothing that holds memory.
    #[error("this kernel has no cgroups with a memory controller")]
    NoController,
    /// No way to it.
    #[error("no cgroup file system with a memory controller is mounted")]
    NotMounted,
    /// The same, in some containers.
    #[error("the server's own cgroup {0} is in none of the mounted cgroup file systems")]
    OutOfSight(String),
    /// v2: whoever owns the cgroup keeps memory to himself.
    #[error("cgroup {} has no memory controller to give to others below it", .0.display())]
    NoMemoryBelow(PathBuf),
    /// v2: the cgroup is not ours alone.
    #[error(
        "cgroup {} has other processes in it than the server; `systemd-run --user --scope -p Delegate=yes` starts \
         it in one of its own", .0.display()
    )]
    NotAlone(PathBuf),
    /// What was to be read, written or made is not ours, or not there.
    #[error("{}: {why}", path.display())]
    Refused {
        /// What.
        path: PathBuf,
        /// What the kernel says.
        why: String,
    },
    /// A kernel before 4.13.
    #[error("this kernel does not count in a cgroup which processes it ends for want of memory")]
    Uncounted,
    /// All of it can be had, but a program does not get into it.
    #[error("only {0} of the {PROCESSES_OF_A_SANDBOX} processes of a sandbox can be moved into one")]
    Incomplete(usize),
    /// All of it can be had, but the sandbox does not come up with it.
    #[error("the first sandbox in one failed: {0}")]
    Trial(String),
}

/// Makes cgroups.
#[derive(Clone, Debug)]
pub struct Cgroups {
    own: Layout,
    memory_limit: u64,
    /// Shared with each cgroup until that is gone.
    in_use: Arc<()>,
}

/// A program's cgroup. Dropping it ends what is in it and removes it.
#[derive(Debug)]
pub struct Cgroup {
    version: Version,
    /// The folder of the memory controller.
    memory: PathBuf,
    /// All that there are.
    folders: Vec<PathBuf>,
    in_use: Arc<()>,
}

impl Cgroups {
    /// Finds the place for them, and removes what servers left there that were killed.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(memory_limit: u64) -> Result<Self, NoCgroup> {
        // With v2 the process moves, and is then found elsewhere.
        static OWN: OnceLock<Result<Layout, NoCgroup>> = OnceLock::new();
        let own = OWN.get_or_init(|| {
            let own = place()?;
            for folder in leftovers(&own) {
                tokio::spawn(remove(vec![folder]));
            }
            Ok(own)
        });
        Ok(Self {
            own: own.clone()?,
            memory_limit,
            in_use: Arc::default(),
        })
    }

    /// Whose files they have.
    #[must_use]
    pub fn version(&self) -> Version {
        self.own.version
    }

    /// Waits, but not for long, until all that were made are gone: what is left the next server has to remove.
    pub fn wait_until_gone(&self) {
        let bound = Instant::now() + PATIENCE_AT_THE_END;
        while Arc::strong_count(&self.in_use) > 1 && Instant::now() < bound {
            std::thread::sleep(REMOVAL_PAUSE);
        }
    }

    /// Makes one.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub async fn make(&self) -> Result<Cgroup, NoCgroup> {
        let this = self.clone();
        // Whoever moves a process holds a lock for some milliseconds that this waits for.
        unless_panicked(spawn_blocking(move || this.make_now()).await)
    }

    fn make_now(&self) -> Result<Cgroup, NoCgroup> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        loop {
            let name = format!("{}{}", own_prefix(), MADE.fetch_add(1, Ordering::Relaxed));
            match self.make_named(&name) {
                // A server that had this process's number left one, which is not gone yet.
                Err((_, error)) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err((folder, error)) => return Err(refused(&folder, &error)),
                Ok(made) => {
                    made.limit(self.memory_limit)?;
                    return Ok(made);
                }
            }
        }
    }

    fn make_named(&self, name: &str) -> Result<Cgroup, (PathBuf, io::Error)> {
        let memory = self.own.memory.join(name);
        let mut made = Cgroup {
            version: self.own.version,
            memory: memory.clone(),
            folders: Vec::new(),
            in_use: self.in_use.clone(),
        };
        let pids = self.own.pids.as_ref().map(|parent| parent.join(name));
        for folder in [Some(memory), pids].into_iter().flatten() {
            match fs::create_dir(&folder) {
                Ok(()) => made.folders.push(folder),
                Err(error) => return Err((folder, error)),
            }
        }
        Ok(made)
    }
}

impl Cgroup {
    fn limit(&self, bytes: u64) -> Result<(), NoCgroup> {
        let bytes = bytes.to_string();
        let (needed, swap, none) = match self.version {
            // The second one is of memory and swap together.
            Version::V1 => (
                "memory.limit_in_bytes",
                "memory.memsw.limit_in_bytes",
                bytes.as_str(),
            ),
            Version::V2 => ("memory.max", "memory.swap.max", "0"),
        };
        write(&self.memory.join(needed), &bytes)?;
        // Kernels that don't count swap lack this one.
        let _ = write(&self.memory.join(swap), none);
        // And the runner counts processes where nobody else does.
        for folder in &self.folders {
            let _ = write(&folder.join("pids.max"), MOST_PROCESSES);
        }
        Ok(())
    }

    /// Its folder, and where the runner looks for it.
    #[must_use]
    pub fn counters(&self) -> (&Path, &'static str) {
        let inside = match self.version {
            Version::V1 => "/sys/fs/cgroup/memory",
            Version::V2 => "/sys/fs/cgroup",
        };
        (&self.memory, inside)
    }

    /// Moves a sandbox into it, before there is a program in that. To be started in it would be simpler, but it
    /// is the move that takes long, 10 ms, and so the sandbox comes up meanwhile.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub async fn enter(&self, bwrap: u32) -> Result<(), NoCgroup> {
        let files: Vec<PathBuf> = self.folders.iter().map(|folder| procs(folder)).collect();
        unless_panicked(spawn_blocking(move || enter(&files, bwrap)).await)
    }

    /// Looks whether all of a sandbox that is ready has come in, and whether its end would be told.
    ///
    /// # Errors
    /// When not.
    pub fn check(&self) -> Result<(), NoCgroup> {
        if self.kills()?.is_none() {
            return Err(NoCgroup::Uncounted);
        }
        for folder in &self.folders {
            let inside = read(&procs(folder))?.lines().count();
            if inside < PROCESSES_OF_A_SANDBOX {
                return Err(NoCgroup::Incomplete(inside));
            }
        }
        Ok(())
    }

    /// Whether the kernel has ended a process in it for want of memory. The runner tells of the program's, but
    /// the kernel may take the runner too, while what the program held is still being freed.
    #[must_use]
    pub fn was_full(&self) -> bool {
        matches!(self.kills(), Ok(Some(count)) if count > 0)
    }

    fn kills(&self) -> Result<Option<u64>, NoCgroup> {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let counts = read(&self.memory.join(file))?;
        let count = counts.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(count.and_then(|count| count.trim().parse().ok()))
    }

    /// Ends what is still in it, and removes it.
    pub async fn remove(mut self) {
        remove(std::mem::take(&mut self.folders)).await;
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let folders = std::mem::take(&mut self.folders);
        // Without a runtime the server is at its end, and the next one removes it.
        if !folders.is_empty()
            && let Ok(runtime) = Handle::try_current()
        {
            let in_use = self.in_use.clone();
            runtime.spawn(async move {
                remove(folders).await;
                drop(in_use);
            });
        }
    }
}

/// Moves a process and all below it. What a process starts after its own move is inside by itself, and what it
/// had started by then is listed after the move: going down from the top misses nobody.
fn enter(files: &[PathBuf], top: u32) -> Result<(), NoCgroup> {
    let mut found = vec![top];
    while let Some(pid) = found.pop() {
        for file in files {
            match fs::write(file, pid.to_string()) {
                // It has ended; whatever that is a sign of shows elsewhere.
                Err(error) if error.raw_os_error() == Some(ESRCH) => {}
                Err(error) => return Err(refused(file, &error)),
                Ok(()) => {}
            }
        }
        found.extend(children(pid));
    }
    Ok(())
}

/// Ends what is still in them, and removes them when that is gone.
async fn remove(folders: Vec<PathBuf>) {
    let bound = Instant::now() + REMOVAL_PATIENCE;
    for folder in folders {
        loop {
            match tokio::fs::remove_dir(&folder).await {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < bound => {
                    // A server that was killed while a sandbox came up has not ended that.
                    kill_all(&read(&procs(&folder)).unwrap_or_default());
                    tokio::time::sleep(REMOVAL_PAUSE).await;
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(folder = %folder.display(), %error, "failed to remove a cgroup");
                    break;
                }
                _ => break,
            }
        }
    }
}

fn procs(folder: &Path) -> PathBuf {
    folder.join("cgroup.procs")
}

fn read(file: &Path) -> Result<String, NoCgroup> {
    fs::read_to_string(file).map_err(|error| refused(file, &error))
}

fn write(file: &Path, text: &str) -> Result<(), NoCgroup> {
    fs::write(file, text).map_err(|error| refused(file, &error))
}

fn refused(path: &Path, error: &io::Error) -> NoCgroup {
    NoCgroup::Refused {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

fn unless_panicked<T>(joined: Result<Result<T, NoCgroup>, JoinError>) -> Result<T, NoCgroup> {
    joined.unwrap_or_else(|error| Err(NoCgroup::Trial(error.to_string())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A folder with these files, as the kernel would make it.
    pub(super) fn tree(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn text(folder: &Path, file: &str) -> String {
        fs::read_to_string(folder.join(file)).unwrap()
    }

    #[test]
    fn a_cgroup_has_the_limits_and_the_count_of_its_version() {
        let folder = tree(&[]);
        // Dropped without a runtime, it stays, as a folder with files in it does anyway.
        let cgroup = |version| Cgroup {
            version,
            memory: folder.path().to_owned(),
            folders: vec![folder.path().to_owned()],
            in_use: Arc::default(),
        };
        let limit = |version| {
            let cgroup = cgroup(version);
            cgroup.limit(1 << 29).unwrap();
            cgroup.counters().1
        };
        let full = |version, counts: &str| {
            let file = match version {
                Version::V1 => "memory.oom_control",
                Version::V2 => "memory.events",
            };
            fs::write(folder.path().join(file), counts).unwrap();
            cgroup(version).was_full()
        };
        assert!(full(Version::V1, "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"));
        assert!(!full(Version::V2, "oom 3\noom_kill 0\noom_group_kill 0\n"));
        assert_eq!(limit(Version::V2), "/sys/fs/cgroup");
        assert_eq!(text(folder.path(), "memory.max"), "536870912");
        assert_eq!(text(folder.path(), "memory.swap.max"), "0");
        assert_eq!(text(folder.path(), "pids.max"), "512");
        assert_eq!(limit(Version::V1), "/sys/fs/cgroup/memory");
        assert_eq!(text(folder.path(), "memory.limit_in_bytes"), "536870912");
        assert_eq!(text(folder.path(), "memory.memsw.limit_in_bytes"), "536870912");
    }

    #[test]
    fn a_name_that_is_taken_is_passed_over() {
        let folder = tree(&[]);
        let name = |n: u32| folder.path().join(format!("{}{n}", own_prefix()));
        // Other tests of this process count with the same counter, and none that far.
        (0..50).for_each(|n| fs::create_dir(name(n)).unwrap());
        let cgroups = Cgroups {
            own: Layout {
                version: Version::V2,
                memory: folder.path().to_owned(),
                pids: None,
            },
            memory_limit: 1,
            in_use: Arc::default(),
        };
        let made = cgroups.make_now().unwrap();
        assert!(made.memory >= name(50), "{made:?}");
    }

    #[test]
    fn a_folder_that_can_t_be_made_is_named() {
        let cgroups = Cgroups {
            own: Layout {
                version: Version::V2,
                memory: "/nowhere".into(),
                pids: None,
            },
            memory_limit: 1,
            in_use: Arc::default(),
        };
        let error = cgroups.make_now().unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/codeexec-"), "{error}");
    }

    #[tokio::test]
    async fn a_cgroup_without_processes_is_removed_and_one_that_is_gone_is_fine() {
        let folder = tree(&[]);
        let cgroup = folder.path().join("a");
        fs::create_dir(&cgroup).unwrap();
        remove(vec![cgroup.clone(), cgroup.clone()]).await;
        assert!(!cgroup.exists());
    }

    #[test]
    fn all_below_a_process_enter_with_it() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut below = String::new();
        let mut stdout = io::BufReader::new(shell.stdout.take().unwrap());
        io::BufRead::read_line(&mut stdout, &mut below).unwrap();
        let folder = tree(&[("cgroup.procs", "")]);
        enter(&[procs(folder.path())], shell.id()).unwrap();
        // A file, unlike the kernel's, holds what was written last.
        assert_eq!(text(folder.path(), "cgroup.procs"), below.trim());
        kill_all(&below);
        shell.wait().unwrap();
    }
}
