//! `pocketmuse verify`: a package is compared with reference tensors.

use pocketmuse::{Manifest, Options};
use pocketmuse_measure::verify;
use pocketmuse_package::Result;

use crate::{args::VerifyArgs, runtime, terminal};

pub(crate) fn run(args: &VerifyArgs, offline: bool) -> Result<u8> {
    Manifest::read(&args.package)?; // before anything is fetched
    runtime::start(offline)?;
    let options = Options { flavour: args.flavour, threads: args.threads, ..Options::default() };
    let checks = verify::verify(&args.package, &args.golden, &options)?;
    checks.iter().try_for_each(|check| terminal::print(check.to_string()))?;
    let failed = checks.iter().filter(|check| !check.holds()).count();
    let compared = checks.iter().filter(|check| check.is_compared()).count();
    terminal::print(format!("{} of {compared} tensors hold", compared - failed))?;
    Ok(u8::from(failed > 0))
}
