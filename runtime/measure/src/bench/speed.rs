//! The machine's own speed: the linear layers of a step graph, each by itself, by turns with the
//! steps that are compared with it. A machine that others use is faster and slower from minute to
//! minute, and both are then measured in the same ones.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use pocketmuse::internals::{Input, Package, Session};
use pocketmuse_package::Result;

use super::{
    Peak,
    layer::{Precision, linear_layer},
    median,
    operations::Layer,
};

/// Runs of a layer in a turn, of which the median counts.
const RUNS: usize = 3;

/// The layers, loaded, and the time that they took so far.
pub(super) struct Layers {
    /// Each with how often a job runs it.
    layers: BTreeMap<Layer, u64>,
    /// By their inputs and outputs: any number of rows is one session.
    sessions: BTreeMap<[usize; 2], [Session; PRECISIONS.len()]>,
    /// What the layers are given: as much of it as they take.
    x: Vec<f32>,
    /// Of each precision.
    seconds: [f64; PRECISIONS.len()],
    operations: f64,
    /// All the time that was spent here.
    spent: Duration,
}

const PRECISIONS: [Precision; 2] = [Precision::Int8, Precision::F32];

impl Layers {
    /// Loads `layers` and runs each once, since the first run takes memory.
    pub(super) fn load(package: &Package, layers: &BTreeMap<Layer, u64>) -> Result<Self> {
        let mut sessions = BTreeMap::new();
        for &[_, inner, columns] in layers.keys() {
            let load = |precision| linear_layer(package, [inner, columns], precision);
            let [int8, f32] = PRECISIONS.map(load);
            sessions.insert([inner, columns], [int8?, f32?]);
        }
        let most = layers.keys().map(|[rows, inner, _]| rows * inner).max().unwrap_or_default();
        let x = (0..most).map(|at| (at % 89) as f32 / 89.0 - 0.5).collect();
        let (layers, seconds) = (layers.clone(), [0.0; PRECISIONS.len()]);
        let (operations, spent) = (0.0, Duration::ZERO);
        let mut loaded = Self { layers, sessions, x, seconds, operations, spent };
        loaded.turn()?;
        Ok(Self { seconds, operations, spent, ..loaded })
    }

    /// Runs each layer once more in each precision.
    pub(super) fn turn(&mut self) -> Result<()> {
        let start = Instant::now();
        for (layer @ &[rows, inner, columns], count) in &self.layers {
            let Some(sessions) = self.sessions.get_mut(&[inner, columns]) else { continue };
            let x = &self.x[..rows * inner];
            for (session, seconds) in sessions.iter_mut().zip(&mut self.seconds) {
                let run = |_| {
                    let start = Instant::now();
                    session.run(&[("x", Input::F32(&[rows, inner], x))])?;
                    Ok(start.elapsed())
                };
                let times = (0..RUNS).map(run).collect::<Result<Vec<_>>>()?;
                *seconds += median(times).as_secs_f64() * *count as f64;
            }
            let products: f64 = layer.iter().map(|extent| *extent as f64).product();
            self.operations += 2.0 * products * *count as f64;
        }
        self.spent += start.elapsed();
        Ok(())
    }

    /// The time that all turns took, which is within the time of a stage whose runs they follow.
    pub(super) fn spent(&self) -> Duration {
        self.spent
    }

    /// What all turns come to.
    pub(super) fn peak(&self) -> Peak {
        let [int8, f32] = self.seconds.map(|seconds| self.operations / seconds);
        Peak { int8, f32 }
    }
}
