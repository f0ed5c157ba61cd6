//! A manifest is parsed once, validated once, then trusted.

use std::{
    collections::BTreeSet,
    fmt, iter,
    path::{Component, Path},
};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};

use super::{
    ContextEntry, Defaults, FORMAT_VERSION, FileEntry, MANIFEST, MAX_KNOWN_WORD, MAX_KNOWN_WORDS,
    Manifest, Model, Stage, StageEntry, Tokenizer,
};
use crate::{Error, ErrorKind, Result, files};

/// A manifest larger than this is not one; it is refused before it is parsed.
pub(crate) const MAX_BYTES: u64 = 16 << 20;

/// The longest name in a context.
const MAX_NAME: usize = 64;

/// The most bytes of a context's rows.
const MAX_ROWS: u64 = 100_000;

/// A file that checkpoints have and packages do not.
const CHECKPOINT: &str = "model_index.json";

impl Manifest {
    /// Reads and validates the manifest of the package at `root`.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotAllowed` or `Io` if it cannot be read; otherwise as for [`Self::parse`];
    /// `BadRequest` if `root` is something else, which the error names: a checkpoint, an archive, a
    /// part of a hub's cache.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join(MANIFEST);
        if !path.exists()
            && let Some(error) = no_package(root, &path)
        {
            return Err(error);
        }
        let text = files::read_bounded(&path, MAX_BYTES, ErrorKind::PackageDamaged)?;
        if files::is_pointer(&text) {
            let detail = "expected the file itself, found a pointer of Git LFS: run git lfs pull \
                          in the repository";
            return Err(damaged(path.display().to_string(), detail));
        }
        Self::parse(&text).map_err(|error| error.within(path.display()))
    }

    /// Parses and validates a manifest.
    ///
    /// # Errors
    ///
    /// `PackageTooNew` if it is of a newer format; `PackageDamaged` if it is not a manifest or
    /// contradicts itself.
    pub fn parse(text: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let json =
            |error: serde_json::Error| damaged("", format!("expected a manifest, found: {error}"));
        let UniqueKeys = serde_json::from_slice(text).map_err(json)?;
        let Versioned { format } = serde_json::from_slice(text).map_err(json)?;
        if !(1..=FORMAT_VERSION).contains(&format) {
            let detail = format!("expected 1 to {FORMAT_VERSION}, found {format}");
            if format == 0 {
                return Err(damaged("format", detail));
            }
            let detail = format!("{detail}: written by a newer PocketMuse, update this one");
            return Err(Error::new(ErrorKind::PackageTooNew, "format", detail));
        }
        let manifest: Self = serde_json::from_slice(text).map_err(json)?;
        manifest.validate()?;
        Ok(manifest)
    }

    fn validate(&self) -> Result<()> {
        self.model.validate().map_err(|error| error.within("model"))?;
        self.tokenizer.validate().map_err(|error| error.within("tokenizer"))?;
        self.defaults.validate().map_err(|error| error.within("defaults"))?;
        check_words(&self.knows)?;
        if self.flavours.is_empty() {
            return Err(damaged("flavours", "expected at least one, found none"));
        }
        for (flavour, entry) in &self.flavours {
            for stage in [Stage::TextEncoder, Stage::Prologue, Stage::Step, Stage::Decoder] {
                if !entry.stages.contains_key(&stage) {
                    return Err(damaged(
                        format!("flavours.{flavour}"),
                        format!("expected a stage {stage}, found none"),
                    ));
                }
            }
        }
        self.check_format()?;
        for (flavour, entry) in &self.flavours {
            for (stage, entry) in &entry.stages {
                if let Some(held) = entry.held {
                    in_range("linear_bits", held.linear_bits.into(), 1, 32)
                        .map_err(|error| error.within(format!("flavours.{flavour}.{stage}")))?;
                }
                check_contexts(entry)
                    .map_err(|error| error.within(format!("flavours.{flavour}.{stage}")))?;
            }
        }
        self.files().try_for_each(check_path)
    }
}

/// Contexts have names that people are shown and few rows, and stand for a graph that is not there.
fn check_contexts(entry: &StageEntry) -> Result<()> {
    if entry.without_graph && entry.contexts.is_empty() {
        return Err(damaged("contexts", "expected one in place of the graph, found none"));
    }
    iter::once(&entry.graph).chain(&entry.weights).try_for_each(check_path)?;
    for context in &entry.contexts {
        let ContextEntry { provider, target, architecture, sdk, extents, rows, .. } = context;
        let names = [provider, target, architecture, sdk].into_iter().chain(extents.keys());
        let is_plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        for name in names {
            if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(is_plain) {
                let detail = format!("expected names of 1 to {MAX_NAME} letters, found {name:?}");
                return Err(damaged("contexts", detail));
            }
        }
        if rows.bytes > MAX_ROWS {
            let detail = format!("expected at most {MAX_ROWS} bytes, found {}", rows.bytes);
            return Err(damaged(rows.path.as_str(), detail));
        }
    }
    Ok(())
}

/// Words are shown to people: few and short.
fn check_words(knows: &[String]) -> Result<()> {
    in_range("knows", knows.len() as u32, 0, MAX_KNOWN_WORDS)?;
    let most = MAX_KNOWN_WORD;
    match knows.iter().find(|word| word.is_empty() || word.len() > most) {
        None => Ok(()),
        Some(word) => {
            let found = word.len();
            Err(damaged("knows", format!("expected words of 1 to {most} bytes, found {found}")))
        }
    }
}

/// What people hand in instead of a package: what it is, and what to do.
fn no_package(root: &Path, manifest: &Path) -> Option<Error> {
    for path in [root, manifest] {
        if let Some(target) = files::broken_link(path) {
            let target = target.display();
            let detail = format!(
                "expected a package, found a link to {target}, which is not there: fetch the \
                 package again"
            );
            return Some(damaged(path.display().to_string(), detail));
        }
    }
    let found = if root.join(CHECKPOINT).is_file() {
        "a checkpoint: make a package of it with export".to_owned()
    } else if root.is_file() {
        "a file: make a folder of a package's archive with package".to_owned()
    } else {
        let snapshot = files::snapshot_of(root)?;
        format!("a folder of a hub's cache: give {}", snapshot.display())
    };
    let detail = format!("expected a package, found {found}");
    Some(Error::new(ErrorKind::BadRequest, root.display().to_string(), detail))
}

/// JSON in which no object has a key twice: two readers could see different values.
struct UniqueKeys;

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if keys.contains(&key) {
                return Err(de::Error::custom(format!("the key {key:?} twice")));
            }
            keys.insert(key);
            entries.next_value::<Self>()?;
        }
        Ok(self)
    }
}

impl Model {
    fn validate(&self) -> Result<()> {
        let ordered = 0 < self.codebook_size
            && self.codebook_size <= self.mask_token_id
            && self.mask_token_id < self.vocab_size;
        if !ordered {
            let detail = format!(
                "expected 0 < codebook_size <= mask_token_id < vocab_size, found {}, {}, {}",
                self.codebook_size, self.mask_token_id, self.vocab_size
            );
            return Err(damaged("mask_token_id", detail));
        }
        in_range("sample_size", self.sample_size, 1, 4096)?;
        in_range("pixels_per_token", self.pixels_per_token, 1, 1024)?;
        in_range("grid_multiple", self.grid_multiple, 1, 64)?;
        if !self.sample_size.is_multiple_of(self.grid_multiple) {
            let detail = format!(
                "expected a multiple of {}, found {}",
                self.grid_multiple, self.sample_size
            );
            return Err(damaged("sample_size", detail));
        }
        Ok(())
    }
}

impl Tokenizer {
    fn validate(&self) -> Result<()> {
        in_range("max_tokens", self.max_tokens, 2, 1 << 16)
    }
}

impl Defaults {
    fn validate(&self) -> Result<()> {
        in_range("num_inference_steps", self.num_inference_steps, 1, 10_000)?;
        let numbers = [
            ("guidance_scale", self.guidance_scale),
            ("temperature", self.temperature[0]),
            ("temperature", self.temperature[1]),
        ];
        match numbers.into_iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)) {
            Some((name, value)) => {
                Err(damaged(name, format!("expected a finite number of at least 0, found {value}")))
            }
            None => Ok(()),
        }
    }
}

fn in_range(name: &str, value: u32, low: u32, high: u32) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(damaged(name, format!("expected {low} to {high}, found {value}")))
}

/// A package comes from elsewhere: its paths must not lead out of it.
fn check_path(entry: &FileEntry) -> Result<()> {
    let parts = Path::new(&entry.path).components();
    let inside = !entry.path.is_empty()
        && !entry.path.contains(['\\', '\0', ':'])
        && parts.into_iter().all(|part| matches!(part, Component::Normal(_)));
    if inside {
        Ok(())
    } else {
        Err(damaged(format!("{:?}", entry.path), "expected a path inside the package"))
    }
}

fn damaged(at: impl Into<String>, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::PackageDamaged, at, detail)
}

#[cfg(test)]
mod tests;
