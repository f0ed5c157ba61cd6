//! Checkpoints and packages that were read wrongly once; their files are in `fixtures/faults`.

use std::{fs, ops::ControlFlow, path::Path};

use image::RgbImage;
use pocketmuse::{ErrorKind, Manifest, Options, Pipeline, Request};
use pocketmuse_package::{FileEntry, MANIFEST};
use serde_json::json;

use crate::support::{
    self, change_json, change_tensors, changed, checkpoint, copy_folder, export, fixture, package,
};

const EMBEDDING: &str = "text_model.embeddings.token_embedding.weight";

fn image(package: &Path, prompt: &str) -> RgbImage {
    let pipeline = support::open(package, Options::default());
    let request = Request {
        prompt: prompt.to_owned(),
        seed: 3,
        num_inference_steps: Some(3),
        ..Request::default()
    };
    let made = pipeline.generate(&request, |_| ControlFlow::Continue(()));
    made.unwrap_or_else(|error| panic!("{error}")).images.remove(0)
}

/// A token that was added with the embedding of a known one, as textual inversion leaves it, means
/// what that one means.
#[test]
fn an_added_token_is_read_as_it_was_learned() {
    let (folder, copy) = changed("tiny-256");
    // A tokenizer of the same tokens in the files that added ones lie beside.
    fs::remove_dir_all(copy.join("tokenizer")).expect("removed");
    copy_folder(&checkpoint("tiny-world").join("tokenizer"), &copy.join("tokenizer"));
    let vocabulary = fs::read(copy.join("tokenizer/vocab.json")).expect("a vocabulary");
    let vocabulary: serde_json::Value = serde_json::from_slice(&vocabulary).expect("JSON");
    let twin = vocabulary["blue</w>"].as_u64().expect("an id") as usize;
    let mut rows = 0;
    change_tensors(&copy.join("text_encoder/model.safetensors"), |tensors| {
        let embedding = tensors.get_mut(EMBEDDING).expect("there");
        rows = embedding.shape[0];
        let row = embedding.bytes.len() / rows;
        embedding.shape[0] += 1;
        let twin = embedding.bytes[twin * row..][..row].to_vec();
        embedding.bytes.extend(twin);
    });
    change_json(&copy.join("text_encoder/config.json"), |config| {
        config["vocab_size"] = json!(rows + 1)
    });
    let token = json!({"content": "<my-colour>", "lstrip": false, "normalized": true,
        "rstrip": false, "single_word": false, "special": false});
    change_json(&copy.join("tokenizer/tokenizer_config.json"), |config| {
        config["added_tokens_decoder"] = json!({rows.to_string(): token});
    });
    let added = json!({"<my-colour>": rows}).to_string();
    fs::write(copy.join("tokenizer/added_tokens.json"), added).expect("written");
    let package = folder.path().join("package");
    export(&copy, &package).unwrap_or_else(|error| panic!("{error}"));
    let blue = image(&package, "a blue house in a meadow");
    assert!(image(&package, "a <my-colour> house in a meadow") == blue);
    assert!(image(&package, "a red house in a meadow") != blue);
}

#[test]
fn an_infinity_that_nothing_reads_is_no_fault() {
    let (folder, copy) = changed("tiny-256");
    let config = fixture("faults/non-finite-in-config/config.json");
    fs::copy(config, copy.join("transformer/config.json")).expect("copied");
    export(&copy, &folder.path().join("package")).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_tokenizer_that_is_none_is_an_error() {
    support::runtime();
    let root = tempfile::tempdir().expect("a folder");
    let copy = root.path().join("package");
    copy_folder(&package("tiny-256"), &copy);
    let tokenizer = fixture("faults/pkg-tokenizer-panic/tokenizer.json");
    fs::copy(tokenizer, copy.join("tokenizer.json")).expect("copied");
    let mut manifest = Manifest::read(&copy).expect("a manifest");
    manifest.tokenizer.file = FileEntry::describe(&copy, "tokenizer.json").expect("described");
    fs::write(copy.join(MANIFEST), manifest.to_json()).expect("written");
    let pipeline = Pipeline::open(&copy).unwrap_or_else(|error| panic!("{error}"));
    let made = pipeline.generate(&Request::default(), |_| ControlFlow::Continue(()));
    let error = made.map(drop).expect_err("no tokenizer");
    assert_eq!(error.kind(), ErrorKind::PackageDamaged, "{error}");
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
}
