//! What is refused, each in its own way: packages, archives, states of jobs.

use std::{
    fs,
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use pocketmuse::{Origin, Pipeline, Request, Step, job::State};
use pocketmuse_package::{Digest, Flavour, Manifest, Stage, Subset, archive};
use serde_json::Value;

use super::Result;

/// Packages that are refused, each in its own way: `damaged`, `cut`, `newer`, `failing`.
pub(super) fn packages(package: &Path, folder: &Path) -> Result<()> {
    let copy = |name: &str| -> Result<PathBuf> {
        let copy = folder.join(name);
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        copy_folder(package, &copy)?;
        Ok(copy)
    };
    let manifest = Manifest::read(package)?;
    let step = &manifest.flavour(Flavour::Int8)?.stages[&Stage::Step];
    let weights = manifest.files().max_by_key(|file| file.bytes).ok_or("expected files")?;

    let damaged = copy("damaged")?.join(&weights.path);
    let mut bytes = fs::read(&damaged)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(damaged, bytes)?;

    let cut = fs::OpenOptions::new().write(true).open(copy("cut")?.join(&weights.path))?;
    cut.set_len(weights.bytes / 2)?;

    let edit = |folder: &Path, change: &dyn Fn(&mut Value)| -> Result<()> {
        let path = folder.join("manifest.json");
        let mut manifest = serde_json::from_slice(&fs::read(&path)?)?;
        change(&mut manifest);
        Ok(fs::write(&path, serde_json::to_vec(&manifest)?)?)
    };
    edit(&copy("newer")?, &|manifest| manifest["format"] = 99.into())?;

    // A graph with an operator that nobody knows. Its digest is right, so that only ONNX Runtime
    // notices.
    let failing = copy("failing")?;
    let path = failing.join(&step.graph.path);
    let mut graph = fs::read(&path)?;
    let (known, unknown) = (b"Softmax", b"Softmix");
    for at in 0..graph.len() - known.len() {
        if graph[at..].starts_with(known) {
            graph[at..at + known.len()].copy_from_slice(unknown);
        }
    }
    fs::write(&path, &graph)?;
    edit(&failing, &|manifest| {
        let entry = &mut manifest["flavours"]["int8"]["stages"]["step"]["graph"];
        entry["bytes"] = graph.len().into();
        entry["sha256"] = Digest::of(&graph).to_string().into();
    })
}

pub(super) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().ok_or("expected a name")?);
        if path.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Archives, all but `whole.pocketmuse` refused: `cut`, `altered`, `outside` whose second file has a
/// path that leads out of the folder, `escaping` whose manifest says so, `newer`, `huge` for which no
/// disk has room.
pub(super) fn archives(package: &Path, folder: &Path) -> Result<()> {
    let at = |name: &str| folder.join(name).with_extension(archive::ENDING);
    let whole = at("whole");
    archive::copy(package, &Subset::default(), &whole, |_| ControlFlow::Continue(()))?;
    let bytes = fs::read(&whole)?;
    fs::write(at("cut"), &bytes[..bytes.len() / 2])?;
    let mut altered = bytes.clone();
    altered[bytes.len() / 2] ^= 1;
    fs::write(at("altered"), altered)?;

    let text = fs::read_to_string(package.join("manifest.json"))?;
    let manifest = Manifest::read(package)?;
    let file = manifest.files().next().ok_or("expected files")?;
    let path = file.path.as_str();
    let escaping = text.replace(path, "../escaped");
    fs::write(at("escaping"), beginning(&escaping, "../escaped")?)?;
    fs::write(at("outside"), beginning(&text, "../escaped")?)?;
    let change = |change: &dyn Fn(&mut Value)| -> Result<String> {
        let mut manifest = serde_json::from_str(&text)?;
        change(&mut manifest);
        Ok(manifest.to_string())
    };
    fs::write(at("newer"), beginning(&change(&|manifest| manifest["format"] = 99.into())?, path)?)?;
    let huge = change(&|manifest| {
        manifest["flavours"]["int8"]["stages"]["step"]["weights"]["bytes"] = (1_u64 << 50).into();
    })?;
    fs::write(at("huge"), beginning(&huge, path)?)?;
    Ok(())
}

/// The first two files of an archive: a manifest, and one with a few bytes.
fn beginning(manifest: &str, path: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (path, contents) in [("manifest.json", manifest), (path, "no such file")] {
        let mut header = tar::Header::new_ustar();
        // The crate itself refuses a path that leads out.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        bytes.write_all(header.as_bytes())?;
        bytes.write_all(contents.as_bytes())?;
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    Ok(bytes)
}

/// States of jobs that cannot go on: `changed`, of another `version`, of another `package`, of
/// another `flavour`.
pub(super) fn states(pipeline: &Pipeline, folder: &Path) -> Result<()> {
    let job = pipeline.job(&Request::default(), Origin::Nothing)?;
    let mut state = None::<State>;
    let stopped = pipeline.run(&job, &mut |step: &Step<'_>| {
        state = Some(pipeline.state(step));
        ControlFlow::Break(())
    });
    drop(stopped); // it says that it was stopped
    let state = state.ok_or("expected a step")?;
    let write =
        |name: &str, bytes: Vec<u8>| fs::write(folder.join(name).with_extension("state"), bytes);
    let mut changed = state.to_bytes();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    write("changed", changed)?;
    let mut version = state.to_bytes();
    version[7] += 1;
    write("version", version)?;
    let package = Digest::of(b"another package");
    write("package", State { package, ..state.clone() }.to_bytes())?;
    write("flavour", State { flavour: Flavour::F32, ..state }.to_bytes())?;
    Ok(())
}
