//! The share of a job's work that is done, and the time left, from what its stages are expected to
//! take. Measures no time and knows no stage's meaning.

use std::time::Duration;

use pocketmuse_package::Stage;

use super::{
    effort::Effort,
    progress::{Phase, Progress},
};
use crate::package::prepared::{StageTime, StageTimes};

/// Nanoseconds that checking a byte takes: what counts is how it compares with the stages.
const CHECK_NS: f64 = 0.8;

/// How far a job is.
pub(super) struct Tracker {
    works: Vec<Work>,
    /// The largest share that was told.
    share: f32,
    /// What is done now.
    phase: Phase,
}

/// The work of one stage: what is expected, and what was done.
struct Work {
    effort: Effort,
    checked_bytes: u64,
    /// Loads and runs that are over or turned out to be unnecessary.
    loads: usize,
    runs: usize,
    /// Loads and runs that there were, and what they took.
    timed_loads: (u32, Duration),
    timed_runs: (u32, Duration),
}

impl Tracker {
    pub(super) fn new(efforts: Vec<Effort>) -> Self {
        let none = (0, Duration::ZERO);
        let work = |effort| Work {
            effort,
            checked_bytes: 0,
            loads: 0,
            runs: 0,
            timed_loads: none,
            timed_runs: none,
        };
        let works = efforts.into_iter().map(work).collect();
        Self { works, share: 0.0, phase: Phase::Waiting }
    }

    fn work(&mut self, stage: Stage) -> Option<&mut Work> {
        self.works.iter_mut().find(|work| work.effort.stage == stage)
    }

    /// Of these stages alone, and no run of them.
    pub(super) fn expect_only(&mut self, is_loaded: impl Fn(Stage) -> bool) {
        self.works.retain(|work| is_loaded(work.effort.stage));
        self.works.iter_mut().for_each(|work| work.effort.runs = 0);
    }

    /// More bytes of a stage's files were read. Returns whether they are bytes that count.
    pub(super) fn checked(&mut self, stage: Stage, bytes: u64) -> bool {
        let Some(work) = self.work(stage) else { return false };
        let before = work.checked_bytes;
        work.checked_bytes = before.saturating_add(bytes).min(work.effort.unchecked_bytes);
        work.checked_bytes > before
    }

    /// Whether a stage's files are still to be checked.
    pub(super) fn is_unchecked(&mut self, stage: Stage) -> bool {
        self.work(stage).is_some_and(|work| work.checked_bytes < work.effort.unchecked_bytes)
    }

    /// The bytes of all stages that were read, and those that are to be.
    pub(super) fn checking(&self) -> Phase {
        let sum = |bytes: fn(&Work) -> u64| self.works.iter().map(bytes).sum();
        let of = sum(|work| work.effort.unchecked_bytes);
        Phase::Checking { bytes: sum(|work| work.checked_bytes), of }
    }

    /// A stage was loaded.
    pub(super) fn loaded(&mut self, stage: Stage, took: Duration) {
        let Some(work) = self.work(stage) else { return };
        work.checked_bytes = work.effort.unchecked_bytes;
        work.loads += 1;
        work.timed_loads = more(work.timed_loads, took);
    }

    /// So many runs of a stage are over, since the job began; the last took so long.
    pub(super) fn ran(&mut self, stage: Stage, runs: usize, took: Duration) {
        let Some(work) = self.work(stage) else { return };
        work.runs = runs.max(work.runs);
        work.timed_runs = more(work.timed_runs, took);
    }

    /// So many runs of a stage are over, since the job began, or were not needed.
    pub(super) fn passed(&mut self, stage: Stage, runs: usize) {
        let Some(work) = self.work(stage) else { return };
        work.runs = runs.max(work.runs);
    }

    /// A stage is not needed any more.
    pub(super) fn done(&mut self, stage: Stage) {
        let Some(work) = self.work(stage) else { return };
        work.checked_bytes = work.effort.unchecked_bytes;
        work.loads = work.loads.max(work.effort.loads);
        work.runs = work.runs.max(work.effort.runs);
    }

    /// How far the job is when `phase` begins.
    pub(super) fn begin(&mut self, phase: Phase) -> Progress {
        self.phase = phase;
        self.progress()
    }

    /// How far the job is.
    pub(super) fn progress(&mut self) -> Progress {
        let sum = |seconds: fn(&Work) -> f64| self.works.iter().map(seconds).sum::<f64>();
        let (done, all) = (sum(Work::done), sum(Work::expected));
        let share = if all > 0.0 { (done / all) as f32 } else { 0.0 };
        self.share = self.share.max(share.clamp(0.0, ALMOST));
        Progress { phase: self.phase, share: self.share, time_left: self.time_left() }
    }

    /// The job has come to its end.
    pub(super) fn finish(&mut self) -> Progress {
        self.share = 1.0;
        Progress { phase: self.phase, share: 1.0, time_left: Some(Duration::ZERO) }
    }

    /// Each stage goes on as it did in this job. One that has not run yet will take as much longer
    /// than expected as the others did.
    fn time_left(&self) -> Option<Duration> {
        let (expected, took) = self.works.iter().fold((0.0, 0.0), |(expected, took), work| {
            let (runs, time) = work.timed_runs;
            (expected + f64::from(runs) * seconds(work.effort.run), took + seconds(time))
        });
        let is_measured = self.works.iter().all(|work| work.effort.is_measured);
        let pace = match () {
            () if expected > 0.0 && took > 0.0 => took / expected,
            () if is_measured => 1.0,
            () => return None,
        };
        let left: f64 = self.works.iter().map(|work| work.left(pace)).sum();
        Duration::try_from_secs_f64(left).ok()
    }

    /// What the stages took, those that ran.
    pub(super) fn times(&self) -> StageTimes {
        let used = self.works.iter().filter(|work| work.timed_runs.0 > 0);
        let time = |work: &Work| StageTime::new(mean(work.timed_loads), mean(work.timed_runs));
        used.map(|work| (work.effort.stage, time(work))).collect()
    }
}

/// The largest share before the end.
const ALMOST: f32 = 1.0 - f32::EPSILON;

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// One more, and what it took.
fn more((count, time): (u32, Duration), took: Duration) -> (u32, Duration) {
    (count.saturating_add(1), time.saturating_add(took))
}

fn mean((count, time): (u32, Duration)) -> Option<Duration> {
    time.checked_div(count)
}

impl Work {
    fn expected(&self) -> f64 {
        let Effort { unchecked_bytes, loads, load, runs, run, .. } = self.effort;
        cost(unchecked_bytes, (loads, load), (runs, run))
    }

    fn done(&self) -> f64 {
        let Effort { loads, load, runs, run, .. } = self.effort;
        cost(self.checked_bytes, (self.loads.min(loads), load), (self.runs.min(runs), run))
    }

    /// What is left, in seconds, if it takes `pace` times what was expected.
    fn left(&self, pace: f64) -> f64 {
        let Effort { unchecked_bytes, loads, load, runs, run, is_measured, .. } = self.effort;
        let run = mean(self.timed_runs).map_or(pace * seconds(run), seconds);
        let load = if is_measured { seconds(load) } else { pace * seconds(load) };
        CHECK_NS * (unchecked_bytes - self.checked_bytes) as f64 / 1e9
            + loads.saturating_sub(self.loads) as f64 * load
            + runs.saturating_sub(self.runs) as f64 * run
    }
}

/// Seconds that checking, loading and running take.
fn cost(bytes: u64, loads: (usize, Duration), runs: (usize, Duration)) -> f64 {
    CHECK_NS * bytes as f64 / 1e9
        + loads.0 as f64 * seconds(loads.1)
        + runs.0 as f64 * seconds(runs.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn effort(stage: Stage, runs: usize, run: Duration) -> Effort {
        let (unchecked_bytes, load, is_measured) = (0, 10 * MS, true);
        Effort { stage, unchecked_bytes, loads: 1, load, runs, run, is_measured }
    }

    fn tracker() -> Tracker {
        Tracker::new(vec![
            Effort { loads: 0, ..effort(Stage::TextEncoder, 1, 50 * MS) },
            effort(Stage::Step, 4, 100 * MS),
            effort(Stage::Decoder, 1, 530 * MS),
        ])
    }

    #[test]
    fn the_share_goes_by_the_expected_times() {
        let mut tracker = tracker(); // a second in all
        let share = |tracker: &mut Tracker| (tracker.progress().share * 1000.0).round();
        let phase = Phase::Running { stage: Stage::TextEncoder };
        assert_eq!(tracker.begin(phase).time_left, Some(1000 * MS));
        tracker.ran(Stage::TextEncoder, 1, 50 * MS);
        assert_eq!(share(&mut tracker), 50.0);
        tracker.loaded(Stage::Step, 10 * MS);
        assert_eq!(share(&mut tracker), 60.0);
        tracker.ran(Stage::Step, 1, 200 * MS);
        assert_eq!(share(&mut tracker), 160.0, "slower than expected, and as much done");
        tracker.passed(Stage::Step, 3);
        assert_eq!(share(&mut tracker), 360.0);
        tracker.passed(Stage::Step, 2);
        assert_eq!(share(&mut tracker), 360.0, "it never falls");
        tracker.done(Stage::Step);
        tracker.loaded(Stage::Decoder, 10 * MS);
        assert_eq!(share(&mut tracker), 470.0);
        tracker.ran(Stage::Decoder, 1, MS);
        assert_eq!(tracker.progress().share, ALMOST, "the end is told by who has come to it");
        let end = tracker.finish();
        assert_eq!((end.share, end.time_left), (1.0, Some(Duration::ZERO)));
    }

    #[test]
    fn the_time_left_goes_by_the_pace_of_this_job() {
        let mut tracker = tracker();
        tracker.ran(Stage::TextEncoder, 1, 100 * MS); // twice as slow as ever
        tracker.loaded(Stage::Step, 20 * MS);
        // Four steps and an image, twice as slow, and a load as it was measured.
        assert_eq!(tracker.progress().time_left, Some(800 * MS + 1060 * MS + 10 * MS));
        tracker.ran(Stage::Step, 1, 100 * MS); // as ever
        let pace = 200.0 / 150.0;
        let left = 3.0 * 0.1 + pace * 0.53 + 0.01;
        let found = tracker.progress().time_left.expect("known");
        assert!((found.as_secs_f64() - left).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn a_guess_tells_no_time_before_something_ran() {
        let guess = Effort { is_measured: false, ..effort(Stage::Step, 4, 100 * MS) };
        let mut tracker = Tracker::new(vec![guess]);
        let phase = Phase::Loading { stage: Stage::Step };
        assert_eq!(tracker.begin(phase).time_left, None);
        tracker.loaded(Stage::Step, MS);
        assert_eq!(tracker.progress().time_left, None);
        tracker.ran(Stage::Step, 1, 7 * MS);
        assert_eq!(tracker.progress().time_left, Some(21 * MS));
    }

    #[test]
    fn bytes_count_once_and_what_is_unexpected_changes_nothing() {
        let unchecked = Effort { unchecked_bytes: 100, ..effort(Stage::Step, 1, MS) };
        let mut tracker = Tracker::new(vec![unchecked]);
        assert!(tracker.is_unchecked(Stage::Step));
        assert!(tracker.checked(Stage::Step, 60) && tracker.checked(Stage::Step, 60));
        assert!(!tracker.checked(Stage::Step, 60) && !tracker.checked(Stage::Decoder, 60));
        assert_eq!(tracker.checking(), Phase::Checking { bytes: 100, of: 100 });
        assert!(!tracker.is_unchecked(Stage::Step));
        for _ in 0..3 {
            tracker.loaded(Stage::Step, MS);
            tracker.ran(Stage::Step, 5, MS);
            tracker.ran(Stage::Encoder, 5, MS);
        }
        assert_eq!(tracker.progress().share, ALMOST);
        let mut nothing = Tracker::new(Vec::new());
        assert_eq!(nothing.progress().share, 0.0);
        assert_eq!(nothing.finish().share, 1.0);
    }

    #[test]
    fn what_stages_took_is_told_of_those_that_ran() {
        let mut tracker = tracker();
        tracker.ran(Stage::TextEncoder, 1, 30 * MS);
        tracker.loaded(Stage::Step, 12 * MS);
        tracker.ran(Stage::Step, 1, 90 * MS);
        tracker.ran(Stage::Step, 2, 110 * MS);
        tracker.loaded(Stage::Decoder, 12 * MS);
        let expected = [
            (Stage::TextEncoder, StageTime::new(None, Some(30 * MS))),
            (Stage::Step, StageTime::new(Some(12 * MS), Some(100 * MS))),
        ];
        assert_eq!(tracker.times(), expected.into());
    }
}
