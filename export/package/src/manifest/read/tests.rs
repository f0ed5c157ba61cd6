use std::collections::BTreeMap;

use super::*;
use crate::{Digest, Flavour, FlavourEntry, Held, MaskingSchedule, StageEntry, Subset};

fn manifest() -> Manifest {
    let file =
        |path: &str| FileEntry { path: path.to_owned(), bytes: 3, sha256: Digest::of(b"abc") };
    let stage = |stage: Stage| {
        let graph = file(&format!("f32/{stage}.onnx"));
        (
            stage,
            StageEntry {
                graph,
                weights: None,
                held: None,
                inputs: vec![],
                outputs: vec![],
                taps: BTreeMap::new(),
                contexts: Vec::new(),
                without_graph: false,
            },
        )
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
            file: file("tokenizer.json"),
            bos: 1,
            eos: 2,
            pad: 2,
            max_tokens: 77,
        },
        defaults: Defaults::default(),
        knows: Vec::new(),
        preview: Some(file("preview.rgb")),
        flavours: [(
            Flavour::F32,
            FlavourEntry { stages: Stage::ALL.into_iter().map(stage).collect() },
        )]
        .into(),
    }
}

fn step(manifest: &mut Manifest) -> &mut StageEntry {
    let stages = &mut manifest.flavours.get_mut(&Flavour::F32).expect("there").stages;
    stages.get_mut(&Stage::Step).expect("there")
}

/// Adds a context for sm8650 to the step.
fn with_context(manifest: &mut Manifest, change: impl FnOnce(&mut ContextEntry)) {
    let file = |path: &str| FileEntry { path: path.to_owned(), bytes: 1, sha256: Digest::of(b"") };
    let mut context = ContextEntry {
        provider: "qnn".to_owned(),
        target: "sm8650".to_owned(),
        architecture: "75".to_owned(),
        sdk: "2.51.0".to_owned(),
        extents: [("height".to_owned(), 8)].into(),
        source: Vec::new(),
        graph: file("g"),
        binary: file("b"),
        rows: file("r"),
    };
    change(&mut context);
    step(manifest).add_context(context);
}

#[test]
fn what_was_compiled_for_a_chip_stands_for_graphs() {
    let mut manifest = manifest();
    with_context(&mut manifest, |_| ());
    with_context(&mut manifest, |context| context.target = "sm8550".to_owned());
    with_context(&mut manifest, |context| context.sdk = "2.52.0".to_owned()); // in place of the first
    let contexts = &step(&mut manifest).contexts;
    let found: Vec<_> = contexts.iter().map(|one| (&*one.target, &*one.sdk)).collect();
    assert_eq!(found, [("sm8550", "2.51.0"), ("sm8650", "2.52.0")]);
    assert_eq!(Manifest::parse(manifest.to_json().as_bytes()).expect("valid"), manifest);
    let of = |manifest: &Manifest, chip: &str| {
        let target = Some(("qnn".to_owned(), chip.to_owned()));
        manifest.subset(&Subset { target, ..Subset::default() })
    };
    let mut part = of(&manifest, "sm8650").expect("there");
    assert_eq!(Manifest::parse(part.to_json().as_bytes()).expect("valid"), part);
    let paths: Vec<_> = part.files().map(|file| &*file.path).collect();
    assert!(!paths.contains(&"f32/step.onnx") && paths.contains(&"f32/decoder.onnx"), "{paths:?}");
    assert_eq!(step(&mut part).contexts.len(), 1);
    assert_eq!(of(&part, "sm8650").expect("all of it"), part);
    for (manifest, found) in [(&manifest, "qnn:sm8550, qnn:sm8650"), (&part, "qnn:sm8650")] {
        let error = of(manifest, "sm8750").expect_err("none").to_string();
        let expected = format!("target: expected contexts for qnn:sm8750, found {found}: make");
        assert!(error.starts_with(&expected), "{error}");
    }
    step(&mut manifest).contexts.clear();
    manifest.flavours.remove(&Flavour::F16);
    assert_eq!(manifest.oldest_format(), 1);
}

#[test]
fn survives_writing_and_reading() {
    assert_eq!(Manifest::parse(manifest().to_json().as_bytes()).expect("valid"), manifest());
}

#[test]
fn says_what_is_wrong_and_where() {
    type Change = fn(&mut Manifest);
    let cases: [(&str, Change); 15] = [
        ("format: expected 1 to 3, found 4: written by a newer PocketMuse", |m| m.format = 4),
        ("format: expected 1 to 3, found 0", |m| m.format = 0),
        ("format: expected 2 with the flavour f16, found 1", |m| {
            let f32 = m.flavours[&Flavour::F32].clone();
            m.flavours.insert(Flavour::F16, f32);
            m.format = 1;
        }),
        ("format: expected 3 with contexts, found 2", |m| {
            with_context(m, |_| ());
            m.format = 2;
        }),
        ("flavours.f32.step: contexts: expected names of 1 to 64 letters, found \"a\\n\"", |m| {
            with_context(m, |context| context.target = "a\n".to_owned());
        }),
        ("flavours.f32.step: r: expected at most 100000 bytes, found 100001", |m| {
            with_context(m, |context| context.rows.bytes = 100_001);
        }),
        ("\"/b\": expected a path inside the package", |m| {
            with_context(m, |context| context.binary.path = "/b".to_owned());
        }),
        ("flavours.f32.step: contexts: expected one in place of the graph, found none", |m| {
            step(m).without_graph = true;
        }),
        ("model: mask_token_id: expected 0 < codebook_size", |m| m.model.mask_token_id = 64),
        ("model: sample_size: expected a multiple of 2, found 5", |m| m.model.sample_size = 5),
        ("knows: expected words of 1 to 64 bytes, found 65", |m| m.knows = vec!["a".repeat(65)]),
        ("knows: expected 0 to 1000, found 1001", |m| m.knows = vec!["a".to_owned(); 1001]),
        ("defaults: num_inference_steps: expected 1 to 10000, found 0", |m| {
            m.defaults.num_inference_steps = 0
        }),
        ("\"../x\": expected a path inside the package", |m| {
            m.tokenizer.file.path = "../x".to_owned()
        }),
        ("flavours: expected at least one", |m| m.flavours.clear()),
    ];
    for (expected, change) in cases {
        let mut manifest = manifest();
        change(&mut manifest);
        let error = Manifest::parse(manifest.to_json().as_bytes()).expect_err(expected);
        assert!(error.to_string().starts_with(expected), "expected {expected}, found {error}");
        let is_newer = expected.contains("newer");
        let kind = if is_newer { ErrorKind::PackageTooNew } else { ErrorKind::PackageDamaged };
        assert_eq!(error.kind(), kind);
    }
}

#[test]
fn a_key_stands_once_wherever_it_is() {
    let text = manifest().to_json();
    for (key, place) in
        [("format", "\"format\": 3,"), ("name", "\"name\": \"tiny\","), ("step", "\"step\": {")]
    {
        let twice = match place.strip_suffix('{') {
            Some(start) => text.replacen(place, &format!("{start}null, {place}"), 1),
            None => text.replacen(place, &format!("{place} {place}"), 1),
        };
        assert_ne!(twice, text);
        let error = Manifest::parse(twice.as_bytes()).expect_err("twice").to_string();
        assert!(error.contains(&format!("the key \"{key}\" twice")), "{error}");
    }
}

#[test]
fn a_manifest_without_held_is_read_and_kept_as_it_is() {
    let text = manifest().to_json();
    assert!(!text.contains("held"));
    let mut manifest = Manifest::parse(text.as_bytes()).expect("valid");
    assert_eq!(manifest.to_json(), text, "and so is its digest");
    let entry = |manifest: &mut Manifest, held| {
        let stages = &mut manifest.flavours.get_mut(&Flavour::F32).expect("there").stages;
        let entry = stages.get_mut(&Stage::Step).expect("there");
        entry.held = held;
        entry.held(Flavour::F32, Stage::Step).linear_bits
    };
    assert_eq!(entry(&mut manifest, None), 32);
    assert_eq!(entry(&mut manifest, Some(Held { linear_bits: 4, ..Held::FLOATS })), 4);
    let text = manifest.to_json();
    assert_eq!(Manifest::parse(text.as_bytes()).expect("valid"), manifest);
    entry(&mut manifest, Some(Held { linear_bits: 0, ..Held::FLOATS }));
    let error = Manifest::parse(manifest.to_json().as_bytes()).expect_err("no bits").to_string();
    assert_eq!(error, "flavours.f32.step: linear_bits: expected 1 to 32, found 0");
}

#[test]
fn what_is_no_package_is_named() {
    let root = tempfile::tempdir().expect("a folder");
    let at = |name: &str| root.path().join(name);
    let repository = at("hub/models--made-up--tiny");
    for snapshot in ["0123", "4567"] {
        std::fs::create_dir_all(repository.join("snapshots").join(snapshot)).expect("made");
    }
    std::fs::create_dir(repository.join("refs")).expect("made");
    std::fs::write(repository.join("refs/main"), "4567\n").expect("written");
    std::fs::write(at("archive.pocketmuse"), "").expect("written");
    std::fs::create_dir(at("empty")).expect("made");
    std::fs::create_dir(at("pointer")).expect("made");
    let pointer = "version https://git-lfs.github.com/spec/v1\n";
    std::fs::write(at("pointer/manifest.json"), pointer).expect("written");
    let snapshot = repository.join("snapshots/4567").display().to_string();
    let cases = [
        ("archive.pocketmuse", "found a file: make a folder of a package's archive"),
        ("hub/models--made-up--tiny", &snapshot),
        ("hub", &snapshot),
        ("", &snapshot),
        ("pointer", "found a pointer of Git LFS: run git lfs pull in the repository"),
        ("empty", "manifest.json: "),
        ("gone", "manifest.json: "),
    ];
    for (name, expected) in cases {
        let error = Manifest::read(&at(name)).expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: expected {expected:?}, found {error}");
    }
    #[cfg(unix)]
    for name in ["link", "empty/manifest.json"] {
        std::os::unix::fs::symlink("gone", at(name)).expect("linked");
        let root = at(name.split('/').next().expect("a name"));
        let error = Manifest::read(&root).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::PackageDamaged);
        assert!(error.to_string().contains("found a link to gone, which is not"), "{error}");
    }
}

#[test]
fn a_checkpoint_is_no_package() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("model_index.json"), "{}").expect("written");
    let error = Manifest::read(folder.path()).expect_err("a checkpoint").to_string();
    assert!(error.ends_with("found a checkpoint: make a package of it with export"), "{error}");
}

proptest::proptest! {
    #[test]
    fn never_panics(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        assert!(Manifest::parse(&text).is_err());
    }

    #[test]
    fn never_panics_on_a_changed_byte(at in 0usize..2000, byte: u8) {
        let mut text = manifest().to_json().into_bytes();
        let at = at % text.len();
        text[at] = byte;
        let _ = Manifest::parse(&text);
    }
}
