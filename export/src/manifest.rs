//! What the manifest says of a model before its graphs are written.

use std::collections::BTreeMap;

use pocketmuse_package::{
    self as package, FileEntry, MAX_KNOWN_WORD, MAX_KNOWN_WORDS, Manifest, Model,
};
use serde_json::Value;

use crate::{
    Result,
    checkpoint::{self, Checkpoint},
    models::config::Configs,
    tokenizer::Tokenizer,
};

/// A manifest without flavours and previews, of the oldest format. `file` is the tokenizer's,
/// `name` the model's if it is not to be called after the checkpoint.
///
/// # Errors
///
/// If `model_index.json` is there and cannot be read.
pub(crate) fn begin(
    checkpoint: &Checkpoint,
    configs: &Configs,
    (tokenizer, file): (&Tokenizer, FileEntry),
    name: Option<&str>,
) -> Result<Manifest> {
    let &Tokenizer { bos, eos, pad, .. } = tokenizer;
    let max_tokens = configs.text.max_position_embeddings as u32;
    Ok(Manifest {
        format: 1,
        exporter: format!("pocketmuse {}", env!("CARGO_PKG_VERSION")),
        model: model(name.unwrap_or(&name_of(checkpoint)), configs),
        tokenizer: package::Tokenizer { file, bos, eos, pad, max_tokens },
        defaults: configs.defaults.clone(),
        knows: knows(checkpoint)?,
        preview: None,
        flavours: BTreeMap::new(),
    })
}

/// What the checkpoint says that people may ask for: `knows` in its `model_index.json`, a list of
/// words. Anything else there is no list.
fn knows(checkpoint: &Checkpoint) -> Result<Vec<String>> {
    let index: Option<Value> = checkpoint.optional_json("model_index.json")?;
    let words = index.as_ref().and_then(|index| index["knows"].as_array());
    let words = words.into_iter().flatten().filter_map(Value::as_str).map(str::trim);
    let short = words.filter(|word| (1..=MAX_KNOWN_WORD).contains(&word.len()));
    Ok(short.take(MAX_KNOWN_WORDS as usize).map(str::to_owned).collect())
}

fn model(name: &str, configs: &Configs) -> Model {
    let Configs { vit, vq, scheduler, .. } = configs;
    Model {
        name: name.to_owned(),
        vocab_size: vit.vocab_size as u32,
        codebook_size: vit.codebook_size as u32,
        mask_token_id: scheduler.mask_token_id,
        masking_schedule: scheduler.masking_schedule,
        sample_size: vit.sample_size as u32,
        pixels_per_token: vq.pixels_per_token() as u32,
        grid_multiple: vit.grid_multiple() as u32,
    }
}

/// The checkpoint's folder, which is how people call a model; of a snapshot in the hub's cache, the
/// repository.
fn name_of(checkpoint: &Checkpoint) -> String {
    let root = checkpoint.root().canonicalize().unwrap_or_else(|_| checkpoint.root().to_owned());
    if let Some(repository) = checkpoint::repository_of(&root) {
        return repository.to_owned();
    }
    root.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}
