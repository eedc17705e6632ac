//! What the program may have in all, counted by the runner where the kernel does not see to it.

use std::time::Instant;

use crate::cgroup::MemoryUse;
use crate::ending::End;
use crate::memory::held_by_others;
use crate::processes::{others, threads_of_others};
use crate::sandbox::{kernel_bounds_processes, most_processes};
use crate::settings::Settings;

/// The bounds that are counted.
#[derive(Debug)]
pub struct Bounds {
    memory_bytes: Option<u64>,
    cgroup: Option<MemoryUse>,
    processes: Option<u64>,
}

impl Bounds {
    /// Those that the kernel leaves to the runner.
    pub fn left_by_the_kernel(settings: &Settings, cgroup: Option<MemoryUse>) -> Self {
        Self {
            memory_bytes: settings.memory_limit,
            cgroup,
            processes: most_processes(settings.nproc).filter(|_| !kernel_bounds_processes()),
        }
    }

    /// Whether there is something to count.
    pub fn any(&self) -> bool {
        self.memory_bytes.is_some() || self.cgroup.is_some() || self.processes.is_some()
    }

    /// The end of a program that has more than it may. Counts `until` then at most.
    pub fn broken(&self, until: Instant) -> Option<End> {
        // First, for a bomb's memory takes long to add up.
        if let Some(most) = self.processes
            && threads_of_others() > most
        {
            return Some(End::TooManyProcesses(most));
        }
        if let Some(cgroup) = &self.cgroup
            && cgroup.is_nearly_full(|| others().count())
        {
            return Some(End::MemoryFull);
        }
        let limit = self.memory_bytes?;
        (held_by_others(limit, until) > limit).then_some(End::MemoryFull)
    }
}
