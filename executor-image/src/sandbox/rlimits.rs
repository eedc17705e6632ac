//! Limits of single processes. The cgroup bounds them all together; these make the common accidents an error
//! in the program instead of its end.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::settings::Nproc;

const MIB: u64 = 1 << 20;

/// Open files; the default of most systems, and what select(2) can watch.
const OPEN_FILES: u64 = 1024;
/// Longest file. The size of /tmp and of the work directory bounds them together.
const FILE_BYTES: u64 = 1024 * MIB;
/// Processes and threads at once, unless the settings say otherwise. A bomb of as many interpreters fits into
/// 512 MiB, and can't keep the runner from its deadline for long; see [`crate::cgroup`].
const PROCESSES: u64 = 64;

/// A resource and how much of it there is.
pub type Limit = (Resource, u64);

/// The limits of the program.
pub fn limits(nproc: Nproc, memory_limit: Option<u64>) -> Vec<Limit> {
    let mut limits = vec![
        (Resource::Core, 0),
        (Resource::Nofile, OPEN_FILES),
        (Resource::Fsize, FILE_BYTES),
        (Resource::Msgqueue, 0),
        (Resource::Memlock, 64 * 1024),
    ];
    // The kernel counts processes by user and user namespace: without a namespace of its own, one container's
    // fork bomb would take the processes of all others of its user.
    let counted_alone = own_user_namespace() || matches!(nproc, Nproc::At(_));
    let processes = most_processes(nproc).filter(|_| counted_alone);
    limits.extend(processes.map(|count| (Resource::Nproc, count)));
    // A MemoryError tells more than the kernel's SIGKILL. Twice the limit because what is reserved is counted,
    // such as thread stacks, and not all of that is ever touched.
    limits.extend(memory_limit.map(|bytes| (Resource::Data, bytes.saturating_mul(2))));
    limits
}

/// How many processes and threads the program may have at once; nothing where there is no bound.
pub fn most_processes(nproc: Nproc) -> Option<u64> {
    match nproc {
        Nproc::Auto => Some(PROCESSES),
        Nproc::At(0) => None,
        Nproc::At(count) => Some(count),
    }
}

/// Whether the kernel holds them to that by itself. It doesn't count those of the machine's own root, as whom a
/// namespace that root made maps its users, nor those of a user whom it would have to count for all containers.
pub fn kernel_bounds_processes() -> bool {
    std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| is_own_namespace(&map) && !is_the_machine_s_root(&map))
}

/// Sets them for this process and its children, without raising one.
pub fn apply(limits: &[Limit]) -> io::Result<()> {
    for &(resource, wanted) in limits {
        let bound = getrlimit(resource)
            .maximum
            .map_or(wanted, |maximum| maximum.min(wanted));
        setrlimit(
            resource,
            Rlimit {
                current: Some(bound),
                maximum: Some(bound),
            },
        )?;
    }
    Ok(())
}

/// Whether this process is in a user namespace other than the node's.
pub fn own_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_own_namespace(&map))
}

fn is_own_namespace(uid_map: &str) -> bool {
    !uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether a user of the namespace is root outside of it.
fn is_the_machine_s_root(uid_map: &str) -> bool {
    uid_map
        .lines()
        .any(|line| line.split_whitespace().nth(1) == Some("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_node_s_namespace_maps_every_user_to_itself() {
        assert!(!is_own_namespace("         0          0 4294967295\n"));
        assert!(is_own_namespace("      1000          0          1\n"));
        assert!(is_own_namespace("         0     100000      65536\n"));
    }

    #[test]
    fn a_namespace_that_root_made_for_itself_counts_no_processes() {
        assert!(is_the_machine_s_root("      1000          0          1\n"));
        assert!(!is_the_machine_s_root("         0     100000      65536\n"));
    }

    #[test]
    fn processes_are_bounded_when_told_to() {
        let bound = |nproc| {
            limits(nproc, None)
                .into_iter()
                .find(|(resource, _)| *resource == Resource::Nproc)
        };
        assert_eq!(bound(Nproc::At(7)), Some((Resource::Nproc, 7)));
        assert_eq!(bound(Nproc::At(0)), None);
    }
}
