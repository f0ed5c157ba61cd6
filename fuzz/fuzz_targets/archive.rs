//! A package as one file, from anywhere: no bytes may make the import panic, and what it makes is a
//! package, in its folder and nowhere else.

#![no_main]

use std::{
    fs,
    io::Cursor,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use libfuzzer_sys::fuzz_target;
use pocketmuse::Manifest;
use pocketmuse_fuzz::{scratch, within};
use pocketmuse_package::{Subset, archive};

/// The memory that an import may take, whatever the size of its files.
const MOST_BYTES: usize = 64 << 20;
/// The size of a header, and where its checksum and the size of its file stand.
const HEADER: usize = 512;
const SUM: std::ops::Range<usize> = 148..156;
const SIZE: std::ops::Range<usize> = 124..136;

static ROOT: LazyLock<PathBuf> = LazyLock::new(scratch);

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    mend_checksums(&mut bytes);
    let target = ROOT.join("package");
    let subset = Subset { without_encoder: bytes.len() % 2 == 0, ..Subset::default() };
    let go_on = |_| ControlFlow::Continue(());
    within(MOST_BYTES, || {
        let made = if bytes.len() % 3 == 0 {
            archive::import_seekable(Cursor::new(&bytes), &subset, &target, go_on)
        } else {
            archive::import(Cursor::new(&bytes), &subset, &target, go_on)
        };
        if let Ok(manifest) = made {
            assert_eq!(Manifest::read(&target).expect("a package"), manifest);
            manifest.files().for_each(|file| file.check(&target).expect("as it says"));
            assert_eq!(count(&target), manifest.files().count() + 1);
            fs::remove_dir_all(&target).expect("removed");
        }
        archive::discard(&target).expect("removed");
    });
    assert_eq!(count(&ROOT), 0, "nothing is left, or lies elsewhere");
});

/// The files in a folder and those below it.
fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
}

/// Gives each header of a tar its right checksum, so that changes go deeper than it.
fn mend_checksums(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() >= HEADER && rest[0] != 0 {
        let sum: u32 = (0..HEADER)
            .map(|at| if SUM.contains(&at) { u32::from(b' ') } else { u32::from(rest[at]) })
            .sum();
        rest[SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits = std::str::from_utf8(&rest[SIZE]).unwrap_or_default();
        let digits = digits.trim_matches(['\0', ' ']);
        let size = usize::from_str_radix(digits, 8).unwrap_or(0);
        let next = size.div_ceil(HEADER).saturating_add(1).saturating_mul(HEADER);
        let Some(after) = rest.get_mut(next..) else { return };
        rest = after;
    }
}
