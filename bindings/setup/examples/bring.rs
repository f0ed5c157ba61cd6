//! Brings the pinned ONNX Runtime of any platform to a file, as the command does for this one:
//! `bring OS ARCH FILE`. For emulators.

use std::{env, error::Error, ops::ControlFlow};

use pocketmuse_setup::{Environment, Event, PINNED, Setup, WHEEL};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [os, arch, path] = &arguments[..] else { return Err("expected OS ARCH FILE".into()) };
    let pinned = PINNED.iter().find(|pinned| pinned.os == os && pinned.arch == arch);
    let pinned = *pinned.ok_or_else(|| format!("expected a pinned platform, found {os} {arch}"))?;
    let environment = Environment::of_this_process();
    let setup = Setup { pinned, release: WHEEL, path: path.into(), environment, may_install: true };
    let library = setup.ensure(false, |event| {
        if let Event::Note(line) = event {
            println!("{line}");
        }
        ControlFlow::Continue(())
    })?;
    println!("{}: version {}", library.path.display(), library.version);
    Ok(())
}
