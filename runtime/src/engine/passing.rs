//! Weights that pass through memory: ONNX Runtime reads them in a mapping of ours, and whenever more
//! of it is resident than a window, all its pages leave. The next read brings a page again from the
//! system's cache of files, or from the disk. Nothing is ever written there, so results are the
//! same.
//!
//! Linux and Android alone: elsewhere a plan says mapped.

mod constants;
mod evictor;
mod weights;

use std::{fs, path::Path, sync::Arc};

use ort::session::builder::SessionBuilder;
use pocketmuse_package::StageEntry;

use self::{constants::Constant, evictor::Evictor, weights::MappedWeights};
use crate::engine::{
    loading::Weights,
    session::{Form, Settings},
};

/// The weights of one session that pass through memory. Must outlive it.
pub(super) struct Passing {
    /// Ends before the mapping does.
    evictor: Evictor,
    weights: Arc<MappedWeights>,
    constants: Vec<Constant>,
}

/// A run during which weights leave memory behind the computation; when it is dropped, all do.
pub(super) struct Run<'a>(&'a Passing);

impl Passing {
    /// Maps the weights of `entry` in the package at `root`, if `settings` want them to pass. `None`
    /// also where that cannot be, which a line in the log says: then ONNX Runtime maps them.
    pub(super) fn of(root: &Path, entry: &StageEntry, settings: &Settings<'_>) -> Option<Self> {
        let Weights::Passing { window_bytes } = settings.loading.weights else { return None };
        let file = entry.weights.as_ref().filter(|_| settings.target.is_none())?.locate(root);
        let weights = MappedWeights::open(&file).and_then(|weights| {
            weights.leave()?; // whether the system lets them
            Ok(Arc::new(weights))
        });
        let weights = weights.map_err(|error| stay(entry, &error)).ok()?;
        let constants = match settings.form {
            Form::Optimised(model) => constants::of(model, weights.bytes()),
            _ => constants::of(&fs::read(entry.graph.locate(root)).ok()?, weights.bytes()),
        };
        let leaving = Arc::clone(&weights);
        let resident = weights::resident_reader().map_err(|error| stay(entry, &error)).ok()?;
        let evictor = Evictor::start(window_bytes, resident, move || leaving.leave());
        let evictor = evictor.map_err(|error| stay(entry, &error)).ok()?;
        let mut constants = constants?;
        constants.retain(|constant| weights::element_type(constant.element).is_some());
        Some(Self { evictor, weights, constants })
    }

    /// Has a session take its constants from the mapping.
    #[expect(unsafe_code, reason = "that this outlives the session is told, not proved")]
    pub(super) fn hand_over(&self, builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        self.constants.iter().try_fold(builder, |builder, constant| {
            // SAFETY: whoever has this keeps it until the session is gone.
            let value = unsafe { self.weights.value(constant) }?;
            Ok(builder.with_initializer(&constant.name, value)?)
        })
    }

    /// From now on until what is returned is dropped, the weights are read.
    pub(super) fn run(&self) -> Run<'_> {
        self.evictor.watch();
        Run(self)
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.0.evictor.rest();
        if let Err(error) = self.0.weights.leave() {
            log::debug!("weights stay in memory: {error}");
        }
    }
}

fn stay(entry: &StageEntry, error: &std::io::Error) {
    log::warn!(
        "{}: weights stay mapped, since they cannot leave memory: {error}",
        entry.graph.path
    );
}

#[cfg(test)]
mod tests;
