//! The package of a command: found by its flags, and opened. The one place of the command that
//! opens a pipeline.

use std::path::PathBuf;

use pocketmuse::{Flavour, Manifest, Options, Pipeline};
use pocketmuse_package::{Error, ErrorKind, Result};

use crate::{args::PackageArgs, bundled, console::Console, proof, runtime, stop, terminal};

/// A package that is there, and what it says about itself. Nothing was fetched for it but the
/// built-in model's export.
pub(crate) struct Found {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
    /// The flavour of the built-in model, if that is what was found.
    built_in: Option<Flavour>,
}

/// A package that was opened for one job or several.
pub(crate) struct Opened {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
    pub(crate) pipeline: Pipeline,
}

impl Found {
    /// Starts ONNX Runtime and opens the package.
    pub(crate) fn open(self, options: &Options, offline: bool) -> Result<Opened> {
        runtime::start(offline)?;
        let Self { folder, manifest, .. } = self.for_this_runtime()?;
        let pipeline = Pipeline::open_with(&folder, options)?.with_control(stop::control());
        let pipeline = pipeline.with_prover(proof::prover(&folder, options));
        Ok(Opened { folder, manifest, pipeline })
    }

    /// The built-in model as the ONNX Runtime measures it that was just started, if another did.
    fn for_this_runtime(self) -> Result<Self> {
        let Some(flavour) = self.built_in else { return Ok(self) };
        let folder = built_in(flavour, true)?;
        if folder == self.folder {
            return Ok(self);
        }
        let manifest = Manifest::read(&folder)?;
        Ok(Self { folder, manifest, built_in: self.built_in })
    }
}

/// The package asked for, or that of the built-in model.
pub(crate) fn find(args: &PackageArgs, console: &Console) -> Result<Found> {
    let (folder, flavour) = match &args.folder {
        Some(folder) => (folder.clone(), None),
        None => {
            let flavour = built_in_flavour(args);
            (built_in(flavour, console.hides_bars())?, Some(flavour))
        }
    };
    let manifest = Manifest::read(&folder)?;
    Ok(Found { folder, manifest, built_in: flavour })
}

/// How a package is opened that several images are made with.
pub(crate) fn options(args: &PackageArgs) -> Options {
    Options {
        flavour: args.flavour,
        threads: args.run.threads,
        memory: args.run.memory.unwrap_or_default(),
        measure_memory: true,
        prepared: runtime::prepared_folder(),
        providers: args.run.providers(),
        ..Options::default()
    }
}

/// Whether a package of the cache has to be made again: a newer one is of another build.
pub(crate) fn is_damaged(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::PackageDamaged | ErrorKind::PackageTooNew)
}

/// Does `work` with a package. A damaged one in the cache is this command's own: it is made again,
/// and `work` is done again.
pub(crate) fn with_repair<T>(
    args: &PackageArgs,
    console: &Console,
    mut work: impl FnMut() -> Result<T>,
) -> Result<T> {
    match work() {
        Err(error) if is_damaged(&error) && args.folder.is_none() => {
            console.warning(&format!(
                "the built-in model is made again, since its package is damaged: {error}"
            ))?;
            bundled::discard(&bundled::cache_folder()?, built_in_flavour(args))?;
            work()
        }
        done => done,
    }
}

/// The bundled model's flavour where none is asked for: the yardstick, which is fast enough at its
/// size.
fn built_in_flavour(args: &PackageArgs) -> Flavour {
    args.flavour.unwrap_or(Flavour::F32)
}

/// The built-in model's package, exported first if this is its first use.
fn built_in(flavour: Flavour, is_quiet: bool) -> Result<PathBuf> {
    let bar = terminal::byte_bar("preparing the built-in model, once");
    if is_quiet {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let package = bundled::package(&bundled::cache_folder()?, flavour, |progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.written_bytes);
        stop::flow()
    });
    bar.finish_and_clear();
    package
}
