//! The commands.

use std::env;

use clap::{ArgAction, ColorChoice, Parser, Subcommand};

use super::{
    bench::BenchArgs,
    compile::CompileArgs,
    doctor::DoctorArgs,
    edit::EditArgs,
    export::ExportArgs,
    generate::GenerateArgs,
    grid::GridArgs,
    prove::ProveArgs,
    repackage::RepackageArgs,
    resume::ResumeArgs,
    synth::SynthArgs,
    tools::{CompletionsArgs, InspectArgs, LsArgs, ManArgs, PreparedArgs, SetupArgs, VerifyArgs},
    video::VideoArgs,
};

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 failed; 2 the command line or the request is wrong; 130 stopped by Ctrl-C, \
SIGTERM or SIGHUP.
Errors are one line on stderr: `error: place: sentence`.

Environment:
  ORT_DYLIB_PATH      the ONNX Runtime library to use
  POCKETMUSE_OFFLINE  1: as --offline
  POCKETMUSE_PACKAGE  the package to use where --package gives none
  POCKETMUSE_PROOF_SECONDS  how long the proof of a provider may take for a stage: 180
  POCKETMUSE_THREADS  how many threads compute where --threads says nothing
  XDG_DATA_HOME       packages that go by a name lie in its folder pocketmuse: see `pocketmuse ls`
  XDG_CACHE_HOME      where packages of the built-in model, checks and ONNX Runtime are kept
  RUST_LOG            what is logged to stderr: error, warn (the default), info, debug";

/// A dumb terminal gets text alone. Left to themselves, the colours of a help page come on wherever
/// the variable CI is set, whatever the terminal says of itself.
fn colours() -> ColorChoice {
    if env::var_os("TERM").is_some_and(|term| term == "dumb") {
        ColorChoice::Never
    } else {
        ColorChoice::Auto
    }
}

/// Images from text on small machines, offline.
#[derive(Debug, Parser)]
#[command(name = "pocketmuse", version, propagate_version = true, disable_help_flag = true,
          after_help = AFTER_HELP, max_term_width = 100, color = colours())]
pub struct Cli {
    /// Never fetch anything: fail if ONNX Runtime is not there
    #[arg(long, global = true)]
    pub offline: bool,
    /// Print this; `pocketmuse man COMMAND` says more
    #[arg(short, long, global = true, action = ArgAction::HelpShort)]
    pub help: Option<bool>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an image from a prompt
    Generate(Box<GenerateArgs>),
    /// Make an image from an image: the whole of it, or what a mask says
    Edit(Box<EditArgs>),
    /// Compare prompts and settings: one labelled sheet of images
    Grid(Box<GridArgs>),
    /// Make a moving image from a prompt
    Video(Box<VideoArgs>),
    /// Go on with a job that was stopped or killed, from the file that --job kept
    Resume(ResumeArgs),
    /// Turn a checkpoint in the hub layout into a package
    Export(ExportArgs),
    /// Copy a package, or a part of it, to a folder or into one file
    Package(RepackageArgs),
    /// Compile a package's graphs for the NPUs of phones
    Compile(Box<CompileArgs>),
    /// Show what is in a checkpoint or in a package
    Inspect(InspectArgs),
    /// Run every stage of a package on reference tensors and compare
    Verify(VerifyArgs),
    /// Measure a package on this machine: time, operations, share of the machine's own speed,
    /// memory
    Bench(BenchArgs),
    /// Say what a package can be run with on this machine, and what other providers than the CPU do
    Doctor(Box<DoctorArgs>),
    /// Make a full-size checkpoint of random weights, to measure time and memory
    Synth(SynthArgs),
    /// List or remove what the cache has of packages: which files were checked, and their optimised
    /// graphs
    Prepared(PreparedArgs),
    /// Bring the pinned ONNX Runtime into the cache, through pip or npm
    Setup(SetupArgs),
    /// List the packages that go by a name
    Ls(LsArgs),
    /// Print what a shell needs to complete words
    Completions(CompletionsArgs),
    /// Print or write manual pages
    Man(ManArgs),
    /// Prove that a provider computes a stage as the CPU does, for another process of this command
    #[command(hide = true)]
    Prove(Box<ProveArgs>),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn offline_can_stand_anywhere() {
        for words in [["pocketmuse", "--offline", "setup"], ["pocketmuse", "setup", "--offline"]] {
            assert!(Cli::try_parse_from(words).expect("valid").offline);
        }
    }

    #[test]
    fn the_test_preset_is_hidden_and_works() {
        let words = ["pocketmuse", "synth", "--preset", "tiny", "-o", "x"];
        assert!(Cli::try_parse_from(words).is_ok());
        let mut synth = Cli::command().find_subcommand("synth").expect("a command").clone();
        assert!(!synth.render_help().to_string().contains("tiny"));
    }
}
