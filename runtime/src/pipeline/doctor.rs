//! What can be used here: ONNX Runtime, the processor, memory, and what other providers than the CPU
//! show of a package's stages. Nothing about the user is in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use pocketmuse_package::{Digest, Error, ErrorKind, Flavour, Manifest, Result, Stage};

use super::{
    Origin, Pipeline,
    proof::{self, Candidate, Prover},
};
use crate::{
    engine::{loading::Loading, processor, providers, runtime::Runtime},
    memory::budget,
    package::{
        Options,
        prepared::{Need, Speed, Verdict},
    },
    request::{Cancel, Job, Provider, Providers, Request},
};

/// What is to be looked at, and how.
#[derive(Clone, Debug, Default)]
pub struct Doctor {
    /// How a package is opened. Its flavour is looked at, or all that the package has. Its providers
    /// compute the stages that they are named for; where none is named, each that has a library
    /// computes all.
    pub options: Options,
    /// Whether providers are proved again of which everything is known.
    pub again: bool,
}

/// What there is to say: the same everywhere, and nothing about the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it was found out on.
    pub machine: Machine,
    /// All providers that have a name, but for [`Provider::Auto`].
    pub providers: Vec<ProviderState>,
    /// The package whose stages were looked at.
    pub package: Option<PackageName>,
    /// What providers show of its stages.
    pub stages: Vec<Diagnosis>,
}

impl Report {
    /// Whether all that was looked at may be used.
    pub fn is_good(&self) -> bool {
        self.stages.iter().all(Diagnosis::is_good)
    }
}

/// A provider, and what there is of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderState {
    /// Which.
    pub provider: Provider,
    /// Whether this build has it.
    pub is_here: bool,
    /// Its plug-in, if it was given one; `~` stands for the user's folder.
    pub library: Option<PathBuf>,
    /// The devices that it offered in proofs: what they are, whose, and the plug-in's version.
    pub devices: Vec<String>,
}

/// Which package it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageName {
    /// The model's name.
    pub model: String,
    /// The digest of its manifest.
    pub digest: Digest,
}

impl Doctor {
    /// Starts ONNX Runtime, and has `package` opened with `open` for each flavour and each set of
    /// providers. `on_stage` is told of each stage before it is proved. The size is the package's
    /// own.
    ///
    /// # Errors
    ///
    /// `EngineMissing` if ONNX Runtime is not found or too old; `Unsupported` if the package lacks
    /// the flavour; what `open` returns; else as for [`Pipeline::diagnose`].
    pub fn examine(
        &self,
        package: Option<&Manifest>,
        mut open: impl FnMut(&Options) -> Result<Pipeline>,
        mut on_stage: impl FnMut(&Candidate),
    ) -> Result<Report> {
        let machine = Machine::here(self.options.library.as_deref())?;
        let mut stages = Vec::new();
        for flavour in self.flavours(package)? {
            for providers in self.providers() {
                let (flavour, staged) = (Some(flavour), true);
                let options = Options { flavour, providers, staged, ..self.options.clone() };
                let pipeline = open(&options)?;
                let job = pipeline.job(&Request::default(), Origin::Nothing)?;
                stages.extend(pipeline.diagnose(&job, self.again, &mut on_stage)?);
            }
        }
        let all = Provider::ALL.into_iter().filter(|provider| *provider != Provider::Auto);
        let providers = all.map(|provider| self.state(provider, &machine, &stages)).collect();
        let package = package.map(|manifest| PackageName {
            model: manifest.model.name.clone(),
            digest: manifest.digest(),
        });
        Ok(Report { machine, providers, package, stages })
    }

    /// The flavours to look at.
    fn flavours(&self, package: Option<&Manifest>) -> Result<Vec<Flavour>> {
        let Some(manifest) = package else { return Ok(Vec::new()) };
        if let Some(flavour) = self.options.flavour {
            manifest.flavour(flavour)?;
            return Ok(vec![flavour]);
        }
        Ok(manifest.flavours.keys().copied().collect())
    }

    /// Who is to compute what, one after another.
    fn providers(&self) -> Vec<Providers> {
        let asked = &self.options.providers;
        if !asked.stages.is_empty() {
            return vec![asked.clone()];
        }
        let of = |provider: &Provider| {
            let stages: BTreeMap<_, _> = Stage::ALL.map(|stage| (stage, *provider)).into();
            let options = asked.options_of(&stages);
            Providers { stages, options, ..asked.clone() }
        };
        asked.libraries.keys().map(of).collect()
    }

    fn state(&self, provider: Provider, machine: &Machine, stages: &[Diagnosis]) -> ProviderState {
        let of = stages.iter().filter(|one| one.provider == provider);
        let devices = of.filter_map(|one| one.verdict().map(|verdict| verdict.devices.clone()));
        ProviderState {
            provider,
            is_here: machine.providers.contains(&provider),
            library: self.options.providers.libraries.get(&provider).map(|library| shown(library)),
            devices: devices.flatten().collect::<BTreeSet<_>>().into_iter().collect(),
        }
    }
}

/// What a package is run with on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// ONNX Runtime's library; `~` stands for the user's folder.
    pub library: PathBuf,
    /// Which build it is.
    pub build: String,
    /// What the processor can multiply with.
    pub instruction_sets: Vec<&'static str>,
    /// Threads that run at once.
    pub cores: usize,
    /// Memory that the system has left; `None` where it does not tell.
    pub available_bytes: Option<u64>,
    /// Providers that this build has.
    pub providers: Vec<Provider>,
}

impl Machine {
    /// Starts ONNX Runtime and looks around; `library` as [`Options::library`].
    ///
    /// # Errors
    ///
    /// `EngineMissing` if ONNX Runtime is not found or too old.
    ///
    /// [`Options::library`]: crate::Options::library
    pub fn here(library: Option<&Path>) -> Result<Self> {
        let runtime = Runtime::start(library)?;
        Ok(Self {
            library: shown(runtime.path()),
            build: runtime.build_info().to_owned(),
            instruction_sets: processor::instruction_sets(),
            cores: thread::available_parallelism().map_or(1, Into::into),
            available_bytes: budget::available(),
            providers: Provider::ALL.into_iter().filter(|one| providers::is_here(*one)).collect(),
        })
    }
}

/// A path as it may be shown to others: `~` stands for the user's folder.
fn shown(path: &Path) -> PathBuf {
    anonymous(path, env::home_dir().as_deref())
}

/// A path without the name of the user whose folder it is in.
fn anonymous(path: &Path, home: Option<&Path>) -> PathBuf {
    let home = home.filter(|home| home.parent().is_some()); // a user whose folder is / has no name in it
    let inside = home.and_then(|home| path.strip_prefix(home).ok());
    inside.map_or_else(|| path.to_owned(), |inside| Path::new("~").join(inside))
}

/// What another provider than the CPU shows of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The graphs.
    pub flavour: Flavour,
    /// Which stage.
    pub stage: Stage,
    /// Who was to compute it.
    pub provider: Provider,
    /// What it showed.
    pub finding: Finding,
}

/// What a provider showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It came to the end of its proof, now or before; or it is known not to.
    Verdict(Verdict),
    /// It does not take the whole stage, or failed; this is said of it.
    Failed(String),
}

impl Diagnosis {
    /// Whether the provider may compute the stage.
    pub fn is_good(&self) -> bool {
        self.verdict().is_some_and(|verdict| verdict.is_right)
    }

    /// What its proof showed, if it came to its end or is known not to.
    pub fn verdict(&self) -> Option<&Verdict> {
        match &self.finding {
            Finding::Verdict(verdict) => Some(verdict),
            Finding::Failed(_) => None,
        }
    }

    /// How fast the provider is, if that was measured.
    pub fn speed(&self) -> Option<Speed> {
        self.verdict()?.speed
    }

    /// How much memory the provider takes, if that was measured.
    pub fn need(&self) -> Option<Need> {
        self.verdict()?.need
    }

    /// How far the provider is off, or why it is refused.
    pub fn reason(&self) -> &str {
        match &self.finding {
            Finding::Verdict(verdict) => &verdict.reason,
            Finding::Failed(reason) => reason,
        }
    }

    /// The verdict in a sentence.
    pub fn sentence(&self) -> String {
        match &self.finding {
            Finding::Failed(reason) => format!("refused: {reason}"),
            Finding::Verdict(verdict) if !verdict.is_right => {
                format!("refused: {}", verdict.reason)
            }
            Finding::Verdict(Verdict { speed: None, .. }) => "right".to_owned(),
            Finding::Verdict(Verdict { speed: Some(speed), .. }) => {
                let times = speed.cpu_run_us as f64 / speed.run_us.max(1) as f64;
                if times < 1.0 {
                    format!("right, and slower than the CPU: {times:.2} times as fast")
                } else {
                    format!("right, and {times:.2} times as fast as the CPU")
                }
            }
        }
    }

    /// What would help, if the stage is refused.
    pub fn advice(&self) -> Option<&'static str> {
        match (&self.finding, self.flavour) {
            _ if self.is_good() => None,
            (Finding::Verdict(Verdict { speed: None, .. }), _) => {
                Some("take another version of the plug-in, or try it again: doctor --again")
            }
            (_, Flavour::Int8 | Flavour::Int4) => {
                Some("export the graphs f16 or f32: other providers are made for them")
            }
            (Finding::Failed(_), _) => Some("allow the CPU to compute the rest"),
            (Finding::Verdict(_), _) => Some("leave this stage to the CPU"),
        }
    }
}

impl Pipeline {
    /// The same pipeline, and other providers than the CPU are proved by `prover` instead of in this
    /// process, which a plug-in may crash or halt for ever. `prover` starts another process, which
    /// calls [`Self::prove`], and returns what that returned; [`Verdict::not_ended`] if it did not
    /// come to an end; or `None` to have it proved here after all.
    pub fn with_prover(
        &self,
        prover: impl Fn(&Candidate, &Cancel) -> Result<Option<Verdict>> + Send + Sync + 'static,
    ) -> Self {
        Self { prover: Some(Prover(Arc::new(prover))), ..self.clone() }
    }

    /// Runs a stage with the CPU and with another provider, compares what they make, and measures
    /// what the other takes. What comes of it is kept; what was kept before counts for nothing.
    ///
    /// # Errors
    ///
    /// `ProviderFailed` if the provider does not take the whole stage, or fails; `BadRequest` if
    /// its library is none, or it is not the one that this pipeline has for the stage; else as for
    /// [`Self::run`].
    pub fn prove(&self, candidate: &Candidate) -> Result<Verdict> {
        let control = self.control.clone().unwrap_or_default();
        let _turn = self.turns.take(&control, || ())?;
        let Candidate { stage, provider, .. } = *candidate;
        self.check_other(stage, provider)?;
        let package = self.with_provider(stage, provider).package;
        let about = (*candidate, Loading::of(stage));
        let verdict = proof::shown(&package, about, control.canceller())?;
        package.keep((stage, candidate.sizes()), verdict.clone())?;
        Ok(verdict)
    }

    /// Checks that `provider` computes `stage` instead of the CPU, or may be chosen to.
    pub(super) fn check_other(&self, stage: Stage, provider: Provider) -> Result<()> {
        if self.others(stage).contains(&provider) {
            return Ok(());
        }
        let own = self.package.provider(stage);
        let detail = format!("expected {own}, which is no CPU, found {provider}");
        Err(Error::new(ErrorKind::BadRequest, "provider", detail))
    }

    /// Who computes `stage` instead of the CPU, or may be chosen to.
    fn others(&self, stage: Stage) -> Vec<Provider> {
        match self.package.provider(stage) {
            Provider::Cpu => Vec::new(),
            Provider::Auto => self.package.providers().candidates().collect(),
            other => vec![other],
        }
    }

    /// What the providers of this pipeline show of the stages that they compute for `job`: those of
    /// which nothing is known are proved, and with `again` all. `on_stage` is told of each before.
    ///
    /// # Errors
    ///
    /// `BadRequest` if a provider's library is no plug-in; `Cancelled` if it is to stop; else as for
    /// [`Self::run`], but for a provider that fails, which is what this finds out.
    pub fn diagnose(
        &self,
        job: &Job,
        again: bool,
        mut on_stage: impl FnMut(&Candidate),
    ) -> Result<Vec<Diagnosis>> {
        let plan = self.plan_job(job)?;
        let control = self.control.clone().unwrap_or_default();
        let mut turn = self.turns.take(&control, || ())?;
        turn.warm().drop_stages();
        let mut found = Vec::new();
        let others = self.providers().into_keys().flat_map(|stage| {
            self.others(stage).into_iter().map(move |provider| (stage, provider))
        });
        for (stage, provider) in others {
            let other = self.with_provider(stage, provider);
            let package = &*other.package;
            let candidate = Candidate::of(package, job, (stage, plan.threads));
            let about = (stage, candidate.sizes());
            if again {
                package.forget_verdict(about)?;
            }
            let flavour = package.flavour();
            let diagnosis = |finding| Diagnosis { flavour, stage, provider, finding };
            if let Some(verdict) = package.verdict(about)? {
                found.push(diagnosis(Finding::Verdict(verdict)));
                continue;
            }
            on_stage(&candidate);
            let by = (self.prover.as_ref(), control.canceller());
            let proved = proof::prove(package, (candidate, Loading::of(stage)), by);
            found.push(diagnosis(match (package.verdict(about)?, proved) {
                (Some(verdict), _) => Finding::Verdict(verdict), // which says what is wrong, too
                (None, Err(error)) if error.kind() == ErrorKind::ProviderFailed => {
                    Finding::Failed(error.detail().to_owned())
                }
                (None, Err(error)) => return Err(error),
                (None, Ok(())) => continue, // kept, so it is known
            }));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::prepared::Speed;

    fn diagnosis(flavour: Flavour, finding: Finding) -> Diagnosis {
        Diagnosis { flavour, stage: Stage::Step, provider: Provider::OpenVino, finding }
    }

    #[test]
    fn a_verdict_is_a_sentence_and_says_what_would_help() {
        let speed = |run_us, cpu_run_us| {
            let speed = Speed { load_us: 1, run_us, cpu_load_us: 1, cpu_run_us };
            Verdict { is_right: true, speed: Some(speed), ..Verdict::not_ended("near") }
        };
        let wrong = Verdict { is_right: false, ..speed(1, 1) };
        let failed = |said: &str| Finding::Failed(said.to_owned());
        for (flavour, finding, sentence, advice) in [
            (Flavour::F32, Finding::Verdict(speed(100, 250)), "2.50 times as fast", None),
            (Flavour::F32, Finding::Verdict(speed(200, 100)), "slower than the CPU", None),
            (Flavour::F32, Finding::Verdict(wrong.clone()), "refused: near", Some("to the CPU")),
            (Flavour::Int8, Finding::Verdict(wrong), "refused: near", Some("f16 or f32")),
            (Flavour::Int4, failed("Scan"), "refused: Scan", Some("f16 or f32")),
            (Flavour::F32, failed("Scan"), "refused: Scan", Some("allow the CPU")),
            (
                Flavour::F32,
                Finding::Verdict(Verdict::not_ended("crashed")),
                "refused: crashed",
                Some("another version"),
            ),
        ] {
            let diagnosis = diagnosis(flavour, finding);
            assert!(diagnosis.sentence().contains(sentence), "{}", diagnosis.sentence());
            assert_eq!(diagnosis.advice().is_none(), diagnosis.is_good(), "{diagnosis:?}");
            let found = diagnosis.advice().unwrap_or_default();
            assert!(found.contains(advice.unwrap_or_default()), "{found}");
        }
    }

    #[test]
    fn nobody_is_named() {
        let cases = [
            (Some("/home/ada"), "~/.cache/lib.so"),
            (Some("/home/eva"), "/home/ada/.cache/lib.so"),
            (Some("/"), "/home/ada/.cache/lib.so"),
            (None, "/home/ada/.cache/lib.so"),
        ];
        for (home, expected) in cases {
            let found = anonymous(Path::new("/home/ada/.cache/lib.so"), home.map(Path::new));
            assert_eq!(found, Path::new(expected));
        }
    }
}
