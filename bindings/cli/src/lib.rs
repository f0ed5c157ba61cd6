//! The `pocketmuse` command, as a library so that tests and benches can use its
//! parts: [`bundled`] is the model inside, [`synth`] makes full-size random
//! checkpoints, [`runtime`] starts ONNX Runtime.
//!
//! The command only parses, calls the exporter and the runtime, and prints.

pub mod args;
pub mod bundled;
mod commands;
mod label;
mod onnx;
mod outputs;
mod picture;
mod preview;
pub mod runtime;
mod sheet;
mod stop;
pub mod synth;
mod terminal;
mod trace;

use std::ffi::OsString;

use args::{Cli, Command};
use clap::{
    Parser,
    error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion},
};
use commands::generate::Order;

/// Runs a command line, the program's name first, and returns its exit code.
pub fn run(line: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(line) {
        Ok(cli) => cli,
        Err(error) => {
            match error.kind() {
                DisplayHelp | DisplayHelpOnMissingArgumentOrSubcommand | DisplayVersion => {
                    drop(error.print())
                }
                _ => terminal::note(terminal::usage_line(&error.to_string())),
            }
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    stop::listen();
    let result = match &cli.command {
        Command::Generate(args) => commands::generate::run(Order::Generate(args), cli.offline),
        Command::Edit(args) => commands::generate::run(Order::Edit(args), cli.offline),
        Command::Grid(args) => commands::grid::run(args, cli.offline),
        Command::Video(args) => commands::video::run(args, cli.offline),
        Command::Resume(args) => commands::generate::run(Order::Resume(args), cli.offline),
        Command::Export(args) => commands::export::run(args),
        Command::Package(args) => commands::repackage::run(args),
        Command::Inspect(args) => commands::inspect::run(args),
        Command::Verify(args) => commands::verify::run(args, cli.offline),
        Command::Bench(args) => commands::bench::run(args, cli.offline),
        Command::Synth(args) => commands::synth::run(args),
        Command::Prepared(args) => commands::prepared::run(args),
        Command::Setup(args) => commands::setup::run(args, cli.offline),
    };
    result.unwrap_or_else(|error| terminal::fail(&error))
}
