//! What is said of a provider that comes as a plug-in, in its file.

use ort::sys::OrtHardwareDeviceType;

use super::{
    compiler::Compiler,
    option::{Choice, ProviderOption},
    target::Target,
    tolerance::Precision,
};

/// What is known of a provider that comes as a plug-in.
#[cfg_attr(
    not(all(unix, not(feature = "linked"))),
    allow(dead_code, reason = "no plug-in is loaded there")
)]
pub(super) struct PlugIn {
    /// The name that it is registered under, which is its provider's.
    pub(super) name: &'static str,
    /// Devices of it that are used, the best first.
    pub(super) devices: &'static [OrtHardwareDeviceType],
    /// The options that a caller may choose.
    pub(super) options: &'static [ProviderOption],
    /// Memory that its libraries take, in bytes.
    pub(super) library_bytes: u64,
    /// What it is expected to hold of a graph, whose files have so many bytes and its weights so
    /// many as f32.
    pub(super) held_bytes: fn(u64, u64) -> u64,
    /// What it is told of a session with so many threads, in its own words.
    pub(super) session_options: fn(&Target<'_>, usize) -> Vec<(&'static str, String)>,
    /// What it computes in, which says how near to the CPU it must be.
    pub(super) precision: fn(Choice<'_>) -> Precision,
    /// How it compiles graphs ahead, if it does.
    pub(super) compiler: Option<Compiler>,
}
