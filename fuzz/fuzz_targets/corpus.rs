//! No target: fills `corpus/TARGET` from the test fixtures, and `dictionaries/TARGET` with the words
//! that stand in it, in the current folder, and ends. It is built as a target is, so that nothing is
//! built twice.

#![no_main]

use std::{
    collections::BTreeSet,
    fs, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process,
};

use libfuzzer_sys::fuzz_target;
use pocketmuse::{
    Flavour, Manifest, Provider, Request, Rng, RngKind, Stage, Temperature,
    job::{self, State},
};
use pocketmuse_export::{Measured, Options, export};
use pocketmuse_fuzz::{BETWEEN, MANIFEST, checkpoint, scratch, write};
use pocketmuse_package::{Digest, Subset, archive};
use serde_json::Value;

/// Images of at most so many bytes: small ones are gone through faster.
const MOST_IMAGE: u64 = 24 << 10;
const MOST_WORDS: usize = 400;

fuzz_target!(init: fill_and_end(), |_bytes: &[u8]| {});

fn fill_and_end() {
    fill().expect("the corpus is written");
    process::exit(0)
}

fn fill() -> io::Result<()> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    images(&fixtures)?;
    texts()?;
    let package = scratch().join("package");
    made(&package)?;
    fs::remove_dir_all(scratch())?;
    for entry in fs::read_dir("corpus")?.flatten() {
        dictionary(&entry.path())?;
        println!("{}: {} inputs", entry.path().display(), fs::read_dir(entry.path())?.count());
    }
    Ok(())
}

/// Adds an input.
fn add(target: &str, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let folder = Path::new("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), parts.join(BETWEEN))
}

/// All files below a folder.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

fn name_of(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('/', "-")
}

fn images(fixtures: &Path) -> io::Result<()> {
    let endings = ["png", "jpg", "bmp", "webp", "gif", "tif", "ppm"];
    for path in files(fixtures)? {
        let is_image = path.extension().is_some_and(|end| endings.iter().any(|one| end == *one));
        if is_image && path.metadata()?.len() <= MOST_IMAGE {
            add("image_bytes", &name_of(&path, fixtures), &[&fs::read(&path)?])?;
        }
    }
    // One of each other kind that is read.
    let pixels = image::RgbImage::from_fn(5, 3, |x, y| image::Rgb([x as u8 * 50, y as u8 * 80, 9]));
    for ending in ["gif", "bmp", "tiff", "webp", "ppm", "jpg", "png"] {
        let path = scratch().join("small").with_extension(ending);
        pixels.save(&path).map_err(io::Error::other)?;
        add("image_bytes", &format!("small.{ending}"), &[&fs::read(&path)?])?;
    }
    Ok(())
}

fn texts() -> io::Result<()> {
    let source = checkpoint();
    let read = |name: &str| fs::read(source.join(name)).unwrap_or_default();
    let configs = [
        "text_encoder/config.json",
        "transformer/config.json",
        "vqvae/config.json",
        "scheduler/scheduler_config.json",
        "model_index.json",
    ]
    .map(read);
    add("configs", "tiny", &configs.each_ref().map(Vec::as_slice))?;
    let tensors = read("text_encoder/model.safetensors");
    add("safetensors", "tiny", &[&tensors])?;
    let header = br#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[],"data_offsets":[4,8]}}"#;
    let length = (header.len() as u64).to_le_bytes();
    add("safetensors", "small", &[&[&length[..], header, &[0; 8]].concat()])?;

    let tokenizer = read("tokenizer/tokenizer.json");
    add("tokenizer", "tiny", &[&tokenizer, b"a red house, don't 12:30 ein Haus"])?;
    let vocabulary =
        br#"{"<|startoftext|>":0,"<|endoftext|>":1,"a":2,"b":3,"a</w>":4,"b</w>":5,"ab</w>":6}"#;
    let config = br#"{"bos_token":"<|startoftext|>","eos_token":{"content":"<|endoftext|>"},"added_tokens_decoder":{"7":{"content":"<s>","lstrip":false,"rstrip":false,"normalized":true,"single_word":false,"special":false}}}"#;
    let merges = b"#version: 0.2\na b</w>\n";
    let small =
        [&vocabulary[..], merges, config, br#"{"<s>":7}"#, br#"{"unk_token":"<|endoftext|>"}"#];
    add("merges", "small", &small)?;
    let config = read("tokenizer/tokenizer_config.json");
    add("merges", "tiny", &[b"", b"", &config, b"", b"", &tokenizer])?;

    for (name, prompt) in [
        ("nested", "(a (big:1.5) house:0.5), [snow], ((red)) \\(16:9\\)"),
        ("open", "a) (b [c at 12:30 (16:9) <lora:x:1>"),
    ] {
        add("prompt_weights", name, &[prompt.as_bytes()])?;
    }
    Ok(())
}

/// What this project itself makes.
fn made(package: &Path) -> io::Result<()> {
    let plain = Request { prompt: "a (red:1.3) house".to_owned(), ..Request::default() };
    let full = Request {
        negative_prompt: "fog".to_owned(),
        guidance_scale: Some(2.5),
        num_inference_steps: Some(4),
        temperature: Some(Temperature::Range([2.0, 0.0])),
        height: Some(64),
        width: Some(96),
        strength: Some(0.5),
        variation: Some(0.3),
        rng: RngKind::Torch,
        ..plain.clone()
    };
    for (name, request) in [("plain", &plain), ("full", &full)] {
        let json = serde_json::to_vec(request)?;
        add("request", name, &[&json, &[1, 0, 0, 0].repeat(8)])?;
        let state = State {
            package: Digest::of(b"package"),
            flavour: Flavour::F32,
            providers: [(Stage::Step, Provider::OpenVino)].into(),
            request: request.clone(),
            source: None,
            next_step: 1,
            tokens: vec![Some(1), None, Some(3), Some(70_000)],
            rng: Rng::new(request.rng, request.seed),
            video: None,
            image: None,
        };
        let bytes = state.to_bytes();
        // With an image of one pixel in the place of none; the target sets the digest right.
        let (content, digest) = bytes.split_at(bytes.len() - 64);
        let pixel = [1, 1, 0, 0, 0, 1, 0, 0, 0, 255, 128, 0];
        let with_image = [&content[..content.len() - 1], &pixel, digest].concat();
        add("job", name, &[&bytes])?;
        add("job", &format!("{name}.image"), &[&with_image])?;
        add("job", &format!("{name}.json"), &[&serde_json::to_vec(&state)?])?;
        let file = scratch().join("job.json");
        job::save(&state, &file).map_err(io::Error::other)?;
        add("job", &format!("{name}.file.json"), &[&fs::read(&file)?])?;
    }

    add("manifest", "seed", &[MANIFEST])?;
    small_archive()?;
    let options = Options { flavours: vec![Flavour::F32], ..Options::default() };
    let measured = |_: &Path| Ok(Measured::default());
    export(&checkpoint(), package, &options, measured, |_| ControlFlow::Continue(()))
        .map_err(io::Error::other)?;
    add("manifest", "tiny", &[&fs::read(package.join("manifest.json"))?])?;
    for path in files(package)?.iter().filter(|path| path.extension().is_some_and(|e| e == "onnx"))
    {
        let graph = fs::read(path)?;
        add("graphs", &name_of(path, package), &[&graph, b"elsewhere.data"])?;
        let data = path.with_extension("data");
        let name = data.file_name().unwrap_or_default().to_string_lossy();
        let bytes = data.metadata().map_or(0, |metadata| metadata.len());
        add(
            "graph_check",
            &name_of(path, package),
            &[&graph, name.as_bytes(), &bytes.to_le_bytes()],
        )?;
    }
    Ok(())
}

/// An archive of a package all of whose files are three bytes long.
fn small_archive() -> io::Result<()> {
    let contents = b"abc";
    let mut json: Value = serde_json::from_slice(MANIFEST)?;
    shrink(&mut json, &Digest::of(contents).to_string());
    let root = scratch().join("small");
    fs::create_dir_all(&root)?;
    fs::write(root.join("manifest.json"), serde_json::to_vec(&json)?)?;
    let manifest = Manifest::read(&root).map_err(io::Error::other)?;
    for file in manifest.files() {
        write(&file.locate(&root), contents);
    }
    let archive = scratch().join("small.tar");
    archive::copy(&root, &Subset::default(), &archive, |_| ControlFlow::Continue(()))
        .map_err(io::Error::other)?;
    add("archive", "small", &[&fs::read(&archive)?])
}

/// Lets each file that a manifest names have three bytes and this digest, and no stage taps.
fn shrink(json: &mut Value, sha256: &str) {
    match json {
        Value::Object(fields) if fields.contains_key("sha256") => {
            fields.insert("sha256".to_owned(), sha256.into());
            fields.insert("bytes".to_owned(), 3.into());
        }
        Value::Object(fields) => {
            fields.remove("taps");
            fields.values_mut().for_each(|value| shrink(value, sha256));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| shrink(value, sha256)),
        _ => {}
    }
}

/// The words in quotes of a target's inputs, and what stands between parts.
fn dictionary(corpus: &Path) -> io::Result<()> {
    let mut words = BTreeSet::new();
    for path in files(corpus)? {
        let bytes = fs::read(&path)?;
        let is_word = |word: &&[u8]| {
            (2..40).contains(&word.len())
                && word.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\')
        };
        let quoted = bytes.split(|byte| *byte == b'"').skip(1).step_by(2).filter(is_word);
        words.extend(quoted.map(|word| format!("\"{}\"", String::from_utf8_lossy(word))));
    }
    let target = corpus.file_name().unwrap_or_default();
    let mut lines: Vec<_> = words.into_iter().take(MOST_WORDS).collect();
    lines.push("\"\\x0a====\\x0a\"".to_owned());
    fs::create_dir_all("dictionaries")?;
    fs::write(Path::new("dictionaries").join(target), lines.join("\n") + "\n")
}
