//! The `pocketmuse` command, as a library so that tests and benches can use its parts: [`bundled`]
//! is the model inside, [`synth`] makes full-size random checkpoints, [`runtime`] starts ONNX
//! Runtime.
//!
//! The command only parses, calls the exporter and the runtime, and prints. Its files stand here in
//! the order of the data; none uses one below it.

mod stop;
mod terminal;

pub mod logging;

pub mod synth;

mod named;

pub mod args;
mod order;
mod prompts;

mod version;

pub mod runtime;

pub mod bundled;
#[cfg(test)]
mod sources; // of the build script

mod events;
mod results;

mod console;

mod proof;

mod package;

mod label;
mod png;

mod frames;
mod image_file;
mod outputs;
mod source;
mod template;

mod job_file;
mod job_keeper;
mod trace;

mod task;

mod preview;
mod tokens;

mod watch;

mod onnx;
mod sheet;

mod commands;

use std::{
    ffi::OsString,
    io::{self, Write},
};

use args::{Cli, Command};
use clap::{
    CommandFactory, Parser,
    error::{
        ContextKind, ContextValue,
        ErrorKind::{
            DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion,
            InvalidSubcommand, UnknownArgument,
        },
    },
};
use order::Order;
use pocketmuse_package::Result;

/// Runs a command line, the program's name first, and returns its exit code.
pub fn run(line: impl IntoIterator<Item = OsString>) -> u8 {
    let commands = Cli::command();
    let is_command = |word: &str| word == "help" || commands.find_subcommand(word).is_some();
    let line = args::translate(line, is_command);
    match Cli::try_parse_from(&line) {
        Ok(cli) => {
            stop::listen();
            command(&cli).unwrap_or_else(|error| terminal::fail(&error))
        }
        Err(error) if error.kind() == DisplayVersion => {
            let is_verbose = line.iter().any(|word| word == "--verbose" || word == "-v");
            let lines = version::lines(is_verbose);
            let printed = lines.iter().try_for_each(terminal::print);
            printed.map_or_else(|error| terminal::fail(&error), |()| 0)
        }
        Err(error) => usage(&error),
    }
}

fn command(cli: &Cli) -> Result<u8> {
    let offline = cli.offline;
    match &cli.command {
        Command::Generate(args) => commands::generate::run(&Order::generate(args), offline),
        Command::Edit(args) => commands::generate::run(&Order::edit(args), offline),
        Command::Resume(args) => commands::resume::run(args, offline),
        Command::Grid(args) => commands::grid::run(args, offline),
        Command::Video(args) => commands::video::run(args, offline),
        Command::Export(args) => commands::export::run(args),
        Command::Package(args) => commands::repackage::run(args),
        Command::Compile(args) => commands::compile::run(args, offline),
        Command::Inspect(args) => commands::inspect::run(args),
        Command::Verify(args) => commands::verify::run(args, offline),
        Command::Bench(args) => commands::bench::run(args, offline),
        Command::Doctor(args) => commands::doctor::run(args, offline),
        Command::Synth(args) => commands::synth::run(args),
        Command::Prepared(args) => commands::prepared::run(args),
        Command::Setup(args) => commands::setup::run(args, offline),
        Command::Ls(args) => commands::ls::run(args),
        Command::Completions(args) => commands::completions::run(args),
        Command::Prove(args) => commands::prove::run(args, offline),
        Command::Man(args) => commands::man::run(args),
    }
}

/// Prints the help that was asked for, or in one line what is wrong with a command line; returns
/// the exit code.
fn usage(error: &clap::Error) -> u8 {
    let code = u8::try_from(error.exit_code()).unwrap_or(2);
    match error.kind() {
        DisplayHelp => {
            let written = error.print().and_then(|()| io::stdout().flush());
            terminal::printed(written).map_or_else(|error| terminal::fail(&error), |()| code)
        }
        DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print(); // on stderr, where there is nowhere else to say it
            code
        }
        _ => {
            let (line, tips) = terminal::usage_lines(&error.to_string());
            terminal::note(line);
            match tip(error) {
                Some(tip) => terminal::note(format!("tip: {tip}")),
                None => tips.iter().for_each(terminal::note),
            }
            code
        }
    }
}

/// What to type instead, where that is known better than the parser does.
fn tip(error: &clap::Error) -> Option<String> {
    match (
        error.kind(),
        error.get(ContextKind::InvalidArg),
        error.get(ContextKind::InvalidSubcommand),
    ) {
        (UnknownArgument, Some(ContextValue::String(flag)), _) => {
            let flag = flag.split('=').next().unwrap_or_default();
            args::tip(flag).map(str::to_owned)
        }
        (InvalidSubcommand, _, Some(ContextValue::String(word)))
            if error.get(ContextKind::SuggestedSubcommand).is_none() =>
        {
            Some(format!("pocketmuse generate {word:?} makes an image of that"))
        }
        _ => None,
    }
}
