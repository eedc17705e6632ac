//! Writes go to the work directory and the temporary ones only; no TCP; no signals to the runner.

use std::io;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope,
};

use crate::sys;

/// The newest ABI whose rights are asked for: the scopes came with it. What an older kernel lacks is left out.
const TARGET: ABI = ABI::V6;
const DIRECTORIES: [&str; 2] = ["/tmp", "/dev/shm"];
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];

/// The ABI enforced here.
pub fn abi() -> i32 {
    sys::landlock_abi().min(TARGET as i32)
}

/// The ruleset of the program, or nothing where the kernel has no Landlock.
pub fn ruleset(work_dir: &Path) -> Result<Option<RulesetCreated>, RulesetError> {
    if abi() == 0 {
        return Ok(None);
    }
    let write = AccessFs::from_write(TARGET);
    let mut ruleset = Ruleset::default()
        .handle_access(write)?
        .handle_access(AccessNet::from_all(TARGET))?
        .scope(Scope::from_all(TARGET))?
        .create()?;
    for directory in DIRECTORIES.map(Path::new).into_iter().chain([work_dir]) {
        if let Ok(path) = PathFd::new(directory) {
            ruleset = ruleset.add_rule(PathBeneath::new(path, write))?;
        }
    }
    for device in DEVICES {
        if let Ok(path) = PathFd::new(device) {
            ruleset = ruleset.add_rule(PathBeneath::new(path, write & AccessFs::from_file(TARGET)))?;
        }
    }
    Ok(Some(ruleset))
}

/// Puts it on this process.
pub fn restrict(ruleset: RulesetCreated) -> io::Result<()> {
    ruleset.restrict_self().map(drop).map_err(io::Error::other)
}
