//! What a budget comes to: bytes, or a share of what the system has left. Knows not what for.

use std::fs;

pub(crate) use crate::request::{Budget, FALLBACK_BYTES};

use crate::memory::measured;

impl Budget {
    /// The bytes it comes to now.
    pub(crate) fn bytes(self) -> u64 {
        match (self, available()) {
            (Self::Bytes(bytes), _) => bytes,
            (Self::Auto, Some(available)) => {
                available.saturating_add(measured::rss().unwrap_or(0)) / 4 * 3
            }
            (Self::Auto, None) => FALLBACK_BYTES,
        }
    }
}

/// Memory that the system could give this process now: what is free or can be freed, less where a
/// control group allows less. `None` where the system does not tell.
pub(crate) fn available() -> Option<u64> {
    let machine = measured::kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    Some(control_groups().into_iter().flatten().fold(machine, u64::min))
}

/// What is left in this process' control groups, version 2 and version 1.
fn control_groups() -> [Option<u64>; 2] {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = |controller: &str| {
        groups.lines().find_map(|line| line.split_once(controller).map(|(_, path)| path))
    };
    // Inside a container the group's path may be the one outside: its own then lies at the root.
    let first = |root: &str, path: &str, [limit, usage]: [&str; 2], files: &str| {
        let folders = [format!("{root}{path}"), root.to_owned()];
        folders.iter().find_map(|folder| left(folder, limit, usage, files))
    };
    [
        group("0::")
            .and_then(|path| first("/sys/fs/cgroup", path, ["memory.max", "memory.current"], "")),
        group(":memory:").and_then(|path| {
            let names = ["memory.limit_in_bytes", "memory.usage_in_bytes"];
            first("/sys/fs/cgroup/memory", path, names, "total_")
        }),
    ]
}

/// What the group at `folder` may still take: its limit less its usage, in which cached files do
/// not count. `None` without a limit, which is the word `max` or a number beyond any machine.
fn left(folder: &str, limit: &str, usage: &str, files: &str) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(format!("{folder}/{name}")).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let statistics = read("memory.stat").unwrap_or_default();
    let cached = ["active_file", "inactive_file"].map(|kind| {
        let line = statistics.lines().find_map(|line| line.strip_prefix(files)?.strip_prefix(kind));
        line.and_then(|line| line.trim().parse::<u64>().ok()).unwrap_or(0)
    });
    let used = number(usage)?.saturating_sub(cached.iter().sum());
    Some(number(limit)?.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_files_do_not_count_as_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let write =
            |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
        let path = folder.path().to_str().expect("UTF-8");
        let left = || left(path, "memory.max", "memory.current", "");
        assert_eq!(left(), None);
        write("memory.max", "1000\n");
        write("memory.current", "900\n");
        assert_eq!(left(), Some(100));
        write("memory.stat", "anon 1\nactive_file 200\ninactive_file 50\n");
        assert_eq!(left(), Some(350));
        write("memory.max", "max\n");
        assert_eq!(left(), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn some_memory_is_available() {
        let bytes = available().expect("Linux tells");
        assert!((1 << 20..1 << 50).contains(&bytes), "{bytes}");
    }
}
