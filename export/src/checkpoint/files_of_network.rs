//! Which files hold a network's tensors: plain or fp16 names, one file or shards with an index.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;

use super::{found, json, text};
use crate::error::{Result, bad_checkpoint};

/// File names without their endings, as the hub's libraries write them.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];

/// Full precision first: where both are there, the better one is read.
const VARIANTS: [&str; 3] = ["", ".fp16", ".bf16"];

/// How the names of other files of tensors end. Most are written by Python's pickle, which is code
/// and is never read.
const OTHERS: [&str; 8] = ["bin", "pt", "pth", "ckpt", "pkl", "h5", "msgpack", "gguf"];

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The tensor files in `folder`.
pub(super) fn find(folder: &Path) -> Result<Vec<PathBuf>> {
    for variant in VARIANTS {
        for stem in STEMS {
            let single = folder.join(format!("{stem}{variant}.safetensors"));
            found::no_broken_link(&single)?;
            if single.exists() {
                return Ok(vec![single]);
            }
            let plain = format!("{stem}{variant}.safetensors.index.json");
            let variant_last = format!("{stem}.safetensors.index{variant}.json");
            for index in [plain, variant_last] {
                let index = folder.join(index);
                found::no_broken_link(&index)?;
                if index.exists() {
                    return shards(folder, &index);
                }
            }
        }
    }
    if let Some(other) = other_tensors(folder) {
        let detail = format!(
            "expected tensors as safetensors, found only {other}: fetch the repository's \
             .safetensors files, or save the model again with safe_serialization=True"
        );
        return Err(bad_checkpoint(folder.display().to_string(), detail));
    }
    let detail = format!(
        "expected {}.safetensors (or .fp16., or shards with an index), found none",
        STEMS.join(" or ")
    );
    Err(bad_checkpoint(folder.display().to_string(), detail))
}

/// The name of a file of tensors in another format, the first by name.
fn other_tensors(folder: &Path) -> Option<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| PathBuf::from(entry.file_name()));
    let is_other = |name: &PathBuf| {
        let ending = name.extension().unwrap_or_default();
        OTHERS.iter().any(|other| ending.eq_ignore_ascii_case(other))
    };
    names.filter(is_other).min().map(|name| name.display().to_string())
}

fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let damaged = |detail: String| bad_checkpoint(index.display().to_string(), detail);
    let Index { weight_map } = json::from_str(&text::read(index)?)
        .map_err(|error| damaged(format!("expected a weight_map, found: {error}")))?;
    let names: BTreeSet<_> = weight_map.into_values().collect();
    if names.is_empty() {
        return Err(damaged("expected at least one shard, found an empty weight_map".to_owned()));
    }
    let plain = |name: &str| {
        matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(_)])
    };
    match names.iter().find(|name| !plain(name)) {
        Some(name) => Err(damaged(format!("expected file names beside the index, found {name:?}"))),
        None => Ok(names.into_iter().map(|name| folder.join(name)).collect()),
    }
}
