//! A system where weights cannot leave memory behind the computation: there they stay mapped.

use std::path::Path;

use ort::session::builder::SessionBuilder;
use pocketmuse_package::StageEntry;

use crate::engine::session::Settings;

/// Weights that pass through memory: none here.
pub(super) enum Passing {}

impl Passing {
    pub(super) fn of(_: &Path, _: &StageEntry, _: &Settings<'_>) -> Option<Self> {
        None
    }

    pub(super) fn hand_over(&self, _: SessionBuilder) -> ort::Result<SessionBuilder> {
        match *self {}
    }

    pub(super) fn run(&self) -> Self {
        match *self {}
    }
}
