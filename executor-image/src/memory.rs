//! What the program holds, summed over its processes, where no cgroup bounds it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::processes::others;

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
    fn tables_of_pages_count_as_memory() {
        let status = "Name:\tpython3\nVmRSS:\t    2048 kB\nVmPTE:\t     512 kB\n";
        let held = Held::in_status(status).expect("both lines are there");
        assert_eq!((held.resident, held.tables), (2048 << 10, 512 << 10));
        // A process that has ended has neither.
        assert!(Held::in_status("Name:\tpython3\n").is_none());
    }
}
