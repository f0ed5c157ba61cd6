use super::{record::SETTLING, *};

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
        Self { folder: root.path().join("prepared"), root, file }
    }

    /// As a process opens it that comes when the file has been left alone for long.
    fn open(&self, runtime: &str) -> Prepared {
        let clock = || SystemTime::now() + 2 * SETTLING;
        Prepared { clock, ..self.open_at_once(runtime) }
    }

    fn open_at_once(&self, runtime: &str) -> Prepared {
        Prepared::open(Some(&self.folder), self.root.path(), Digest::of(b"manifest"), runtime)
    }

    /// Whether a process of `runtime` knows the file from its record.
    fn knows(&self, runtime: &str) -> bool {
        !self.open(runtime).state.lock().expect("no panic").record.files.is_empty()
    }

    fn prepare(&self, runtime: &str) {
        let prepared = self.open(runtime);
        prepared.check(&self.file, &mut |_| Ok(())).expect("whole");
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
    let other =
        Prepared::open(Some(&case.folder), case.root.path(), Digest::of(b"another manifest"), "2");
    assert!(other.state.lock().expect("no panic").record.files.is_empty());

    let weights = case.root.path().join("weights");
    let modified = fs::metadata(&weights).expect("there").modified().expect("a time");
    fs::write(&weights, b"abd").expect("written");
    let changed = fs::File::options().append(true).open(&weights).expect("opened");
    changed.set_modified(modified).expect("a time"); // its other time tells all the same
    drop(changed);
    if cfg!(unix) {
        assert!(
            case.open("2")
                .check(&case.file, &mut |_| Ok(()))
                .expect_err("changed")
                .to_string()
                .contains("was changed")
        );
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
    let found: Vec<_> =
        entries.iter().map(|entry| (entry.package.is_some(), entry.files)).collect();
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
    let packages: Vec<_> =
        list(&case.folder).expect("readable").into_iter().map(|entry| entry.package).collect();
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
    let prepared = case.open_at_once("1");
    prepared.check(&case.file, &mut |_| Ok(())).expect("whole");
    prepared.save();
    assert!(!case.knows("1"));
}
