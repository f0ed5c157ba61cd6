//! What was found out about a package once and holds until its files change: which of them are whole. Kept in a folder
//! of the caller's choice, so that the next process need not read gigabytes again. Knows files, not graphs.
//!
//! A record is one small JSON file for each package folder. It is written to a temporary neighbour and renamed, so two
//! processes at once leave one of two good records, and holds its own digest: whatever is wrong with one, the files are
//! read again and it is replaced.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use pocketmuse_package::{Digest, Error, FileEntry, Result, place};
use serde::{Deserialize, Serialize};

/// A file that was changed less than this before it was read might be changed again without a new time: the coarsest
/// clock of a file system ticks every two seconds. It is read again in the next process.
const SETTLING: Duration = Duration::from_secs(2);

/// A record larger than this is none.
const MAX_BYTES: u64 = 1 << 20;

/// The files of one package that were found whole.
pub(crate) struct Prepared {
    root: PathBuf,
    /// Where the record lies; `None` to keep it in memory alone.
    path: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    record: Record,
    /// Whether the record holds more than the file at `path`.
    is_new: bool,
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The package's folder.
    package: PathBuf,
    /// The digest of the package's manifest.
    digest: String,
    /// The versions of this library and of ONNX Runtime, and the processor's features.
    made_for: String,
    files: BTreeMap<String, Whole>,
}

/// A file that was whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Whole {
    sha256: Digest,
    stamp: Stamp,
    /// Whether it had been left alone for [`SETTLING`] when it was read.
    settled: bool,
}

/// What changes when a file does. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified: u64,
    /// When the file or its name was last changed, which no program can set; elsewhere than on Unix, when it was made.
    changed: u64,
    inode: u64,
}

/// A record with its digest, as it is written.
#[derive(Serialize, Deserialize)]
struct Sealed {
    sha256: Digest,
    record: Record,
}

impl Prepared {
    /// The record of the package at `root` in `folder`, or an empty one if there is none that holds.
    ///
    /// `digest` is the manifest's, `runtime` says which ONNX Runtime this is.
    pub(crate) fn open(folder: Option<&Path>, root: &Path, digest: Digest, runtime: &str) -> Self {
        let package = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
        let path = folder.map(|folder| folder.join(format!("{}.json", name(&package))));
        let made_for = format!("pocketmuse {}; {runtime}; {}", env!("CARGO_PKG_VERSION"), processor());
        let empty = Record { package, digest: digest.to_string(), made_for, files: BTreeMap::new() };
        let kept = path.as_deref().and_then(read).filter(|kept| {
            (&kept.package, &kept.digest, &kept.made_for) == (&empty.package, &empty.digest, &empty.made_for)
        });
        let state = State { record: kept.unwrap_or(empty), is_new: false };
        Self { root: root.to_path_buf(), path, state: Mutex::new(state) }
    }

    /// Checks a file's contents, unless that was done before and the file is as it was.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the file is missing or not the one that was exported.
    pub(crate) fn check(&self, file: &FileEntry) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let started = (Instant::now(), SystemTime::now());
        let path = file.locate(&self.root);
        let stamp = fs::metadata(&path).ok().map(|metadata| Stamp::of(&metadata));
        let known = state.record.files.get(&file.path);
        if known.is_some_and(|whole| whole.sha256 == file.sha256 && Some(whole.stamp) == stamp) {
            return Ok(());
        }
        file.check(&self.root)?;
        log::debug!("{}: {} bytes checked in {:.1?}", file.path, file.bytes, started.0.elapsed());
        let stamp = stamp.filter(|stamp| fs::metadata(&path).is_ok_and(|now| Stamp::of(&now) == *stamp));
        if let Some(stamp) = stamp {
            let whole = Whole { sha256: file.sha256, stamp, settled: stamp.is_settled(started.1) };
            state.is_new |= whole.settled;
            state.record.files.insert(file.path.clone(), whole);
        }
        Ok(())
    }

    /// Writes the record if there is anything new in it. Where that fails the package works as well, and loads slower
    /// the next time: a warning says so, once.
    pub(crate) fn save(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = self.path.as_deref().filter(|_| state.is_new) else { return };
        state.is_new = false;
        let files = state.record.files.iter().filter(|(_, whole)| whole.settled);
        let files = files.map(|(name, whole)| (name.clone(), whole.clone())).collect();
        if let Err(error) = write(path, Record { files, ..state.record.clone() }) {
            log::warn!("the package is checked again the next time, since that it is whole cannot be kept: {error}");
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let modified = nanoseconds(metadata.modified());
        #[cfg(unix)]
        let (changed, inode) = {
            use std::os::unix::fs::MetadataExt as _;
            let nanoseconds = i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
            (u64::try_from(nanoseconds).unwrap_or(0), metadata.ino())
        };
        #[cfg(not(unix))]
        let (changed, inode) = (nanoseconds(metadata.created()), 0);
        Self { bytes: metadata.len(), modified, changed, inode }
    }

    /// Whether the file had been left alone for [`SETTLING`] at `time`.
    fn is_settled(self, time: SystemTime) -> bool {
        let settled = self.modified.max(self.changed).saturating_add(SETTLING.as_nanos() as u64);
        self.modified > 0 && settled < nanoseconds(Ok(time))
    }
}

fn nanoseconds(time: std::io::Result<SystemTime>) -> u64 {
    let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}

/// A record's name: of the package's folder, so that there is one for each.
fn name(package: &Path) -> Digest {
    Digest::of(package.as_os_str().as_encoded_bytes())
}

/// The processor, as far as it decides which kernels run.
fn processor() -> String {
    let mut features = vec![std::env::consts::ARCH];
    #[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
    for (name, is_there) in [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avxvnni", is_x86_feature_detected!("avxvnni")),
    ] {
        features.extend(is_there.then_some(name));
    }
    #[cfg(target_arch = "aarch64")]
    for (name, is_there) in [
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
    ] {
        features.extend(is_there.then_some(name));
    }
    features.join(" ")
}

/// The record at `path`; `None` if there is none or anything is wrong with it.
fn read(path: &Path) -> Option<Record> {
    if fs::metadata(path).ok()?.len() > MAX_BYTES {
        return None;
    }
    let Sealed { sha256, record } = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (sha256 == seal(&record)).then_some(record)
}

fn seal(record: &Record) -> Digest {
    Digest::of(&serde_json::to_vec(record).expect("plain data with string keys always serializes"))
}

fn write(path: &Path, record: Record) -> Result<()> {
    let folder = place::parent(path);
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    let sealed = Sealed { sha256: seal(&record), record };
    let json = serde_json::to_vec_pretty(&sealed).expect("plain data with string keys always serializes");
    let mut file = place::neighbour(path)?;
    file.write_all(&json).map_err(|error| Error::io(path, error))?;
    place::file(file, path)?;
    forget_the_gone(folder)
}

/// Removes the records of packages that are there no more.
fn forget_the_gone(folder: &Path) -> Result<()> {
    for Entry { path, package, .. } in list(folder)? {
        if package.is_some_and(|package| !package.exists()) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a file that another process may have removed meanwhile.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

/// A record in a folder of prepared packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The record's file.
    pub path: PathBuf,
    /// The package it is about; `None` if the record is damaged, or the leftover of a process that was killed.
    pub package: Option<PathBuf>,
    /// Files of the package that were found whole.
    pub files: usize,
    /// The record's size.
    pub bytes: u64,
}

/// The records in `folder`, by name; none if there is no such folder.
///
/// # Errors
///
/// `Io` if it cannot be read.
pub fn list(folder: &Path) -> Result<Vec<Entry>> {
    let at = |error| Error::io(folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(at)?.path();
        if is_ours(&path) {
            let record = read(&path);
            let files = record.as_ref().map_or(0, |record| record.files.len());
            let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            found.push(Entry { path, package: record.map(|record| record.package), files, bytes });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Removes every record in `folder`, leftovers of killed processes too, and nothing else. Returns how many.
///
/// # Errors
///
/// `Io` if one cannot be removed.
pub fn clean(folder: &Path) -> Result<usize> {
    let entries = list(folder)?;
    entries.iter().try_for_each(|entry| remove(&entry.path))?;
    Ok(entries.len())
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_record = name.strip_suffix(".json").is_some_and(|stem| stem.parse::<Digest>().is_ok());
    is_record || (name.starts_with(".pocketmuse-") && name.ends_with(".part"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package of one file that was left alone for long, and a folder for records.
    struct Case {
        root: tempfile::TempDir,
        folder: PathBuf,
        file: FileEntry,
    }

    impl Case {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a folder");
            fs::write(root.path().join("weights"), b"abc").expect("written");
            let file = FileEntry::describe(root.path(), "weights").expect("described");
            std::thread::sleep(SETTLING + Duration::from_millis(50));
            Self { folder: root.path().join("prepared"), root, file }
        }

        fn open(&self, runtime: &str) -> Prepared {
            Prepared::open(Some(&self.folder), self.root.path(), Digest::of(b"manifest"), runtime)
        }

        /// Whether a process of `runtime` knows the file from its record.
        fn knows(&self, runtime: &str) -> bool {
            !self.open(runtime).state.lock().expect("no panic").record.files.is_empty()
        }

        fn prepare(&self, runtime: &str) {
            let prepared = self.open(runtime);
            prepared.check(&self.file).expect("whole");
            prepared.save();
        }

        fn record(&self) -> PathBuf {
            list(&self.folder).expect("readable").first().expect("a record").path.clone()
        }
    }

    #[test]
    fn a_record_holds_until_anything_changes() {
        let case = Case::new();
        assert!(!case.knows("1"));
        case.prepare("1");
        assert!(case.knows("1") && !case.knows("2"), "another runtime's is not used");
        case.prepare("2");
        assert!(case.knows("2") && !case.knows("1"), "it is replaced: one for each package");
        assert_eq!(list(&case.folder).expect("readable").len(), 1);
        let other = Prepared::open(Some(&case.folder), case.root.path(), Digest::of(b"another manifest"), "2");
        assert!(other.state.lock().expect("no panic").record.files.is_empty());

        let weights = case.root.path().join("weights");
        let modified = fs::metadata(&weights).expect("there").modified().expect("a time");
        fs::write(&weights, b"abd").expect("written");
        let changed = fs::File::options().append(true).open(&weights).expect("opened");
        changed.set_modified(modified).expect("a time"); // its other time tells all the same
        drop(changed);
        if cfg!(unix) {
            assert!(case.open("2").check(&case.file).expect_err("changed").to_string().contains("was changed"));
        }
    }

    #[test]
    fn a_damaged_record_is_replaced_without_a_word() {
        let case = Case::new();
        case.prepare("1");
        let whole = fs::read(case.record()).expect("read");
        let text = String::from_utf8(whole.clone()).expect("UTF-8");
        let lied = text.replace("\"inode\": ", "\"inode\": 1").into_bytes();
        for damaged in [&whole[..whole.len() / 2], b"", b"{}", &[0xff; 99], &lied] {
            fs::write(case.record(), damaged).expect("written");
            assert!(!case.knows("1"));
            assert_eq!(list(&case.folder).expect("readable")[0].package, None);
            case.prepare("1");
            assert_eq!(fs::read(case.record()).expect("read"), whole);
        }
    }

    #[test]
    fn two_at_once_and_one_killed_leave_a_whole_record() {
        let case = Case::new();
        fs::create_dir(&case.folder).expect("made");
        let leftover = case.folder.join(".pocketmuse-killed.part");
        fs::write(&leftover, b"{\"sha2").expect("written");
        fs::write(case.folder.join("a user's file.json"), b"{}").expect("written");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20).for_each(|_| case.prepare("1")));
            }
        });
        assert!(case.knows("1"));
        let entries = list(&case.folder).expect("readable");
        let found: Vec<_> = entries.iter().map(|entry| (entry.package.is_some(), entry.files)).collect();
        assert_eq!(found, [(false, 0), (true, 1)], "the leftover and the record");
        assert_eq!(clean(&case.folder).expect("cleaned"), 2);
        let left: Vec<_> = fs::read_dir(&case.folder).expect("readable").collect();
        assert_eq!(left.len(), 1, "what is not ours stays");
    }

    #[test]
    fn a_package_that_is_gone_is_forgotten() {
        let [mut gone, case] = [Case::new(), Case::new()];
        gone.folder.clone_from(&case.folder);
        gone.prepare("1");
        assert_eq!(list(&case.folder).expect("readable").len(), 1);
        drop(gone);
        case.prepare("1");
        let packages: Vec<_> = list(&case.folder).expect("readable").into_iter().map(|entry| entry.package).collect();
        assert_eq!(packages, [case.root.path().canonicalize().ok()]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_failure() {
        let case = Case::new();
        fs::write(&case.folder, b"a file where the folder should be").expect("written");
        case.prepare("1");
        assert!(!case.knows("1"));
        assert_eq!(Prepared::open(None, case.root.path(), Digest::of(b""), "").path, None);
    }

    #[test]
    fn a_file_that_was_just_changed_is_read_again_the_next_time() {
        let case = Case::new();
        fs::write(case.root.path().join("weights"), b"abc").expect("written");
        case.prepare("1");
        assert!(!case.knows("1"));
    }
}
