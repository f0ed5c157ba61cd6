//! The digest of the sources that decide what a package of the built-in model holds: the exporter,
//! the runtime that measures its drafts, the versions of what they use, and the model. Shared by
//! the build script, which computes it, and by a test.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where the sources lie in the repository.
pub(crate) const FOLDERS: [&str; 3] = ["export", "runtime", "models/tiny-world"];
/// What names the versions of everything else.
pub(crate) const LOCK: &str = "Cargo.lock";
/// The endings of files that count: sources and the model, no notes.
const ENDINGS: [&str; 6] = ["rs", "toml", "json", "txt", "safetensors", "rgb"];

/// The digest of the sources in the repository at `root`, 16 hexadecimal digits.
///
/// # Errors
///
/// Those of reading a file or a folder.
pub(crate) fn digest(root: &Path) -> io::Result<String> {
    let mut files = vec![root.join(LOCK)];
    for folder in FOLDERS {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325; // FNV-1a
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
        let bytes = fs::read(&file)?;
        let length = (bytes.len() as u64).to_le_bytes();
        for byte in name.bytes().chain(length).chain(bytes) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
    Ok(format!("{hash:016x}"))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|end| ENDINGS.iter().any(|known| end == *known)) {
            files.push(path);
        }
    }
    Ok(())
}
