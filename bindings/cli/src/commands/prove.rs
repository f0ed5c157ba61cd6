//! `pocketmuse prove`, which nobody types: proves one stage for another process of this command.

use pocketmuse_package::Result;

use crate::{
    args::ProveArgs,
    console::Console,
    package,
    proof::{self, Told},
    runtime, terminal,
};

pub(crate) fn run(args: &ProveArgs, offline: bool) -> Result<u8> {
    proof::watch_over();
    let told = Told::of(&prove(args, offline));
    terminal::print(serde_json::to_string(&told).expect("plain data always serializes"))?;
    Ok(0)
}

fn prove(args: &ProveArgs, offline: bool) -> Result<pocketmuse::prepared::Verdict> {
    let candidate = args.candidate()?;
    runtime::start(offline)?;
    let found = package::find(&args.package, &Console::new(&args.package.run))?;
    found.open(&package::options(&args.package), offline)?.pipeline.prove(&candidate)
}
