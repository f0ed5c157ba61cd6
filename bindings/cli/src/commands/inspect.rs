//! `pocketmuse inspect`: what is in a checkpoint or in a package.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use pocketmuse_export::checkpoint::{Checkpoint, Network};
use pocketmuse_package::{Digest, Error, ErrorKind, MANIFEST, Manifest, Result, StageEntry};
use serde_json::{Value, json};

use crate::{
    args::InspectArgs,
    onnx,
    terminal::{self, mebibytes, thousands},
};

pub(crate) fn run(args: &InspectArgs) -> Result<u8> {
    let found = if args.path.join(MANIFEST).exists() {
        package(&args.path)?
    } else {
        checkpoint(&args.path)?
    };
    if args.json {
        terminal::print(found.json().to_string());
    } else {
        found.lines().iter().for_each(terminal::print);
    }
    Ok(0)
}

/// What was found.
struct Found {
    kind: &'static str,
    name: String,
    digest: Digest,
    /// What else there is to say, in this order.
    facts: Vec<(&'static str, Value)>,
    parts: Vec<Part>,
}

/// A network of a checkpoint, or a stage of a package.
struct Part {
    name: String,
    tensors: usize,
    /// Parameters by their type.
    parameters: BTreeMap<String, u64>,
    bytes: u64,
}

impl Found {
    fn json(&self) -> Value {
        let parts = self.parts.iter().map(|part| {
            let parameters = part.parameters.values().sum::<u64>();
            json!({
                "name": part.name, "tensors": part.tensors, "parameters": parameters, "dtypes": part.parameters,
                "bytes": part.bytes,
            })
        });
        let mut value = json!({ "kind": self.kind, "name": self.name, "digest": self.digest });
        value["networks"] = parts.collect();
        for (name, fact) in &self.facts {
            value[*name] = fact.clone();
        }
        value
    }

    fn lines(&self) -> Vec<String> {
        let mut lines =
            vec![format!("{} {}", self.kind, self.name), format!("digest {}", self.digest)];
        lines.extend(self.facts.iter().map(|(name, value)| format!("{name} {}", readable(value))));
        lines.push(format!(
            "{:<20}{:>8}{:>15}{:>13}  {}",
            "network", "tensors", "parameters", "size", "types"
        ));
        for part in &self.parts {
            let types: Vec<_> = part
                .parameters
                .iter()
                .map(|(dtype, count)| format!("{dtype} {}", thousands(*count)))
                .collect();
            let types = if part.parameters.len() == 1 {
                part.parameters.keys().cloned().collect()
            } else {
                types
            };
            lines.push(row(
                &part.name,
                part.tensors,
                part.parameters.values().sum(),
                part.bytes,
                &types.join(", "),
            ));
        }
        let sum = |of: fn(&Part) -> u64| self.parts.iter().map(of).sum();
        let tensors = self.parts.iter().map(|part| part.tensors).sum();
        lines.push(row(
            "in all",
            tensors,
            sum(|part| part.parameters.values().sum()),
            sum(|part| part.bytes),
            "",
        ));
        lines
    }
}

/// A fact without JSON's quotes and braces.
fn readable(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(readable).collect::<Vec<_>>().join(" "),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name} {}", readable(value)));
            fields.collect::<Vec<_>>().join(", ")
        }
        value => value.to_string(),
    }
}

fn row(name: &str, tensors: usize, parameters: u64, bytes: u64, types: &str) -> String {
    let line = format!(
        "{name:<20}{tensors:>8}{:>15}{:>13}  {types}",
        thousands(parameters),
        mebibytes(bytes)
    );
    line.trim_end().to_owned()
}

fn package(root: &Path) -> Result<Found> {
    let manifest = Manifest::read(root)?;
    let mut parts = Vec::new();
    for (flavour, entry) in &manifest.flavours {
        for (stage, entry) in &entry.stages {
            parts.push(stage_part(root, format!("{flavour}/{stage}"), entry)?);
        }
    }
    let model = &manifest.model;
    let pixels = model.sample_size * model.pixels_per_token;
    let facts = vec![
        ("format", json!(manifest.format)),
        ("exporter", json!(manifest.exporter)),
        (
            "picture",
            json!(format!("{pixels} x {pixels} pixels, {0} x {0} tokens", model.sample_size)),
        ),
        ("codebook_size", json!(model.codebook_size)),
        ("masking_schedule", json!(model.masking_schedule)),
        ("defaults", terminal::plain_json(&manifest.defaults)),
        ("flavours", json!(manifest.flavours.keys().collect::<Vec<_>>())),
        ("bytes", json!(manifest.files().map(|file| file.bytes).sum::<u64>())),
    ];
    Ok(Found { kind: "package", name: model.name.clone(), digest: manifest.digest(), facts, parts })
}

/// Constants count as parameters; folding has made some of them, so they are not the checkpoint's.
fn stage_part(root: &Path, name: String, entry: &StageEntry) -> Result<Part> {
    entry.graph.check(root)?;
    let path = entry.graph.locate(root);
    let graph = fs::read(&path).map_err(|error| Error::io(&path, error))?;
    let damaged = || {
        Error::new(
            ErrorKind::PackageDamaged,
            path.display().to_string(),
            "expected an ONNX graph, found none",
        )
    };
    let constants = onnx::constants(&graph).ok_or_else(damaged)?;
    let parameters =
        constants.by_type.into_iter().map(|(dtype, count)| (dtype.to_owned(), count)).collect();
    let bytes = entry.graph.bytes + entry.weights.as_ref().map_or(0, |file| file.bytes);
    Ok(Part { name, tensors: constants.tensors, parameters, bytes })
}

fn checkpoint(root: &Path) -> Result<Found> {
    let checkpoint = Checkpoint::open(root)?;
    let parts =
        Checkpoint::NETWORKS.iter().map(|name| Ok(network_part(name, &checkpoint.network(name)?)));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let (mut listing, mut weights) = (String::new(), serde_json::Map::new());
    for path in files(root)? {
        let (name, sha256) = (
            path.strip_prefix(root).unwrap_or(&path).display().to_string(),
            Digest::of_file(&path)?,
        );
        listing.push_str(&format!("{sha256}  {name}\n"));
        if path.extension().is_some_and(|ending| ending == "safetensors") {
            weights.insert(name, json!(sha256));
        }
    }
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let facts = vec![("sha256", json!(weights))];
    Ok(Found { kind: "checkpoint", name, digest: Digest::of(listing.as_bytes()), facts, parts })
}

fn network_part(name: &str, network: &Network) -> Part {
    let mut part =
        Part { name: name.to_owned(), tensors: 0, parameters: BTreeMap::new(), bytes: 0 };
    for (_, tensor) in network.tensors() {
        part.tensors += 1;
        part.bytes += tensor.bytes;
        *part.parameters.entry(tensor.dtype.to_lowercase()).or_default() +=
            tensor.shape.iter().product::<usize>() as u64;
    }
    part
}

/// The files that make up a checkpoint, in order: those of its networks, its tokenizer and its
/// configuration.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in ["", "scheduler", "text_encoder", "tokenizer", "transformer", "vqvae"] {
        let folder = root.join(folder);
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.map_err(|error| Error::io(&folder, error))?.path();
            let counts = |ending: &std::ffi::OsStr| {
                ["json", "txt", "safetensors"].iter().any(|known| ending == *known)
            };
            if path.is_file() && path.extension().is_some_and(counts) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
