//! `pocketmuse completions`: what a shell needs to complete this program's words.

use clap::CommandFactory;
use pocketmuse_package::Result;

use crate::{
    args::{Cli, CompletionsArgs},
    terminal,
};

pub(crate) fn run(args: &CompletionsArgs) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pocketmuse", &mut script);
    terminal::print_bytes(&script)?;
    Ok(0)
}
