//! `pocketmuse prove`, which nobody types: proves one stage for another process of this command, or
//! compiles it.

use std::path::Path;

use pocketmuse::{Compiled, Pipeline, prepared::Verdict};
use pocketmuse_package::Result;

use crate::{
    args::ProveArgs,
    console::Console,
    package,
    proof::{self, Told},
    runtime, terminal,
};

pub(crate) fn run(args: &ProveArgs, offline: bool) -> Result<u8> {
    let told = match &args.into {
        Some(work) => compile(args, work, offline),
        None => {
            proof::watch_over();
            Told::of(&prove(args, offline))
        }
    };
    terminal::print(serde_json::to_string(&told).expect("plain data always serializes"))?;
    Ok(0)
}

fn prove(args: &ProveArgs, offline: bool) -> Result<Verdict> {
    let pipeline = pipeline(args, offline)?;
    let mut verdicts = args.candidates()?.into_iter().map(|candidate| pipeline.prove(&candidate));
    verdicts.next().unwrap_or_else(|| Ok(Verdict::not_ended("nothing to prove")))
}

fn compile(args: &ProveArgs, work: &Path, offline: bool) -> Told {
    let compiled = pipeline(args, offline).and_then(|by| by.compile(&args.candidates()?, work));
    match compiled {
        Ok(Compiled { contexts, need }) => Told::Compiled(contexts, need),
        Err(error) => Told::of_failed(&error),
    }
}

fn pipeline(args: &ProveArgs, offline: bool) -> Result<Pipeline> {
    runtime::start(offline)?;
    let found = package::find(&args.package, &Console::new(&args.package.run))?;
    Ok(found.open(&package::options(&args.package), offline)?.pipeline)
}
