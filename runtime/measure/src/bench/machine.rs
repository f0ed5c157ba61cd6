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

/// What ONNX Runtime's kernels depend on, and AMX, of which the standard library does not tell yet.
fn instruction_sets(cpuinfo: &str) -> Vec<&'static str> {
    let flags = field(cpuinfo, "flags").unwrap_or_default();
    let has_amx = cfg!(target_arch = "x86_64") && flags.split(' ').any(|flag| flag == "amx_int8");
    let mut sets = pocketmuse::internals::instruction_sets();
    sets.extend(has_amx.then_some("amx-int8"));
    sets
}

/// Asks the system to keep nothing of a file in memory, so that the next read is from the disk.
/// Returns whether it could be asked.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn forget(path: &Path) -> bool {
    use rustix::fs::{Advice, fadvise};
    // What is not on the disk yet stays in memory.
    fs::File::open(path).is_ok_and(|file| {
        file.sync_all().is_ok() && fadvise(file, 0, None, Advice::DontNeed).is_ok()
    })
}

/// No other system can be asked.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn forget(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_system_tells_of_a_processor() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu amx_int8\n\n\
            model name\t: Another\n";
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
