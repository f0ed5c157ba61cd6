//! Intel's OpenVINO: its CPU device.

use ort::sys::OrtHardwareDeviceType;

use super::{
    option::{Choice, Kind, ProviderOption},
    plug_in::PlugIn,
    target::Target,
    tolerance::Precision,
};
use crate::request::control::MAX_THREADS;

pub(super) const PLUG_IN: PlugIn = PlugIn {
    name: "OpenVINOExecutionProvider",
    devices: &[OrtHardwareDeviceType::OrtHardwareDeviceType_CPU],
    options: &[PRECISION, THREADS],
    // 84 MB were found once a graph was compiled.
    library_bytes: 96 << 20,
    held_bytes,
    session_options,
    precision,
    compiler: None,
};

/// What it computes in.
const PRECISION: ProviderOption =
    ProviderOption { key: "precision", kind: Kind::OneOf(&["f32", "bf16"]), default: Some("f32") };

/// Threads of its own; as many as the CPU's stages have, if nobody says.
const THREADS: ProviderOption =
    ProviderOption { key: "threads", kind: Kind::Number(1..=MAX_THREADS as u32), default: None };

/// What a stage takes, estimated from the bytes of its files and from those of its weights as f32:
/// 2.1 times the weights were found for the f32 step of a full-size model, and less than this for
/// the stages of a small one.
fn held_bytes(files: u64, as_f32: u64) -> u64 {
    files.saturating_add(files / 4).saturating_add(as_f32)
}

/// The precision is always said: by itself it computes f32 graphs in bf16 where the processor has
/// AMX. By itself it also rounds what it multiplies weights of 8 bits by to 8 bits: the step graph
/// of integers is then 7 % off, and without it 4e-6. It ignores what it does not know, so a
/// misspelt key would do so, too.
fn session_options(target: &Target<'_>, threads: usize) -> Vec<(&'static str, String)> {
    let precision = target.choice.of(&PRECISION).unwrap_or_default();
    let threads = target.choice.of(&THREADS).map_or_else(|| threads.to_string(), str::to_owned);
    let config = [
        ("INFERENCE_PRECISION_HINT", precision),
        ("INFERENCE_NUM_THREADS", &threads),
        ("DYNAMIC_QUANTIZATION_GROUP_SIZE", "0"),
    ];
    let config = config.map(|(key, value)| format!(r#""{key}":"{value}""#)).join(",");
    vec![("load_config", format!(r#"{{"CPU":{{{config}}}}}"#))]
}

fn precision(choice: Choice<'_>) -> Precision {
    if choice.of(&PRECISION) == Some("bf16") { Precision::Bf16 } else { Precision::OfFlavour }
}
