//! A package made of links, as the cache of a hub's client is, works as the files themselves.

#![cfg(unix)]

use std::{
    fs,
    ops::ControlFlow,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use pocketmuse::{ErrorKind, Flavour, Options, Pipeline, Request};
use pocketmuse_measure::verify;

use crate::support::{self, copy_folder, fixture, package};

/// The files of a folder, however deep, relative to it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).expect("inside").to_path_buf());
            }
        }
    }
    found.sort();
    found
}

/// Moves the files of `package` that `wanted` says into `blobs`, under other names, and leaves
/// links.
fn link(package: &Path, blobs: &Path, wanted: impl Fn(&Path) -> bool) {
    fs::create_dir(blobs).expect("a folder");
    for (number, file) in files(package).iter().enumerate().filter(|(_, file)| wanted(file)) {
        let blob = blobs.join(number.to_string());
        fs::rename(package.join(file), &blob).expect("moved");
        symlink(&blob, package.join(file)).expect("a link");
    }
}

/// The pixels of a small image, the same with a trace and without.
fn image(package: &Path, prepared: &Path) -> Vec<u8> {
    support::runtime();
    let options = Options {
        flavour: Some(Flavour::F32),
        threads: Some(1),
        prepared: Some(prepared.to_path_buf()),
        ..Options::default()
    };
    let pipeline = Pipeline::open_with(package, &options).unwrap_or_else(|error| panic!("{error}"));
    let request = Request { num_inference_steps: Some(2), seed: 1, ..Request::default() };
    let traced = pipeline.trace(&request, None, |_| ControlFlow::Continue(()));
    let plain = pipeline.generate(&request, |_| ControlFlow::Continue(()));
    let [traced, plain] = [traced.map(|(output, _)| output), plain]
        .map(|output| output.unwrap_or_else(|error| panic!("{error}")).images.remove(0));
    assert_eq!(traced, plain);
    plain.into_raw()
}

#[test]
fn a_package_of_links_works_as_its_files() {
    let plain = package("tiny-256");
    let root = tempfile::tempdir().expect("a folder");
    let at = |name: &str| root.path().join(name);
    let expected = image(&plain, &at("prepared-plain"));
    for (name, wanted) in [
        ("all", (|_| true) as fn(&Path) -> bool),
        ("weights", |file| file.extension().is_some_and(|ending| ending == "data")),
        ("graphs", |file| file.extension().is_some_and(|ending| ending == "onnx")),
    ] {
        let package = at(name);
        copy_folder(&plain, &package);
        link(&package, &at(&format!("blobs-{name}")), wanted);
        let prepared = at(&format!("prepared-{name}"));
        assert_eq!(image(&package, &prepared), expected, "{name}");
        assert_eq!(image(&package, &prepared), expected, "{name}, prepared");
        let golden = fixture("tiny-256/golden.safetensors");
        let checks = verify::verify(&package, &golden, &Options::default());
        let checks = checks.unwrap_or_else(|error| panic!("{error}"));
        assert!(!checks.is_empty() && checks.iter().all(|check| check.holds()), "{name}");
    }
}

#[test]
fn a_link_that_leads_nowhere_is_named() {
    support::runtime();
    let root = tempfile::tempdir().expect("a folder");
    let broken = root.path().join("broken");
    copy_folder(&package("tiny-256"), &broken);
    let file = broken.join("f32/step.data");
    fs::remove_file(&file).expect("removed");
    symlink("nowhere", &file).expect("a link");
    let error = Pipeline::open(&broken).err().expect("a file is missing");
    assert_eq!(error.kind(), ErrorKind::PackageDamaged, "{error}");
    assert!(error.to_string().contains("step.data"), "{error}");
}
