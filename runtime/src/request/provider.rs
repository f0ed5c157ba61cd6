//! Who computes a stage: plain values. Opens nothing.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use pocketmuse_package::{Error, ErrorKind, Result, Stage, named_enum};

named_enum! {
    /// Who computes a stage, by the name that ONNX Runtime's execution provider goes by here.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Provider at "provider" {
        /// ONNX Runtime's own kernels. The same request makes the same image on every CPU.
        #[default]
        Cpu = "cpu",
        /// Intel's OpenVINO, as a plug-in; its CPU device, in f32.
        OpenVino = "openvino",
        /// Qualcomm's NPUs. Known, but not in this build.
        Qnn = "qnn",
        /// GPUs. Known, but not in this build.
        WebGpu = "webgpu",
        /// Apple's NPUs. Known, but not in this build.
        CoreMl = "coreml",
        /// NVIDIA's GPUs. Known, but not in this build.
        Cuda = "cuda",
        /// Android's deprecated interface. Known, but not in this build.
        Nnapi = "nnapi",
        /// Kernels for phones' CPUs. Known, but not in this build.
        Xnnpack = "xnnpack",
    }
}

/// Who computes which stage. By default the CPU computes all; another provider makes a near image,
/// not the same one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Providers {
    /// By stage; the CPU's where none is named.
    pub stages: BTreeMap<Stage, Provider>,
    /// The absolute path of each plug-in's library.
    pub libraries: BTreeMap<Provider, PathBuf>,
}

impl Providers {
    /// Who computes `stage`.
    pub fn of(&self, stage: Stage) -> Provider {
        self.stages.get(&stage).copied().unwrap_or_default()
    }

    /// Reads `openvino`, for all stages, or `step=openvino,decoder=cpu`.
    ///
    /// # Errors
    ///
    /// `BadRequest` for a provider or a stage that is not known, or a stage named twice.
    ///
    /// # Example
    ///
    /// ```
    /// use pocketmuse::{Provider, Providers, Stage};
    ///
    /// let stages = Providers::stages_of("step=openvino")?;
    /// assert_eq!(stages[&Stage::Step], Provider::OpenVino);
    /// assert_eq!(Providers::stages_of("openvino")?.len(), Stage::ALL.len());
    /// # Ok::<(), pocketmuse::Error>(())
    /// ```
    pub fn stages_of(text: &str) -> Result<BTreeMap<Stage, Provider>> {
        if !text.contains('=') {
            let provider = Provider::from_str(text)?;
            return Ok(Stage::ALL.iter().map(|stage| (*stage, provider)).collect());
        }
        let mut stages = BTreeMap::new();
        for part in text.split(',') {
            let (stage, provider) = part.split_once('=').ok_or_else(|| {
                let detail = format!("expected STAGE=PROVIDER, found {part:?}");
                Error::new(ErrorKind::BadRequest, "provider", detail)
            })?;
            let stage = Stage::from_str(stage)?;
            if stages.insert(stage, Provider::from_str(provider)?).is_some() {
                let detail = format!("expected each stage once, found {stage} twice");
                return Err(Error::new(ErrorKind::BadRequest, "provider", detail));
            }
        }
        Ok(stages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_named_or_all_are_meant() {
        let stages = Providers::stages_of("step=openvino,decoder=cpu").expect("two stages");
        let providers = Providers { stages, ..Providers::default() };
        assert_eq!(providers.of(Stage::Step), Provider::OpenVino);
        assert_eq!(providers.of(Stage::Decoder), Provider::Cpu);
        assert_eq!(providers.of(Stage::Prologue), Provider::Cpu, "the default");
        for wrong in
            ["", "npu", "step=", "step=npu", "steps=cpu", "step=cpu,cpu", "step=cpu,step=cpu"]
        {
            let error = Providers::stages_of(wrong).expect_err(wrong);
            assert_eq!(error.kind(), ErrorKind::BadRequest, "{wrong:?}: {error}");
        }
    }
}
