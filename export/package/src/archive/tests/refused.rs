//! Archives that are wrong, each in one way, and what is said of it.

use std::io::Cursor;

use super::{super::contents::distinct, *};

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

/// Every size and digest is right: only the graph itself tells.
#[test]
fn a_graph_that_leads_out_of_the_package_is_not_imported() {
    let mut operator = Message::default();
    operator.text(onnx::node::DOMAIN, "org.example");
    let (mut entry_of, mut constant) = (Message::default(), Message::default());
    entry_of.text(onnx::entry::KEY, onnx::LOCATION).text(onnx::entry::VALUE, "../../secret");
    constant.message(onnx::tensor::EXTERNAL_DATA, &entry_of);
    for (field, inner, expected) in [
        (onnx::graph::NODE, operator, "found \"org.example\""),
        (onnx::graph::INITIALIZER, constant, "found \"../../secret\""),
    ] {
        let (mut graph, mut model) = (Message::default(), Message::default());
        graph.message(field, &inner);
        model.message(onnx::model::GRAPH, &graph);
        let bytes = model.into_bytes();
        let mut hostile = both();
        let stages = &mut hostile.flavours.get_mut(&Flavour::F32).expect("there").stages;
        let stage = stages.get_mut(&Stage::Encoder).expect("there");
        (stage.graph.bytes, stage.graph.sha256) = (bytes.len() as u64, Digest::of(&bytes));
        let path = stage.graph.path.clone();
        let text = hostile.to_json();
        let files = hostile.files().map(|file| {
            let bytes = if file.path == path { bytes.clone() } else { contents(&file.path) };
            (file.path.as_str(), bytes)
        });
        let files: Vec<_> = files.collect();
        let manifest = std::iter::once((MANIFEST, text.as_bytes()));
        let files = files.iter().map(|(name, bytes)| (*name, bytes.as_slice()));
        let (root, target) = place();
        let archive = archive_of(&manifest.chain(files).collect::<Vec<_>>());
        let error = import_bytes(&archive, &target).expect_err(expected);
        assert_eq!(error.kind(), ErrorKind::PackageDamaged);
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(error.to_string().contains("encoder.onnx: "), "{error}");
        assert!(names(root.path()).is_empty(), "{expected}: {:?}", names(root.path()));
    }
}
