//! Intel's OpenVINO: its CPU device.

/// The name that its plug-in is registered under, which is its provider's.
pub(super) const NAME: &str = "OpenVINOExecutionProvider";

/// Its options. The precision is always said: by itself it computes f32 graphs in bf16 where the
/// processor has AMX. It ignores what it does not know, so a misspelt key would do so, too.
pub(super) fn options(threads: usize) -> Vec<(&'static str, String)> {
    let config = format!(
        r#"{{"CPU":{{"INFERENCE_PRECISION_HINT":"f32","INFERENCE_NUM_THREADS":"{threads}"}}}}"#
    );
    vec![("load_config", config)]
}
