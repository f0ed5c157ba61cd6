//! A checkpoint in the hub layout: one folder per network, each with a config and tensors. Knows no
//! model.

mod files_of_network;
mod found;
mod json;
mod safetensors;
mod text;
mod weight;
mod weights;

use std::{
    fs,
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

/// The folder of a checkpoint.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    root: PathBuf,
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
            None => Ok(Self { root: root.to_owned() }),
        }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Opens a network's tensors: reads their names, types and shapes, not their values.
    ///
    /// # Errors
    ///
    /// If there is no tensor file, or one is damaged.
    pub fn network(&self, name: &str) -> Result<Network> {
        Network::open(&self.root.join(name))
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
        found::no_broken_link(&file)?;
        text::read(&file)
    }

    /// Like [`Self::text`] for a file that need not be there.
    ///
    /// # Errors
    ///
    /// If it is there and cannot be read.
    pub fn optional_text(&self, path: &str) -> Result<Option<String>> {
        if fs::symlink_metadata(self.root.join(path)).is_err() {
            return Ok(None);
        }
        self.text(path).map(Some)
    }

    /// The bytes of a small file, if it is there.
    ///
    /// # Errors
    ///
    /// If it cannot be read or does not have `expected` bytes.
    pub fn optional_bytes(&self, path: &str, expected: usize) -> Result<Option<Vec<u8>>> {
        let file = self.root.join(path);
        if fs::symlink_metadata(&file).is_err() {
            return Ok(None);
        }
        found::no_broken_link(&file)?;
        let bytes = files::read_bounded(&file, expected as u64, ErrorKind::BadCheckpoint)?;
        found::no_pointer(&file, &bytes)?;
        if bytes.len() != expected {
            let detail = format!("expected a file of {expected} bytes, found {}", bytes.len());
            return Err(bad_checkpoint(file.display().to_string(), detail));
        }
        Ok(Some(bytes))
    }

    fn unexpected(&self, path: &str, error: &serde_json::Error) -> Error {
        let at = self.root.join(path).display().to_string();
        bad_checkpoint(at, format!("expected a config of this kind of network, found: {error}"))
    }
}
