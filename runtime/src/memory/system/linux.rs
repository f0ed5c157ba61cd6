//! Memory as Linux and Android count it: resident, of it anonymous, and what control groups leave.

use std::fs;

/// What is resident: anonymous memory and the pages of files that are mapped. A budget counts it
/// here.
pub(in crate::memory) fn held() -> Option<u64> {
    status("VmRSS:")
}

/// The most that was resident since the process started or [`reset_peak`] was called.
pub(in crate::memory) fn peak() -> Option<u64> {
    status("VmHWM:")
}

/// Makes the peak start again from what is resident now, for everybody who reads it. Returns whether
/// that was allowed.
pub(in crate::memory) fn reset_peak() -> bool {
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Anonymous: what the system cannot take back.
pub(in crate::memory) fn anonymous() -> Option<u64> {
    status("RssAnon:")
}

fn status(name: &str) -> Option<u64> {
    kib(&fs::read_to_string("/proc/self/status").ok()?, name)
}

/// The bytes that a line such as `VmHWM:   123456 kB` tells.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Memory that the system could give this process now: what is free or can be freed, less where a
/// control group allows less. `None` where the system does not tell.
pub(in crate::memory) fn available() -> Option<u64> {
    let machine = kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
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

/// Asks the allocator for the pages that it keeps of freed memory. glibc keeps freed blocks of up
/// to 2^25 bytes, which is what most weights are, and Android's allocators keep some, too: without
/// this the peak of a stage is its own memory and most of its predecessor's.
pub(in crate::memory) fn give_back() {
    #[cfg(any(target_env = "gnu", target_os = "android"))]
    trim();
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "a foreign function cannot be proved safe")]
fn trim() {
    // SAFETY: malloc_trim may be called at any time from any thread and changes no block that is in
    // use.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(target_os = "android")]
#[expect(unsafe_code, reason = "a foreign function cannot be proved safe")]
fn trim() {
    use std::ffi::c_int;

    /// From Android 9 on; an older one answers that it knows no such option.
    const M_PURGE: c_int = -101;
    unsafe extern "C" {
        fn mallopt(option: c_int, value: c_int) -> c_int;
    }
    // SAFETY: the option takes no value, and changes no block that is in use.
    unsafe { mallopt(M_PURGE, 0) };
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
    fn reads_what_the_system_tells() {
        let text = "VmPeak:\t  99 kB\nVmHWM:\t  1234 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(kib(text, "VmHWM:"), Some(1234 * 1024));
        for text in ["", "VmHWM:", "VmHWM: x kB", "VmHWM: 18446744073709551615 kB"] {
            assert_eq!(kib(text, "VmHWM:"), None, "{text}");
        }
    }

    #[test]
    fn some_memory_is_available() {
        let bytes = available().expect("Linux tells");
        assert!((1 << 20..1 << 50).contains(&bytes), "{bytes}");
    }
}
