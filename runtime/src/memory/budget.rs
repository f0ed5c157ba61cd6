//! How much memory may be used: bytes, or what the system has left. Knows not what for.

use std::{fmt, fs, str::FromStr};

use pocketmuse_package::{Error, ErrorKind, Result};

use crate::memory::measured;

/// The budget where the system does not tell what it has left.
pub const FALLBACK_BYTES: u64 = 2 << 30;

/// How much memory the process may hold while it makes a picture.
///
/// # Example
///
/// ```
/// use pocketmuse::Budget;
/// assert_eq!("512MB".parse::<Budget>()?, Budget::Bytes(512_000_000));
/// assert_eq!("1.5 GiB".parse::<Budget>()?, Budget::Bytes(3 << 29));
/// assert_eq!("auto".parse::<Budget>()?, Budget::Auto);
/// # Ok::<(), pocketmuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Budget {
    /// Three quarters of what the process holds and the system has left, as they are when the
    /// package is opened; where the system does not tell, [`FALLBACK_BYTES`]. A request that needs
    /// more is tried all the same.
    #[default]
    Auto,
    /// At most so many bytes, resident: anonymous memory and the pages of files that are mapped. A
    /// request that needs more is refused before anything is loaded.
    Bytes(u64),
}

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

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

impl FromStr for Budget {
    type Err = Error;

    /// Reads `auto`, or a number of bytes with or without a unit: B, kB, MB, GB, KiB, MiB, GiB in
    /// either case.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let detail =
                format!("expected auto or a size such as 512MB, 400MiB or 1.5GB, found {text:?}");
            Error::new(ErrorKind::BadRequest, "memory", detail)
        };
        let words = text.trim().to_ascii_lowercase();
        if words == "auto" {
            return Ok(Self::Auto);
        }
        let (number, unit) = words.split_at(
            words.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(words.len()),
        );
        let unit = match unit {
            "" | "b" => 1,
            "kb" => 1_000,
            "kib" => 1 << 10,
            "mb" => 1_000_000,
            "mib" => 1 << 20,
            "gb" => 1_000_000_000,
            "gib" => 1 << 30,
            _ => return Err(wrong()),
        };
        let number = number.trim();
        if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(wrong());
        }
        let bytes = number.parse::<f64>().map_err(|_| wrong())? * f64::from(unit);
        Ok(Self::Bytes(bytes as u64)) // what is beyond u64 becomes its largest
    }
}

/// Memory that the system could give this process now: what is free or can be freed, less where a
/// control group allows less. `None` where the system does not tell.
fn available() -> Option<u64> {
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
    fn reads_sizes_as_people_write_them() {
        let cases = [
            ("0", 0),
            ("512", 512),
            ("512MB", 512_000_000),
            ("400MiB", 400 << 20),
            ("1GB", 1_000_000_000),
            (" 1.5 gib ", 3 << 29),
            ("64kb", 64_000),
            ("99999999999999GB", u64::MAX),
        ];
        for (text, bytes) in cases {
            let found: Budget = text.parse().expect(text);
            assert_eq!(found, Budget::Bytes(bytes), "{text}");
            assert_eq!(found.to_string().parse::<Budget>().ok(), Some(found), "{text}");
        }
        assert_eq!("Auto".parse::<Budget>().ok(), Some(Budget::Auto));
        for text in ["", "MB", "-1", "1e3", "inf", "NaN", "1.2.3", "12 parsecs", "512MBMB", "ａ"] {
            let error = text.parse::<Budget>().expect_err(text);
            assert!(error.to_string().starts_with("memory: expected auto or a size"), "{error}");
        }
    }

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
