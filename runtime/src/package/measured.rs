//! What measuring needs of a package besides: taps, profiles, its graphs' bytes, and other graphs
//! run as its own are.

use std::{fs, path::Path};

use pocketmuse_package::{Error, Result, Stage};

use super::Package;
use crate::{
    engine::loading::Loading,
    engine::providers::Sizes,
    engine::session::{Session, Settings, Taps},
};

impl Package {
    /// The same package with the `wanted` tapped values of its graphs among their outputs.
    pub fn with_taps(self, wanted: Taps) -> Self {
        Self { taps: Some(wanted), ..self }
    }

    /// The same package, whose stages write profiles (see [`Settings`]) into `folder`, each named
    /// after its stage.
    pub fn with_profiles(self, folder: &Path) -> Self {
        Self { profiles: Some(folder.to_owned()), ..self }
    }

    /// Checks the files of `stage` and loads it for who computes it, with `grid` rows and columns
    /// of tokens and so many guidance branches. Nothing is proved.
    ///
    /// # Errors
    ///
    /// As for [`Self::load`]; `ProviderFailed` if another provider than the CPU does not take it.
    pub fn load_for(&self, stage: Stage, grid: [usize; 2], branches: usize) -> Result<Session> {
        let how = self.how_of(stage, Loading::of(stage), Sizes { grid, branches });
        self.load_as(stage, how, &mut |_| Ok(()))
    }

    /// The bytes of the graph of `stage`, its weights left out.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the file was changed.
    pub fn graph(&self, stage: Stage) -> Result<Vec<u8>> {
        let what = self.loaded(stage, None)?;
        let file = &what.entry.graph;
        self.prepared.check(file, &mut |_| Ok(()))?;
        let path = file.locate(&self.root);
        fs::read(&path).map_err(|error| Error::io(&path, error))
    }

    /// Loads another graph, run as those of this package are: see [`Session::of_model`].
    ///
    /// # Errors
    ///
    /// `EngineFailed` if ONNX Runtime refuses.
    pub fn load_model(&self, name: &str, model: &[u8], loading: Loading) -> Result<Session> {
        Session::of_model(self.runtime, name, model, Settings::new(self.threads, loading))
    }
}
