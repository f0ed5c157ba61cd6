//! Qualcomm's NPUs through QNN: the Hexagon of a phone, or on x86-64 its simulator.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use ort::sys::OrtHardwareDeviceType;
use pocketmuse_package::files;

use super::{
    compiler::{Chip, Compiler, Told},
    option::{Choice, Kind, ProviderOption},
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
    compiler: Some(Compiler {
        chip,
        sdk,
        prepare_only: ("enable_htp_prepare_only", "1"),
        binary_ending: "_qnn.bin",
        told,
    }),
};

/// The system on a chip that graphs are compiled for: the simulator is told, a phone knows its own.
const SOC: ProviderOption = ProviderOption {
    key: "soc",
    kind: Kind::OneOf(&["sm8550", "sm8650", "sm8750", "sm8850"]),
    default: if cfg!(target_arch = "x86_64") { Some("sm8650") } else { None },
};

/// Each system on a chip that is known, with the architecture of its Hexagon.
const SOCS: [Chip; 4] = [
    Chip { name: "sm8550", number: "43", architecture: "73" },
    Chip { name: "sm8650", number: "57", architecture: "75" },
    Chip { name: "sm8750", number: "69", architecture: "79" },
    Chip { name: "sm8850", number: "87", architecture: "81" },
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
    if let Some(Chip { number, architecture, .. }) = chip(target.choice) {
        options.extend([("soc_model", number.to_owned()), ("htp_arch", architecture.to_owned())]);
    }
    options
}

/// The chip that was chosen.
fn chip(choice: Choice<'_>) -> Option<Chip> {
    let soc = choice.of(&SOC)?;
    SOCS.into_iter().find(|chip| chip.name == soc)
}

/// The version of the SDK that the backend beside a plug-in is of: `2.51.0` of the first text in it
/// that is like `v2.51.0.260929181845`, behind a zero.
fn sdk(library: &Path) -> Option<String> {
    let mut file = File::open(files::parent(library).join(BACKEND)).ok()?;
    let (mut piece, mut kept) = (vec![0; 1 << 20], 0);
    loop {
        let count = match file.read(&mut piece[kept..]) {
            Ok(0) => return None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => kept + read.ok()?,
        };
        if let Some(found) = version_in(&piece[..count]) {
            return Some(found);
        }
        kept = count.min(VERSION_BYTES + 2); // a text may end in the next piece
        piece.copy_within(count - kept..count, 0);
    }
}

/// The longest text that says the version, with the zero behind it.
const VERSION_BYTES: usize = 32;

/// The first three numbers of the first text that says the version.
fn version_in(bytes: &[u8]) -> Option<String> {
    let starts = bytes.windows(2).enumerate().filter(|(_, pair)| *pair == b"\0v");
    starts.map(|(at, _)| &bytes[at + 2..]).find_map(|rest| {
        let end = rest.iter().take(VERSION_BYTES).position(|byte| *byte == 0)?;
        let text = std::str::from_utf8(&rest[..end]).ok()?;
        let parts: Vec<_> = text.split('.').collect();
        let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let is_version = parts.len() == 4 && parts[3].len() >= 12 && parts.iter().all(is_number);
        is_version.then(|| parts[..3].join("."))
    })
}

/// Reads `v2:6:2.51.0:5.51.0:75:57:0:0`, which has the SDK, the architecture and the chip.
fn told(info: &str) -> Option<Told> {
    let parts: Vec<_> = info.split(':').collect();
    match parts[..] {
        ["v2", _, sdk, _, architecture, chip, ..] => Some(Told {
            sdk: sdk.to_owned(),
            architecture: architecture.to_owned(),
            chip: chip.to_owned(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pocketmuse_package::Stage;

    use super::*;
    use crate::{
        engine::providers::{Ahead, Assignment, Sizes},
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
            let ahead = Ahead::Nothing;
            let target = Target { assignment, choice, library, sizes, allows_fallback, ahead };
            let options = session_options(&target, 2);
            let of = |key| options.iter().find(|(found, _)| *found == key).map(|(_, value)| value);
            assert_eq!(of("backend_path").map(String::as_str), Some("/opt/qnn/libQnnHtp.so"));
            assert_eq!(of("offload_graph_io_quantization").map(String::as_str), Some("0"));
            assert!(of("soc_model").is_some() && of("htp_arch").is_some(), "{name}");
        }
    }

    #[test]
    fn the_version_of_the_sdk_is_read_wherever_it_stands() {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path().join("libonnxruntime_providers_qnn.so");
        let found = |before: usize, text: &[u8]| {
            let bytes = [&vec![b'x'; before][..], text, b"more"].concat();
            std::fs::write(folder.path().join(BACKEND), bytes).expect("written");
            sdk(&library)
        };
        let text = b"\0v2.51.0.260929181845\0";
        for before in [0, 7, (1 << 20) - 9, (1 << 20) - 1, 3 << 20] {
            assert_eq!(found(before, text).as_deref(), Some("2.51.0"), "{before}");
        }
        for other in [&b"\0v2.51.0\0"[..], b"\0v1.2.3.4\0", b"hexnn_v2.51.0.260929181845\0", b""] {
            assert_eq!(found(3, other), None, "{}", String::from_utf8_lossy(other));
        }
        std::fs::remove_file(folder.path().join(BACKEND)).expect("removed");
        assert_eq!(sdk(&library), None);
    }

    #[test]
    fn a_compiled_graph_tells_its_chip() {
        let read = told("v2:6:2.51.0:5.51.0:75:57:0:0").expect("read");
        assert_eq!([read.sdk, read.architecture, read.chip], ["2.51.0", "75", "57"]);
        for other in ["", "v2", "v3:6:2.51.0:5.51.0:75:57:0:0", "v2:6:2.51.0:5.51.0:75"] {
            assert_eq!(told(other), None, "{other}");
        }
    }
}
