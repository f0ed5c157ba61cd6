//! Computes the part of the key of the built-in model's cached package that is known at build time:
//! it changes with the model and with every source that turns it into a package.

#[path = "src/sources.rs"]
mod sources;

use std::{env, io, path::PathBuf};

fn main() -> io::Result<()> {
    let root =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../..");
    for source in sources::FOLDERS.iter().chain([&sources::LOCK]) {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    println!("cargo::rustc-env=POCKETMUSE_BUNDLED_KEY={}", sources::digest(&root)?);
    Ok(())
}
