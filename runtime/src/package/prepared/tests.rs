use std::time::Duration;

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
        self.open_in(self.root.path(), runtime)
    }

    /// As [`Self::open`], of a copy of the package.
    fn open_in(&self, root: &Path, runtime: &str) -> Prepared {
        let clock = || SystemTime::UNIX_EPOCH;
        let digest = Digest::of(b"manifest");
        Prepared { clock, ..Prepared::open(Some(&self.folder), root, digest, runtime) }
    }

    /// Whether a process of `runtime` knows the file from its record.
    fn knows(&self, runtime: &str) -> bool {
        self.open(runtime).is_checked(&self.file)
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
    assert!(case.knows("1") && case.knows("2"), "a file is whole, whichever runtime reads it");
    case.prepare("2");
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
    let older = text.replace("\"folders\"", "\"package\"").into_bytes();
    for damaged in [&whole[..whole.len() / 2], b"", b"{}", &[0xff; 99], &lied, &older] {
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
fn what_is_known_moves_with_the_package_and_is_shared_by_copies() {
    let case = Case::new();
    case.prepare("1");
    let [old, new] = ["old", "new"].map(|name| case.root.path().join(name));
    fs::create_dir(&old).expect("made");
    fs::rename(case.root.path().join("weights"), old.join("weights")).expect("renamed");
    let mut moved = FileEntry::describe(&old, "weights").expect("described");
    let later = || SystemTime::now() + 2 * SETTLING;
    let check = |root: &Path| {
        let prepared = Prepared { clock: later, ..case.open_in(root, "1") };
        let was_known = prepared.is_checked(&moved);
        prepared.check(&moved, &mut |_| Ok(())).expect("whole");
        prepared.save();
        was_known
    };
    check(&old); // a file that itself is moved may get another time
    fs::rename(&old, &new).expect("renamed");
    assert!(check(&new), "its folder was moved");
    let copy = case.root.path().join("copy");
    fs::create_dir(&copy).expect("made");
    fs::copy(new.join("weights"), copy.join("weights")).expect("copied");
    assert!(!check(&copy), "a copy is another file");
    assert!(check(&copy) && check(&new), "both are known now");
    let [entry] = list(&case.folder).expect("readable").try_into().expect("one record");
    assert_eq!(entry.files, 1);
    let [root, copy, new] =
        [case.root.path(), &copy, &new].map(|path| path.canonicalize().expect("there"));
    assert!(entry.folders == [root.clone(), new.clone(), copy.clone()], "{:?}", entry.folders);
    moved.sha256 = Digest::of(b"another");
    assert!(!case.open_in(&new, "1").is_checked(&moved), "whoever wants other contents");
}

#[test]
fn what_another_runtime_made_is_not_used() {
    let case = Case::new();
    case.prepare("1");
    let prepared = case.open("1");
    let mut state = prepared.state();
    state.record.graphs.insert("step.onnx".to_owned(), Some(Digest::of(b"graph")));
    state.is_new = true;
    drop(state);
    prepared.save();
    let graphs = |runtime: &str| case.open(runtime).state().record.graphs.len();
    assert_eq!((graphs("1"), graphs("2")), (1, 0));
}

#[test]
fn what_an_import_checked_is_known() {
    let case = Case::new();
    let mut manifest = crate::request::tests::manifest();
    manifest.tokenizer.file = case.file.clone();
    (manifest.preview, manifest.flavours) = (None, Default::default());
    let keep = |now| {
        Prepared::keep_imported(&case.folder, case.root.path(), &manifest, now).expect("kept");
        let (folder, root) = (Some(case.folder.as_path()), case.root.path());
        Prepared::open(folder, root, manifest.digest(), "1").is_checked(&case.file)
    };
    assert!(!keep(SystemTime::UNIX_EPOCH), "it might be changed unseen");
    assert!(keep(SystemTime::now() + 2 * SETTLING));
    let [entry] = list(&case.folder).expect("readable").try_into().expect("one record");
    assert_eq!((entry.package, entry.files), (Some(manifest.digest()), 1));
}

#[test]
fn a_package_that_is_gone_is_forgotten_a_month_later() {
    let [mut gone, case] = [Case::new(), Case::new()];
    gone.folder.clone_from(&case.folder);
    gone.prepare("1");
    assert_eq!(list(&case.folder).expect("readable").len(), 1);
    drop(gone);
    let other = Digest::of(b"another package");
    let save = |days: u64| {
        let root = case.root.path();
        let prepared = Prepared::open(Some(&case.folder), root, other, "1");
        prepared.check(&case.file, &mut |_| Ok(())).expect("whole");
        prepared.state().is_new = true;
        let clock = match days {
            29 => || SystemTime::now() + Duration::from_secs(29 * 24 * 3600),
            _ => || SystemTime::now() + Duration::from_secs(31 * 24 * 3600),
        };
        Prepared { clock, ..prepared }.save();
    };
    save(29);
    assert_eq!(list(&case.folder).expect("readable").len(), 2, "it may have been moved");
    save(31);
    let packages: Vec<_> =
        list(&case.folder).expect("readable").into_iter().map(|entry| entry.package).collect();
    assert_eq!(packages, [Some(other)]);
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

fn verdict(reason: &str) -> Verdict {
    let need = Need { held_bytes: 7, peak_bytes: 9 };
    Verdict { is_right: true, need: Some(need), ..Verdict::not_ended(reason) }
}

#[test]
fn a_verdict_holds_until_what_it_is_about_changes() {
    let case = Case::new();
    let (first, second) = (case.open("1"), case.open("1")); // two processes
    first.add_verdict("step", verdict("near"));
    second.add_verdict("decoder", verdict("nearer"));
    let later = case.open("1");
    assert_eq!(later.verdict("step"), Some(verdict("near")));
    assert_eq!(later.verdict("decoder"), Some(verdict("nearer")));
    assert_eq!(later.verdict("encoder"), None);
    later.add_verdict("step", Verdict { is_right: false, ..verdict("another") });
    assert!(!case.open("1").verdict("step").expect("kept").is_right, "the last one counts");
    assert_eq!(case.open("2").verdict("decoder"), None, "of another ONNX Runtime");
    case.open("2").add_verdict("step", verdict("near"));
    assert_eq!(case.open("2").verdict("decoder"), None);
    assert_eq!(case.open("1").verdict("step"), None);

    let mut json = fs::read_to_string(case.record()).expect("a record");
    json = json.replace("near", "fair");
    fs::write(case.record(), json).expect("written");
    assert_eq!(case.open("2").verdict("step"), None, "a damaged record says nothing");
    for number in 0..100 {
        later.add_verdict(&number.to_string(), verdict("near"));
    }
    let kept = (0..100).filter(|number| later.verdict(&number.to_string()).is_some());
    assert_eq!(kept.collect::<Vec<_>>(), (36..100).collect::<Vec<_>>(), "the last 64");
}

#[test]
fn a_verdict_that_is_forgotten_is_reached_again() {
    let case = Case::new();
    let (first, second) = (case.open("1"), case.open("1"));
    first.add_verdict("step", verdict("near"));
    first.add_verdict("decoder", verdict("near"));
    second.forget_verdict("step"); // which another process reached
    let third = case.open("1");
    assert_eq!((third.verdict("step"), third.verdict("decoder")), (None, Some(verdict("near"))));
    third.forget_verdict("decoder"); // and here what was read
    assert_eq!((third.verdict("decoder"), case.open("1").verdict("decoder")), (None, None));
}

#[test]
fn a_proof_that_did_not_end_is_known_until_it_is_forgotten() {
    let case = Case::new();
    let prepared = case.open("1");
    prepared.add_verdict("decoder", verdict("near"));
    let marker = prepared.mark("step").expect("a folder");
    assert!(!case.open("1").is_unfinished("step"), "it runs");
    let [entry] = list(&case.folder).expect("readable").try_into().expect("one record");
    assert_eq!((entry.graphs.len(), entry.proofs.len()), (0, 1));
    let note = entry.proofs.into_iter().next().expect("one");
    drop(marker);
    assert!(!note.exists() && !case.open("1").is_unfinished("step"), "it ended");
    fs::write(&note, "").expect("written"); // as a process leaves it that was killed
    assert!(case.open("1").is_unfinished("step") && !case.open("1").is_unfinished("decoder"));
    case.open("2").forget_verdict("step");
    assert!(!case.open("1").is_unfinished("step"));
    fs::write(&note, "").expect("written");
    assert_eq!(clean(&case.folder).expect("cleaned"), 1);
    assert!(!note.exists());
}

#[test]
fn where_nothing_can_be_kept_a_verdict_holds_for_the_process() {
    let case = Case::new();
    fs::write(&case.folder, "no folder").expect("written");
    let prepared = case.open("1");
    assert!(prepared.mark("step").is_none() && !prepared.is_unfinished("step"));
    prepared.add_verdict("step", verdict("near"));
    assert_eq!(prepared.verdict("step"), Some(verdict("near")));
    assert_eq!(case.open("1").verdict("step"), None);
}
