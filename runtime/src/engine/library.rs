//! Where ONNX Runtime is looked for. Knows files and folders, not how the library is loaded.

use std::{
    env,
    ffi::OsString,
    fmt,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use pocketmuse_package::{Error, ErrorKind};

pub use pocketmuse_package::library::{PINNED_VERSION, cache_folder, cached, file_name};

/// The oldest version that works.
pub const MINIMUM_VERSION: &str = "1.21";

/// The environment variable that names a library file.
pub const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The environment variable that switches off ONNX Runtime's usage reports.
const TELEMETRY_VARIABLE: &str = "ORT_DISABLE_TELEMETRY";

/// Switches off the usage reports that ONNX Runtime's packages make since 1.29, with an identifier
/// of the device kept in the user's home. Whoever has set `ORT_DISABLE_TELEMETRY` decides
/// otherwise: `0` lets it report.
///
/// To be called before the library is loaded: its first report is made while it is, and its
/// interface for this can be reached only afterwards. So the environment is the one switch that
/// comes early enough. [`Runtime::start`](crate::Runtime::start) turns it where it can see that the
/// process has no other thread, as on Linux; a program whose threads may be there before calls this
/// at the beginning of `main`, and a library for other languages in its load hook, such as
/// `JNI_OnLoad`.
///
/// # Safety
///
/// As for [`std::env::set_var`]: nothing else may read or write the environment meanwhile. At the
/// beginning of `main` nothing does.
#[expect(unsafe_code, reason = "the environment is the only switch that comes early enough")]
pub unsafe fn disable_telemetry() {
    if env::var_os(TELEMETRY_VARIABLE).is_none() {
        // SAFETY: the caller keeps others from the environment.
        unsafe { env::set_var(TELEMETRY_VARIABLE, "1") }
    }
}

/// As [`disable_telemetry`], if this process has no thread but this one.
#[expect(unsafe_code, reason = "the environment is the only switch that comes early enough")]
pub(crate) fn disable_telemetry_if_alone() {
    if fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1) {
        // SAFETY: there is no thread that could read or write the environment.
        unsafe { disable_telemetry() }
    }
}

/// A place where the library may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file that must be there: whoever named it wants this one and no other.
    Named {
        /// The file.
        path: PathBuf,
        /// What named it, for messages: [`VARIABLE`] or `given`.
        by: &'static str,
    },
    /// A file that may be there.
    File(PathBuf),
    /// A name that the system's loader resolves.
    System(String),
    /// In the program itself: with the feature `linked`.
    Linked,
}

impl Place {
    /// What the loader is given.
    pub fn path(&self) -> &Path {
        match self {
            Self::Named { path, .. } | Self::File(path) => path,
            Self::System(name) => Path::new(name),
            Self::Linked => Path::new("linked"),
        }
    }
}

/// The places to look at, in order.
///
/// A path given by `explicit`, or else by [`VARIABLE`], is the only place. Without one: beside the
/// executable, the project's cache, the system. On Android there is no place but the app's own
/// libraries, which its loader knows by their names. With the feature `linked` it is the program.
pub fn places(explicit: Option<&Path>) -> Vec<Place> {
    if cfg!(feature = "linked") {
        return named(explicit, None).unwrap_or(vec![Place::Linked]);
    }
    let named = named(explicit, env::var_os(VARIABLE));
    if cfg!(target_os = "android") {
        return named.unwrap_or(vec![Place::System(file_name())]);
    }
    named.unwrap_or_else(|| search(env::current_exe().ok(), cached()))
}

/// The only place, if one is named.
fn named(explicit: Option<&Path>, variable: Option<OsString>) -> Option<Vec<Place>> {
    let given = explicit.map(|path| (path.to_path_buf(), "given"));
    let variable = variable.filter(|value| !value.is_empty()).map(|value| (value.into(), VARIABLE));
    let (path, by) = given.or(variable)?;
    Some(vec![Place::Named { path: std::path::absolute(&path).unwrap_or(path), by }])
}

fn search(executable: Option<PathBuf>, cached: Option<PathBuf>) -> Vec<Place> {
    let folder = executable.as_deref().and_then(Path::parent);
    let beside = folder.map(|folder| Place::File(folder.join(file_name())));
    let cached = cached.map(Place::File);
    // The loader wants to know the executable's folder, so without one the system is not asked.
    let system = folder.map(|_| Place::System(file_name()));
    // Distributions put the name without a version into their development packages only.
    let versioned = folder
        .filter(|_| cfg!(target_os = "linux"))
        .map(|_| Place::System(format!("{}.1", file_name())));
    [beside, cached, system, versioned].into_iter().flatten().collect()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named { path, by } => write!(f, "{} ({by})", path.display()),
            Self::File(path) => path.display().fmt(f),
            Self::System(name) => write!(f, "{name} (system)"),
            Self::Linked => f.write_str("this program"),
        }
    }
}

/// Whether a library calls itself a version that works.
#[cfg(any(feature = "linked", test))]
pub(crate) fn is_new_enough(version: &str) -> bool {
    let numbers = |version: &str| -> Option<[u32; 2]> {
        let mut parts = version.split('.');
        Some([parts.next()?.parse().ok()?, parts.next()?.parse().ok()?])
    };
    let least = numbers(MINIMUM_VERSION).expect("a version of this file");
    numbers(version).is_some_and(|found| found >= least)
}

/// Whether the file is an ELF library that ends before its section headers do, as a copy that
/// stopped half way: mapping one ends the process.
#[cfg_attr(feature = "linked", expect(dead_code, reason = "no file is opened"))]
pub(crate) fn is_truncated(path: &Path) -> bool {
    fn ends_early(path: &Path) -> io::Result<bool> {
        let mut file = File::open(path)?;
        let mut header = [0; 64];
        file.read_exact(&mut header)?;
        if !header.starts_with(b"\x7fELF\x02\x01") {
            return Ok(false); // not 64-bit little-endian ELF
        }
        let word = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let table =
            header[40..48].iter().rev().fold(0, |sum: u64, byte| (sum << 8) | u64::from(*byte));
        Ok(table.saturating_add(word(58) * word(60)) > file.metadata()?.len())
    }
    ends_early(path).unwrap_or(false)
}

/// The error that says what was found at each place.
pub(crate) fn not_found(attempts: &[(Place, String)]) -> Error {
    let looked: Vec<_> =
        attempts.iter().map(|(place, found)| format!("\n  {place}: {found}")).collect();
    let detail = format!(
        "expected version {MINIMUM_VERSION} or newer, found none; looked at{}",
        looked.concat()
    );
    Error::new(ErrorKind::EngineMissing, "ONNX Runtime", detail)
}

/// The error of a process that already uses another library.
pub(crate) fn in_use(used: &Path, wanted: &Path) -> Error {
    let detail = format!(
        "expected {}, which this process already uses, found {}: a process can use one",
        used.display(),
        wanted.display()
    );
    Error::new(ErrorKind::EngineMissing, "ONNX Runtime", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_in_order() {
        let cached = std::path::absolute("cache").expect("a folder").join(file_name());
        assert_eq!(named(None, Some(OsString::new())), None, "an empty variable names nothing");
        let places = search(Some("bin/pocketmuse".into()), Some(cached.clone()));
        let first = [
            Place::File(Path::new("bin").join(file_name())),
            Place::File(cached),
            Place::System(file_name()),
        ];
        assert_eq!(places[..3], first);
    }

    #[test]
    fn a_named_path_is_the_only_place_and_the_argument_wins() {
        let only = |text: &str, by| {
            Some(vec![Place::Named { path: std::path::absolute(text).expect("a path"), by }])
        };
        let variable = Some(OsString::from("b.so"));
        let found = named(Some("a.so".as_ref()), variable.clone());
        assert_eq!(found, only("a.so", "given"));
        assert_eq!(named(None, variable), only("b.so", VARIABLE));
    }

    #[test]
    fn versions_are_numbers() {
        for (version, works) in [
            ("1.21.0", true),
            ("1.21", true),
            ("1.100.2", true),
            ("2.0.0", true),
            ("1.9.0", false),
            ("1.20.1", false),
            ("0.99.0", false),
            ("", false),
            ("1", false),
            ("one.22", false),
        ] {
            assert_eq!(is_new_enough(version), works, "{version:?}");
        }
    }

    #[test]
    fn the_error_names_every_place() {
        let error = not_found(&[(Place::File("x.so".into()), "no such file".to_owned())]);
        assert_eq!(
            error.to_string(),
            "ONNX Runtime: expected version 1.21 or newer, found none; looked at\n  x.so: \
            no such file"
        );
    }
}
