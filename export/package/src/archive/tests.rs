use std::{
    collections::BTreeMap,
    io::{self, Cursor, SeekFrom},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use tempfile::TempDir;

use super::{contents::distinct, *};
use crate::{
    Defaults, Digest, FORMAT_VERSION, FileEntry, Flavour, FlavourEntry, MANIFEST, MaskingSchedule,
    Model, Stage, StageEntry, Tokenizer,
};

const GO_ON: fn(Progress) -> ControlFlow<()> = |_| ControlFlow::Continue(());

/// The contents of a file, told by its name; `large` ones take several pieces.
fn contents(path: &str) -> Vec<u8> {
    let length = if path.ends_with("step.data") { 700_000 } else { 40 * path.len() };
    path.bytes().cycle().take(length).collect()
}

fn entry(path: &str) -> FileEntry {
    let bytes = contents(path);
    FileEntry { path: path.to_owned(), bytes: bytes.len() as u64, sha256: Digest::of(&bytes) }
}

fn manifest(flavours: &[Flavour]) -> Manifest {
    let stage = |flavour: Flavour, stage: Stage| StageEntry {
        graph: entry(&format!("{flavour}/{stage}.onnx")),
        weights: (stage != Stage::Prologue).then(|| entry(&format!("{flavour}/{stage}.data"))),
        inputs: vec![],
        outputs: vec![],
        taps: BTreeMap::new(),
        held: None,
    };
    let stages = |flavour| FlavourEntry {
        stages: Stage::ALL.iter().map(|&kind| (kind, stage(flavour, kind))).collect(),
    };
    Manifest {
        format: FORMAT_VERSION,
        exporter: "test".to_owned(),
        model: Model {
            name: "tiny".to_owned(),
            vocab_size: 64,
            codebook_size: 48,
            mask_token_id: 63,
            masking_schedule: MaskingSchedule::Cosine,
            sample_size: 6,
            pixels_per_token: 4,
            grid_multiple: 2,
        },
        tokenizer: Tokenizer {
            file: entry("tokenizer.json"),
            bos: 1,
            eos: 2,
            pad: 2,
            max_tokens: 77,
        },
        defaults: Defaults::default(),
        preview: Some(entry("preview.rgb")),
        flavours: flavours.iter().map(|&flavour| (flavour, stages(flavour))).collect(),
    }
}

fn both() -> Manifest {
    manifest(&[Flavour::Int8, Flavour::F32])
}

/// An archive of these files, whatever they are.
fn archive_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes()); // the library refuses what leads out
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).expect("memory");
    }
    builder.into_inner().expect("memory")
}

/// The archive of a package as it should be.
fn archive(manifest: &Manifest) -> Vec<u8> {
    let files: Vec<_> =
        manifest.files().map(|file| (file.path.as_str(), contents(&file.path))).collect();
    let text = manifest.to_json();
    let mut all = vec![(MANIFEST, text.as_bytes())];
    all.extend(files.iter().map(|(name, bytes)| (*name, bytes.as_slice())));
    archive_of(&all)
}

/// A folder, and a place for a package in it.
fn place() -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a folder");
    let target = root.path().join("package");
    (root, target)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("readable");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Every file below a folder, by its path.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for name in names(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            files
                .extend(tree(&path).into_iter().map(|(at, bytes)| (format!("{name}/{at}"), bytes)));
        } else {
            files.insert(name, fs::read(&path).expect("readable"));
        }
    }
    files
}

fn expected_tree(manifest: &Manifest) -> BTreeMap<String, Vec<u8>> {
    let mut files: BTreeMap<_, _> =
        manifest.files().map(|file| (file.path.clone(), contents(&file.path))).collect();
    files.insert(MANIFEST.to_owned(), manifest.to_json().into_bytes());
    files
}

fn import_bytes(bytes: &[u8], target: &Path) -> Result<Manifest> {
    import(bytes, &Subset::default(), target, GO_ON)
}

#[test]
fn a_package_goes_through_an_archive_and_back() {
    let (root, folder) = place();
    let whole = both();
    import_bytes(&archive(&whole), &folder).expect("imported");
    assert_eq!(tree(&folder), expected_tree(&whole));
    let packed = root.path().join("a.pocketmuse");
    for _ in 0..2 {
        assert_eq!(copy(&folder, &Subset::default(), &packed, GO_ON).expect("packed"), whole);
    }
    let mut opened = tar::Archive::new(fs::File::open(&packed).expect("there"));
    let found: Vec<_> = opened
        .entries()
        .expect("an archive")
        .map(|entry| entry.expect("whole").path().expect("a path").display().to_string())
        .collect();
    let files = whole.files().map(|file| file.path.clone());
    assert_eq!(found, [MANIFEST.to_owned()].into_iter().chain(files).collect::<Vec<_>>());
    let again = root.path().join("again");
    assert_eq!(copy(&packed, &Subset::default(), &again, GO_ON).expect("unpacked"), whole);
    assert_eq!(tree(&again), tree(&folder));
    let repacked = root.path().join("b.TAR");
    copy(&packed, &Subset::default(), &repacked, GO_ON).expect("packed again");
    assert!(fs::read(&packed).expect("there") == fs::read(&repacked).expect("there"));
    assert_eq!(names(root.path()), ["a.pocketmuse", "again", "b.TAR", "package"]);
}

#[test]
fn a_part_is_a_package() {
    let whole = archive(&both());
    let cases: [(&[Flavour], bool, &[Flavour]); 5] = [
        (&[], false, &[Flavour::Int8, Flavour::F32]),
        (&[], true, &[Flavour::Int8, Flavour::F32]),
        (&[Flavour::Int8], false, &[Flavour::Int8]),
        (&[Flavour::F32, Flavour::F32], true, &[Flavour::F32]),
        (&[Flavour::F32, Flavour::Int8], true, &[Flavour::Int8, Flavour::F32]),
    ];
    for (flavours, without_encoder, left) in cases {
        let subset = Subset { flavours: flavours.to_vec(), without_encoder };
        let mut expected = manifest(left);
        for entry in expected.flavours.values_mut().filter(|_| without_encoder) {
            entry.stages.remove(&Stage::Encoder);
        }
        let (root, target) = place();
        let mut last = Progress { done_bytes: 0, total_bytes: 0 };
        let found = import(whole.as_slice(), &subset, &target, |progress| {
            assert!(progress.done_bytes >= last.done_bytes);
            last = progress;
            ControlFlow::Continue(())
        });
        assert_eq!(found.expect("imported"), expected, "{subset:?}");
        assert_eq!(tree(&target), expected_tree(&expected), "{subset:?}");
        assert_eq!(Manifest::read(&target).expect("a manifest"), expected);
        let bytes: u64 = expected.files().map(|file| file.bytes).sum();
        assert_eq!((last.done_bytes, last.total_bytes), (bytes, bytes));
        let seeking = root.path().join("seeking");
        import_seekable(Cursor::new(&whole), &subset, &seeking, GO_ON).expect("imported");
        assert_eq!(tree(&seeking), tree(&target), "{subset:?}");
        let packed = root.path().join("part.tar");
        copy(&target, &Subset::default(), &packed, GO_ON).expect("packed");
        copy(&packed, &subset, &root.path().join("same"), GO_ON).expect("unpacked");
    }
    let error = import(
        whole.as_slice(),
        &Subset { flavours: vec![Flavour::Int4], without_encoder: false },
        &place().1,
        GO_ON,
    );
    let error = error.expect_err("not there");
    assert_eq!(error.kind(), ErrorKind::BadRequest);
    assert!(error.to_string().contains("found int4"), "{error}");
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[test]
fn an_import_that_was_stopped_goes_on() {
    let (root, target) = place();
    let (whole, manifest) = (archive(&both()), both());
    let total: u64 = manifest.files().map(|file| file.bytes).sum();
    let mut stops = 0;
    let mut kept = 0;
    for stop in (1..).map(|part: u64| part * 300_000) {
        let mut reader = Counted { inner: Cursor::new(&whole), bytes: 0 };
        let mut first = None;
        let result = import_seekable(&mut reader, &Subset::default(), &target, |progress| {
            if first.is_none() && progress.done_bytes > 0 {
                first = Some(progress.done_bytes);
            }
            if progress.done_bytes >= stop.min(total) && stop < total {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        if kept > 0 {
            assert_eq!(first.map(|first| first >= kept), Some(true), "begins with what is there");
            assert!(reader.bytes < whole.len() as u64 - kept + 65_536, "kept files are not read");
        }
        match result {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled),
        }
        stops += 1;
        assert!(!target.exists());
        let parts = names(root.path());
        assert_eq!(parts.len(), 1, "{parts:?}");
        let part = root.path().join(&parts[0]);
        assert!(!part.join("incoming").exists());
        kept = tree(&part.join("package")).values().map(|bytes| bytes.len() as u64).sum();
    }
    assert!(stops >= 3 && kept > 700_000, "{stops} stops, {kept} bytes");
    assert_eq!(names(root.path()), ["package"]);
    assert_eq!(tree(&target), expected_tree(&manifest));
}

#[test]
fn a_stream_goes_on_where_files_are_kept() {
    let (root, target) = place();
    let whole = archive(&both());
    let at = whole.len() - 2000;
    let error = import_bytes(&whole[..at], &target).expect_err("cut");
    assert_eq!(error.kind(), ErrorKind::PackageDamaged);
    let mut first = None;
    import(whole.as_slice(), &Subset::default(), &target, |progress| {
        first = first.or(Some(progress.done_bytes).filter(|done| *done > 0));
        ControlFlow::Continue(())
    })
    .expect("whole");
    assert!(first.is_some_and(|first| first > 1_400_000), "{first:?}");
    assert_eq!(names(root.path()), ["package"]);
}

#[test]
fn what_is_there_already_is_left_as_it_is() {
    let (root, target) = place();
    let whole = archive(&both());
    import_bytes(&whole, &target).expect("imported");
    assert_eq!(import_bytes(&whole, &target).expect("there"), both());
    let other = archive(&manifest(&[Flavour::F32]));
    let error = import_bytes(&other, &target).expect_err("another package");
    assert_eq!(error.kind(), ErrorKind::BadRequest);
    assert!(error.to_string().ends_with("found another package: remove it first"), "{error}");
    fs::write(target.join("int8/step.onnx"), contents("int8/step_onnx")).expect("written");
    let error = import_bytes(&whole, &target).expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::BadRequest);
    assert!(error.to_string().contains("step.onnx: expected SHA-256"), "{error}");
    assert_eq!(names(root.path()), ["package"]);
    let file = root.path().join("file");
    fs::write(&file, "text").expect("written");
    assert_eq!(import_bytes(&whole, &file).expect_err("a file").kind(), ErrorKind::BadRequest);
    let nowhere = root.path().join("no/where");
    let error = import_bytes(&whole, &nowhere).expect_err("no folder");
    assert!(error.to_string().ends_with("no: expected a folder, found none"), "{error}");
}

/// Changes the names and contents of an archive's files.
type Change<'a> = &'a dyn Fn(&mut Vec<(String, Vec<u8>)>);

/// An archive with one thing wrong, and what is said of it.
fn wrong_archives() -> Vec<(Vec<u8>, &'static str)> {
    let whole = both();
    let text = whole.to_json();
    let files: Vec<_> =
        whole.files().map(|file| (file.path.clone(), contents(&file.path))).collect();
    let with = |change: Change<'_>| {
        let mut all = vec![(MANIFEST.to_owned(), text.clone().into_bytes())];
        all.extend(files.iter().cloned());
        change(&mut all);
        let all: Vec<_> =
            all.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        archive_of(&all)
    };
    let header = |kind, name: &str, size| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        [archive_of(&[(MANIFEST, text.as_bytes())])[..].as_ref(), header.as_bytes()]
            .map(<[u8]>::to_vec)
    };
    let then = |kind, name, size| {
        let [mut bytes, header] = header(kind, name, size);
        bytes.truncate(bytes.len() - 1024); // the end's two blocks
        [bytes, header, vec![0; 4096]].concat()
    };
    let huge = {
        let mut header = tar::Header::new_gnu();
        header.set_path(MANIFEST).expect("short");
        header.set_size(1 << 40);
        header.set_cksum();
        [header.as_bytes().to_vec(), vec![b' '; 17 << 20]].concat()
    };
    vec![
        (vec![], "expected manifest.json, found the end"),
        (vec![7; 5000], "expected an archive of a package, found"),
        (vec![0; 5000], "expected manifest.json, found the end"),
        (with(&|all| all.truncate(1)), "expected tokenizer.json, found the end"),
        (
            with(&|all| all.splice(..1, []).for_each(drop)),
            "expected manifest.json, found \"tokenizer.json\"",
        ),
        (with(&|all| all.swap(0, 1)), "expected manifest.json, found \"tokenizer.json\""),
        (with(&|all| all.swap(3, 4)), "expected int8/text_encoder.onnx, found"),
        (with(&|all| all.truncate(all.len() - 1)), "expected f32/encoder.data, found the end"),
        (
            with(&|all| all.push(all[3].clone())),
            "expected the end, found \"int8/text_encoder.onnx\"",
        ),
        (with(&|all| all.insert(4, all[3].clone())), "expected int8/text_encoder.data, found"),
        (with(&|all| all.push(("more".into(), vec![1]))), "expected the end, found \"more\""),
        (with(&|all| all[3].0 = "../out".into()), "found \"../out\""),
        (with(&|all| all[3].0 = "/tmp/out".into()), "found \"/tmp/out\""),
        (with(&|all| all[4].1[5] ^= 1), "int8/text_encoder.data: expected SHA-256"),
        (with(&|all| all[4].1.push(0)), "expected int8/text_encoder.data of 880 bytes, found 881"),
        (
            with(&|all| all[4].1.truncate(879)),
            "expected int8/text_encoder.data of 880 bytes, found 879",
        ),
        (with(&|all| all[0].1.truncate(99)), "manifest.json: expected a manifest"),
        (huge, "manifest.json: expected a file of at most 16777216 bytes, found more"),
        (then(tar::EntryType::Symlink, "tokenizer.json", 0), "which is no file"),
        (then(tar::EntryType::Link, "tokenizer.json", 0), "which is no file"),
        (then(tar::EntryType::Directory, "int8", 0), "which is no file"),
        (then(tar::EntryType::Char, "tokenizer.json", 0), "which is no file"),
        (then(tar::EntryType::GNULongName, "././@LongLink", 1 << 40), "which is no file"),
        (then(tar::EntryType::GNUSparse, "tokenizer.json", 560), "which is no file"),
        (then(tar::EntryType::Regular, "tokenizer.json", u64::MAX), "found"),
    ]
}

#[test]
fn a_wrong_archive_leaves_nothing_at_its_target() {
    for (bytes, expected) in wrong_archives() {
        for seeks in [false, true] {
            let (root, target) = place();
            let subset = Subset::default();
            let result = if seeks {
                import_seekable(Cursor::new(&bytes), &subset, &target, GO_ON)
            } else {
                import(bytes.as_slice(), &subset, &target, GO_ON)
            };
            let error = result.expect_err(expected);
            assert_eq!(error.kind(), ErrorKind::PackageDamaged, "{error}");
            assert!(error.to_string().contains(expected), "{expected}: {error}");
            discard(&target).expect("discarded");
            assert!(names(root.path()).is_empty(), "{expected}: {:?}", names(root.path()));
        }
    }
}

#[test]
fn a_manifest_that_names_a_file_twice_is_refused() {
    let cases = [
        ("MANIFEST.json", "it twice"),
        ("tokenizer.json/more", "it twice"),
        ("INT8/step.onnx", "it twice"),
        ("int8", "it twice"),
        ("a/./b", "another spelling"),
        ("a//b", "another spelling"),
    ];
    for (name, expected) in cases {
        let mut hostile = both();
        hostile.preview = Some(entry(name));
        let (root, target) = place();
        let error = import_bytes(&archive(&hostile), &target).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::PackageDamaged, "{error}");
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert!(names(root.path()).is_empty());
    }
    let mut twice = both(); // two stages may share a file
    twice.preview = Some(twice.tokenizer.file.clone());
    let files = distinct(&twice).expect("one file");
    assert_eq!(files.len(), both().files().count() - 1);
}

#[test]
fn room_is_checked_first() {
    let mut large = both();
    large.preview = Some(FileEntry { bytes: u64::MAX / 2, ..entry("preview.rgb") });
    let (root, target) = place();
    let text = large.to_json();
    let bytes = archive_of(&[(MANIFEST, text.as_bytes())]);
    let error = import_bytes(&bytes, &target).expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.to_string().contains(": expected room for 922337203"), "{error}");
    assert!(names(root.path()).is_empty());
}

#[test]
fn two_imports_at_once_both_end_well() {
    let whole = archive(&both());
    for _ in 0..8 {
        let (root, target) = place();
        let calls = AtomicUsize::new(0);
        thread::scope(|scope| {
            let both: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        import(whole.as_slice(), &Subset::default(), &target, |_| {
                            calls.fetch_add(1, Ordering::Relaxed);
                            ControlFlow::Continue(())
                        })
                    })
                })
                .collect();
            for import in both {
                import.join().expect("no panic").expect("imported");
            }
        });
        assert_eq!(names(root.path()), ["package"]);
        assert_eq!(tree(&target), expected_tree(&both()));
    }
}

#[test]
fn one_that_waits_can_be_stopped() {
    let (root, target) = place();
    let digest = Digest::of(both().to_json().as_bytes());
    let held = part::Part::take(&target, digest).expect("a folder").expect("nobody else");
    let mut calls = 0;
    let whole = archive(&both());
    let error = import(whole.as_slice(), &Subset::default(), &target, |progress| {
        calls += 1;
        assert_eq!(progress.done_bytes, 0);
        if calls == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(error.expect_err("stopped").kind(), ErrorKind::Cancelled);
    assert_eq!(calls, 4);
    discard(&target).expect("nothing to do");
    assert_eq!(names(root.path()).len(), 1, "the other one is at work");
    drop(held);
    discard(&target).expect("discarded");
    assert!(names(root.path()).is_empty());
}

/// Fails at a byte.
struct Failing<'a> {
    bytes: &'a [u8],
    left: usize,
    kind: io::ErrorKind,
}

impl Read for Failing<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::new(self.kind, "the line is dead"));
        }
        let most = self.left.min(into.len());
        let count = self.bytes.read(&mut into[..most])?;
        self.left -= count;
        Ok(count)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_altered_archive_is_refused_or_the_same(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        near in any::<bool>(),
    ) {
        let mut bytes = archive(&manifest(&[Flavour::F32]));
        let most = if near { 30_000 } else { bytes.len() }; // manifest and headers, or all
        for (at, byte) in changes {
            bytes[at.index(most)] = byte;
        }
        let (root, target) = place();
        match import_bytes(&bytes, &target) {
            Ok(found) => {
                // The text of a name may change, and what a tar header says of owners.
                prop_assert_eq!(tree(&target).len(), found.files().count() + 1);
                for file in found.files() {
                    prop_assert!(file.check(&target).is_ok());
                }
                prop_assert_eq!(names(root.path()), ["package"]);
            }
            Err(_) => {
                prop_assert!(!target.exists());
                discard(&target).expect("discarded");
                prop_assert!(names(root.path()).is_empty());
            }
        }
    }

    #[test]
    fn a_cut_archive_is_refused(at in any::<proptest::sample::Index>(), seeks: bool) {
        let bytes = archive(&manifest(&[Flavour::F32]));
        let cut = &bytes[..at.index(bytes.len() - 1024 - 512)]; // without the end and some bytes
        let (_root, target) = place();
        let result = if seeks {
            import_seekable(Cursor::new(cut), &Subset::default(), &target, GO_ON)
        } else {
            import_bytes(cut, &target)
        };
        prop_assert_eq!(result.expect_err("cut").kind(), ErrorKind::PackageDamaged);
        prop_assert!(!target.exists());
    }

    #[test]
    fn what_the_reader_says_is_passed_on(at in any::<proptest::sample::Index>(), other: bool) {
        let bytes = archive(&manifest(&[Flavour::F32]));
        let left = at.index(bytes.len() - 1024);
        let kind = if other { io::ErrorKind::Other } else { io::ErrorKind::TimedOut };
        let (_root, target) = place();
        let reader = Failing { bytes: &bytes, left, kind };
        let error = import(reader, &Subset::default(), &target, GO_ON).expect_err("failed");
        prop_assert_eq!(error.kind(), ErrorKind::Io, "{}", error);
        prop_assert!(error.to_string().ends_with("the line is dead"), "{}", error);
        prop_assert!(!target.exists());
        import_bytes(&bytes, &target).expect("goes on");
    }
}
