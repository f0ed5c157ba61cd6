//! `pocketmuse inspect`: what is in a checkpoint or in a package.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use pocketmuse::pixels::{self, Format, PARAMETERS};
use pocketmuse_export::checkpoint::{Checkpoint, Network};
use pocketmuse_package::{
    ContextEntry, Digest, Error, ErrorKind, MANIFEST, Manifest, Result, StageEntry,
};
use serde_json::Value;

use crate::{
    args::InspectArgs,
    events, image_file, onnx,
    results::{Inspected, InspectedImage, InspectedKind, InspectedNetwork},
    terminal::{self, megabytes, thousands},
};

pub(crate) fn run(args: &InspectArgs) -> Result<u8> {
    if Format::of(&args.path).is_ok() && args.path.is_file() {
        image(args)?;
        return Ok(0);
    }
    let found = if args.path.join(MANIFEST).exists() {
        package(&args.path)?
    } else {
        checkpoint(&args.path)?
    };
    if args.json {
        terminal::print(events::line(&events::plain_json(&found)))?;
    } else {
        lines(&found).iter().try_for_each(terminal::print)?;
    }
    Ok(0)
}

/// Shows the request of an image, and what made it; of another program's image, what that says.
fn image(args: &InspectArgs) -> Result<()> {
    let parameters = pixels::read_note(&args.path, PARAMETERS)?;
    let ours = match image_file::read(&args.path) {
        Ok(ours) => Some(ours),
        Err(_) if parameters.is_some() => None,
        Err(error) => return Err(error),
    };
    let told = InspectedImage {
        kind: "image",
        request: ours.as_ref().map(|(request, _)| request),
        made_by: ours.as_ref().and_then(|(_, made_by)| made_by.as_ref()),
        parameters: parameters.as_deref(),
    };
    let told = events::plain_json(&told);
    if args.json {
        return terminal::print(events::line(&told));
    }
    if let (None, Some(parameters)) = (ours, parameters) {
        return terminal::print_lines(&parameters);
    }
    for part in ["request", "made_by"] {
        for (name, value) in told[part].as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            terminal::print(format!("{name} {value}"))?;
        }
    }
    Ok(())
}

/// What people read: facts, then a line for each network.
fn lines(found: &Inspected) -> Vec<String> {
    let (kind, facts) = facts(&found.kind);
    let mut lines = vec![format!("{kind} {}", found.name), format!("digest {}", found.digest)];
    lines.extend(facts);
    lines.push(format!(
        "{:<20}{:>8}{:>15}{:>13}  {}",
        "network", "tensors", "parameters", "size", "types"
    ));
    lines.extend(found.networks.iter().map(|network| row(network, &types(network))));
    let networks = found.networks.iter();
    let all = InspectedNetwork {
        name: "in all".to_owned(),
        tensors: networks.clone().map(|network| network.tensors).sum(),
        parameters: networks.clone().map(|network| network.parameters).sum(),
        dtypes: BTreeMap::new(),
        bytes: networks.map(|network| network.bytes).sum(),
    };
    lines.push(row(&all, ""));
    lines
}

/// What is said of a package or of a checkpoint alone, a line each.
fn facts(kind: &InspectedKind) -> (&'static str, Vec<String>) {
    match kind {
        InspectedKind::Package {
            format,
            exporter,
            picture,
            codebook_size,
            masking_schedule,
            defaults,
            flavours,
            bytes,
        } => {
            let flavours: Vec<_> = flavours.iter().map(|flavour| flavour.name()).collect();
            let lines = vec![
                format!("format {format}"),
                format!("exporter {exporter}"),
                format!("image {picture}"),
                format!("codebook_size {codebook_size}"),
                format!("masking_schedule {}", masking_schedule.name()),
                format!("defaults {}", readable(&events::plain_json(defaults))),
                format!("flavours {}", flavours.join(" ")),
                format!("bytes {bytes}"),
            ];
            ("package", lines)
        }
        InspectedKind::Checkpoint { sha256 } => {
            ("checkpoint", vec![format!("sha256 {}", readable(&events::plain_json(sha256)))])
        }
    }
}

/// A value without JSON's quotes and braces.
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

/// The types of a network's parameters, counted if there are several.
fn types(network: &InspectedNetwork) -> String {
    let counted =
        network.dtypes.iter().map(|(dtype, count)| format!("{dtype} {}", thousands(*count)));
    if network.dtypes.len() == 1 {
        return network.dtypes.keys().cloned().collect();
    }
    counted.collect::<Vec<_>>().join(", ")
}

fn row(network: &InspectedNetwork, types: &str) -> String {
    let InspectedNetwork { name, tensors, parameters, bytes, .. } = network;
    let (parameters, size) = (thousands(*parameters), megabytes(*bytes));
    let line = format!("{name:<20}{tensors:>8}{parameters:>15}{size:>13}  {types}");
    line.trim_end().to_owned()
}

fn package(root: &Path) -> Result<Inspected> {
    let manifest = Manifest::read(root)?;
    let mut networks = Vec::new();
    for (flavour, entry) in &manifest.flavours {
        for (stage, entry) in &entry.stages {
            networks.push(stage_part(root, format!("{flavour}/{stage}"), entry)?);
        }
    }
    let model = &manifest.model;
    let pixels = model.sample_size * model.pixels_per_token;
    let kind = InspectedKind::Package {
        format: manifest.format,
        exporter: manifest.exporter.clone(),
        picture: format!("{pixels} x {pixels} pixels, {0} x {0} tokens", model.sample_size),
        codebook_size: model.codebook_size,
        masking_schedule: model.masking_schedule,
        defaults: manifest.defaults.clone(),
        flavours: manifest.flavours.keys().copied().collect(),
        bytes: manifest.files().map(|file| file.bytes).sum(),
    };
    Ok(Inspected { name: model.name.clone(), digest: manifest.digest(), networks, kind })
}

/// Constants count as parameters; folding has made some of them, so they are not the checkpoint's.
fn stage_part(root: &Path, name: String, entry: &StageEntry) -> Result<InspectedNetwork> {
    if entry.without_graph {
        let binaries = entry.contexts.iter().map(|ContextEntry { binary, .. }| binary);
        let once: BTreeMap<_, _> = binaries.map(|file| (&file.path, file.bytes)).collect();
        let bytes = once.into_values().sum();
        let (tensors, parameters, dtypes) = Default::default(); // they are in the contexts
        return Ok(InspectedNetwork { name, tensors, parameters, dtypes, bytes });
    }
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
    let dtypes: BTreeMap<_, _> =
        constants.by_type.into_iter().map(|(dtype, count)| (dtype.to_owned(), count)).collect();
    Ok(InspectedNetwork {
        name,
        tensors: constants.tensors,
        parameters: dtypes.values().sum(),
        dtypes,
        bytes: entry.graph.bytes + entry.weights.as_ref().map_or(0, |file| file.bytes),
    })
}

fn checkpoint(root: &Path) -> Result<Inspected> {
    let checkpoint = Checkpoint::open(root)?;
    let networks =
        Checkpoint::NETWORKS.iter().map(|name| Ok(network_part(name, &checkpoint.network(name)?)));
    let networks = networks.collect::<Result<Vec<_>>>()?;
    let (mut listing, mut weights) = (String::new(), BTreeMap::new());
    for path in files(root)? {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let sha256 = Digest::of_file(&path)?;
        listing.push_str(&format!("{sha256}  {name}\n"));
        if path.extension().is_some_and(|ending| ending == "safetensors") {
            weights.insert(name, sha256);
        }
    }
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let kind = InspectedKind::Checkpoint { sha256: weights };
    Ok(Inspected { name, digest: Digest::of(listing.as_bytes()), networks, kind })
}

fn network_part(name: &str, network: &Network) -> InspectedNetwork {
    let (mut tensors, mut bytes, mut dtypes) = (0, 0, BTreeMap::new());
    for (_, tensor) in network.tensors() {
        tensors += 1;
        bytes += tensor.bytes;
        *dtypes.entry(tensor.dtype.to_lowercase()).or_default() +=
            tensor.shape.iter().product::<usize>() as u64;
    }
    let parameters = dtypes.values().sum();
    InspectedNetwork { name: name.to_owned(), tensors, parameters, dtypes, bytes }
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
