//! How fast each core is, as Linux shows it in `/sys`.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A core is slow if it is below this share of the fastest core's capacity and as fast as the
/// slowest core. Phones' small cores lie at 0.16 to 0.45; from here on they are worth their place.
const SLOW_CAPACITY: f64 = 0.7;

/// As [`SLOW_CAPACITY`], of the fastest core's top frequency. Frequencies lie closer together than
/// capacities, since a small core also does less in a cycle.
const SLOW_FREQUENCY: f64 = 0.8;

/// Cores up to this many times the slowest one's speed are as slow as it is.
const ALIKE: f64 = 1.15;

/// How many cores are fast of those that this process may run on; `None` if the kernel does not
/// say, or if they are alike.
pub(super) fn fast_cores() -> Option<usize> {
    let allowed = rustix::thread::sched_getaffinity(None).ok()?;
    let frequencies = cfg!(any(target_arch = "arm", target_arch = "aarch64"));
    let cpus = Cpus { root: PathBuf::from("/sys"), frequencies };
    cpus.fast(|cpu| cpu < rustix::thread::CpuSet::MAX_CPU && allowed.is_set(cpu))
}

/// What the kernel says of the processor's cores.
struct Cpus {
    /// Where `/sys` is.
    root: PathBuf,
    /// Whether top frequencies stand in for capacities that are missing. On a desktop they say
    /// which core may go highest alone, not which is slow.
    frequencies: bool,
}

impl Cpus {
    /// How many of the cores that are online and `allowed` are fast. `None` if the kernel does not
    /// say, or if they are alike.
    fn fast(&self, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let folder = self.root.join("devices/system/cpu");
        let online = parse_list(&fs::read_to_string(folder.join("online")).ok()?)?;
        let cores: Vec<_> = online
            .into_iter()
            .filter(|&cpu| allowed(cpu))
            .map(|cpu| folder.join(format!("cpu{cpu}")))
            .collect();
        let speeds = |file: &str| -> Option<Vec<f64>> {
            cores.iter().map(|core| read_number(&core.join(file))).collect()
        };
        match speeds("cpu_capacity") {
            Some(capacities) => count_fast(&capacities, SLOW_CAPACITY),
            None if self.frequencies => {
                count_fast(&speeds("cpufreq/cpuinfo_max_freq")?, SLOW_FREQUENCY)
            }
            None => None,
        }
    }
}

/// How many of `speeds` are not slow, if any is: `slow` is the share of the highest from which on a
/// speed is never slow.
fn count_fast(speeds: &[f64], slow: f64) -> Option<usize> {
    let highest = speeds.iter().copied().fold(0.0, f64::max);
    let lowest = speeds.iter().copied().fold(highest, f64::min);
    let is_fast = |speed: f64| speed >= highest * slow || speed > lowest * ALIKE;
    let fast = speeds.iter().filter(|&&speed| is_fast(speed)).count();
    (fast < speeds.len()).then_some(fast)
}

/// A speed, which is more than 0.
fn read_number(path: &Path) -> Option<f64> {
    fs::read_to_string(path)
        .ok()?
        .trim()
        .parse()
        .ok()
        .filter(|&number: &u32| number > 0)
        .map(f64::from)
}

/// The numbers of a list such as `0-3,5`.
fn parse_list(text: &str) -> Option<Vec<usize>> {
    let ranges = text.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last && last < 1 << 16).then_some(first..=last)
    });
    Some(ranges.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cores of one kind: how many, their `capacity-dmips-mhz` in the device tree (0: none) and
    /// their top frequency in MHz.
    type Kind = (usize, u32, u32);

    /// Lays out what the kernel shows of a processor, its cores numbered in the order of `kinds`.
    fn lay_out(kinds: &[Kind]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("devices/system/cpu");
        let cores: Vec<Kind> =
            kinds.iter().flat_map(|&kind| std::iter::repeat_n(kind, kind.0)).collect();
        let highest = cores.iter().map(|core| core.1 * core.2).max().expect("a core");
        for (index, &(_, dmips, megahertz)) in cores.iter().enumerate() {
            let core = folder.join(format!("cpu{index}"));
            fs::create_dir_all(core.join("cpufreq")).expect("made");
            let write = |file: &str, number: u32| {
                fs::write(core.join(file), format!("{number}\n")).expect("written");
            };
            write("cpufreq/cpuinfo_max_freq", megahertz * 1000);
            if dmips > 0 {
                // As drivers/base/arch_topology.c scales it.
                let capacity = u64::from(dmips * megahertz) * 1024 / u64::from(highest);
                write("cpu_capacity", capacity as u32);
            }
        }
        fs::write(folder.join("online"), format!("0-{}\n", cores.len() - 1)).expect("written");
        root
    }

    fn fast(root: &Path, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        Cpus { root: root.to_owned(), frequencies: true }.fast(allowed)
    }

    // Capacities from arch/arm64/boot/dts of Linux 6.x (qcom/sm8650.dtsi, exynos/google/gs101.dtsi,
    // qcom/sc7180.dtsi, qcom/sdm845.dtsi, mediatek/mt8183.dtsi, qcom/msm8953.dtsi); where Linux has
    // no tree of a chip, its vendor's top frequencies alone.
    const PHONES: [(&str, &[Kind], Option<usize>); 10] = [
        (
            "Snapdragon 8 Gen 3, 1 + 3 + 2 + 2",
            &[(2, 1024, 2265), (3, 1792, 3148), (2, 1792, 2956), (1, 1894, 3302)],
            Some(6),
        ),
        (
            "its frequencies alone",
            &[(2, 0, 2265), (3, 0, 3148), (2, 0, 2956), (1, 0, 3302)],
            Some(6),
        ),
        ("Tensor G1, 2 + 2 + 4", &[(4, 250, 1803), (2, 620, 2253), (2, 1024, 2802)], Some(4)),
        ("Tensor G3, 1 + 4 + 4", &[(4, 0, 1704), (4, 0, 2367), (1, 0, 2914)], Some(5)),
        ("Snapdragon 7c, 2 + 6", &[(6, 415, 1804), (2, 1024, 2400)], Some(2)),
        ("Snapdragon 845, 4 + 4", &[(4, 611, 1766), (4, 1024, 2803)], Some(4)),
        ("its frequencies alone", &[(4, 0, 1766), (4, 0, 2803)], Some(4)),
        ("Helio P60, 4 + 4, nearly alike", &[(4, 741, 2000), (4, 1024, 2000)], None),
        ("Snapdragon 625, eight alike", &[(8, 1024, 2016)], None),
        ("Snapdragon 8 Elite, all large", &[(6, 0, 3532), (2, 0, 4320)], None),
    ];

    #[test]
    fn counts_the_fast_cores_of_phones() {
        for (chip, kinds, expected) in PHONES {
            assert_eq!(fast(lay_out(kinds).path(), |_| true), expected, "{chip}");
        }
    }

    #[test]
    fn counts_only_cores_that_are_online_and_allowed() {
        let (_, kinds, _) = PHONES[0]; // cores 0 and 1 are slow
        let root = lay_out(kinds);
        assert_eq!(fast(root.path(), |cpu| cpu != 7), Some(5));
        assert_eq!(fast(root.path(), |cpu| cpu < 4), Some(2));
        assert_eq!(fast(root.path(), |cpu| cpu > 1), None, "these are all fast");
        assert_eq!(fast(root.path(), |cpu| cpu < 2), None, "these are alike");
        assert_eq!(fast(root.path(), |_| false), None);
        let online = root.path().join("devices/system/cpu/online");
        for (text, expected) in [
            ("0-2,7", Some(2)),
            ("1,5", Some(1)),
            ("3", None),
            ("", None),
            ("5-3", None),
            ("a", None),
        ] {
            fs::write(&online, text).expect("written");
            assert_eq!(fast(root.path(), |_| true), expected, "{text:?}");
        }
    }

    #[test]
    fn a_kernel_that_says_little_decides_nothing() {
        let root = lay_out(&[(4, 0, 1800), (4, 0, 2800)]);
        let desktop = Cpus { root: root.path().to_owned(), frequencies: false };
        assert_eq!(desktop.fast(|_| true), None, "boost frequencies say nothing");
        let core = root.path().join("devices/system/cpu/cpu3/cpufreq/cpuinfo_max_freq");
        for text in ["", "0", "-5", "fast"] {
            fs::write(&core, text).expect("written");
            assert_eq!(fast(root.path(), |_| true), None, "{text:?}");
        }
        assert_eq!(fast(&root.path().join("none"), |_| true), None);
    }
}
