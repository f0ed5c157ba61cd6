//! Packages of made-up files for the tests beside this file.

mod altered;
mod refused;
mod resumed;
mod round_trip;

use std::{collections::BTreeMap, path::PathBuf};

use tempfile::TempDir;

use super::*;
use crate::{
    Defaults, Digest, FORMAT_VERSION, FileEntry, Flavour, FlavourEntry, MANIFEST, MaskingSchedule,
    Model, Stage, StageEntry, Tokenizer, onnx, wire::Message,
};

const GO_ON: fn(Progress) -> ControlFlow<()> = |_| ControlFlow::Continue(());

/// The contents of a file, told by its name; `large` ones take several pieces. A graph is a model
/// without operators.
fn contents(path: &str) -> Vec<u8> {
    let length = if path.ends_with("step.data") { 44_000 } else { 40 * path.len() };
    let bytes: Vec<u8> = path.bytes().cycle().take(length).collect();
    if !path.ends_with(".onnx") {
        return bytes;
    }
    let mut model = Message::default();
    model.bytes(onnx::model::PRODUCER_NAME, &bytes);
    model.into_bytes()
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
        contexts: Vec::new(),
        without_graph: false,
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
        knows: Vec::new(),
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
