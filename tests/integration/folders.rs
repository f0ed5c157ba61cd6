//! The bundled model's packages, and folders made of others: also for the tests of the command.

use std::{fs, ops::ControlFlow, path::Path, path::PathBuf};

use pocketmuse_cli::bundled;
use pocketmuse_package::Flavour;

/// The package of the bundled model with the graphs of `flavour`: the command's own, which these
/// sources exported into the user's cache. It is never written to.
pub(crate) fn flavoured_package(flavour: Flavour) -> PathBuf {
    let cache = bundled::cache_folder().unwrap_or_else(|error| panic!("{error}"));
    bundled::package(&cache, flavour, |_| ControlFlow::Continue(()))
        .unwrap_or_else(|error| panic!("{flavour}: {error}"))
}

/// A folder with the same files to be changed, but for weights: those are links, which are removed
/// before others take their place.
pub(crate) fn link_folder(from: &Path, to: &Path) {
    fill_folder(from, to, &|from, to| {
        let ending = from.extension().unwrap_or_default();
        let is_weights = ending == "data" || ending == "safetensors";
        assert!((is_weights && link(from, to)) || fs::copy(from, to).is_ok(), "{}", to.display());
    });
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fill_folder(from, to, &|from, to| {
        fs::copy(from, to).expect("copied");
    });
}

fn fill_folder(from: &Path, to: &Path, fill: &dyn Fn(&Path, &Path)) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fill_folder(&entry.path(), &target, fill);
        } else {
            fill(&entry.path(), &target);
        }
    }
}

/// Makes a symbolic link, where there are such: a hard one would change the file's own times.
fn link(from: &Path, to: &Path) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::symlink(from, to).is_ok();
    #[cfg(not(unix))]
    false
}
