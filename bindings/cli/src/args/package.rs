//! The flags of every command that runs a package: which one, and how.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use pocketmuse::{Budget, Flavour, Provider, Providers, Stage};
use pocketmuse_package::{Error, ErrorKind, Result};

use super::values::{library, one_of, package, provider_option};

/// Which package is run, and how.
#[derive(Clone, Debug, Default, Args)]
pub struct PackageArgs {
    /// A package's folder, or its name [default: the built-in model]
    ///
    /// `pocketmuse ls` lists the names. Without it that of POCKETMUSE_PACKAGE is used, else the
    /// built-in model, which is exported once into the cache.
    #[arg(long = "package", short_alias = 'm', alias = "model", value_name = "PACKAGE",
          env = "POCKETMUSE_PACKAGE", hide_env = true, value_parser = package())]
    pub folder: Option<PathBuf>,
    /// The graphs to run [default: the package's best]
    #[arg(long, value_name = "FLAVOUR", value_parser = one_of(Flavour::ALL, Flavour::name))]
    pub flavour: Option<Flavour>,
    /// How it is run
    #[command(flatten)]
    pub run: RunArgs,
}

/// How a package is run, and what is printed meanwhile.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// Threads to compute with [default: one for each fast core]
    ///
    /// Without it POCKETMUSE_THREADS says how many.
    #[arg(
        short,
        long,
        alias = "n-threads",
        value_name = "COUNT",
        env = "POCKETMUSE_THREADS",
        hide_env = true
    )]
    pub threads: Option<usize>,
    /// The most memory to hold, such as 512MB or 2G [default: auto]
    ///
    /// 2G is 2GB. auto is three quarters of what the system has left.
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Budget>,
    /// Who computes the stages: cpu, openvino, qnn, webgpu or auto [default: cpu]
    ///
    /// For all, or by stage: step=openvino,decoder=cpu. Another than cpu makes a near image, not
    /// the same one. auto measures who is fastest, once. docs/providers.md tells more.
    #[arg(long, value_name = "PROVIDER", value_parser = Providers::stages_of)]
    pub provider: Option<BTreeMap<Stage, Provider>>,
    /// A provider's plug-in, such as openvino=/absolute/path.so
    #[arg(long, value_name = "NAME=FILE", value_parser = library)]
    pub provider_library: Vec<(Provider, PathBuf)>,
    /// An option of a provider, such as openvino.precision=bf16; may come several times
    #[arg(long, value_name = "PROVIDER.OPTION=VALUE", value_parser = provider_option)]
    #[arg(hide_short_help = true)]
    pub provider_option: Vec<(Provider, String, String)>,
    /// Let the CPU compute what a provider does not take of a stage, and say how much that is
    ///
    /// Without it a stage is taken whole or refused.
    #[arg(long, hide_short_help = true)]
    pub allow_fallback: bool,
    /// Say nothing on stderr but errors
    #[arg(short, long)]
    pub quiet: bool,
    /// Print one JSON object per line on stdout
    #[arg(long)]
    pub json: bool,
}

impl RunArgs {
    /// Who computes which stage, but for those that the CPU does.
    pub(crate) fn others(&self) -> BTreeMap<Stage, Provider> {
        let stages = self.provider.clone().unwrap_or_default().into_iter();
        stages.filter(|(_, provider)| *provider != Provider::Cpu).collect()
    }

    /// Who computes which stage, and with which plug-ins.
    pub(crate) fn providers(&self) -> Providers {
        Providers {
            stages: self.others(),
            libraries: self.provider_library.iter().cloned().collect(),
            options: self.options(),
            allow_fallback: self.allow_fallback,
        }
    }

    /// What is chosen of the options of each provider; the last word counts.
    fn options(&self) -> BTreeMap<Provider, BTreeMap<String, String>> {
        let mut options = BTreeMap::<_, BTreeMap<_, _>>::new();
        for (provider, key, value) in self.provider_option.iter().cloned() {
            options.entry(provider).or_default().insert(key, value);
        }
        options
    }

    /// The same for a job that began with `providers`. A plug-in may have moved since.
    ///
    /// # Errors
    ///
    /// `BadRequest` if the flags name other providers or options.
    pub(crate) fn going_on_with(&self, providers: &Providers) -> Result<Self> {
        let differs = |flag| {
            let detail = "expected those that the job began with, found others: leave the flag out";
            Err(Error::new(ErrorKind::BadRequest, flag, detail))
        };
        if self.provider.is_some() && self.others() != providers.stages {
            return differs("provider");
        }
        if !self.provider_option.is_empty() && self.options() != providers.options {
            return differs("provider_option");
        }
        let libraries =
            providers.libraries.iter().map(|(provider, file)| (*provider, file.clone()));
        let provider_library = libraries.chain(self.provider_library.iter().cloned()).collect();
        let options = providers.options.iter().flat_map(|(provider, chosen)| {
            chosen.iter().map(|(key, value)| (*provider, key.clone(), value.clone()))
        });
        Ok(Self {
            provider: Some(providers.stages.clone()),
            provider_library,
            provider_option: options.collect(),
            allow_fallback: self.allow_fallback || providers.allow_fallback,
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(provider: Option<&str>, library: Option<&str>) -> RunArgs {
        RunArgs {
            provider: provider.map(|text| Providers::stages_of(text).expect("known")),
            provider_library: library
                .iter()
                .map(|file| (Provider::OpenVino, file.into()))
                .collect(),
            ..RunArgs::default()
        }
    }

    #[test]
    fn a_job_goes_on_with_the_options_that_it_began_with() {
        let option = |value: &str| (Provider::OpenVino, "precision".to_owned(), value.to_owned());
        let flags = |options: &[&str]| RunArgs {
            provider_option: options.iter().map(|value| option(value)).collect(),
            ..flags(Some("openvino"), None)
        };
        let begun = flags(&["f32", "bf16"]).providers();
        let chosen = BTreeMap::from([("precision".to_owned(), "bf16".to_owned())]);
        assert_eq!(begun.options, [(Provider::OpenVino, chosen)].into(), "the last word counts");
        for same in [&[][..], &["bf16"]] {
            let run = RunArgs { provider: None, ..flags(same) };
            assert_eq!(run.going_on_with(&begun).expect("the same").providers(), begun);
        }
        let error = flags(&["f32"]).going_on_with(&begun).expect_err("others");
        assert_eq!((error.kind(), error.at()), (ErrorKind::BadRequest, "provider_option"));
    }

    #[test]
    fn a_job_goes_on_with_the_providers_that_it_began_with() {
        let begun = flags(Some("step=openvino,decoder=cpu"), Some("/a.so")).providers();
        assert_eq!(begun.stages, [(Stage::Step, Provider::OpenVino)].into());
        for (provider, library, expected) in [
            (None, None, "/a.so"),
            (Some("step=openvino"), None, "/a.so"),
            (None, Some("/moved.so"), "/moved.so"),
        ] {
            let run = flags(provider, library).going_on_with(&begun).expect("the same");
            let libraries = [(Provider::OpenVino, expected.into())].into();
            assert_eq!(run.providers(), Providers { libraries, ..begun.clone() });
        }
        for other in ["cpu", "openvino"] {
            let error = flags(Some(other), None).going_on_with(&begun).expect_err(other);
            assert_eq!((error.kind(), error.at()), (ErrorKind::BadRequest, "provider"));
        }
        assert_eq!(flags(Some("cpu"), None).providers(), Providers::default());
    }
}
