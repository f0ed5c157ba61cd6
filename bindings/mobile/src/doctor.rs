//! What other providers than the CPU do on this device, found out on a thread of its own. The same as
//! the command's `doctor --json`.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use pocketmuse::{
    Cancel, Manifest, Pipeline,
    doctor::{self, Machine},
};

use crate::{
    error::{PocketMuseError, guard},
    kinds::{Flavour, Provider, Stage},
    logging,
    options::Options,
    telemetry,
    threads::{self, lock},
};

/// What a doctor found. Nothing in it tells who the user is.
#[derive(Clone, Debug, PartialEq, uniffi::Record)]
pub struct DoctorReport {
    /// The version of this library.
    pub version: String,
    /// Whether all that was looked at may be used.
    pub good: bool,
    /// What it runs on.
    pub machine: DoctorMachine,
    /// All providers that have a name.
    pub providers: Vec<DoctorProvider>,
    /// The package whose stages were looked at; `null` without one.
    pub package: Option<DoctorPackage>,
    /// What providers show of its stages.
    pub stages: Vec<DoctorStage>,
}

/// What a package is run with on this device.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct DoctorMachine {
    /// ONNX Runtime's library; `~` stands for the user's folder.
    pub library: String,
    /// Which build of ONNX Runtime it is.
    pub build: String,
    /// What the processor can multiply with.
    pub instruction_sets: Vec<String>,
    /// Threads that run at once.
    pub cores: u32,
    /// Memory that the system has left, in bytes; `null` where it does not tell.
    pub available_bytes: Option<u64>,
}

/// A provider, and what there is of it.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct DoctorProvider {
    /// Which.
    pub name: Provider,
    /// Whether this build has it.
    pub here: bool,
    /// Its plug-in, if the options name one; `~` stands for the user's folder.
    pub library: Option<String>,
    /// The devices that it offered.
    pub devices: Vec<String>,
}

/// A package.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct DoctorPackage {
    /// The model's name.
    pub model: String,
    /// The package's digest, in hexadecimal digits.
    pub digest: String,
}

/// What a provider shows of a stage. What was not measured is `null`.
#[derive(Clone, Debug, PartialEq, uniffi::Record)]
pub struct DoctorStage {
    /// The graphs.
    pub flavour: Flavour,
    /// Who was to compute it.
    pub provider: Provider,
    /// Which stage.
    pub stage: Stage,
    /// Whether the provider may compute the stage.
    pub good: bool,
    /// The verdict in a sentence.
    pub sentence: String,
    /// What would help, if it is refused.
    pub advice: Option<String>,
    /// The error against the tolerance, or why it is refused.
    pub reason: String,
    /// How many nodes the provider takes of how many, and which operators it leaves.
    pub nodes: Option<String>,
    /// The time that it takes to load the stage, in milliseconds.
    pub load_ms: Option<f64>,
    /// The time of a run, in milliseconds: the median.
    pub run_ms: Option<f64>,
    /// The same on the CPU.
    pub cpu_load_ms: Option<f64>,
    /// The same on the CPU.
    pub cpu_run_ms: Option<f64>,
    /// Memory while the stage is loaded, in bytes.
    pub held_bytes: Option<u64>,
    /// Memory at most, in bytes.
    pub peak_bytes: Option<u64>,
}

/// How a doctor ended.
#[derive(Clone, Debug, PartialEq, uniffi::Enum)]
pub enum DoctorOutcome {
    /// It looked at everything; that something is refused is in the report.
    Finished {
        /// What it found.
        report: DoctorReport,
    },
    /// It could not look at everything.
    Failed {
        /// Why.
        error: PocketMuseError,
    },
}

/// Who is told of a doctor. All calls come on its own thread, one after the other.
#[uniffi::export(foreign)]
pub trait DoctorListener: Send + Sync {
    /// Told before a stage is proved, which takes seconds, or minutes where a provider compiles it.
    /// Not told of what is known already. What it throws ends the doctor with that error.
    fn proving(&self, stage: Stage, provider: Provider) -> Result<(), PocketMuseError>;

    /// Told once, as the last call, how the doctor ended.
    fn ended(&self, outcome: DoctorOutcome) -> Result<(), PocketMuseError>;
}

/// A doctor at work, or one that was: what `Doctor` of both languages is made of. Dropping it changes
/// nothing; it goes on.
#[derive(uniffi::Object)]
pub struct NativeDoctor {
    cancel: Cancel,
}

#[uniffi::export]
impl NativeDoctor {
    /// Starts ONNX Runtime and looks around, on a thread of its own. Of a package folder, each stage
    /// is proved that a provider of the options is to compute; where none is named, each that has a
    /// library is to compute all. `options.flavour` is looked at, or all that the package has.
    ///
    /// What is known of a stage is not proved again but with `again`. It is kept in
    /// `options.prepared`, if that is set.
    #[uniffi::constructor]
    pub fn start(
        package: Option<String>,
        options: Options,
        again: bool,
        listener: Arc<dyn DoctorListener>,
    ) -> Result<Arc<Self>, PocketMuseError> {
        guard(|| {
            logging::start();
            telemetry::switch_off();
            let cancel = Cancel::new();
            let examination = Examination {
                package: package.map(Into::into),
                doctor: doctor::Doctor { options: options.try_into()?, again },
                cancel: cancel.clone(),
            };
            threads::spawn(move || {
                let outcome = guard(|| examination.run(&*listener));
                let outcome = match outcome {
                    Ok(report) => DoctorOutcome::Finished { report },
                    Err(error) => DoctorOutcome::Failed { error },
                };
                threads::call_last("doctor", || listener.ended(outcome));
            })?;
            Ok(Arc::new(Self { cancel }))
        })
    }

    /// Stops the doctor as soon as the provider comes back. It ends with `Cancelled`, unless it has
    /// ended already.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

struct Examination {
    package: Option<PathBuf>,
    doctor: doctor::Doctor,
    cancel: Cancel,
}

impl Examination {
    fn run(&self, listener: &dyn DoctorListener) -> Result<DoctorReport, PocketMuseError> {
        let failure = Mutex::new(None);
        let folder = self.package.clone().unwrap_or_default();
        let manifest = self.package.as_ref().map(|folder| Manifest::read(folder)).transpose()?;
        let open = |options: &pocketmuse::Options| {
            Ok(Pipeline::open_with(&folder, options)?.with_control(&self.cancel))
        };
        let report = self.doctor.examine(manifest.as_ref(), open, |candidate| {
            let (stage, provider) = (candidate.stage.into(), candidate.provider.into());
            let told = guard(|| threads::call(|| listener.proving(stage, provider)));
            if let Err(error) = told {
                *lock(&failure) = Some(error);
                self.cancel.cancel();
            }
        });
        let failure = lock(&failure).take();
        match failure {
            Some(failure) => Err(failure),
            None => report?.try_into(),
        }
    }
}

impl TryFrom<doctor::Report> for DoctorReport {
    type Error = PocketMuseError;

    fn try_from(report: doctor::Report) -> Result<Self, PocketMuseError> {
        let good = report.is_good();
        let doctor::Report { machine, providers, package, stages } = report;
        let stages = stages.iter().map(DoctorStage::try_from).collect::<Result<_, _>>()?;
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            good,
            machine: machine.into(),
            providers: providers.into_iter().map(Into::into).collect(),
            package: package.map(Into::into),
            stages,
        })
    }
}

impl From<Machine> for DoctorMachine {
    fn from(machine: Machine) -> Self {
        let Machine { library, build, instruction_sets, cores, available_bytes, providers: _ } =
            machine;
        Self {
            library: library.to_string_lossy().into_owned(),
            build,
            instruction_sets: instruction_sets.into_iter().map(str::to_owned).collect(),
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            available_bytes,
        }
    }
}

impl From<doctor::ProviderState> for DoctorProvider {
    fn from(state: doctor::ProviderState) -> Self {
        let doctor::ProviderState { provider, is_here, library, devices } = state;
        let library = library.map(|library| library.to_string_lossy().into_owned());
        Self { name: provider.into(), here: is_here, library, devices }
    }
}

impl From<doctor::PackageName> for DoctorPackage {
    fn from(package: doctor::PackageName) -> Self {
        let doctor::PackageName { model, digest } = package;
        Self { model, digest: digest.to_string() }
    }
}

impl TryFrom<&doctor::Diagnosis> for DoctorStage {
    type Error = PocketMuseError;

    fn try_from(diagnosis: &doctor::Diagnosis) -> Result<Self, PocketMuseError> {
        let nodes = diagnosis.verdict().and_then(|verdict| verdict.nodes.as_ref());
        let (speed, need) = (diagnosis.speed(), diagnosis.need());
        let ms = |us: u64| us as f64 / 1000.0;
        Ok(Self {
            flavour: diagnosis.flavour.try_into()?,
            provider: diagnosis.provider.into(),
            stage: diagnosis.stage.into(),
            good: diagnosis.is_good(),
            sentence: diagnosis.sentence(),
            advice: diagnosis.advice().map(str::to_owned),
            reason: diagnosis.reason().to_owned(),
            nodes: nodes.map(ToString::to_string),
            load_ms: speed.map(|speed| ms(speed.load_us)),
            run_ms: speed.map(|speed| ms(speed.run_us)),
            cpu_load_ms: speed.map(|speed| ms(speed.cpu_load_us)),
            cpu_run_ms: speed.map(|speed| ms(speed.cpu_run_us)),
            held_bytes: need.map(|need| need.held_bytes),
            peak_bytes: need.map(|need| need.peak_bytes),
        })
    }
}
