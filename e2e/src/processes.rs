//! The processes of Pods, where the cluster's node is this machine.

use std::fs;

/// A process of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodProcess {
    /// Its number on this machine.
    pub pid: i32,
    /// The name of its program.
    pub name: String,
    /// The uid of its Pod.
    pub pod: String,
}

/// Each process on this machine that is in a Pod's cgroup.
#[must_use]
pub fn processes_of_pods() -> Vec<PodProcess> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let read = |file: &str| fs::read_to_string(entry.path().join(file)).ok();
            let pod = pod_uid(&read("cgroup")?)?;
            let name = read("comm")?.trim().to_owned();
            Some(PodProcess { pid, name, pod })
        })
        .collect()
}

/// The runner of the executor Pod with this uid, once it is up.
#[must_use]
pub fn runner_in(pod_uid: &str) -> Option<i32> {
    // The kernel cuts names at 15 characters, which this one just has.
    let mut processes = processes_of_pods().into_iter();
    let runner = processes.find(|process| process.pod == pod_uid && process.name == "codeexec-runner")?;
    Some(runner.pid)
}

/// The uid in `…/pod<uid>/…`, as the kubelet names cgroups by itself, or in `…-pod<uid>.slice/…`, as it names
/// them for systemd, which wants underscores.
fn pod_uid(cgroup: &str) -> Option<String> {
    const LENGTH: usize = 36;
    let candidates = cgroup.match_indices("pod").filter_map(|(at, word)| {
        let uid = cgroup.get(at + word.len()..)?.get(..LENGTH)?;
        let is_uid = uid.chars().all(|c| c.is_ascii_hexdigit() || c == '-' || c == '_');
        is_uid.then(|| uid.replace('_', "-"))
    });
    candidates.last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_s_uid_is_found_in_either_way_of_naming_cgroups() {
        const UID: &str = "0f1e2d3c-aaaa-bbbb-cccc-0123456789ab";
        let cgroupfs = format!("4:memory:/codeexec/kubepods/burstable/pod{UID}/5d1c\n0::/\n");
        assert_eq!(pod_uid(&cgroupfs).as_deref(), Some(UID));
        let slice = UID.replace('-', "_");
        let systemd =
            format!("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/x\n");
        assert_eq!(pod_uid(&systemd).as_deref(), Some(UID));
        assert_eq!(pod_uid("0::/user.slice/podman-1234.scope\n0::/podé\n"), None);
    }
}
