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

pub mod args;
mod order;
mod prompts;

pub mod runtime;

pub mod bundled;
#[cfg(test)]
mod sources; // of the build script

mod events;
mod results;

mod console;

mod package;

mod label;
mod png;

mod frames;
mod image_file;
mod outputs;
mod source;

mod job_file;
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
    Parser,
    error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion},
};
use order::Order;
use pocketmuse_package::Result;

/// Runs a command line, the program's name first, and returns its exit code.
pub fn run(line: impl IntoIterator<Item = OsString>) -> u8 {
    match Cli::try_parse_from(line) {
        Ok(cli) => {
            stop::listen();
            command(&cli).unwrap_or_else(|error| terminal::fail(&error))
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
        Command::Inspect(args) => commands::inspect::run(args),
        Command::Verify(args) => commands::verify::run(args, offline),
        Command::Bench(args) => commands::bench::run(args, offline),
        Command::Synth(args) => commands::synth::run(args),
        Command::Prepared(args) => commands::prepared::run(args),
        Command::Setup(args) => commands::setup::run(args, offline),
    }
}

/// Prints the help that was asked for, or in one line what is wrong with a command line; returns
/// the exit code.
fn usage(error: &clap::Error) -> u8 {
    let code = u8::try_from(error.exit_code()).unwrap_or(2);
    match error.kind() {
        DisplayHelp | DisplayVersion => {
            let written = error.print().and_then(|()| io::stdout().flush());
            terminal::printed(written).map_or_else(|error| terminal::fail(&error), |()| code)
        }
        DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print(); // on stderr, where there is nowhere else to say it
            code
        }
        _ => {
            terminal::note(terminal::usage_line(&error.to_string()));
            code
        }
    }
}
