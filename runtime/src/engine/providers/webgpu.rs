//! GPUs through WebGPU: on Linux by way of Vulkan.

use ort::sys::OrtHardwareDeviceType;

use super::{plug_in::PlugIn, tolerance::Precision};

pub(super) const PLUG_IN: PlugIn = PlugIn {
    name: "WebGpuExecutionProvider",
    // It takes any of these, and chooses the GPU by itself.
    devices: &[
        OrtHardwareDeviceType::OrtHardwareDeviceType_GPU,
        OrtHardwareDeviceType::OrtHardwareDeviceType_CPU,
    ],
    options: &[],
    library_bytes: 64 << 20,
    held_bytes: |files, _as_f32| files.saturating_mul(2), // as it reads them, and on the GPU
    session_options: |_, _| Vec::new(),
    precision: |_| Precision::OfFlavour,
    compiler: None,
};
