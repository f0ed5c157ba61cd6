//! Computes the key under which the built-in model's package is cached: it
//! changes with the model and with every source that turns it into a package.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let root =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../..");
    let mut files = Vec::new();
    for folder in ["export", "models/tiny-world"] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325; // FNV-1a
    for file in files {
        for byte in fs::read(&file)? {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    println!("cargo::rustc-env=POCKETMUSE_BUNDLED_KEY={hash:016x}");
    Ok(())
}

/// Every file that decides what a package holds; sources and the model, no notes.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|ending| {
            ["rs", "json", "txt", "safetensors", "rgb"].iter().any(|known| ending == *known)
        }) {
            files.push(path);
        }
    }
    Ok(())
}
