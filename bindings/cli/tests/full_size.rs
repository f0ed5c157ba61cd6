//! A full-size checkpoint is exported within the memory that is promised. Needs 6 GB of disk for a minute.

use std::{path::Path, process::Command};

/// What an export of amused-512 may take: address space, which is more than the memory in use.
const LIMIT_KIB: u32 = 1_500_000;

fn pocketmuse(folder: &Path, line: &str) {
    // `ulimit` ends whatever asks for more.
    let script = format!("ulimit -v {LIMIT_KIB} && exec \"$0\" {line}");
    let output =
        Command::new("sh").current_dir(folder).args(["-c", &script, env!("CARGO_BIN_EXE_pocketmuse")]).output();
    let output = output.expect("a shell");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[cfg(unix)]
fn exporting_amused_512_stays_under_one_and_a_half_gigabytes() {
    let folder = tempfile::tempdir().expect("a folder");
    pocketmuse(folder.path(), "synth --preset amused-512 -o amused-512");
    for flavour in ["f32", "int8"] {
        pocketmuse(folder.path(), &format!("export amused-512 -o package --flavour {flavour} --force"));
    }
    pocketmuse(folder.path(), "inspect package");
}
