//! How a package is opened, for both languages: the runtime's options, field by field.

use std::{collections::HashMap, num::NonZeroU8};

use crate::{
    error::{PocketMuseError, size},
    kinds::{Flavour, Provider, Stage},
};

/// How the threads of an operator wait for work and share it. It changes time and power, not a
/// single bit of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Sharing {
    /// Whether threads that wait for work sleep at once. By default they spin for a while, which
    /// keeps their cores busy and drains a battery, but finds the next work sooner.
    #[uniffi(default = false)]
    pub sleeping_threads: bool,
    /// Into how many blocks for each thread the rest of an operator's work is divided, over and
    /// over, 1 to 255, so that slow cores take fewer of them. By default blocks of one size.
    #[uniffi(default = None)]
    pub dynamic_block_base: Option<u8>,
}

/// Who computes which stage. Another provider than the CPU makes a near image, not the same one.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Providers {
    /// By stage; the CPU's where none is named.
    pub stages: HashMap<Stage, Provider>,
    /// The absolute path of each plug-in's library.
    pub libraries: HashMap<Provider, String>,
    /// What was chosen of each provider's options, by their names: `precision` is `bf16`. None by
    /// default. An option that its provider does not know is refused.
    #[uniffi(default)]
    pub options: HashMap<Provider, HashMap<String, String>>,
    /// Whether the CPU may compute those nodes of a stage that its provider does not take. By
    /// default such a stage is refused.
    #[uniffi(default = false)]
    pub allow_fallback: bool,
}

/// How a package is opened. The default suits most.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Options {
    /// The graphs to run; by default the best that the package has.
    #[uniffi(default = None)]
    pub flavour: Option<Flavour>,
    /// Threads to compute with, at least 1. By default one on each fast core that the process may
    /// run on, at most 4 on Android and iOS.
    #[uniffi(default = None)]
    pub threads: Option<u32>,
    /// How threads wait for work and share it. By default they spin and share evenly.
    #[uniffi(default = None)]
    pub sharing: Option<Sharing>,
    /// The ONNX Runtime library file. By default the one that comes with the app.
    #[uniffi(default = None)]
    pub library: Option<String>,
    /// How much memory may be used, in bytes, in all: a request that needs more is refused. By
    /// default three quarters of what the process holds and the system has left, and a request that
    /// needs more is tried all the same.
    #[uniffi(default = None)]
    pub memory: Option<u64>,
    /// Whether every stage is dropped before the next one is loaded, even where the budget would
    /// let it stay: right for a process that makes one image. Not by default.
    #[uniffi(default = false)]
    pub staged: bool,
    /// Whether memory is measured while a job runs, for who looks for what takes it: a thread then
    /// samples it every 5 ms. Not by default.
    #[uniffi(default = false)]
    pub measure_memory: bool,
    /// Cache folder for what was checked and prepared of a package, created if missing: only the
    /// first process then hashes the package. None by default.
    #[uniffi(default = None)]
    pub prepared: Option<String>,
    /// Who computes which stage. By default the CPU computes all.
    #[uniffi(default = None)]
    pub providers: Option<Providers>,
}

impl From<Providers> for pocketmuse::Providers {
    fn from(Providers { stages, libraries, options, allow_fallback }: Providers) -> Self {
        let stages = stages.into_iter().map(|(stage, provider)| (stage.into(), provider.into()));
        let libraries =
            libraries.into_iter().map(|(provider, file)| (provider.into(), file.into()));
        let options = options
            .into_iter()
            .map(|(provider, chosen)| (provider.into(), chosen.into_iter().collect()));
        Self {
            stages: stages.collect(),
            libraries: libraries.collect(),
            options: options.collect(),
            allow_fallback,
        }
    }
}

impl TryFrom<Sharing> for pocketmuse::Sharing {
    type Error = PocketMuseError;

    fn try_from(sharing: Sharing) -> Result<Self, PocketMuseError> {
        let Sharing { sleeping_threads, dynamic_block_base } = sharing;
        let base = |value| {
            NonZeroU8::new(value).ok_or_else(|| PocketMuseError::BadRequest {
                field: "dynamic_block_base".to_owned(),
                reason: "expected at least 1 block, found 0".to_owned(),
            })
        };
        Ok(Self { sleeping_threads, dynamic_block_base: dynamic_block_base.map(base).transpose()? })
    }
}

impl TryFrom<Options> for pocketmuse::Options {
    type Error = PocketMuseError;

    fn try_from(options: Options) -> Result<Self, PocketMuseError> {
        let Options {
            flavour,
            threads,
            sharing,
            library,
            memory,
            staged,
            measure_memory,
            prepared,
            providers,
        } = options;
        let budget = memory.map(pocketmuse::Budget::Bytes);
        Ok(Self {
            flavour: flavour.map(Into::into),
            threads: threads.map(|threads| size(threads, "threads")).transpose()?,
            sharing: sharing.map(TryInto::try_into).transpose()?.unwrap_or_default(),
            library: library.map(Into::into),
            memory: budget.unwrap_or_default(),
            staged,
            measure_memory,
            prepared: prepared.map(Into::into),
            providers: providers.map(Into::into).unwrap_or_default(),
        })
    }
}
