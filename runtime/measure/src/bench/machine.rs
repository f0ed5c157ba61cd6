//! What a figure depends on besides this project: the processor, and what the system keeps of files
//! in memory.

use std::{fs, path::Path};

/// The machine that figures come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The processor's name, where the system tells.
    pub processor: Option<String>,
    /// The instruction sets that matter for products and that the processor has.
    pub instruction_sets: Vec<&'static str>,
    /// Threads that it runs at once.
    pub threads: usize,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let threads = std::thread::available_parallelism().map_or(1, Into::into);
        Self {
            processor: field(&cpuinfo, "model name").map(str::to_owned),
            instruction_sets: instruction_sets(&cpuinfo),
            threads,
        }
    }
}

/// The value of the first line `name : value`.
fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':').map(str::trim))
}

#[cfg(target_arch = "x86_64")]
fn instruction_sets(cpuinfo: &str) -> Vec<&'static str> {
    use std::is_x86_feature_detected as has;
    // The standard library does not tell of AMX yet.
    let amx = |name| {
        field(cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == name))
    };
    let all = [
        ("avx2", has!("avx2")),
        ("avx512f", has!("avx512f")),
        ("avx512vnni", has!("avx512vnni")),
        ("avxvnni", has!("avxvnni")),
        ("amx-int8", amx("amx_int8")),
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "aarch64")]
fn instruction_sets(_: &str) -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected as has;
    let all = [("dotprod", has!("dotprod")), ("i8mm", has!("i8mm"))];
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instruction_sets(_: &str) -> Vec<&'static str> {
    Vec::new()
}

/// Asks the system to keep nothing of a file in memory, so that the next read is from the disk.
/// Returns whether it could be asked.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn forget(path: &Path) -> bool {
    use rustix::fs::{Advice, fadvise};
    // What is not on the disk yet stays in memory.
    fs::File::open(path).is_ok_and(|file| {
        file.sync_all().is_ok() && fadvise(file, 0, None, Advice::DontNeed).is_ok()
    })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn forget(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_system_tells_of_a_processor() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu amx_int8\n\nmodel name\t: Another\n";
        assert_eq!(field(cpuinfo, "model name"), Some("Some CPU"));
        assert_eq!(field(cpuinfo, "bogus"), None);
        let sets = instruction_sets(cpuinfo);
        assert_eq!(sets.contains(&"amx-int8"), cfg!(target_arch = "x86_64"));
        assert!(!instruction_sets("flags: amx_int8_like").contains(&"amx-int8"));
    }

    #[test]
    fn a_forgotten_file_is_still_there() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "abc").expect("written");
        assert_eq!(forget(file.path()), cfg!(any(target_os = "linux", target_os = "android")));
        assert_eq!(fs::read(file.path()).expect("read"), b"abc");
        assert!(!forget(&file.path().join("none")));
    }
}
