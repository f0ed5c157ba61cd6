//! What goes in comes out: whole, or a part of it.

use std::io::Cursor;

use super::*;

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
        let subset = Subset { flavours: flavours.to_vec(), without_encoder, target: None };
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
        &Subset { flavours: vec![Flavour::Int4], ..Subset::default() },
        &place().1,
        GO_ON,
    );
    let error = error.expect_err("not there");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("found int4"), "{error}");
}
