//! The container's memory as its cgroup holds it, in both versions.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The cgroup file systems of all container runtimes.
const CGROUPS: &str = "/sys/fs/cgroup";

/// What is read of one of the files at most; the longest, memory.stat, has about 2 KiB.
const FILE_BYTES: usize = 8192;

/// As many processes may fill the memory to its end: the kernel ends that quickly, by killing one of them.
///
/// Many that fill it together each take what another one gave back, down to the pages of the interpreter's own
/// code, and the kernel finds nobody to kill for as long as there is one page to take. Since Linux 6.18 work in
/// the kernel goes on when the container's processor time is used up, and everybody in it waits until that is paid
/// back, the runner too: with 512 MiB and half a processor, 16 such processes kept it from its deadline for 5 s.
const FEW: usize = 4;

/// Each process of more than [`FEW`] makes them leave this part of the limit free, up to [`MOST_PARTS`] of it: the
/// more there are, the longer they can keep the runner from its next look.
const PARTS: u64 = 128;
/// One half. Below that nobody has to be counted.
const MOST_PARTS: u64 = 64;

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
            .find(|file| oom_kills(file).is_some());
        let mut counter = Self { file, at_start: 0 };
        counter.begin();
        counter
    }

    /// Forgets what was counted so far.
    pub fn begin(&mut self) {
        self.at_start = self.file.as_ref().and_then(oom_kills).unwrap_or(0);
    }

    /// Whether it rose since then.
    pub fn rose(&self) -> bool {
        self.file
            .as_ref()
            .and_then(oom_kills)
            .is_some_and(|count| count > self.at_start)
    }
}

/// How much of its memory the container uses.
#[derive(Debug)]
pub struct MemoryUse {
    used: File,
    stat: File,
    limit: u64,
}

impl MemoryUse {
    /// Opens the files now, as [`OomCounter::open`] does; nothing where they are not there, or where there is no
    /// limit.
    pub fn open() -> Option<Self> {
        let open = |v2_name, v1_name| {
            candidates(v2_name, v1_name)
                .into_iter()
                .find_map(|path| File::open(path).ok())
        };
        Some(Self {
            used: open("memory.current", "memory.usage_in_bytes")?,
            stat: open("memory.stat", "memory.stat")?,
            limit: memory_limit()?,
        })
    }

    /// Whether less is left than so many processes must leave.
    pub fn is_nearly_full(&self, processes: impl FnOnce() -> usize) -> bool {
        let least = most_of(self.limit, usize::MAX);
        let used = read(&self.used).and_then(|text| text.trim().parse::<u64>().ok());
        // In this order, for the first is cheap and the rest is not.
        used.filter(|&used| used > least)
            .and_then(|used| Some(used.saturating_sub(file_pages(&read(&self.stat)?)?)))
            .is_some_and(|held| held > least && held > most_of(self.limit, processes()))
    }
}

/// What so many processes may hold together.
fn most_of(limit: u64, processes: usize) -> u64 {
    if processes <= FEW {
        return limit;
    }
    limit - limit / PARTS * MOST_PARTS.min(processes as u64)
}

/// What the container may hold, where its cgroup says so.
pub fn memory_limit() -> Option<u64> {
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

fn read(file: &File) -> Option<String> {
    let mut buffer = vec![0; FILE_BYTES];
    let length = file.read_at(&mut buffer, 0).ok()?;
    buffer.truncate(length);
    String::from_utf8(buffer).ok()
}

fn oom_kills(file: &File) -> Option<u64> {
    // Both versions have a line "oom_kill 3", among others.
    number(&read(file)?, "oom_kill")
}

/// The pages of files, in bytes, which the kernel can give back at any time. Those of a memory file system are
/// not among them.
fn file_pages(memory_stat: &str) -> Option<u64> {
    Some(number(memory_stat, "inactive_file")? + number(memory_stat, "active_file")?)
}

/// The number in a line such as "oom_kill 3".
fn number(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .and_then(|number| number.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_cgroups_are_understood() {
        let count = |text| number(text, "oom_kill");
        assert_eq!(
            count("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"),
            Some(2)
        );
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\n"), None);
    }

    #[test]
    fn pages_of_files_are_those_that_can_be_given_back() {
        let stat = "cache 9\nrss 8\ninactive_anon 7\nactive_anon 6\ninactive_file 5\nactive_file 4\n\
                    total_inactive_file 3\ntotal_active_file 2\n";
        assert_eq!(file_pages(stat), Some(9));
        assert_eq!(file_pages("anon 1\n"), None);
    }

    #[test]
    fn the_more_processes_there_are_the_less_they_may_hold() {
        let limit = 512 << 20;
        assert_eq!(most_of(limit, 4), limit);
        assert_eq!(most_of(limit, 5), 492 << 20);
        assert_eq!(most_of(limit, 32), 384 << 20);
        assert_eq!([64, 300].map(|many| most_of(limit, many)), [256 << 20; 2]);
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
