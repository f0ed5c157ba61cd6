//! How other programs are run: found in absolute folders only, started in an empty folder, with
//! what package clients need of this process's environment and nothing else. Knows no program.
//!
//! Whatever lies in the current folder was put there by someone else, so no child process may
//! run it: not as a program, a module, a configuration or a plugin.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Names of variables that children get, as they are. Names that end in `*` are beginnings.
/// Upper and lower case count the same.
const KEPT: &[&str] = &[
    // Whose settings and caches are read.
    "HOME",
    "USER",
    "LOGNAME",
    "XDG_*",
    "USERPROFILE",
    "HOMEDRIVE",
    "HOMEPATH",
    "APPDATA",
    "LOCALAPPDATA",
    // Without which no program starts on Windows.
    "SYSTEMROOT",
    "SYSTEMDRIVE",
    "WINDIR",
    "COMSPEC",
    "PATHEXT",
    "PROGRAMDATA",
    "PROGRAMFILES*",
    "PROCESSOR_ARCHITECTURE",
    // The language of messages.
    "LANG",
    "LANGUAGE",
    "LC_*",
    // Where packages come from, and through what.
    "PIP_*",
    "NPM_CONFIG_*",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NIX_SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "NETRC",
    // Version managers, whose stand-ins `python3` and `npm` may be.
    "PYENV_ROOT",
    "PYENV_VERSION",
    "ASDF_DIR",
    "ASDF_DATA_DIR",
    "MISE_DATA_DIR",
    "NVM_DIR",
    "VOLTA_HOME",
];

/// Lists of folders that children get, less what is not absolute or is the current folder.
const FOLDERS: &[&str] = &["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];

/// Where the system keeps its own programs, which only root can replace.
const SYSTEM: &[&str] = &["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What child processes may see of this one.
#[derive(Clone, Debug)]
pub struct Environment {
    path: Vec<PathBuf>,
    system: Vec<PathBuf>,
    variables: Vec<(OsString, OsString)>,
}

impl Environment {
    /// Of this process.
    pub fn of_this_process() -> Self {
        Self::of(env::vars_os(), env::current_dir().ok().as_deref())
    }

    /// Of a process with these `variables` in the folder `current`.
    pub fn of(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        current: Option<&Path>,
    ) -> Self {
        let mut environment =
            Self { path: Vec::new(), system: folders(SYSTEM), variables: Vec::new() };
        for (name, value) in variables {
            let Some(text) = name.to_str() else { continue };
            if FOLDERS.iter().any(|list| text.eq_ignore_ascii_case(list)) {
                let list = trusted(&value, current);
                let Ok(value) = env::join_paths(&list) else { continue };
                if list.is_empty() {
                    continue; // an empty list means the current folder
                }
                if text.eq_ignore_ascii_case("PATH") {
                    environment.path = list;
                }
                environment.variables.push((name, value));
            } else if KEPT.iter().any(|kept| matches(kept, text)) {
                environment.variables.push((name, value));
            }
        }
        environment
    }

    /// The same, with `folders` in place of those of the system's own programs.
    #[must_use]
    pub fn with_system(mut self, folders: impl IntoIterator<Item = PathBuf>) -> Self {
        self.system = folders.into_iter().collect();
        self
    }

    /// The absolute path of a program in `PATH`.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        find_in(&self.path, program)
    }

    /// The absolute path of one of the system's own programs, whatever `PATH` says: for what runs
    /// as root.
    pub fn find_system(&self, program: &str) -> Option<PathBuf> {
        find_in(&self.system, program)
    }

    /// The folders of the system's own programs, as a value of `PATH`.
    pub(crate) fn system_path(&self) -> OsString {
        env::join_paths(&self.system).unwrap_or_default()
    }

    /// A command that runs `program`, an absolute path, in `folder`, which should be empty, with
    /// temporary files in `temporary`. It reads nothing from this process's input.
    pub fn command(&self, program: &Path, folder: &Path, temporary: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).stdin(Stdio::null());
        command.env_clear().envs(self.variables.iter().cloned());
        command.envs(["TMPDIR", "TMP", "TEMP"].map(|name| (name, temporary)));
        command
    }
}

fn matches(kept: &str, name: &str) -> bool {
    match kept.strip_suffix('*') {
        Some(start) => {
            name.get(..start.len()).is_some_and(|begins| begins.eq_ignore_ascii_case(start))
        }
        None => name.eq_ignore_ascii_case(kept),
    }
}

/// The folders of a list that are absolute and not the current one, by whatever name.
fn trusted(list: &OsStr, current: Option<&Path>) -> Vec<PathBuf> {
    let current = current.and_then(|folder| folder.canonicalize().ok());
    let is_current = |folder: &Path| current.is_some() && folder.canonicalize().ok() == current;
    env::split_paths(list).filter(|folder| folder.is_absolute() && !is_current(folder)).collect()
}

fn folders(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}

fn find_in(folders: &[PathBuf], program: &str) -> Option<PathBuf> {
    folders.iter().map(|folder| folder.join(program)).find(|path| is_program(path))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::of(variables(pairs), None)
    }

    #[test]
    fn children_get_what_package_clients_need() {
        let kept = [
            ("HOME", "/home/me"),
            ("PIP_INDEX_URL", "https://packages.example/simple"),
            ("pip_cert", "/etc/ca.pem"),
            ("npm_config_registry", "https://packages.example"),
            ("NPM_CONFIG_CAFILE", "/etc/ca.pem"),
            ("https_proxy", "http://proxy.example"),
            ("NO_PROXY", "localhost"),
            ("SSL_CERT_FILE", "/etc/ca.pem"),
            ("LC_ALL", "de_DE.UTF-8"),
            ("XDG_CONFIG_HOME", "/home/me/config"),
        ];
        assert_eq!(environment(&kept).variables, variables(&kept));
    }

    #[test]
    fn children_get_nothing_that_loads_code() {
        let dropped = [
            ("PYTHONPATH", "."),
            ("PYTHONHOME", "/tmp"),
            ("PYTHONSTARTUP", "x.py"),
            ("PYTHONUSERBASE", "."),
            ("NODE_OPTIONS", "--require ./x.js"),
            ("NODE_PATH", "."),
            ("LD_PRELOAD", "./x.so"),
            ("LD_AUDIT", "./x.so"),
            ("DYLD_INSERT_LIBRARIES", "x.dylib"),
            ("BASH_ENV", "x.sh"),
            ("ENV", "x.sh"),
            ("PERL5LIB", "."),
            ("APT_CONFIG", "x.conf"),
            ("PWD", "/somewhere"),
            ("HOMES", "/home/me"),
            ("PIP", "x"),
            ("LD_LIBRARY_PATH", ".::lib"),
            ("PATH", ".::bin"),
            ("SECRET", "x"),
        ];
        assert_eq!(environment(&dropped).variables, []);
    }

    #[test]
    fn lists_of_folders_keep_the_absolute_ones() {
        let list = env::join_paths(["", ".", "/a", "b", "./c", "../d", "/e f"]).expect("a list");
        let expected = env::join_paths(["/a", "/e f"]).expect("a list");
        for name in FOLDERS {
            let found = Environment::of([(name.into(), list.clone())], None);
            assert_eq!(found.variables, [(name.into(), expected.clone())]);
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_what_can_be_run_is_a_program() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().expect("a folder");
        let folder = |name: &str| root.path().join(name);
        for name in ["a", "b", "c", "d"] {
            fs::create_dir(folder(name)).expect("made");
        }
        fs::create_dir(folder("a/python3")).expect("made");
        fs::write(folder("b/python3"), "").expect("written");
        std::os::unix::fs::symlink("nowhere", folder("c/python3")).expect("linked");
        fs::write(folder("d/python3"), "").expect("written");
        fs::set_permissions(folder("d/python3"), fs::Permissions::from_mode(0o755)).expect("set");
        let list = env::join_paths(["a", "b", "c", "d"].map(folder)).expect("a list");
        let environment = Environment::of([("PATH".into(), list)], None);
        assert_eq!(environment.find("python3"), Some(folder("d/python3")));
        assert_eq!(environment.find("npm"), None);
        let system = environment.with_system([folder("d")]);
        assert_eq!(system.find_system("python3"), Some(folder("d/python3")));
    }

    #[cfg(unix)]
    proptest! {
        /// Whatever `PATH` says, a program of the current folder is never found.
        #[test]
        fn a_program_is_never_of_the_current_folder(
            entries in prop::collection::vec(0..NAMES_OF_HERE + 3, 0..8)
        ) {
            let root = tempfile::tempdir().expect("a folder");
            let (current, other) = (root.path().join("current"), root.path().join("other"));
            for folder in [&current, &other] {
                fs::create_dir(folder).expect("made");
                executable(&folder.join("npm"));
            }
            executable(&current.join("python3"));
            std::os::unix::fs::symlink(&current, root.path().join("link")).expect("linked");
            let names = [
                "".into(), ".".into(), "./".into(), "..".into(), "./.".into(), "current".into(),
                current.clone(), current.join("."), other.join("../current"),
                root.path().join("link"), other.clone(), root.path().join("none"), "/".into(),
            ];
            let list: Vec<_> = entries.iter().map(|&entry| names[entry].clone()).collect();
            let list = env::join_paths(list).expect("a list");
            let found = Environment::of([("PATH".into(), list)], Some(&current));
            prop_assert_eq!(found.find("python3"), None);
            let has_other = entries.contains(&NAMES_OF_HERE);
            prop_assert_eq!(found.find("npm"), has_other.then(|| other.join("npm")));
        }
    }

    /// How many ways there are above to name the current folder or a relative one.
    #[cfg(unix)]
    const NAMES_OF_HERE: usize = 10;

    #[cfg(unix)]
    fn executable(path: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::write(path, "").expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
    }
}
