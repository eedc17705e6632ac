//! What this machine lacks, found at the start and said in one line each.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::python::{MISSING_MODULES, OLDEST, PACKAGES, PROBE, Python};
use super::sandbox::Sandbox;
use crate::settings::Settings;

/// How long a check may take; an interpreter on a cold disk is slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Kernel settings that keep ordinary users from making namespaces, the value that does, and what helps.
const SWITCHES: [(&str, &str, &str); 3] = [
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "run `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or give bwrap an AppArmor profile",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "run `sysctl kernel.unprivileged_userns_clone=1`",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "run `sysctl user.max_user_namespaces=15000`",
    ),
];

/// Something without which nothing runs here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// No bubblewrap.
    #[error("bubblewrap is missing: install the package bubblewrap, so that bwrap is on the PATH")]
    Bwrap,
    /// No interpreter.
    #[error("no Python at {python}: install python3, or name one with --python ({why})")]
    Python {
        /// What was asked for.
        python: String,
        /// What came of starting it.
        why: String,
    },
    /// An old one.
    #[error("{python} is Python {version}; {}.{} or newer is needed: name one with --python", OLDEST.0, OLDEST.1)]
    OldPython {
        /// Where it is.
        python: String,
        /// What it says it is.
        version: String,
    },
    /// One whose folders hold more than an interpreter.
    #[error(
        "Python's folder {0} holds a home folder, which programs would be shown: use a virtual environment, and --python"
    )]
    WidePython(String),
    /// No runner.
    #[error(
        "the runner is missing: {0} is no executable file; build codeexec-runner, or name it with --runner"
    )]
    Runner(String),
    /// The kernel, or who guards it, says no.
    #[error("bwrap may not make namespaces here ({why}): {hint}")]
    Namespaces {
        /// What bwrap says.
        why: String,
        /// What may help.
        hint: String,
    },
    /// Namespaces work, but Python does not start in them.
    #[error("Python does not start in the sandbox: {0}")]
    PythonInside(String),
}

/// What the checks found: a sandbox that works.
#[derive(Debug)]
pub struct Found {
    /// It.
    pub sandbox: Sandbox,
    /// The interpreter in it.
    pub python: Python,
    /// Packages that the executor image has and this interpreter has not.
    pub missing_packages: Vec<&'static str>,
}

/// Checks everything that local mode needs.
///
/// # Errors
/// All that is missing, as far as it can be told at once.
pub async fn check(settings: &Settings) -> Result<Found, Vec<Missing>> {
    let bwrap = on_path("bwrap").ok_or(Missing::Bwrap);
    let python = python(&settings.python).await;
    let runner = runner(settings);
    // A namespace needs no more than bwrap, so that this can be told beside the others.
    let namespaces = match &bwrap {
        Ok(bwrap) => namespaces(bwrap).await,
        Err(_) => Ok(()),
    };
    let (bwrap, python, runner) = match (bwrap, python, runner, namespaces) {
        (Ok(bwrap), Ok(python), Ok(runner), Ok(())) => (bwrap, python, runner),
        (bwrap, python, runner, namespaces) => {
            let missing = [bwrap.err(), python.err(), runner.err(), namespaces.err()];
            return Err(missing.into_iter().flatten().collect());
        }
    };
    let sandbox = Sandbox::new(bwrap, &python, &runner, settings.memory_limit_bytes);
    let missing_packages = missing_packages(&sandbox)
        .await
        .map_err(|missing| vec![missing])?;
    Ok(Found {
        sandbox,
        python,
        missing_packages,
    })
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

async fn python(path: &Path) -> Result<Python, Missing> {
    let shown = path.display().to_string();
    let missing = |why: String| Missing::Python {
        python: shown.clone(),
        why,
    };
    // -I, so that neither the environment nor the current folder has a say in where its modules are.
    let mut command = Command::new(path);
    command.args(["-I", "-c", PROBE]);
    let output = run(&mut command).await.map_err(missing)?;
    let Some(python) = Python::from_probe(&output.stdout) else {
        return Err(missing(first_line(&output.stderr)));
    };
    if !python.is_new_enough() {
        return Err(Missing::OldPython {
            python: shown,
            version: python.version_text(),
        });
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match python.too_wide_folder(home.as_deref()) {
        Some(folder) => Err(Missing::WidePython(folder.display().to_string())),
        None => Ok(python),
    }
}

fn runner(settings: &Settings) -> Result<PathBuf, Missing> {
    let beside = || {
        std::env::current_exe()
            .ok()
            .map(|own| own.with_file_name("codeexec-runner"))
    };
    let path = settings.runner.clone().or_else(beside).unwrap_or_default();
    match std::fs::canonicalize(&path) {
        Ok(path) if is_executable(&path) => Ok(path),
        _ => Err(Missing::Runner(path.display().to_string())),
    }
}

async fn namespaces(bwrap: &Path) -> Result<(), Missing> {
    let mut command = Command::new(bwrap);
    command.args([
        "--unshare-all",
        "--unshare-user",
        "--as-pid-1",
        "--uid",
        "1000",
        "--gid",
        "1000",
    ]);
    command.args([
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--",
        "true",
    ]);
    let why = match run(&mut command).await {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => first_line(&output.stderr),
        Err(error) => error,
    };
    let off = |(file, value, _): &&(&str, &str, &str)| {
        std::fs::read_to_string(file).is_ok_and(|text| text.trim() == *value)
    };
    let hint = SWITCHES.iter().find(off).map_or(
        "in a container, start that with --privileged, or run codeexec outside of it",
        |(_, _, hint)| hint,
    );
    Err(Missing::Namespaces {
        why,
        hint: hint.to_owned(),
    })
}

async fn missing_packages(sandbox: &Sandbox) -> Result<Vec<&'static str>, Missing> {
    let modules = PACKAGES.map(|(module, _)| module);
    let arguments = [&["-I", "-c", MISSING_MODULES], &modules[..]].concat();
    let mut command = Command::new(&sandbox.bwrap);
    command.args(sandbox.python(&arguments));
    let output = run(&mut command).await.map_err(Missing::PythonInside)?;
    if !output.status.success() {
        return Err(Missing::PythonInside(first_line(&output.stderr)));
    }
    let absent = String::from_utf8_lossy(&output.stdout);
    let absent: Vec<&str> = absent.split_whitespace().collect();
    let packages = PACKAGES.into_iter().filter(|(module, _)| absent.contains(module));
    Ok(packages.map(|(_, package)| package).collect())
}

async fn run(command: &mut Command) -> Result<Output, String> {
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    match timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

fn first_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("it said nothing").to_owned()
}
