//! Intel's OpenVINO: its CPU device.

/// The name that its plug-in is registered under, which is its provider's.
pub(super) const NAME: &str = "OpenVINOExecutionProvider";

/// Memory that its libraries take, in bytes: 84 MB were found once a graph was compiled.
pub(super) const LIBRARY_BYTES: u64 = 96 << 20;

/// What a stage takes, estimated from the bytes of its files and from those of its weights as f32:
/// 2.1 times the weights were found for the f32 step of a full-size model, and less than this for
/// the stages of a small one.
pub(super) fn held_bytes(files: u64, as_f32: u64) -> u64 {
    files.saturating_add(files / 4).saturating_add(as_f32)
}

/// Its options. The precision is always said: by itself it computes f32 graphs in bf16 where the
/// processor has AMX. It ignores what it does not know, so a misspelt key would do so, too.
pub(super) fn options(threads: usize) -> Vec<(&'static str, String)> {
    let config = format!(
        r#"{{"CPU":{{"INFERENCE_PRECISION_HINT":"f32","INFERENCE_NUM_THREADS":"{threads}"}}}}"#
    );
    vec![("load_config", config)]
}
