//! What the stages of a package took on this machine, for whoever tells how long a job will take.
//! Plain values; measures nothing.

use std::{collections::BTreeMap, time::Duration};

use pocketmuse_package::Stage;
use serde::{Deserialize, Serialize};

/// Kinds of jobs that are kept of one package: those that were run last.
const MOST: usize = 24;

/// What one stage took, as far as that is known. Whole microseconds: JSON gives them back exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StageTime {
    /// Loading it, files that were checked before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    load_us: Option<u64>,
    /// Running it once: one image in one step of the step graph, one image of the decoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run_us: Option<u64>,
}

impl StageTime {
    pub(crate) fn new(load: Option<Duration>, run: Option<Duration>) -> Self {
        let [load_us, run_us] = [load, run].map(|time| Some(time?.as_micros() as u64));
        Self { load_us, run_us }
    }

    pub(crate) fn load(&self) -> Option<Duration> {
        self.load_us.map(Duration::from_micros)
    }

    pub(crate) fn run(&self) -> Option<Duration> {
        self.run_us.map(Duration::from_micros)
    }

    /// The mean of both where both know, so that one slow run is soon forgotten.
    fn mixed(self, new: Self) -> Self {
        let mix = |old: Option<u64>, new: Option<u64>| match (old, new) {
            (Some(old), Some(new)) => Some(old.midpoint(new)),
            (old, new) => new.or(old),
        };
        Self { load_us: mix(self.load_us, new.load_us), run_us: mix(self.run_us, new.run_us) }
    }

    /// Whether `other` is off by more than a quarter, or knows more.
    fn differs(&self, other: &Self) -> bool {
        let differs = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => a.abs_diff(b) > a / 4,
            (a, b) => a.is_none() && b.is_some(),
        };
        differs(self.load_us, other.load_us) || differs(self.run_us, other.run_us)
    }
}

/// What the stages took, by their names.
pub(crate) type StageTimes = BTreeMap<Stage, StageTime>;

/// What jobs of one kind took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    name: String,
    stages: BTreeMap<String, StageTime>,
}

/// What jobs took, by their kind; the last that was run at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Times(Vec<Kind>);

impl Times {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is known of jobs called `kind`; nothing of one that never ran.
    pub(super) fn of(&self, kind: &str) -> StageTimes {
        let kind = self.0.iter().find(|known| known.name == kind);
        let stage = |(name, time): (&String, &StageTime)| {
            Some((*Stage::ALL.iter().find(|stage| stage.name() == name)?, *time))
        };
        kind.into_iter().flat_map(|kind| &kind.stages).filter_map(stage).collect()
    }

    /// Takes note of what a job called `kind` took. Returns whether that is worth writing down.
    pub(super) fn add(&mut self, kind: &str, new: &StageTimes) -> bool {
        let at = self.0.iter().position(|known| known.name == kind);
        let mut known = at.map(|at| self.0.remove(at)).unwrap_or_default();
        let mut is_worth_it = at.is_none();
        known.name = kind.to_owned();
        for (stage, new) in new {
            let old = known.stages.entry(stage.name().to_owned()).or_default();
            is_worth_it |= old.differs(new);
            *old = old.mixed(*new);
        }
        self.0.push(known);
        let old = self.0.len().saturating_sub(MOST);
        self.0.drain(..old);
        is_worth_it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(load: u64, run: u64) -> StageTime {
        let [load, run] = [load, run].map(Duration::from_millis);
        StageTime::new((!load.is_zero()).then_some(load), (!run.is_zero()).then_some(run))
    }

    #[test]
    fn times_follow_the_machine_and_small_changes_are_not_worth_a_file() {
        let mut times = Times::default();
        let stages = |step| StageTimes::from([(Stage::Step, step)]);
        for (new, is_worth_it, mean) in [
            (time(40, 100), true, time(40, 100)),
            (time(40, 110), false, time(40, 105)),
            (time(0, 115), false, time(40, 110)), // it was loaded already
            (time(40, 210), true, time(40, 160)),
        ] {
            assert_eq!(times.add("a", &stages(new)), is_worth_it, "{new:?}");
            assert_eq!(times.of("a")[&Stage::Step], mean, "{new:?}");
        }
        assert!(times.of("b").is_empty());
    }

    #[test]
    fn the_kinds_that_ran_last_stay_and_come_back_from_a_file() {
        let mut times = Times::default();
        let new = StageTimes::from([(Stage::Decoder, time(1, 2))]);
        times.add("first", &new);
        for other in 0..MOST {
            times.add(&other.to_string(), &new);
            times.add("0", &new);
        }
        assert_eq!(times.0.len(), MOST);
        assert!(times.of("first").is_empty() && !times.of("0").is_empty());
        let json = serde_json::to_vec(&times).expect("plain data");
        assert_eq!(serde_json::from_slice::<Times>(&json).expect("as it was"), times);
    }
}
