//! Where cgroups for programs can be made, and what is there already.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::layout::{Layout, Version, layout};
use super::{NoCgroup, procs, read, refused, write};

/// Where cgroups can be made, which with v2 takes some preparation.
///
/// # Errors
/// When nowhere.
pub fn place() -> Result<Layout, NoCgroup> {
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

/// Cgroups of servers that are no more. Those with this process's number are of one that had it before.
pub fn leftovers(own: &Layout) -> Vec<PathBuf> {
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

/// What the names of this process's cgroups begin with.
pub fn own_prefix() -> String {
    format!("codeexec-{}-", std::process::id())
}

/// The process that gave a cgroup this name.
fn maker(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix("codeexec-")?.split_once('-')?;
    pid.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use tempfile::TempDir;

    use super::super::tests::tree;
    use super::*;

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
    fn what_dead_servers_left_is_told_from_the_rest() {
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
    }
}
