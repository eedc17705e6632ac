//! Where this process's own cgroups are, read off what /proc says.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use super::NoCgroup;

/// The two kinds of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A tree for each controller.
    V1,
    /// One tree for all.
    V2,
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

/// The folders of this process's own cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Whose files are in them.
    pub version: Version,
    /// That of the memory controller; with v2 that of all controllers.
    pub memory: PathBuf,
    /// With v1, that of the controller of processes, where it is another one.
    pub pids: Option<PathBuf>,
}

/// Finds them in /proc/self/cgroup and /proc/self/mountinfo.
///
/// # Errors
/// When there is no memory controller, or its folder can't be seen from here.
pub fn layout(own: &str, mountinfo: &str) -> Result<Layout, NoCgroup> {
    // A controller is in one tree only, so that this decides hybrid systems too.
    if let Some(path) = own_path(own, "memory") {
        let memory = folder(mountinfo, "memory", path)?;
        let pids = own_path(own, "pids").and_then(|path| folder(mountinfo, "pids", path).ok());
        return Ok(Layout {
            version: Version::V1,
            pids: pids.filter(|pids| *pids != memory),
            memory,
        });
    }
    let path = own_path(own, "").ok_or(NoCgroup::NoController)?;
    Ok(Layout {
        version: Version::V2,
        memory: folder(mountinfo, "", path)?,
        pids: None,
    })
}

/// The path in a controller's tree; v2's line names none.
fn own_path<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers
            .split(',')
            .any(|name| name == controller)
            .then_some(path)
    })
}

/// The folder of the path, below the first mount of the controller's tree in which it can be seen.
fn folder(mountinfo: &str, controller: &str, path: &str) -> Result<PathBuf, NoCgroup> {
    let mounts: Vec<Mount> = mountinfo
        .lines()
        .filter_map(Mount::parse)
        .filter(|mount| mount.is_of(controller))
        .collect();
    let seen = mounts.iter().find_map(|mount| mount.folder(Path::new(path)));
    seen.ok_or_else(|| match mounts.is_empty() {
        true => NoCgroup::NotMounted,
        false => NoCgroup::OutOfSight(path.to_owned()),
    })
}

/// A line of mountinfo.
struct Mount<'a> {
    /// What of the file system is mounted.
    root: PathBuf,
    /// Where it is.
    at: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        // In between is a number of fields that varies.
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut file_system = file_system.split(' ');
        Some(Self {
            root: unescape(mount.next()?),
            at: unescape(mount.next()?),
            kind: file_system.next()?,
            options: file_system.nth(1)?,
        })
    }

    fn is_of(&self, controller: &str) -> bool {
        match controller {
            "" => self.kind == "cgroup2",
            _ => self.kind == "cgroup" && self.options.split(',').any(|option| option == controller),
        }
    }

    /// A container may be shown a part of the tree only, whose path begins with what is above that part.
    fn folder(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(&self.root).ok()?;
        // Paths outside of a cgroup namespace are shown by way of its parents.
        let inside = |part| matches!(part, Component::Normal(_));
        below
            .components()
            .all(inside)
            .then(|| self.at.components().chain(below.components()).collect())
    }
}

/// The kernel writes spaces, tabs, newlines and backslashes as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| first == b'\\');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:10 master:2 - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const V2: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";

    fn v1(memory: &str, pids: Option<&str>) -> Result<Layout, NoCgroup> {
        Ok(Layout {
            version: Version::V1,
            memory: memory.into(),
            pids: pids.map(Into::into),
        })
    }

    fn v2(folder: &str) -> Result<Layout, NoCgroup> {
        Ok(Layout {
            version: Version::V2,
            memory: folder.into(),
            pids: None,
        })
    }

    #[test]
    fn with_v1_each_controller_has_a_tree() {
        let own = "9:name=systemd:/a\n8:pids:/\n4:memory:/b/c\n1:cpu,cpuacct:/\n";
        assert_eq!(
            layout(own, V1),
            v1("/sys/fs/cgroup/memory/b/c", Some("/sys/fs/cgroup/pids"))
        );
        assert_eq!(layout("4:memory:/\n", V1), v1("/sys/fs/cgroup/memory", None));
    }

    #[test]
    fn controllers_may_share_a_tree() {
        let mounts = "35 31 0:32 / /cg/both rw - cgroup cgroup rw,memory,pids\n";
        assert_eq!(layout("4:pids,memory:/a\n", mounts), v1("/cg/both/a", None));
    }

    #[test]
    fn a_hybrid_systems_memory_is_where_its_controller_is() {
        assert_eq!(
            layout("4:memory:/b\n0::/a\n", V1),
            v1("/sys/fs/cgroup/memory/b", None)
        );
        // Given to v2 by the kernel's command line.
        assert_eq!(layout("8:pids:/\n0::/a\n", V1), v2("/sys/fs/cgroup/unified/a"));
    }

    #[test]
    fn with_v2_there_is_one_tree() {
        let own = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope\n";
        assert_eq!(
            layout(own, V2),
            v2("/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope")
        );
    }

    #[test]
    fn a_container_sees_its_part_of_the_tree() {
        let mounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        assert_eq!(
            layout("4:memory:/docker/abc\n", mounts),
            v1("/sys/fs/cgroup/memory", None)
        );
        assert_eq!(
            layout("4:memory:/docker/abc/d\n", mounts),
            v1("/sys/fs/cgroup/memory/d", None)
        );
        assert_eq!(layout("0::/\n", V2), v2("/sys/fs/cgroup"));
    }

    #[test]
    fn a_mount_that_shows_another_part_is_passed_over() {
        let mounts = "\
34 31 0:32 /docker/other /mnt rw - cgroup cgroup rw,memory
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";
        assert_eq!(
            layout("4:memory:/docker/abc\n", mounts),
            v1("/sys/fs/cgroup/memory", None)
        );
        let out_of_sight = |path: &str| Err(NoCgroup::OutOfSight(path.to_owned()));
        assert_eq!(layout("4:memory:/\n", mounts), out_of_sight("/"));
        assert_eq!(layout("0::/../../a\n", V2), out_of_sight("/../../a"));
        let above = "30 23 0:26 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(layout("0::/\n", above), out_of_sight("/"));
    }

    #[test]
    fn without_a_memory_controller_there_is_no_layout() {
        assert_eq!(layout("8:pids:/\n", V1), Err(NoCgroup::NoController));
        assert_eq!(layout("", ""), Err(NoCgroup::NoController));
        assert_eq!(layout("4:memory:/\n", V2), Err(NoCgroup::NotMounted));
        assert_eq!(layout("0::/\n", ""), Err(NoCgroup::NotMounted));
    }

    #[test]
    fn a_path_may_hold_spaces_and_backslashes() {
        let mounts = r"30 23 0:26 /a\134040b /my\040cgroups rw - cgroup2 cgroup2 rw";
        assert_eq!(layout("0::/a\\040b/c\n", mounts), v2("/my cgroups/c"));
        assert_eq!(unescape(r"a\09\"), Path::new(r"a\09\"));
    }
}
