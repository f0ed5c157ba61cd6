//! The command line as it is typed: commands, flags and their help. Knows what a value looks like,
//! not whether it suits a model.

mod foreign;
mod values;

mod package;
mod request;
mod setting;
mod watch;
mod written;

mod bench;
mod cli;
mod compile;
mod doctor;
mod edit;
mod export;
mod generate;
mod grid;
mod prove;
mod repackage;
mod resume;
mod synth;
mod tools;
mod video;

pub use self::{
    bench::BenchArgs,
    cli::{Cli, Command},
    compile::CompileArgs,
    doctor::DoctorArgs,
    edit::{EditArgs, SourceArgs},
    export::ExportArgs,
    generate::GenerateArgs,
    grid::GridArgs,
    package::{PackageArgs, RunArgs},
    prove::ProveArgs,
    repackage::RepackageArgs,
    request::RequestArgs,
    resume::ResumeArgs,
    setting::{Axis, FIELDS, Setting},
    synth::SynthArgs,
    tools::{CompletionsArgs, InspectArgs, LsArgs, ManArgs, PreparedArgs, SetupArgs, VerifyArgs},
    video::VideoArgs,
    watch::{Show, WatchArgs},
    written::WrittenArgs,
};
pub(crate) use self::{
    foreign::{tip, translate},
    values::random_seed,
};
