//! Time and peak memory of each stage. Knows nothing of what a stage does.

use std::{
    fs,
    time::{Duration, Instant},
};

use pocketmuse_package::{Result, Stage};

use crate::memory;

/// What a request cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The stages in the order they ran.
    pub stages: Vec<StageReport>,
    /// From the request to its pictures.
    pub total: Duration,
}

/// What one stage cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageReport {
    /// The stage's name.
    pub name: &'static str,
    /// From opening its files, digests included where they were not checked before, until it could run.
    pub load: Duration,
    /// All its runs.
    pub run: Duration,
    /// The most memory the process held while the stage was there; `None` where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
}

/// Collects a [`Report`].
pub(crate) struct Meter {
    stages: Vec<StageReport>,
    started: Instant,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { stages: Vec::new(), started: Instant::now() }
    }

    /// Loads a stage, runs it, drops it, and gives its memory back to the system before this returns.
    ///
    /// # Errors
    ///
    /// What `load` or `run` returns.
    pub(crate) fn stage<S, T>(
        &mut self,
        stage: Stage,
        load: impl FnOnce() -> Result<S>,
        run: impl FnOnce(S) -> Result<T>,
    ) -> Result<T> {
        let resets = reset_peak();
        let started = Instant::now();
        let loaded = load()?;
        let load = started.elapsed();
        let result = run(loaded)?;
        let run = started.elapsed() - load;
        memory::give_back();
        let peak_rss_bytes = if resets { peak_rss() } else { None };
        log::debug!("{stage}: loaded in {load:.1?}, ran in {run:.1?}, peak {} MiB", peak_rss_bytes.unwrap_or(0) >> 20);
        self.stages.push(StageReport { name: stage.name(), load, run, peak_rss_bytes });
        Ok(result)
    }

    pub(crate) fn finish(self) -> Report {
        Report { stages: self.stages, total: self.started.elapsed() }
    }
}

/// Lets the system's peak start again from the memory held now. Returns whether it did.
fn reset_peak() -> bool {
    cfg!(any(target_os = "linux", target_os = "android")) && fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// The peak since the last reset: the line `VmHWM:   123456 kB`.
fn peak_rss() -> Option<u64> {
    parse_peak(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_peak() {
        assert_eq!(parse_peak("VmPeak:\t  99 kB\nVmHWM:\t  1234 kB\nVmRSS:\t 1 kB\n"), Some(1234 * 1024));
        for text in ["", "VmHWM:", "VmHWM: x kB", "VmHWM: 18446744073709551615 kB"] {
            assert_eq!(parse_peak(text), None, "{text}");
        }
    }

    #[test]
    fn a_stage_is_dropped_before_the_next_one_loads() {
        let alive = std::cell::Cell::new(0);
        struct Loaded<'a>(&'a std::cell::Cell<u32>);
        impl Drop for Loaded<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        let mut meter = Meter::start();
        for stage in [Stage::Step, Stage::Decoder] {
            let load = || {
                assert_eq!(alive.get(), 0);
                alive.set(1);
                Ok(Loaded(&alive))
            };
            meter.stage(stage, load, |_loaded| Ok(())).expect("nothing fails");
        }
        let names: Vec<_> = meter.finish().stages.iter().map(|stage| stage.name).collect();
        assert_eq!(names, ["step", "decoder"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_of_a_stage_is_its_own() {
        if !reset_peak() {
            return;
        }
        let before = peak_rss().expect("Linux tells");
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(peak_rss().expect("Linux tells") >= before + (32 << 20));
        drop(block);
    }
}
