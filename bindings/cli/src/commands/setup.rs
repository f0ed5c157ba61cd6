//! `pocketmuse setup`: ONNX Runtime comes into the cache.

use pocketmuse_package::{Error, ErrorKind, Result};

use crate::{args::SetupArgs, runtime, setup, terminal};

pub(crate) fn run(args: &SetupArgs, offline: bool) -> Result<u8> {
    if offline || runtime::is_offline() {
        let detail =
            format!("expected to be allowed to fetch, found --offline or {}", runtime::OFFLINE);
        return Err(Error::new(ErrorKind::BadRequest, "setup", detail));
    }
    let brought = setup::ensure(args.force, |line| terminal::note(line))?;
    let how = if brought.fresh { "brought" } else { "already there" };
    terminal::print(format!(
        "{}: ONNX Runtime {}, {how}",
        brought.path.display(),
        brought.version
    ))?;
    Ok(0)
}
