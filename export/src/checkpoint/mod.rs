//! A checkpoint in the hub layout: one folder per network, each with a config and tensors, on disk
//! or in memory. Knows no model.

mod files_of_network;
mod found;
mod json;
mod safetensors;
mod text;
mod weight;
mod weights;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use pocketmuse_package::files;
use serde::de::DeserializeOwned;

pub(crate) use self::{found::repository_of, json::from_str as from_json};
pub use self::{
    safetensors::TensorInfo,
    weight::Weight,
    weights::{Network, Weights},
};
use crate::error::{Error, ErrorKind, Result, bad_checkpoint};

/// Files of a checkpoint that a program has inside: paths in its folder, and contents.
pub type Contents = [(&'static str, &'static [u8])];

/// A checkpoint: its folder, or its files in memory.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    root: PathBuf,
    /// All files, if they are in memory: then `root` is a name.
    contents: Option<&'static Contents>,
}

impl Checkpoint {
    /// The networks' folders, in the order of the data.
    pub const NETWORKS: [&str; 3] = ["text_encoder", "transformer", "vqvae"];

    /// Opens the checkpoint at `root`, a folder with `text_encoder`, `transformer`, `vqvae` and
    /// `tokenizer`.
    ///
    /// # Errors
    ///
    /// `Io` if the folder is not there, `BadCheckpoint` if it is another kind of folder.
    pub fn open(root: &Path) -> Result<Self> {
        found::no_broken_link(root)?;
        let metadata = fs::metadata(root).map_err(|error| Error::io(root, error))?;
        let missing =
            Self::NETWORKS.iter().chain(&["tokenizer"]).find(|name| !root.join(name).is_dir());
        match missing {
            _ if !metadata.is_dir() => {
                Err(bad_checkpoint(root.display().to_string(), "expected a folder, found a file"))
            }
            Some(name) => {
                found::no_broken_link(&root.join(name))?;
                found::no_other_folder(root)?;
                let detail = format!(
                    "expected a checkpoint in the hub layout \
                     (folders text_encoder, tokenizer, transformer, vqvae), found no {name}"
                );
                Err(bad_checkpoint(root.display().to_string(), detail))
            }
            None => Ok(Self { root: root.to_owned(), contents: None }),
        }
    }

    /// A checkpoint whose files are `contents`, so that an export writes none of them. Each network
    /// has one file of tensors. Messages call its folder `name`.
    pub fn in_memory(name: &str, contents: &'static Contents) -> Self {
        Self { root: PathBuf::from(name), contents: Some(contents) }
    }

    /// The folder; of a checkpoint in memory, what it is called.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens a network's tensors: reads their names, types and shapes, not their values.
    ///
    /// # Errors
    ///
    /// If there is no tensor file, or one is damaged.
    pub fn network(&self, name: &str) -> Result<Network> {
        let folder = self.root.join(name);
        let Some(contents) = self.contents else { return Network::open(&folder) };
        let is_own = |path: &str| {
            Path::new(path).parent() == Some(name.as_ref()) && path.ends_with(".safetensors")
        };
        match contents.iter().find(|(path, _)| is_own(path)) {
            Some((path, bytes)) => Network::in_memory(&folder, &self.root.join(path), bytes),
            None => Err(bad_checkpoint(
                folder.display().to_string(),
                "expected a file of tensors (.safetensors), found none",
            )),
        }
    }

    /// Parses a JSON file, given relative to the checkpoint.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is not JSON, or lacks a key: the message names it.
    pub fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let text = self.text(path)?;
        from_json(&text).map_err(|error| self.unexpected(path, &error))
    }

    /// Like [`Self::json`] for a file that need not be there.
    ///
    /// # Errors
    ///
    /// If it is there and cannot be read.
    pub fn optional_json<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        match self.optional_text(path)? {
            Some(text) => from_json(&text).map(Some).map_err(|error| self.unexpected(path, &error)),
            None => Ok(None),
        }
    }

    /// The text of a file, given relative to the checkpoint.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is absurdly large or is not UTF-8.
    pub fn text(&self, path: &str) -> Result<String> {
        let file = self.root.join(path);
        if self.contents.is_some() {
            let bytes = self.content(path).ok_or_else(|| {
                let missing = io::Error::from(io::ErrorKind::NotFound);
                Error::io(&file, missing)
            })?;
            return text::of(&file, bytes);
        }
        found::no_broken_link(&file)?;
        text::read(&file)
    }

    /// Like [`Self::text`] for a file that need not be there.
    ///
    /// # Errors
    ///
    /// If it is there and cannot be read.
    pub fn optional_text(&self, path: &str) -> Result<Option<String>> {
        if self.has(path) { self.text(path).map(Some) } else { Ok(None) }
    }

    /// The bytes of a small file, if it is there.
    ///
    /// # Errors
    ///
    /// If it cannot be read or does not have `expected` bytes.
    pub fn optional_bytes(&self, path: &str, expected: usize) -> Result<Option<Vec<u8>>> {
        let file = self.root.join(path);
        if !self.has(path) {
            return Ok(None);
        }
        let bytes = match self.content(path) {
            Some(bytes) => bytes.to_vec(),
            None => {
                found::no_broken_link(&file)?;
                files::read_bounded(&file, expected as u64, ErrorKind::BadCheckpoint)?
            }
        };
        found::no_pointer(&file, &bytes)?;
        if bytes.len() != expected {
            let detail = format!("expected a file of {expected} bytes, found {}", bytes.len());
            return Err(bad_checkpoint(file.display().to_string(), detail));
        }
        Ok(Some(bytes))
    }

    /// Whether there is a file, or a link that may lead to none.
    fn has(&self, path: &str) -> bool {
        match self.contents {
            Some(_) => self.content(path).is_some(),
            None => fs::symlink_metadata(self.root.join(path)).is_ok(),
        }
    }

    /// The contents of a file in memory.
    fn content(&self, path: &str) -> Option<&'static [u8]> {
        let (_, bytes) = self.contents?.iter().find(|(known, _)| *known == path)?;
        Some(bytes)
    }

    fn unexpected(&self, path: &str, error: &serde_json::Error) -> Error {
        let at = self.root.join(path).display().to_string();
        bad_checkpoint(at, format!("expected a config of this kind of network, found: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_memory_is_named() {
        let checkpoint = Checkpoint::in_memory("inside", &[("vqvae/config.json", b"\xff")]);
        let found = |error: Option<Error>| error.expect("an error").to_string();
        assert_eq!(
            found(checkpoint.network("vqvae").err()),
            "inside/vqvae: expected a file of tensors (.safetensors), found none"
        );
        let error = found(checkpoint.text("tokenizer/vocab.json").err());
        assert!(error.starts_with("inside/tokenizer/vocab.json: "), "{error}");
        let error = found(checkpoint.text("vqvae/config.json").err());
        assert!(error.starts_with("inside/vqvae/config.json: expected UTF-8"), "{error}");
        let optional = checkpoint.optional_text("model_index.json").expect("nothing to read");
        assert_eq!(optional, None);
    }
}
