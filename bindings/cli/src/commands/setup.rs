//! `pocketmuse setup`: ONNX Runtime comes into the cache.

use pocketmuse_package::{Error, ErrorKind, Result};
use pocketmuse_setup::{self as setup, Setup};

use crate::{args::SetupArgs, runtime, terminal};

pub(crate) fn run(args: &SetupArgs, offline: bool) -> Result<u8> {
    let is_offline = offline || setup::is_offline();
    if is_offline && args.force {
        return Err(forbidden("--force, which fetches"));
    }
    let setup = Setup { may_install: true, ..Setup::of_this_machine()? };
    let library = if is_offline {
        setup.find().ok_or_else(|| {
            forbidden(&format!("no ONNX Runtime to fall back on at {}", setup.path.display()))
        })?
    } else {
        setup.ensure(args.force, runtime::watch_setup)?
    };
    let how = if library.is_new { "brought" } else { "already there" };
    terminal::print(format!(
        "{}: ONNX Runtime {}, {how}",
        library.path.display(),
        library.version
    ))?;
    Ok(0)
}

fn forbidden(found: &str) -> Error {
    let detail = format!(
        "expected to be allowed to fetch, found --offline or {}, and {found}",
        setup::OFFLINE
    );
    Error::new(ErrorKind::BadRequest, "setup", detail)
}
