//! Checkpoints as people have them: made of links, half fetched, of another kind.

use std::{
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use pocketmuse_export::{Error, Options, Result, Summary};
use pocketmuse_package::{Flavour, Measured};
use tempfile::TempDir;

const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tiny-256")
}

fn export_over(checkpoint: &Path, package: &Path, overwrite: bool) -> Result<Summary> {
    let options = Options { flavours: vec![Flavour::F32], overwrite, ..Options::default() };
    let no_preview = |_: &Path| Ok(Measured::default());
    pocketmuse_export::export(checkpoint, package, &options, no_preview, |_| {
        ControlFlow::Continue(())
    })
}

fn export(checkpoint: &Path, package: &Path) -> Result<Summary> {
    export_over(checkpoint, package, false)
}

/// Makes `to` of all files of `from` by `make`.
fn each_file(from: &Path, to: &Path, make: &impl Fn(&Path, &Path)) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            each_file(&entry.path(), &target, make);
        } else {
            make(&entry.path(), &target);
        }
    }
}

/// A folder with a copy of a checkpoint, called `checkpoint`. Its tensors are links, which are
/// removed before others take their place.
fn copy() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("checkpoint");
    each_file(&fixture(), &copy, &|from, to| {
        let is_tensors = from.extension().is_some_and(|ending| ending == "safetensors");
        assert!((is_tensors && link(from, to)) || fs::copy(from, to).is_ok(), "{}", to.display());
    });
    (folder, copy)
}

/// Makes a symbolic link, where there are such.
fn link(from: &Path, to: &Path) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::symlink(from, to).is_ok();
    #[cfg(not(unix))]
    false
}

fn change(path: &Path, change: impl FnOnce(&str) -> String) {
    let text = fs::read_to_string(path).expect("a text");
    fs::write(path, change(&text)).expect("written");
}

/// The error of exporting a changed copy, after which nothing else lies beside it.
fn refused(change: impl FnOnce(&Path)) -> Error {
    let (folder, copy) = copy();
    change(&copy);
    let error = export(&copy, &folder.path().join("package")).map(drop).expect_err("refused");
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1, "{error}");
    error
}

#[test]
fn floats_that_are_not_finite_are_read_as_python_writes_them() {
    let (folder, copy) = copy();
    for config in
        ["transformer/config.json", "vqvae/config.json", "scheduler/scheduler_config.json"]
    {
        change(&copy.join(config), |text| {
            text.replacen('{', r#"{"unread": [NaN, Infinity, {"a": -Infinity}], "#, 1)
        });
    }
    export(&copy, &folder.path().join("package")).expect("nothing reads them");
    let error = refused(|copy| {
        let config = copy.join("transformer/config.json");
        change(&config, |text| {
            let at =
                text.find("\"layer_norm_eps\": ").expect("there") + "\"layer_norm_eps\": ".len();
            let end = at + text[at..].find([',', '\n']).expect("an end");
            format!("{}NaN{}", &text[..at], &text[end..])
        });
    });
    assert!(error.to_string().contains("\"NaN\""), "{error}");
}

#[cfg(unix)]
#[test]
fn a_snapshot_of_links_is_exported_and_called_after_its_repository() {
    use std::os::unix::fs::symlink;

    let folder = tempfile::tempdir().expect("a folder");
    let repository = folder.path().join("models--made-up--tiny-one");
    let snapshot = repository.join("snapshots/0123abcd");
    let blobs = repository.join("blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    each_file(&fixture(), &snapshot, &|from, to| {
        let blob = blobs.join(fs::read_dir(&blobs).expect("readable").count().to_string());
        fs::copy(from, &blob).expect("copied");
        symlink(blob, to).expect("a link");
    });
    let package = folder.path().join("package");
    let summary = export(&snapshot, &package).expect("links are followed");
    assert_eq!(summary.manifest.model.name, "tiny-one");

    for root in [&repository, folder.path()] {
        let error = export(root, &folder.path().join("other")).map(drop).expect_err("no snapshot");
        let expected = format!("found a folder of the hub's cache: give {}", snapshot.display());
        assert!(error.to_string().ends_with(&expected), "{error}");
    }
    let error = export(&package, &folder.path().join("other")).map(drop).expect_err("a package");
    assert!(error.to_string().contains("expected a checkpoint, found a package"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_broken_link_is_named() {
    for name in [
        TRANSFORMER,
        "vqvae/config.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "vqvae",
    ] {
        let error = refused(|copy| {
            let path = copy.join(name);
            if path.is_dir() {
                fs::remove_dir_all(&path).expect("removed");
            } else {
                fs::remove_file(&path).expect("removed");
            }
            std::os::unix::fs::symlink("../../blobs/gone", &path).expect("a link");
        });
        let error = error.to_string();
        assert!(
            error.contains(&format!("{name}: expected a file or folder, found a link")),
            "{error}"
        );
        assert!(error.contains("../../blobs/gone, which is not there"), "{error}");
    }
}

#[test]
fn a_pointer_of_git_lfs_is_named() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n";
    for name in [TRANSFORMER, "tokenizer/tokenizer.json", "vqvae/config.json"] {
        let error = refused(|copy| {
            fs::remove_file(copy.join(name)).expect("removed");
            fs::write(copy.join(name), pointer).expect("written");
        });
        let expected = format!("{name}: expected the file itself, found a pointer of Git LFS");
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

#[test]
fn what_is_no_file_is_named() {
    for name in [TRANSFORMER, "vqvae/config.json"] {
        let error = refused(|copy| {
            fs::remove_file(copy.join(name)).expect("removed");
            fs::create_dir(copy.join(name)).expect("made");
        });
        let error = error.to_string();
        assert!(error.contains(&format!("{name}: expected a file")), "{error}");
        assert!(error.ends_with("found a folder"), "{error}");
    }
}

#[test]
fn a_pickled_network_is_named() {
    for name in [
        "diffusion_pytorch_model.bin",
        "diffusion_pytorch_model.fp16.bin",
        "pytorch_model-00001-of-00002.bin",
        "model.ckpt",
        "weights.PT",
        "tf_model.h5",
        "flax_model.msgpack",
    ] {
        let error = refused(|copy| {
            let path = copy.join(TRANSFORMER);
            fs::rename(&path, path.with_file_name(name)).expect("renamed");
        });
        let expected = format!("expected tensors as safetensors, found only {name}: ");
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

#[test]
fn an_added_token_reaches_the_tokenizer_or_is_refused_by_name() {
    let (folder, copy) = copy();
    fs::write(copy.join("tokenizer/added_tokens.json"), r#"{"<my-colour>": 712}"#)
        .expect("written");
    let error = export(&copy, &folder.path().join("package")).map(drop).expect_err("no row for it");
    assert!(error.to_string().contains("expected ids below vocab_size 712"), "{error}");
    fs::write(copy.join("tokenizer/added_tokens.json"), r#"{"<x>": 714}"#).expect("written");
    let error = export(&copy, &folder.path().join("package")).map(drop).expect_err("a gap");
    let expected = "tokenizer: added token \"<x>\": expected the next id 712, found 714";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[test]
fn only_a_package_and_nothing_else_is_overwritten() {
    let (folder, copy) = copy();
    let package = folder.path().join("package");
    export(&copy, &package).expect("exported");
    export_over(&copy, &package, true).expect("a package");
    fs::write(package.join("notes.txt"), "mine").expect("written");
    let error = export_over(&copy, &package, true).map(drop).expect_err("somebody's notes");
    assert!(error.to_string().ends_with("found \"notes.txt\" beside one"), "{error}");
    assert!(package.join("notes.txt").exists());
    fs::remove_file(package.join("notes.txt")).expect("removed");
    fs::write(package.join("manifest.json"), "{}").expect("written");
    let error = export_over(&copy, &package, true).map(drop).expect_err("no package");
    assert!(error.to_string().ends_with("found something else"), "{error}");
}
