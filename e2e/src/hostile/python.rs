//! The interpreter that programs run in, and the folders that it needs inside a sandbox.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;

/// Its real path, not that of a wrapper such as pyenv's, and its folders outside of the system's own: as they
/// are named and, where links are on the way, as they really are; none that lies in another.
const PROBE: &str = "\
import json, os, site, sys, sysconfig
paths = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *site.getsitepackages()}
paths |= {sysconfig.get_path(name) for name in ('stdlib', 'platstdlib', 'purelib', 'platlib')}
paths |= {os.path.realpath(path) for path in paths} | {os.path.dirname(os.path.realpath(sys.executable))}
inside = lambda path, others: any(path.startswith(other + '/') for other in others)
system = {'/usr', '/bin', '/lib', '/lib64'}
folders = [p for p in sorted(paths) if os.path.isdir(p) and p not in system and not inside(p, system | paths)]
print(json.dumps({'executable': sys.executable, 'folders': folders}))";

/// An interpreter.
#[derive(Clone, Debug, Deserialize)]
pub struct Python {
    /// Where it is.
    pub executable: PathBuf,
    /// What has to be seen beside the system's folders.
    pub folders: Vec<PathBuf>,
}

impl Python {
    /// Asks the interpreter itself.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ask(path: &Path) -> Result<Self> {
        let output = Command::new(path)
            .args(["-I", "-c", PROBE])
            .stderr(Stdio::inherit())
            .output()
            .await
            .with_context(|| format!("failed to start {}", path.display()))?;
        ensure!(
            output.status.success(),
            "{} ended with {}",
            path.display(),
            output.status
        );
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{} says nothing of itself", path.display()))
    }
}
