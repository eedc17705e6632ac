//! A cgroup of its own for each program: the kernel holds its memory and its processes, and counts all of it,
//! what no process has mapped too.
//!
//! ```text
//!   v1:  memory/<own>/codeexec-<pid>-<n>    v2:  <own>/server                 (this process)
//!        pids/<own>/codeexec-<pid>-<n>           <own>/codeexec-<pid>-<n>     (a program)
//! ```

mod layout;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::{JoinError, spawn_blocking};

pub use self::layout::Version;
use self::layout::{Layout, layout};
use super::processes::{children, kill_all};

/// Processes and threads in a cgroup. The runner ends a program at fewer, and says so; this is for what grows
/// faster than it counts.
const MOST_PROCESSES: &str = "512";

/// How long processes that were killed may take to be gone.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(10);

/// The same, when the server itself ends.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(1);

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
    /// All of it can be had, but the sandbox does not start with it.
    #[error("the runner does not start in one: {0}")]
    Runner(String),
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
        let name = format!("{}{}", own_prefix(), MADE.fetch_add(1, Ordering::Relaxed));
        let memory = self.own.memory.join(&name);
        let mut made = Cgroup {
            version: self.own.version,
            memory: memory.clone(),
            folders: Vec::new(),
            in_use: self.in_use.clone(),
        };
        let pids = self.own.pids.as_ref().map(|parent| parent.join(&name));
        for folder in [Some(memory), pids].into_iter().flatten() {
            fs::create_dir(&folder).map_err(|error| refused(&folder, &error))?;
            made.folders.push(folder);
        }
        made.limit(self.memory_limit)?;
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
        let count = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let counted = read(&self.memory.join(count))?;
        if !counted.lines().any(|line| line.starts_with("oom_kill ")) {
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

/// Where cgroups can be made, which with v2 takes some preparation.
fn place() -> Result<Layout, NoCgroup> {
    let proc = |file: &str| read(Path::new(file));
    let mut own = layout(&proc("/proc/self/cgroup")?, &proc("/proc/self/mountinfo")?)?;
    if own.version == Version::V2 {
        hand_down(&own.memory, std::process::id())?;
    }
    let probe = |parent: &Path| {
        let folder = parent.join(format!("{}probe", own_prefix()));
        let made = fs::create_dir(&folder).and_then(|()| fs::remove_dir(&folder));
        made.map_err(|error| refused(&folder, &error))
    };
    probe(&own.memory)?;
    // Who may make the one need not be allowed the other, without which the runner counts processes.
    own.pids = own.pids.filter(|pids| probe(pids).is_ok());
    Ok(own)
}

/// Lets the cgroups below `own` have its controllers. The kernel refuses that as long as a process is in `own`
/// itself, so that this one moves, and nobody else may be there.
fn hand_down(own: &Path, pid: u32) -> Result<(), NoCgroup> {
    let names = |file: &str| read(&own.join(file));
    let has = |names: &str, name: &str| names.split_whitespace().any(|known| known == name);
    let (available, below) = (names("cgroup.controllers")?, names("cgroup.subtree_control")?);
    if has(&below, "memory") {
        // The root of the tree, or one of a container's.
        return Ok(());
    }
    if !has(&available, "memory") {
        return Err(NoCgroup::NoMemoryBelow(own.to_owned()));
    }
    let pid = pid.to_string();
    if names("cgroup.procs")?.lines().any(|other| other != pid) {
        return Err(NoCgroup::NotAlone(own.to_owned()));
    }
    let leaf = own.join("server");
    match fs::create_dir(&leaf) {
        // A server was here before.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(refused(&leaf, &error)),
        _ => {}
    }
    write(&procs(&leaf), &pid)?;
    let wanted = if has(&available, "pids") {
        "+memory +pids"
    } else {
        "+memory"
    };
    write(&own.join("cgroup.subtree_control"), wanted)
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

/// Cgroups of servers that are no more. Those with this process's number are of one that had it before.
fn leftovers(own: &Layout) -> Vec<PathBuf> {
    let is_alive = |pid: u32| pid != std::process::id() && Path::new(&format!("/proc/{pid}")).exists();
    let folders = [Some(&own.memory), own.pids.as_ref()].into_iter().flatten();
    folders
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten())
        .filter(|entry| {
            let name = entry.file_name();
            name.to_str().and_then(maker).is_some_and(|pid| !is_alive(pid))
        })
        .map(|entry| entry.path())
        .collect()
}

fn own_prefix() -> String {
    format!("codeexec-{}-", std::process::id())
}

/// The process that gave a cgroup this name.
fn maker(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix("codeexec-")?.split_once('-')?;
    pid.parse().ok()
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
    joined.unwrap_or_else(|error| Err(NoCgroup::Runner(error.to_string())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A folder with these files, as the kernel would make it.
    fn tree(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn delegated(procs: &str) -> TempDir {
        tree(&[
            ("cgroup.controllers", "cpu memory pids\n"),
            ("cgroup.subtree_control", "\n"),
            ("cgroup.procs", procs),
        ])
    }

    fn text(folder: &Path, file: &str) -> String {
        fs::read_to_string(folder.join(file)).unwrap()
    }

    #[test]
    fn a_server_alone_in_its_cgroup_moves_down_and_hands_its_controllers_down() {
        let own = delegated("7\n");
        hand_down(own.path(), 7).unwrap();
        assert_eq!(text(own.path(), "server/cgroup.procs"), "7");
        assert_eq!(text(own.path(), "cgroup.subtree_control"), "+memory +pids");
    }

    #[test]
    fn a_cgroup_with_others_in_it_is_left_as_it_is() {
        let own = delegated("7\n8\n");
        assert_eq!(
            hand_down(own.path(), 7),
            Err(NoCgroup::NotAlone(own.path().to_owned()))
        );
        assert!(!own.path().join("server").exists());
        assert_eq!(text(own.path(), "cgroup.subtree_control"), "\n");
    }

    #[test]
    fn what_has_been_handed_down_already_needs_no_move() {
        let own = tree(&[
            ("cgroup.controllers", "memory pids\n"),
            ("cgroup.subtree_control", "memory pids\n"),
        ]);
        hand_down(own.path(), 7).unwrap();
        assert!(!own.path().join("server").exists());
    }

    #[test]
    fn without_the_controller_of_processes_memory_is_handed_down_alone() {
        let own = delegated("7\n");
        fs::write(own.path().join("cgroup.controllers"), "memory\n").unwrap();
        hand_down(own.path(), 7).unwrap();
        assert_eq!(text(own.path(), "cgroup.subtree_control"), "+memory");
    }

    #[test]
    fn without_the_memory_controller_there_is_nothing_to_hand_down() {
        let own = delegated("7\n");
        fs::write(own.path().join("cgroup.controllers"), "cpu pids\n").unwrap();
        assert_eq!(
            hand_down(own.path(), 7),
            Err(NoCgroup::NoMemoryBelow(own.path().to_owned()))
        );
    }

    #[test]
    fn a_cgroup_has_the_limits_of_its_version() {
        let folder = tree(&[]);
        let limit = |version| {
            // Dropped without a runtime, it stays, as a folder with files in it does anyway.
            let cgroup = Cgroup {
                version,
                memory: folder.path().to_owned(),
                folders: vec![folder.path().to_owned()],
                in_use: Arc::default(),
            };
            cgroup.limit(1 << 29).unwrap();
            cgroup.counters().1
        };
        assert_eq!(limit(Version::V2), "/sys/fs/cgroup");
        assert_eq!(text(folder.path(), "memory.max"), "536870912");
        assert_eq!(text(folder.path(), "memory.swap.max"), "0");
        assert_eq!(text(folder.path(), "pids.max"), "512");
        assert_eq!(limit(Version::V1), "/sys/fs/cgroup/memory");
        assert_eq!(text(folder.path(), "memory.limit_in_bytes"), "536870912");
        assert_eq!(text(folder.path(), "memory.memsw.limit_in_bytes"), "536870912");
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
    async fn only_what_dead_servers_left_is_removed() {
        let folder = tree(&[]);
        let alive = std::os::unix::process::parent_id();
        // More than the kernel's largest number of a process.
        for name in [
            "codeexec-4194305-0",
            &format!("codeexec-{alive}-0"),
            "codeexec-x-0",
            "other",
        ] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let own = Layout {
            version: Version::V2,
            memory: folder.path().to_owned(),
            pids: None,
        };
        let found = leftovers(&own);
        assert_eq!(found, [folder.path().join("codeexec-4194305-0")]);
        remove(found).await;
        assert!(leftovers(&own).is_empty());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    fn shell_with_a_child() -> (std::process::Child, u32) {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = io::BufReader::new(shell.stdout.take().unwrap());
        io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        (shell, line.trim().parse().unwrap())
    }

    #[test]
    fn all_below_a_process_enter_with_it() {
        let (mut shell, below) = shell_with_a_child();
        let folder = tree(&[("cgroup.procs", "")]);
        enter(&[procs(folder.path())], shell.id()).unwrap();
        // A file, unlike the kernel's, holds what was written last.
        assert_eq!(text(folder.path(), "cgroup.procs"), below.to_string());
        kill_all(&below.to_string());
        shell.wait().unwrap();
    }
}
