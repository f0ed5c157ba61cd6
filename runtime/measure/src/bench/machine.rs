//! What a figure depends on besides this project: the processor, and what the system keeps of files
//! in memory.

use std::{
    fs,
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

/// The machine that figures come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// The processor's name, where the system tells.
    pub processor: Option<String>,
    /// The instruction sets that matter for products and that the processor has.
    pub instruction_sets: Vec<&'static str>,
    /// Threads that it runs at once.
    pub threads: usize,
    /// Cycles in a second, measured; the system often tells another number.
    pub clock: f64,
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
            clock: clock(),
        }
    }

    /// int8 operations that a core does in a cycle at most, a multiply-add being two: those of the
    /// widest instruction for them times how many begin in a cycle. `None` where no such instruction
    /// is known of.
    ///
    /// By the vendors' tables, for cores that have two units for the instruction; one with a single
    /// unit does half. AMX multiplies tiles of 16 x 64 and 64 x 16 in 16 cycles.
    pub fn int8_operations_per_cycle(&self) -> Option<u32> {
        const WIDEST: [(&str, u32); 6] = [
            ("amx-int8", 2 * 16 * 64 * 16 / 16),
            ("avx512vnni", 2 * 64 * 2),
            ("avxvnni", 2 * 32 * 2),
            ("avx2", 2 * 32), // two instructions for 32 products
            ("i8mm", 2 * 32 * 2),
            ("dotprod", 2 * 16 * 2),
        ];
        let has = |(set, _): &&(&str, u32)| self.instruction_sets.contains(set);
        WIDEST.iter().find(has).map(|(_, operations)| *operations)
    }
}

/// Cycles in a second: the most of some tries, each a chain of instructions that take one cycle and
/// wait for each other.
fn clock() -> f64 {
    const TRIES: usize = 20;
    const ROUNDS: u32 = 1 << 20;
    let time = |seed: u64| -> Duration {
        let (one, other) = black_box((0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03));
        let start = Instant::now();
        black_box((0..ROUNDS).fold(seed, |sum, _| (sum ^ one).wrapping_add(other)));
        start.elapsed()
    };
    let fastest = (0..TRIES as u64).map(time).min().unwrap_or(Duration::MAX);
    2.0 * f64::from(ROUNDS) / fastest.as_secs_f64().max(f64::MIN_POSITIVE)
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
    fn the_widest_instruction_counts() {
        let machine = |instruction_sets: &[&'static str]| Machine {
            processor: None,
            instruction_sets: instruction_sets.to_vec(),
            threads: 1,
            clock: 1e9,
        };
        let found =
            [&["avx2", "avx512vnni", "amx-int8"][..], &["avx2", "avxvnni"], &["dotprod"], &[]]
                .map(|sets| machine(sets).int8_operations_per_cycle());
        assert_eq!(found, [Some(2048), Some(128), Some(64), None]);
    }

    #[test]
    fn a_processor_has_a_clock() {
        let clock = Machine::this().clock;
        assert!((1e8..1e10).contains(&clock), "{clock}");
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
