//! What the runner can be told: a flag, or a `CODEEXEC_…` variable of the same name. Flags win.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::network::Addresses;

/// A setting that can't be understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    /// No such flag.
    #[error(
        "unknown flag {0}; there are --python, --workdir, --memory-limit-bytes, --nproc, --preload, --termination-log, --probe-dns and --linger-ms"
    )]
    UnknownFlag(String),
    /// A flag at the end, without what belongs to it.
    #[error("flag --{0} needs a value")]
    MissingValue(String),
    /// A value that does not fit.
    #[error("setting {name} is {value:?}, which is not {wanted}")]
    InvalidValue {
        /// Of the flag, without dashes.
        name: &'static str,
        /// As given.
        value: String,
        /// What would fit.
        wanted: &'static str,
    },
}

/// How many processes the program's user may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nproc {
    /// A bound where the kernel counts this container alone, otherwise none.
    Auto,
    /// This many; 0 for no bound.
    At(u64),
}

/// The settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The interpreter, a name on the PATH or a path.
    pub python: PathBuf,
    /// Where the program runs and its files are.
    pub work_dir: PathBuf,
    /// What all its processes may hold together; `None` where the cgroup bounds that.
    pub memory_limit: Option<u64>,
    /// How many processes it may have.
    pub nproc: Nproc,
    /// Modules that the interpreter imports before it is ready.
    pub preload: Vec<String>,
    /// Where the container runtime looks for a last message.
    pub termination_log: PathBuf,
    /// What the report on the network is about.
    pub probe: Addresses,
    /// How long the runner stays after its last result. A node takes an ended container down at once, and on its
    /// processor, while the result is still on its way to whoever waits for it.
    pub linger: Duration,
}

const NAMES: [&str; 8] = [
    "python",
    "workdir",
    "memory-limit-bytes",
    "nproc",
    "preload",
    "termination-log",
    "probe-dns",
    "linger-ms",
];

impl Settings {
    /// Reads flags (without the program's name) and variables.
    pub fn read(
        flags: impl IntoIterator<Item = String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let mut given: HashMap<&str, String> = HashMap::new();
        for name in NAMES {
            let variable_name = format!("CODEEXEC_{}", name.to_uppercase().replace('-', "_"));
            // A chart that leaves a value out sets an empty variable.
            given.extend(
                variable(&variable_name)
                    .filter(|value| !value.is_empty())
                    .map(|value| (name, value)),
            );
        }
        let mut flags = flags.into_iter();
        while let Some(flag) = flags.next() {
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag.as_str(), None),
            };
            let known = name
                .strip_prefix("--")
                .and_then(|name| NAMES.into_iter().find(|known| *known == name));
            let name = known.ok_or_else(|| SettingsError::UnknownFlag(name.to_owned()))?;
            let value = value.or_else(|| flags.next());
            given.insert(
                name,
                value.ok_or_else(|| SettingsError::MissingValue(name.to_owned()))?,
            );
        }
        let mut take = |name: &str, default: &str| given.remove(name).unwrap_or_else(|| default.to_owned());
        Ok(Self {
            python: take("python", "python3").into(),
            work_dir: take("workdir", "/code").into(),
            memory_limit: Some(number("memory-limit-bytes", take("memory-limit-bytes", "0"))?)
                .filter(|&bytes| bytes > 0),
            nproc: match take("nproc", "auto") {
                auto if auto == "auto" => Nproc::Auto,
                count => Nproc::At(number("nproc", count)?),
            },
            preload: take("preload", "")
                .split([',', ' '])
                .filter(|m| !m.is_empty())
                .map(str::to_owned)
                .collect(),
            termination_log: take("termination-log", "/dev/termination-log").into(),
            probe: Addresses {
                kubernetes_api: kubernetes_api(&variable),
                dns: Some(take("probe-dns", ""))
                    .filter(|text| !text.is_empty())
                    .map(address)
                    .transpose()?,
            },
            linger: Duration::from_millis(number("linger-ms", take("linger-ms", "0"))?),
        })
    }
}

/// The kubelet sets these in every container, whatever is said about service links.
fn kubernetes_api(variable: &impl Fn(&str) -> Option<String>) -> Option<SocketAddr> {
    let host = variable("KUBERNETES_SERVICE_HOST")?.parse().ok()?;
    let port = variable("KUBERNETES_SERVICE_PORT")?.parse().ok()?;
    Some(SocketAddr::new(host, port))
}

fn address(value: String) -> Result<IpAddr, SettingsError> {
    value.parse().map_err(|_| SettingsError::InvalidValue {
        name: "probe-dns",
        value,
        wanted: "an IP address",
    })
}

fn number(name: &'static str, value: String) -> Result<u64, SettingsError> {
    value.parse().map_err(|_| SettingsError::InvalidValue {
        name,
        value,
        wanted: "a whole number",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(flags: &[&str], variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::read(flags.iter().map(ToString::to_string), |name| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn everything_has_a_default() {
        let settings = read(&[], &[]).expect("nothing to refuse");
        assert_eq!(settings.python, PathBuf::from("python3"));
        assert_eq!(settings.work_dir, PathBuf::from("/code"));
        assert_eq!((settings.memory_limit, settings.nproc), (None, Nproc::Auto));
        assert!(settings.preload.is_empty());
        assert_eq!(settings.linger, Duration::ZERO);
    }

    #[test]
    fn flags_win_over_variables() {
        let variables = [
            ("CODEEXEC_NPROC", "5"),
            ("CODEEXEC_MEMORY_LIMIT_BYTES", "6"),
            ("CODEEXEC_PRELOAD", ""),
            ("CODEEXEC_LINGER_MS", "50"),
        ];
        let settings = read(&["--nproc=0", "--preload", "numpy,pandas"], &variables).expect("all valid");
        assert_eq!((settings.memory_limit, settings.nproc), (Some(6), Nproc::At(0)));
        assert_eq!(settings.preload, ["numpy", "pandas"]);
        assert_eq!(settings.linger, Duration::from_millis(50));
    }

    #[test]
    fn the_network_s_addresses_come_from_the_kubelet_and_the_operator() {
        let variables = [
            ("KUBERNETES_SERVICE_HOST", "fd00::1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
            ("CODEEXEC_PROBE_DNS", "10.96.0.10"),
        ];
        let probe = read(&[], &variables).expect("all valid").probe;
        assert_eq!(probe.kubernetes_api, "[fd00::1]:443".parse().ok());
        assert_eq!(probe.dns, "10.96.0.10".parse().ok());
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            read(&["--pyhton=x"], &[]),
            Err(SettingsError::UnknownFlag("--pyhton".to_owned()))
        );
        assert_eq!(
            read(&["--nproc"], &[]),
            Err(SettingsError::MissingValue("nproc".to_owned()))
        );
        let error = read(&["--probe-dns=kube-dns"], &[]).expect_err("a name");
        assert_eq!(
            error.to_string(),
            "setting probe-dns is \"kube-dns\", which is not an IP address"
        );
        let error = read(&["--nproc=many"], &[]).expect_err("not a number");
        assert_eq!(
            error.to_string(),
            "setting nproc is \"many\", which is not a whole number"
        );
    }
}
