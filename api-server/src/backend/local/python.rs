//! The interpreter that programs run in, and the folders that it needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Asks an interpreter about itself. A wrapper such as pyenv's costs more than the interpreter, so the path of
/// the real one is used from then on.
pub const PROBE: &str = "\
import json, site, sys, sysconfig
print(json.dumps({
    'executable': sys.executable,
    'version': list(sys.version_info[:3]),
    'paths': [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
        + [sysconfig.get_path(name) for name in ('stdlib', 'platstdlib', 'purelib', 'platlib')]
        + site.getsitepackages(),
}))";

/// The packages of the executor image, by the names they are imported under.
pub const PACKAGES: [(&str, &str); 7] = [
    ("boto3", "boto3"),
    ("requests", "requests"),
    ("numpy", "numpy"),
    ("pandas", "pandas"),
    ("matplotlib", "matplotlib"),
    ("PIL", "pillow"),
    ("dotenv", "python-dotenv"),
];

/// Prints those of the modules in its arguments that can't be found.
pub const MISSING_MODULES: &str = "\
import importlib.util, sys
print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name) is None])";

/// The oldest version that programs may expect.
pub const OLDEST: (u32, u32) = (3, 11);

/// What an interpreter says of itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Python {
    /// Where it really is.
    pub executable: PathBuf,
    /// Major, minor, micro.
    pub version: (u32, u32, u32),
    /// Its prefixes and module folders.
    paths: BTreeSet<PathBuf>,
}

impl Python {
    /// Reads the answer to [`PROBE`].
    #[must_use]
    pub fn from_probe(output: &[u8]) -> Option<Self> {
        serde_json::from_slice(output).ok()
    }

    /// Its version as people write it.
    #[must_use]
    pub fn version_text(&self) -> String {
        let (major, minor, micro) = self.version;
        format!("{major}.{minor}.{micro}")
    }

    /// Whether it is new enough.
    #[must_use]
    pub fn is_new_enough(&self) -> bool {
        (self.version.0, self.version.1) >= OLDEST
    }

    /// The folders to be seen inside, as they are named and, where links are on the way, as they really are.
    #[must_use]
    pub fn folders(&self) -> BTreeSet<PathBuf> {
        let real = |path: &PathBuf| std::fs::canonicalize(path).ok();
        let mut folders: BTreeSet<PathBuf> = self
            .paths
            .iter()
            .flat_map(|path| [Some(path.clone()), real(path)])
            .flatten()
            .collect();
        // An environment's interpreter is a link to one that is somewhere else.
        if let Some(executable) = real(&self.executable) {
            folders.extend(executable.parent().map(Path::to_owned));
            // Nix keeps every library in a folder of its own.
            folders.extend(
                executable
                    .starts_with("/nix/store")
                    .then(|| PathBuf::from("/nix/store")),
            );
        }
        let all = folders.clone();
        folders.retain(|path| {
            let is_system = ["/usr", "/bin", "/lib", "/lib64"]
                .iter()
                .any(|system| path.starts_with(system));
            let is_inside = path.ancestors().skip(1).any(|outer| all.contains(outer));
            path.is_absolute() && path.exists() && !is_system && !is_inside
        });
        folders
    }

    /// The first folder that would show programs far more than an interpreter: the root or `home`, or what
    /// `home` is in.
    #[must_use]
    pub fn too_wide_folder(&self, home: Option<&Path>) -> Option<PathBuf> {
        let holds_home =
            |folder: &Path| home.is_some_and(|home| home != Path::new("/") && home.starts_with(folder));
        self.folders()
            .into_iter()
            .find(|folder| folder == Path::new("/") || holds_home(folder))
    }

    /// `PATH` for programs: the interpreter's own folder first.
    #[must_use]
    pub fn path_variable(&self) -> String {
        let own = self
            .executable
            .parent()
            .map(|folder| folder.to_string_lossy().into_owned());
        let mut folders: Vec<String> = own.into_iter().collect();
        folders.extend(["/usr/local/bin", "/usr/bin", "/bin"].map(str::to_owned));
        folders.dedup();
        folders.join(":")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // in a test a panic is a failure told
mod tests {
    use super::*;

    fn python(executable: &Path, paths: &[&Path]) -> Python {
        Python {
            executable: executable.to_owned(),
            version: (3, 11, 2),
            paths: paths.iter().map(|path| path.to_path_buf()).collect(),
        }
    }

    #[test]
    fn only_folders_outside_of_the_system_are_added_and_none_twice() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().canonicalize().unwrap();
        let lib = prefix.join("lib");
        std::fs::create_dir(&lib).unwrap();
        let gone = prefix.join("../gone");
        let python = python(
            &prefix.join("bin/python3"),
            &[&prefix, &lib, &gone, Path::new("/usr")],
        );
        assert_eq!(python.folders(), BTreeSet::from([prefix]));
    }

    #[test]
    fn an_environments_interpreter_is_followed_to_where_it_is() {
        use std::os::unix::fs::symlink;
        let (real, environment) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = real.path().canonicalize().unwrap().join("python3.11");
        std::fs::write(&target, "").unwrap();
        let link = environment.path().join("python");
        symlink(&target, &link).unwrap();
        assert!(python(&link, &[]).folders().contains(target.parent().unwrap()));
    }

    #[test]
    fn a_prefix_that_holds_the_home_is_too_wide() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().canonicalize().unwrap();
        let python = python(Path::new("/usr/bin/python3"), &[&prefix]);
        assert_eq!(
            python.too_wide_folder(Some(&prefix.join("user"))),
            Some(prefix.clone())
        );
        assert_eq!(python.too_wide_folder(Some(&prefix)), Some(prefix));
        assert_eq!(python.too_wide_folder(Some(Path::new("/home/other"))), None);
        assert_eq!(python.too_wide_folder(Some(Path::new("/"))), None);
    }

    #[test]
    fn versions_compare_as_numbers() {
        let version = |version| Python {
            version,
            ..python(Path::new("/usr/bin/python3"), &[])
        };
        assert!(!version((3, 9, 20)).is_new_enough());
        assert!(version((3, 11, 0)).is_new_enough() && version((4, 0, 0)).is_new_enough());
    }
}
