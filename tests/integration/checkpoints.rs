//! Every layout a checkpoint comes in makes the same package.

use std::{fs, path::Path};

use half::f16;
use pocketmuse_package::{Flavour, Manifest, Stage};
use safetensors::Dtype;

use crate::support::{
    Tensor, changed, checkpoint, export, fixture, package, read_tensors, write_tensors,
};

const TENSORS: &str = "diffusion_pytorch_model.safetensors";

/// The digests of all graphs and weights.
fn digests(manifest: &Manifest) -> Vec<String> {
    let stages = manifest.flavours[&Flavour::F32].stages.values();
    stages
        .flat_map(|stage| [Some(&stage.graph), stage.weights.as_ref()])
        .flatten()
        .map(|file| file.sha256.to_string())
        .collect()
}

fn exported(checkpoint: &Path) -> Manifest {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("package");
    export(checkpoint, &target).unwrap_or_else(|error| panic!("{error}"));
    Manifest::read(&target).expect("a package")
}

#[test]
fn shards_and_fp16_names_make_the_same_package() {
    let reference = digests(&Manifest::read(&package("tiny-512-f16")).expect("a package"));

    let (_folder, copy) = changed("tiny-512-f16");
    for network in ["transformer", "vqvae"] {
        let folder = copy.join(network);
        fs::rename(folder.join(TENSORS), folder.join("diffusion_pytorch_model.fp16.safetensors"))
            .expect("renamed");
    }
    let text = copy.join("text_encoder");
    fs::rename(text.join("model.safetensors"), text.join("model.fp16.safetensors"))
        .expect("renamed");
    assert_eq!(digests(&exported(&copy)), reference, "fp16 names");

    for index_name in [
        "diffusion_pytorch_model.fp16.safetensors.index.json",
        "diffusion_pytorch_model.safetensors.index.fp16.json",
    ] {
        let folder = copy.join("transformer");
        let whole = folder.join("diffusion_pytorch_model.fp16.safetensors");
        if whole.exists() {
            let tensors = read_tensors(&whole);
            for (part, name) in ["a.safetensors", "b.safetensors"].into_iter().enumerate() {
                let half = tensors.iter().enumerate().filter(|(index, _)| index % 2 == part);
                write_tensors(
                    &folder.join(name),
                    &half.map(|(_, (name, t))| (name.clone(), t.clone())).collect(),
                );
            }
            fs::remove_file(whole).expect("removed");
        }
        let index = folder.join(index_name);
        fs::write(&index, r#"{"weight_map": {"one": "a.safetensors", "two": "b.safetensors"}}"#)
            .expect("written");
        assert_eq!(digests(&exported(&copy)), reference, "shards by {index_name}");
        fs::remove_file(index).expect("removed");
    }
}

#[test]
fn bf16_is_read_as_what_it_is() {
    let (_folder, copy) = changed("tiny-512");
    let path = copy.join("transformer").join(TENSORS);
    let truncate = |tensor: &Tensor, dtype: Dtype| {
        let high = |four: &[u8]| {
            if dtype == Dtype::BF16 { four[2..].to_vec() } else { vec![0, 0, four[2], four[3]] }
        };
        Tensor {
            dtype,
            shape: tensor.shape.clone(),
            bytes: tensor.bytes.chunks_exact(4).flat_map(high).collect(),
        }
    };
    let tensors = read_tensors(&path);
    let as_dtype = |dtype| {
        tensors.iter().map(|(name, tensor)| (name.clone(), truncate(tensor, dtype))).collect()
    };
    write_tensors(&path, &as_dtype(Dtype::BF16));
    let bf16 = digests(&exported(&copy));
    write_tensors(&path, &as_dtype(Dtype::F32)); // the same values in f32
    assert_eq!(bf16, digests(&exported(&copy)));
}

#[test]
fn f16_widens_exactly() {
    let tensors = read_tensors(&fixture("tiny-512-f16/transformer").join(TENSORS));
    let (_folder, copy) = changed("tiny-512-f16");
    let widen = |tensor: &Tensor| {
        let values =
            tensor.bytes.chunks_exact(2).map(|two| f16::from_le_bytes([two[0], two[1]]).to_f32());
        Tensor {
            dtype: Dtype::F32,
            shape: tensor.shape.clone(),
            bytes: values.flat_map(f32::to_le_bytes).collect(),
        }
    };
    let wide = tensors.iter().map(|(name, tensor)| (name.clone(), widen(tensor))).collect();
    write_tensors(&copy.join("transformer").join(TENSORS), &wide);
    let reference = Manifest::read(&package("tiny-512-f16")).expect("a package");
    assert_eq!(digests(&exported(&copy)), digests(&reference));
}

#[test]
fn the_manifest_says_what_the_configs_say() {
    let manifest = Manifest::read(&package("tiny-world")).expect("a package");
    let model = &manifest.model;
    assert_eq!((model.vocab_size, model.codebook_size, model.mask_token_id), (2112, 2048, 2111));
    assert_eq!((model.sample_size, model.pixels_per_token, model.grid_multiple), (16, 8, 2));
    let defaults = &manifest.defaults;
    assert_eq!(
        (defaults.num_inference_steps, defaults.guidance_scale),
        (12, 1.5),
        "generation_config.json"
    );
    assert_eq!(defaults.temperature, [0.7, 0.0]);
    let tokenizer = &manifest.tokenizer;
    assert_eq!(
        (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.max_tokens),
        (710, 711, 711, 77)
    );
    let stages = &manifest.flavours[&Flavour::F32].stages;
    assert!(Stage::ALL.iter().all(|stage| stages.contains_key(stage)));
    let bare = Manifest::read(&package("tiny-512")).expect("a package");
    assert_eq!(
        (bare.defaults.num_inference_steps, bare.defaults.guidance_scale),
        (12, 10.0),
        "the reference's defaults"
    );
}

#[test]
fn an_export_is_the_same_bytes_every_time() {
    let (first, second) = (exported(&checkpoint("tiny-256")), exported(&checkpoint("tiny-256")));
    assert_eq!(first.digest(), second.digest());
}

#[test]
fn the_prologue_makes_what_the_step_takes() {
    for name in crate::support::TINY.into_iter().chain(["tiny-world"]) {
        let manifest = Manifest::read(&package(name)).expect("a package");
        let stages = &manifest.flavours[&Flavour::F32].stages;
        let mut wanted = stages[&Stage::Step].inputs[3..].to_vec();
        let mut made = stages[&Stage::Prologue].outputs.clone();
        wanted.sort_by(|a, b| a.name.cmp(&b.name));
        made.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(wanted, made, "{name}");
    }
}
