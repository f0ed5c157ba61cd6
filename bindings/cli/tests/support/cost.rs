//! What a package takes on disk, and a process in memory.

use std::{fs, path::Path, process::Child, thread, time::Duration};

use pocketmuse::{Flavour, Manifest, Stage};

/// The size of a package with one flavour, without the encoder.
pub(crate) fn size(package: &Path, flavour: Flavour) -> u64 {
    let manifest = Manifest::read(package).expect("a package");
    let stages = &manifest.flavours[&flavour].stages;
    let needed =
        stages.iter().filter(|(stage, _)| **stage != Stage::Encoder).map(|(_, entry)| entry);
    let networks: u64 = needed
        .flat_map(|entry| std::iter::once(&entry.graph).chain(&entry.weights))
        .map(|file| file.bytes)
        .sum();
    let beside =
        fs::read_dir(package).expect("a folder").map(|entry| entry.expect("an entry").metadata());
    let beside = beside.map(|metadata| metadata.expect("a file")).filter(fs::Metadata::is_file);
    networks + beside.map(|metadata| metadata.len()).sum::<u64>()
}

/// The most memory that a process had: in use, and anonymous.
#[derive(Debug, Default)]
pub(crate) struct Peaks {
    pub(crate) rss: u64,
    pub(crate) anonymous: u64,
}

impl Peaks {
    /// Watches a process until it ends.
    pub(crate) fn of(child: &mut Child) -> Self {
        let mut peaks = Self::default();
        let status = format!("/proc/{}/status", child.id());
        while child.try_wait().expect("a child").is_none() {
            if let Ok(status) = fs::read_to_string(&status) {
                peaks.rss = peaks.rss.max(line(&status, "VmHWM:")).max(line(&status, "VmRSS:"));
                peaks.anonymous = peaks.anonymous.max(line(&status, "RssAnon:"));
            }
            thread::sleep(Duration::from_millis(2));
        }
        peaks
    }
}

/// The bytes of a line `VmHWM:   123456 kB`; 0 for a process that is ending and has none.
fn line(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0)
        * 1024
}
