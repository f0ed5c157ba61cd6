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
        /// Intel's OpenVINO, as a plug-in; its CPU device.
        OpenVino = "openvino",
        /// Qualcomm's NPUs, as a plug-in; on x86-64 their simulator.
        Qnn = "qnn",
        /// GPUs, as a plug-in.
        WebGpu = "webgpu",
        /// Apple's NPUs. Known, but not in this build.
        CoreMl = "coreml",
        /// NVIDIA's GPUs. Known, but not in this build.
        Cuda = "cuda",
        /// Android's deprecated interface. Known, but not in this build.
        Nnapi = "nnapi",
        /// Kernels for phones' CPUs. Known, but not in this build.
        Xnnpack = "xnnpack",
        /// Whoever has a library, fits the budget, computes what the CPU does and is fastest; else
        /// the CPU. Found by measuring when a job runs.
        Auto = "auto",
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
    /// What was chosen of each provider's options, by their names; the page on providers lists them.
    /// Those of a provider that computes no stage are refused, as is what is not in the list.
    pub options: BTreeMap<Provider, BTreeMap<String, String>>,
    /// Whether the CPU may compute those nodes of a stage that its provider does not take; the
    /// report says how many. By default such a stage is refused.
    pub allow_fallback: bool,
}

impl Providers {
    /// Who computes `stage`.
    pub fn of(&self, stage: Stage) -> Provider {
        self.stages.get(&stage).copied().unwrap_or_default()
    }

    /// The options of those that compute a stage of `stages`, as far as any were chosen.
    pub fn options_of(
        &self,
        stages: &BTreeMap<Stage, Provider>,
    ) -> BTreeMap<Provider, BTreeMap<String, String>> {
        let options = self.options.iter().filter(|(provider, _)| self.uses(stages, **provider));
        options.map(|(provider, chosen)| (*provider, chosen.clone())).collect()
    }

    /// Whether `provider` computes a stage of `stages`, or may be chosen for one.
    pub(crate) fn uses(&self, stages: &BTreeMap<Stage, Provider>, provider: Provider) -> bool {
        let may_be = self.candidates().any(|candidate| candidate == provider);
        let is_it = |used: &Provider| *used == provider || (*used == Provider::Auto && may_be);
        stages.values().any(is_it)
    }

    /// Whether `auto` computes a stage.
    pub(crate) fn is_automatic(&self) -> bool {
        self.stages.values().any(|provider| *provider == Provider::Auto)
    }

    /// Whom `auto` tries besides the CPU: those that have a library.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = Provider> {
        let libraries = self.libraries.keys().copied();
        libraries.filter(|provider| ![Provider::Cpu, Provider::Auto].contains(provider))
    }

    /// Reads `openvino.precision=bf16`: an option's provider, name and value. Whether there is such
    /// an option is found out when a package is opened.
    ///
    /// # Errors
    ///
    /// `BadRequest` for what is not written like this, and for a provider that is not known.
    pub fn option_of(text: &str) -> Result<(Provider, String, String)> {
        let parts = text.split_once('=').and_then(|(name, value)| {
            let (provider, key) = name.split_once('.')?;
            (!key.is_empty()).then_some((provider, key, value))
        });
        let (provider, key, value) = parts.ok_or_else(|| {
            let detail = format!("expected PROVIDER.OPTION=VALUE, found {text:?}");
            Error::new(ErrorKind::BadRequest, "provider_option", detail)
        })?;
        Ok((provider.parse()?, key.to_owned(), value.to_owned()))
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
    fn an_option_has_the_name_of_its_provider_in_front() {
        let expected = (Provider::OpenVino, "precision".to_owned(), "a=b.c".to_owned());
        assert_eq!(Providers::option_of("openvino.precision=a=b.c").expect("read"), expected);
        for wrong in ["", "=", "precision=f32", "openvino=f32", "openvino.=1", "npu.a=1"] {
            let error = Providers::option_of(wrong).expect_err(wrong);
            assert_eq!(error.kind(), ErrorKind::BadRequest, "{wrong:?}: {error}");
        }
    }

    #[test]
    fn an_option_is_used_by_whoever_may_be_chosen() {
        let options = ["openvino.precision=bf16", "qnn.soc=sm8550"].map(|text| {
            let (provider, key, value) = Providers::option_of(text).expect(text);
            (provider, BTreeMap::from([(key, value)]))
        });
        let libraries = [(Provider::OpenVino, "/a.so".into())].into();
        let providers = Providers { options: options.into(), libraries, ..Providers::default() };
        for (text, used) in [
            ("auto", &[Provider::OpenVino][..]),
            ("step=auto,decoder=qnn", &[Provider::OpenVino, Provider::Qnn]),
            ("step=openvino", &[Provider::OpenVino]),
            ("cpu", &[]),
        ] {
            let stages = Providers::stages_of(text).expect(text);
            assert!(providers.options_of(&stages).keys().eq(used), "{text}");
            let providers = Providers { stages, ..providers.clone() };
            assert_eq!(providers.is_automatic(), text.contains("auto"), "{text}");
        }
    }

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
