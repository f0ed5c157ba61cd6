//! Qualcomm's NPUs through QNN: the Hexagon of a phone, or on x86-64 its simulator.

use ort::sys::OrtHardwareDeviceType;
use pocketmuse_package::files;

use super::{
    option::{Kind, ProviderOption},
    plug_in::PlugIn,
    target::Target,
    tolerance::Precision,
};

pub(super) const PLUG_IN: PlugIn = PlugIn {
    name: "QNNExecutionProvider",
    // The simulator says that it is a CPU.
    devices: if cfg!(target_arch = "x86_64") {
        &[OrtHardwareDeviceType::OrtHardwareDeviceType_CPU]
    } else {
        &[OrtHardwareDeviceType::OrtHardwareDeviceType_NPU]
    },
    options: &[SOC],
    library_bytes: LIBRARY_BYTES,
    held_bytes,
    session_options,
    precision: |_| Precision::OfFlavour,
};

/// The system on a chip that graphs are compiled for: the simulator is told, a phone knows its own.
const SOC: ProviderOption = ProviderOption {
    key: "soc",
    kind: Kind::OneOf(&["sm8550", "sm8650", "sm8750", "sm8850"]),
    default: if cfg!(target_arch = "x86_64") { Some("sm8650") } else { None },
};

/// Each system on a chip that is known: its name, its number, the architecture of its Hexagon.
const SOCS: [(&str, &str, &str); 4] = [
    ("sm8550", "43", "73"),
    ("sm8650", "57", "75"),
    ("sm8750", "69", "79"),
    ("sm8850", "87", "81"),
];

/// What computes, beside the plug-in. Of several that the wheel has, this one is the NPU.
const BACKEND: &str = "libQnnHtp.so";

/// Memory that its libraries take, in bytes, once a graph was compiled: 106 MB of the simulator.
const LIBRARY_BYTES: u64 = 128 << 20;

/// What a stage takes beside its weights, in bytes: 26 to 69 MB were found for the stages of a small
/// model, whose weights are of 2 to 7 MB.
const STAGE_BYTES: u64 = 24 << 20;

/// What a stage takes, estimated from the bytes of its files, while it is compiled: 4.8 times the
/// weights were found for the step of a full-size model in halves, 5.4 times in integers.
fn held_bytes(files: u64, _as_f32: u64) -> u64 {
    files.saturating_mul(7).saturating_add(STAGE_BYTES)
}

/// The backend is named, since by itself the plug-in finds none. What becomes integers at a graph's
/// edge is its own to make: left to the CPU, it would refuse every graph of integers as not whole.
fn session_options(target: &Target<'_>, _threads: usize) -> Vec<(&'static str, String)> {
    let mut options = vec![("offload_graph_io_quantization", "0".to_owned())];
    if let Some(library) = target.library {
        let backend = files::parent(library).join(BACKEND);
        options.push(("backend_path", backend.to_string_lossy().into_owned()));
    }
    let soc = target.choice.of(&SOC);
    if let Some((_, model, arch)) = SOCS.iter().find(|(name, ..)| soc == Some(name)) {
        options.extend([("soc_model", (*model).to_owned()), ("htp_arch", (*arch).to_owned())]);
    }
    options
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pocketmuse_package::Stage;

    use super::*;
    use crate::{
        engine::providers::{Assignment, Sizes, option::Choice},
        request::Provider,
    };

    #[test]
    fn the_backend_lies_beside_the_plug_in_and_every_chip_has_its_numbers() {
        let assignment = Assignment { provider: Provider::Qnn, stage: Stage::Step };
        let sizes = Sizes { grid: [8, 8], branches: 2 };
        let library = Some(Path::new("/opt/qnn/libonnxruntime_providers_qnn.so"));
        let Kind::OneOf(names) = SOC.kind else { panic!("expected names") };
        for name in names {
            let chosen = [("soc".to_owned(), (*name).to_owned())].into();
            let choice = Choice(Some(&chosen));
            let allows_fallback = false;
            let target = Target { assignment, choice, library, sizes, allows_fallback };
            let options = session_options(&target, 2);
            let of = |key| options.iter().find(|(found, _)| *found == key).map(|(_, value)| value);
            assert_eq!(of("backend_path").map(String::as_str), Some("/opt/qnn/libQnnHtp.so"));
            assert_eq!(of("offload_graph_io_quantization").map(String::as_str), Some("0"));
            assert!(of("soc_model").is_some() && of("htp_arch").is_some(), "{name}");
        }
    }
}
