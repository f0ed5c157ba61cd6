//! A manifest is parsed once, validated once, then trusted.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Component, Path},
};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};

use super::{
    Defaults, FORMAT_VERSION, FileEntry, MANIFEST, MAX_KNOWN_WORD, MAX_KNOWN_WORDS, Manifest,
    Model, Stage, Tokenizer,
};
use crate::{Error, ErrorKind, Result, files};

/// A manifest larger than this is not one; it is refused before it is parsed.
pub(crate) const MAX_BYTES: u64 = 16 << 20;

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
            }
        }
        self.files().try_for_each(check_path)
    }
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
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Digest, Flavour, FlavourEntry, Held, MaskingSchedule, StageEntry};

    fn manifest() -> Manifest {
        let file =
            |path: &str| FileEntry { path: path.to_owned(), bytes: 3, sha256: Digest::of(b"abc") };
        let stage = |stage: Stage| {
            let graph = file(&format!("f32/{stage}.onnx"));
            (
                stage,
                StageEntry {
                    graph,
                    weights: None,
                    held: None,
                    inputs: vec![],
                    outputs: vec![],
                    taps: BTreeMap::new(),
                },
            )
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
                file: file("tokenizer.json"),
                bos: 1,
                eos: 2,
                pad: 2,
                max_tokens: 77,
            },
            defaults: Defaults::default(),
            knows: Vec::new(),
            preview: Some(file("preview.rgb")),
            flavours: [(
                Flavour::F32,
                FlavourEntry { stages: Stage::ALL.into_iter().map(stage).collect() },
            )]
            .into(),
        }
    }

    #[test]
    fn survives_writing_and_reading() {
        assert_eq!(Manifest::parse(manifest().to_json().as_bytes()).expect("valid"), manifest());
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        type Change = fn(&mut Manifest);
        let cases: [(&str, Change); 10] = [
            ("format: expected 1 to 2, found 3: written by a newer PocketMuse", |m| m.format = 3),
            ("format: expected 1 to 2, found 0", |m| m.format = 0),
            ("format: expected 2 with the flavour f16, found 1", |m| {
                let f32 = m.flavours[&Flavour::F32].clone();
                m.flavours.insert(Flavour::F16, f32);
                m.format = 1;
            }),
            ("model: mask_token_id: expected 0 < codebook_size", |m| m.model.mask_token_id = 64),
            ("model: sample_size: expected a multiple of 2, found 5", |m| m.model.sample_size = 5),
            ("knows: expected words of 1 to 64 bytes, found 65", |m| {
                m.knows = vec!["a".repeat(65)]
            }),
            ("knows: expected 0 to 1000, found 1001", |m| m.knows = vec!["a".to_owned(); 1001]),
            ("defaults: num_inference_steps: expected 1 to 10000, found 0", |m| {
                m.defaults.num_inference_steps = 0
            }),
            ("\"../x\": expected a path inside the package", |m| {
                m.tokenizer.file.path = "../x".to_owned()
            }),
            ("flavours: expected at least one", |m| m.flavours.clear()),
        ];
        for (expected, change) in cases {
            let mut manifest = manifest();
            change(&mut manifest);
            let error = Manifest::parse(manifest.to_json().as_bytes()).expect_err(expected);
            assert!(error.to_string().starts_with(expected), "expected {expected}, found {error}");
            let is_newer = expected.contains("newer");
            let kind = if is_newer { ErrorKind::PackageTooNew } else { ErrorKind::PackageDamaged };
            assert_eq!(error.kind(), kind);
        }
    }

    #[test]
    fn a_key_stands_once_wherever_it_is() {
        let text = manifest().to_json();
        for (key, place) in
            [("format", "\"format\": 2,"), ("name", "\"name\": \"tiny\","), ("step", "\"step\": {")]
        {
            let twice = match place.strip_suffix('{') {
                Some(start) => text.replacen(place, &format!("{start}null, {place}"), 1),
                None => text.replacen(place, &format!("{place} {place}"), 1),
            };
            assert_ne!(twice, text);
            let error = Manifest::parse(twice.as_bytes()).expect_err("twice").to_string();
            assert!(error.contains(&format!("the key \"{key}\" twice")), "{error}");
        }
    }

    #[test]
    fn a_manifest_without_held_is_read_and_kept_as_it_is() {
        let text = manifest().to_json();
        assert!(!text.contains("held"));
        let mut manifest = Manifest::parse(text.as_bytes()).expect("valid");
        assert_eq!(manifest.to_json(), text, "and so is its digest");
        let entry = |manifest: &mut Manifest, held| {
            let stages = &mut manifest.flavours.get_mut(&Flavour::F32).expect("there").stages;
            let entry = stages.get_mut(&Stage::Step).expect("there");
            entry.held = held;
            entry.held(Flavour::F32, Stage::Step).linear_bits
        };
        assert_eq!(entry(&mut manifest, None), 32);
        assert_eq!(entry(&mut manifest, Some(Held { linear_bits: 4, ..Held::FLOATS })), 4);
        let text = manifest.to_json();
        assert_eq!(Manifest::parse(text.as_bytes()).expect("valid"), manifest);
        entry(&mut manifest, Some(Held { linear_bits: 0, ..Held::FLOATS }));
        let error =
            Manifest::parse(manifest.to_json().as_bytes()).expect_err("no bits").to_string();
        assert_eq!(error, "flavours.f32.step: linear_bits: expected 1 to 32, found 0");
    }

    #[test]
    fn what_is_no_package_is_named() {
        let root = tempfile::tempdir().expect("a folder");
        let at = |name: &str| root.path().join(name);
        let repository = at("hub/models--made-up--tiny");
        for snapshot in ["0123", "4567"] {
            std::fs::create_dir_all(repository.join("snapshots").join(snapshot)).expect("made");
        }
        std::fs::create_dir(repository.join("refs")).expect("made");
        std::fs::write(repository.join("refs/main"), "4567\n").expect("written");
        std::fs::write(at("archive.pocketmuse"), "").expect("written");
        std::fs::create_dir(at("empty")).expect("made");
        std::fs::create_dir(at("pointer")).expect("made");
        let pointer = "version https://git-lfs.github.com/spec/v1\n";
        std::fs::write(at("pointer/manifest.json"), pointer).expect("written");
        let snapshot = repository.join("snapshots/4567").display().to_string();
        let cases = [
            ("archive.pocketmuse", "found a file: make a folder of a package's archive"),
            ("hub/models--made-up--tiny", &snapshot),
            ("hub", &snapshot),
            ("", &snapshot),
            ("pointer", "found a pointer of Git LFS: run git lfs pull in the repository"),
            ("empty", "manifest.json: "),
            ("gone", "manifest.json: "),
        ];
        for (name, expected) in cases {
            let error = Manifest::read(&at(name)).expect_err(name).to_string();
            assert!(error.contains(expected), "{name}: expected {expected:?}, found {error}");
        }
        #[cfg(unix)]
        for name in ["link", "empty/manifest.json"] {
            std::os::unix::fs::symlink("gone", at(name)).expect("linked");
            let root = at(name.split('/').next().expect("a name"));
            let error = Manifest::read(&root).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::PackageDamaged);
            assert!(error.to_string().contains("found a link to gone, which is not"), "{error}");
        }
    }

    #[test]
    fn a_checkpoint_is_no_package() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("model_index.json"), "{}").expect("written");
        let error = Manifest::read(folder.path()).expect_err("a checkpoint").to_string();
        assert!(error.ends_with("found a checkpoint: make a package of it with export"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            assert!(Manifest::parse(&text).is_err());
        }

        #[test]
        fn never_panics_on_a_changed_byte(at in 0usize..2000, byte: u8) {
            let mut text = manifest().to_json().into_bytes();
            let at = at % text.len();
            text[at] = byte;
            let _ = Manifest::parse(&text);
        }
    }
}
