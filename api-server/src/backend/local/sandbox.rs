//! How a program's surroundings are put together by bubblewrap: a list of arguments, made once.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::cgroup::Cgroup;
use super::python::Python;

/// Size of each of the folders that a program may write to, in bytes. They are memory.
const FOLDER_BYTES: u64 = 64 * 1024 * 1024;

/// Where the runner stands inside.
const RUNNER: &str = "/codeexec-runner";

/// System folders that an interpreter and its libraries need. Where they are links, links they become.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// The parts of /etc without which libraries misbehave; nothing in them is private.
const ETC: [&str; 8] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/ssl/certs",
    "/etc/fonts",
    "/etc/mime.types",
];

/// The program's environment, the same as in the executor image, but for PATH.
const ENVIRONMENT: [(&str, &str); 9] = [
    ("HOME", "/code"),
    ("USER", "coderunner"),
    ("LOGNAME", "coderunner"),
    ("LANG", "C.UTF-8"),
    ("PYTHONDONTWRITEBYTECODE", "1"),
    ("MPLCONFIGDIR", "/tmp/.matplotlib"),
    ("MPLBACKEND", "Agg"),
    ("OMP_NUM_THREADS", "1"),
    ("OPENBLAS_NUM_THREADS", "1"),
];

/// A way to start programs in a sandbox.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The bwrap executable.
    pub bwrap: PathBuf,
    /// Its arguments, up to and without the command.
    arguments: Vec<OsString>,
    runner: Vec<OsString>,
    memory_limit: u64,
    python: PathBuf,
}

impl Sandbox {
    /// The sandbox for an interpreter and a runner on this machine.
    #[must_use]
    pub fn new(bwrap: PathBuf, python: &Python, runner: &Path, memory_limit: u64) -> Self {
        let links = SYSTEM.iter().map(|path| (*path, std::fs::read_link(path).ok()));
        let system = links
            .map(|(path, target)| (PathBuf::from(path), target))
            .collect::<Vec<_>>();
        let mut arguments = arguments(&system, &python.folders(), &python.path_variable());
        push(
            &mut arguments,
            &["--ro-bind".as_ref(), runner.as_os_str(), RUNNER.as_ref()],
        );
        Self {
            bwrap,
            arguments,
            runner: vec![
                RUNNER.into(),
                "--python".into(),
                python.executable.clone().into(),
                "--workdir".into(),
                "/code".into(),
                "--termination-log".into(),
                "/dev/null".into(),
            ],
            memory_limit,
            python: python.executable.clone(),
        }
    }

    /// bwrap's arguments that start the runner. Without a cgroup it is the runner that holds the program's memory.
    #[must_use]
    pub fn runner(&self, cgroup: Option<&Cgroup>) -> Vec<OsString> {
        let (mut binds, mut command) = (Vec::new(), self.runner.clone());
        match cgroup.map(Cgroup::counters) {
            // The runner reads the limit and the kernel's count there.
            Some((folder, inside)) => push(
                &mut binds,
                &["--ro-bind".as_ref(), folder.as_os_str(), inside.as_ref()],
            ),
            None => push(
                &mut command,
                &[
                    "--memory-limit-bytes".as_ref(),
                    self.memory_limit.to_string().as_ref(),
                ],
            ),
        }
        self.command(&binds, &command)
    }

    /// bwrap's arguments that start the interpreter, with arguments of its own.
    #[must_use]
    pub fn python(&self, arguments: &[&str]) -> Vec<OsString> {
        let own = arguments.iter().map(OsString::from);
        let command: Vec<OsString> = std::iter::once(self.python.clone().into()).chain(own).collect();
        self.command(&[], &command)
    }

    fn command(&self, binds: &[OsString], command: &[OsString]) -> Vec<OsString> {
        // Last, when everything has been put into it. The program's own folders are mounts of their own.
        let last = ["--remount-ro", "/", "--"].map(OsString::from);
        let all = self.arguments.iter().chain(binds).chain(&last).chain(command);
        all.cloned().collect()
    }
}

/// bwrap's arguments but for the runner: `system` are folders or links, `folders` what the interpreter needs besides.
fn arguments(
    system: &[(PathBuf, Option<PathBuf>)],
    folders: &BTreeSet<PathBuf>,
    path_variable: &str,
) -> Vec<OsString> {
    let mut all = Vec::new();
    for flag in [
        "--unshare-all",
        // Asked for by name, because --unshare-all does without where the kernel refuses it.
        "--unshare-user",
        "--as-pid-1",
        "--die-with-parent",
        "--new-session",
    ] {
        push(&mut all, &[flag.as_ref()]);
    }
    for pair in [
        ["--uid", "1000"],
        ["--gid", "1000"],
        ["--hostname", "codeexec"],
        ["--cap-drop", "ALL"],
    ] {
        push(&mut all, &pair.map(AsRef::as_ref));
    }
    push(&mut all, &["--clearenv".as_ref()]);
    for (name, value) in ENVIRONMENT.into_iter().chain([("PATH", path_variable)]) {
        push(&mut all, &["--setenv".as_ref(), name.as_ref(), value.as_ref()]);
    }
    for (path, target) in system {
        match target {
            Some(target) => push(
                &mut all,
                &["--symlink".as_ref(), target.as_os_str(), path.as_os_str()],
            ),
            None => push(
                &mut all,
                &["--ro-bind-try".as_ref(), path.as_os_str(), path.as_os_str()],
            ),
        }
    }
    for path in ETC {
        push(&mut all, &["--ro-bind-try", path, path].map(AsRef::as_ref));
    }
    push(
        &mut all,
        &[
            "--proc".as_ref(),
            "/proc".as_ref(),
            "--dev".as_ref(),
            "/dev".as_ref(),
        ],
    );
    let size = FOLDER_BYTES.to_string();
    for folder in ["/tmp", "/code", "/dev/shm"] {
        push(&mut all, &["--size", &size, "--tmpfs", folder].map(AsRef::as_ref));
    }
    // After those: an environment may stand below /tmp, and an empty one would lie over it.
    for folder in folders {
        push(
            &mut all,
            &["--ro-bind-try".as_ref(), folder.as_os_str(), folder.as_os_str()],
        );
    }
    // bwrap's /dev is a tmpfs without a bound, which nobody has to write to.
    push(
        &mut all,
        &["--remount-ro", "/dev", "--chdir", "/code"].map(AsRef::as_ref),
    );
    all
}

fn push(arguments: &mut Vec<OsString>, more: &[&std::ffi::OsStr]) {
    arguments.extend(more.iter().map(OsString::from));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    fn text() -> String {
        let system = [
            (PathBuf::from("/usr"), None),
            (PathBuf::from("/lib"), Some(PathBuf::from("usr/lib"))),
        ];
        let folders = BTreeSet::from([PathBuf::from("/home/a/venv")]);
        let all = arguments(&system, &folders, "/home/a/venv/bin:/usr/bin");
        let words: Vec<String> = all
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        words.join(" ")
    }

    #[test]
    fn links_stay_links_and_folders_are_read_only() {
        let text = text();
        assert!(text.contains("--ro-bind-try /usr /usr"));
        assert!(text.contains("--symlink usr/lib /lib"));
        assert!(text.contains("--ro-bind-try /home/a/venv /home/a/venv"));
        assert!(!text.contains("--bind ") && !text.contains("--dev-bind"));
    }

    #[test]
    fn everything_that_can_be_written_has_a_size() {
        let text = text();
        let tmpfs = text.matches("--tmpfs").count();
        assert_eq!(tmpfs, text.matches("--size 67108864 --tmpfs").count());
        assert!(text.contains("--remount-ro /dev"));
    }

    #[test]
    fn an_environment_below_tmp_is_not_covered() {
        let text = text();
        assert!(text.find("--ro-bind-try /home/a/venv").unwrap() > text.rfind("--tmpfs").unwrap());
    }

    #[test]
    fn nothing_of_the_servers_environment_gets_in() {
        let text = text();
        let clear = text.find("--clearenv").unwrap();
        assert!(text.find("--setenv").unwrap() > clear);
        assert!(text.contains("--setenv PATH /home/a/venv/bin:/usr/bin"));
    }
}
