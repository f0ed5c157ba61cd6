//! Where ONNX Runtime is looked for. Knows files and folders, not how the library is loaded.

use std::{
    env,
    ffi::OsString,
    fmt,
    fs::File,
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
/// of the device kept in the user's home. A user who has set `ORT_DISABLE_TELEMETRY` decides
/// otherwise: `0` lets it report.
///
/// To be called before the library is loaded: its first report is made while it is, and its
/// interface for this can be reached only afterwards. So the environment is the one switch that
/// comes early enough, and [`Runtime::start`](crate::Runtime::start), which runs in processes with
/// many threads, cannot turn it.
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
}

impl Place {
    /// What the loader is given.
    pub fn path(&self) -> &Path {
        match self {
            Self::Named { path, .. } | Self::File(path) => path,
            Self::System(name) => Path::new(name),
        }
    }
}

/// The places to look at, in order.
///
/// A path given by `explicit`, or else by [`VARIABLE`], is the only place. Without one: beside the
/// executable, the project's cache, the system.
pub fn places(explicit: Option<&Path>) -> Vec<Place> {
    search(explicit, env::var_os(VARIABLE), env::current_exe().ok(), cached())
}

fn search(
    explicit: Option<&Path>,
    variable: Option<OsString>,
    executable: Option<PathBuf>,
    cached: Option<PathBuf>,
) -> Vec<Place> {
    let given = explicit.map(|path| (path.to_path_buf(), "given"));
    let variable = variable.filter(|value| !value.is_empty()).map(|value| (value.into(), VARIABLE));
    if let Some((path, by)) = given.or(variable) {
        return vec![Place::Named { path: std::path::absolute(&path).unwrap_or(path), by }];
    }
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
        }
    }
}

/// Whether the file is an ELF library that ends before its section headers do, as a copy that
/// stopped half way: mapping one ends the process.
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
        let places = search(
            None,
            Some(OsString::new()),
            Some("bin/pocketmuse".into()),
            Some(cached.clone()),
        );
        let first = [
            Place::File(Path::new("bin").join(file_name())),
            Place::File(cached),
            Place::System(file_name()),
        ];
        assert_eq!(places[..3], first);
    }

    #[test]
    fn a_named_path_is_the_only_place_and_the_argument_wins() {
        let named = |text: &str, by| {
            vec![Place::Named { path: std::path::absolute(text).expect("a path"), by }]
        };
        let (variable, executable) = (Some(OsString::from("b.so")), Some(PathBuf::from("bin/x")));
        let found = search(Some("a.so".as_ref()), variable.clone(), executable.clone(), None);
        assert_eq!(found, named("a.so", "given"));
        assert_eq!(search(None, variable, executable, None), named("b.so", VARIABLE));
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
