//! No plug-ins: where ONNX Runtime is linked into the program, or the system is not a Unix.

use std::path::Path;

use ort::session::{Session, builder::SessionBuilder};
use pocketmuse_package::Result;

use super::{
    nodes::Nodes,
    plug_in::PlugIn,
    target::{Target, not_in_this_build},
};
use crate::{engine::runtime::Runtime, request::Provider};

pub(super) fn check(provider: Provider, _library: Option<&Path>) -> Result<&Path> {
    Err(not_in_this_build(provider))
}

pub(super) fn version(_library: &Path) -> String {
    String::new()
}

pub(super) fn append(
    _runtime: &Runtime,
    target: &Target<'_>,
    _plug_in: &PlugIn,
    _session: (&mut SessionBuilder, &[(&str, String)]),
) -> Result<()> {
    Err(not_in_this_build(target.assignment.provider))
}

pub(super) fn nodes(_runtime: &Runtime, _plug_in: &PlugIn, _session: &Session) -> Option<Nodes> {
    None
}

pub(super) fn devices(_runtime: &Runtime, _plug_in: &PlugIn) -> Vec<String> {
    Vec::new()
}
