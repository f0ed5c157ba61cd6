//! A network's tensors by name: checks each shape where it is asked for and remembers what nobody
//! asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    files_of_network,
    safetensors::{TensorFile, TensorInfo},
    weight::Weight,
};
use crate::error::{Result, bad_checkpoint};

/// The tensors of one network, from one file or several.
pub struct Network {
    folder: PathBuf,
    files: Vec<TensorFile>,
    tensors: BTreeMap<String, (usize, TensorInfo)>,
    used: Mutex<BTreeSet<String>>,
}

impl Network {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut tensors = BTreeMap::new();
        for path in files_of_network::find(folder)? {
            let (file, found) = TensorFile::open(&path)?;
            for (name, info) in found {
                if tensors.insert(name.clone(), (files.len(), info)).is_some() {
                    let detail = "expected each tensor once, found it in two shards";
                    return Err(bad_checkpoint(name, detail).within(path.display()));
                }
            }
            files.push(file);
        }
        Ok(Self { folder: folder.to_owned(), files, tensors, used: Mutex::default() })
    }

    /// The tensors of one file in memory, which messages call `path`.
    pub(super) fn in_memory(folder: &Path, path: &Path, bytes: &'static [u8]) -> Result<Self> {
        let (file, found) = TensorFile::in_memory(path, bytes)?;
        let tensors = found.into_iter().map(|(name, info)| (name, (0, info))).collect();
        Ok(Self { folder: folder.to_owned(), files: vec![file], tensors, used: Mutex::default() })
    }

    /// Every tensor, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|(name, (_, info))| (name.as_str(), info))
    }

    /// All of them, to be asked for by name.
    pub fn weights(self: &Arc<Self>) -> Weights {
        Weights { network: Arc::clone(self), prefix: String::new() }
    }

    /// Tensors that nobody asked for.
    pub fn unused(&self) -> Vec<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.tensors.keys().filter(|name| !used.contains(*name)).cloned().collect()
    }
}

/// The tensors below a prefix.
#[derive(Clone)]
pub struct Weights {
    network: Arc<Network>,
    prefix: String,
}

impl Weights {
    /// The tensors below `name`: `weights.scope("mid_block").scope(0)`.
    pub fn scope(&self, name: impl std::fmt::Display) -> Self {
        Self { network: Arc::clone(&self.network), prefix: format!("{}{name}.", self.prefix) }
    }

    /// The tensor `name`, which must have `shape`. Its values are read later.
    ///
    /// # Errors
    ///
    /// If it is missing, of another shape or not of floats.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Weight> {
        let name = format!("{}{name}", self.prefix);
        let at = || format!("{}: {name}", self.network.folder.display());
        let Some((file, info)) = self.network.tensors.get(&name) else {
            return Err(bad_checkpoint(at(), format!("expected a tensor {shape:?}, found none")));
        };
        if info.shape != shape {
            return Err(bad_checkpoint(
                at(),
                format!("expected {shape:?}, found {} {:?}", info.dtype, info.shape),
            ));
        }
        if !matches!(info.dtype.as_str(), "F32" | "F16" | "BF16") {
            return Err(bad_checkpoint(
                at(),
                format!("expected f32, f16 or bf16, found {}", info.dtype),
            ));
        }
        self.network.used.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        let (network, file, info) = (Arc::clone(&self.network), *file, info.clone());
        Ok(Weight::new(shape, move || network.files[file].read(&name, &info)))
    }
}
