//! Whether memory ran out: the kernel's counter where a cgroup bounds the container, our own sum where not.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::processes::others;

/// The cgroup file systems of all container runtimes.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The kernel's count of processes that it killed because the container's memory was full.
#[derive(Debug)]
pub struct OomCounter {
    file: Option<File>,
    at_start: u64,
}

impl OomCounter {
    /// Opens the counter now, while nobody is there who could put something else in its place.
    pub fn open() -> Self {
        let file = candidates("memory.events", "memory.oom_control")
            .into_iter()
            .filter_map(|path| File::open(path).ok())
            .find(|file| read_count(file).is_some());
        let at_start = file.as_ref().and_then(read_count).unwrap_or(0);
        Self { file, at_start }
    }

    /// Whether it rose since.
    pub fn rose(&self) -> bool {
        self.file
            .as_ref()
            .and_then(read_count)
            .is_some_and(|count| count > self.at_start)
    }
}

/// What the container may hold, where its cgroup says so.
pub fn cgroup_limit() -> Option<u64> {
    candidates("memory.max", "memory.limit_in_bytes")
        .into_iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .and_then(|text| text.trim().parse().ok())
        // cgroup v1 writes "none" as the largest number of pages.
        .filter(|&bytes| bytes < 1 << 50)
}

/// Where a file of the memory controller may be: at the path that /proc tells, or, in a container whose own
/// cgroup is mounted as the root, right there. Version 1 comes first because a hybrid system has both.
fn candidates(v2_name: &str, v1_name: &str) -> Vec<PathBuf> {
    let (v2, v1) = cgroup_paths(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    let below =
        |root: &str, path: &str, name: &str| Path::new(root).join(path.trim_start_matches('/')).join(name);
    let v1_root = format!("{CGROUPS}/memory");
    let mut files = Vec::new();
    files.extend(v1.as_deref().map(|path| below(&v1_root, path, v1_name)));
    files.extend(v1.map(|_| below(&v1_root, "", v1_name)));
    files.extend(v2.map(|path| below(CGROUPS, &path, v2_name)));
    files.push(below(CGROUPS, "", v2_name));
    files
}

/// The unified hierarchy's path, and version 1's of the memory controller.
fn cgroup_paths(proc_self_cgroup: &str) -> (Option<String>, Option<String>) {
    let mut paths = (None, None);
    for line in proc_self_cgroup.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        match (fields.next(), fields.next()) {
            (Some(""), Some(path)) => paths.0 = Some(path.to_owned()),
            (Some(controllers), Some(path)) if controllers.split(',').any(|name| name == "memory") => {
                paths.1 = Some(path.to_owned());
            }
            _ => {}
        }
    }
    paths
}

fn read_count(file: &File) -> Option<u64> {
    let mut buffer = [0; 1024];
    let length = file.read_at(&mut buffer, 0).ok()?;
    parse_count(std::str::from_utf8(&buffer[..length]).ok()?)
}

/// Both versions have a line "oom_kill 3", among others.
fn parse_count(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|count| count.trim().parse().ok())
}

/// What all processes of the namespace but this one hold, in bytes, or as much as could be added up `until` then.
///
/// Resident sizes count what processes share more than once, which is cheap to read and never too little; only
/// a sum above `limit` is looked at again, with each page divided among those who share it. That walks all their
/// pages, which a program can make take seconds.
pub fn held_by_others(limit: u64, until: Instant) -> u64 {
    let in_time = || others().take_while(|_| Instant::now() < until);
    let first_look = in_time().filter_map(|process| Held::by(&process));
    let (resident, tables) = first_look.fold((0, 0), |(resident, tables), held| {
        (resident + held.resident, tables + held.tables)
    });
    // Tables are nobody else's: where they alone are too much, no second look is needed.
    if resident + tables <= limit || tables > limit {
        return resident + tables;
    }
    let shared_out =
        |process: PathBuf| shared_out_bytes(&process).or_else(|| Some(Held::by(&process)?.resident));
    tables + in_time().filter_map(shared_out).sum::<u64>()
}

/// What a process holds, in bytes.
struct Held {
    /// Its pages.
    resident: u64,
    /// The kernel's tables of its pages: those of many small mappings can be the larger part.
    tables: u64,
}

impl Held {
    fn by(process: &Path) -> Option<Self> {
        Self::in_status(&fs::read_to_string(process.join("status")).ok()?)
    }

    fn in_status(status: &str) -> Option<Self> {
        Some(Self {
            resident: kilobytes(status, "VmRSS:")? * 1024,
            tables: kilobytes(status, "VmPTE:")? * 1024,
        })
    }
}

fn shared_out_bytes(process: &Path) -> Option<u64> {
    let rollup = fs::read_to_string(process.join("smaps_rollup")).ok()?;
    Some(kilobytes(&rollup, "Pss:")? * 1024)
}

/// The number in a line such as "VmRSS:    1024 kB".
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_cgroups_are_understood() {
        assert_eq!(
            parse_count("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"),
            Some(2)
        );
        assert_eq!(
            parse_count("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"),
            Some(7)
        );
        assert_eq!(parse_count("oom_kill_disable 0\nunder_oom 0\n"), None);
    }

    #[test]
    fn tables_of_pages_count_as_memory() {
        let status = "Name:\tpython3\nVmRSS:\t    2048 kB\nVmPTE:\t     512 kB\n";
        let held = Held::in_status(status).expect("both lines are there");
        assert_eq!((held.resident, held.tables), (2048 << 10, 512 << 10));
        // A process that has ended has neither.
        assert!(Held::in_status("Name:\tpython3\n").is_none());
    }

    #[test]
    fn the_memory_controller_is_found_in_every_layout() {
        assert_eq!(cgroup_paths("0::/a/b\n"), (Some("/a/b".to_owned()), None));
        let hybrid = "5:devices:/x\n4:cpu,memory:/y\n1:name=systemd:/\n0::/\n";
        assert_eq!(
            cgroup_paths(hybrid),
            (Some("/".to_owned()), Some("/y".to_owned()))
        );
        assert_eq!(cgroup_paths(""), (None, None));
    }
}
