//! An opened package: its manifest, the flavour in use, and the check of its files before they are
//! used. Runs nothing.

pub mod prepared;

use std::{
    fs,
    path::{Path, PathBuf},
};

use pocketmuse_package::{Error, ErrorKind, Flavour, Manifest, Result, Stage, StageEntry};

pub(crate) use crate::request::Options;
use crate::{
    engine::loading::Loading,
    engine::session::{Form, Precision, Runtime, Session, Settings, Taps},
    package::prepared::Prepared,
};

pub(crate) struct Package {
    root: PathBuf,
    manifest: Manifest,
    flavour: Flavour,
    threads: usize,
    runtime: &'static Runtime,
    taps: Option<Taps>,
    /// Where every stage writes its profile.
    profiles: Option<PathBuf>,
    prepared: Prepared,
}

impl Package {
    /// Reads the manifest, checks that every file is there with its size, and starts ONNX Runtime.
    ///
    /// # Errors
    ///
    /// `Io` or `PackageDamaged` for the package; `BadRequest` for a flavour it lacks or 0 threads;
    /// `Runtime` without ONNX Runtime.
    pub(crate) fn open(root: &Path, options: &Options) -> Result<Self> {
        let manifest = Manifest::read(root)?;
        let flavour = options.flavour_of(&manifest);
        manifest.flavour(flavour)?;
        if let Some(threads) = options.threads.filter(|threads| !(1..=1024).contains(threads)) {
            return Err(Error::new(
                ErrorKind::BadRequest,
                "threads",
                format!("expected 1 to 1024, found {threads}"),
            ));
        }
        manifest.files().try_for_each(|file| file.check_size(root))?;
        let runtime = Runtime::start(options.library.as_deref())?;
        let prepared = options.prepared.as_deref();
        Ok(Self {
            root: root.to_path_buf(),
            flavour,
            threads: options.threads(),
            runtime,
            taps: None,
            profiles: None,
            prepared: Prepared::open(prepared, root, manifest.digest(), runtime.build_info()),
            manifest,
        })
    }

    /// The same package with the `wanted` tapped values of its graphs among their outputs.
    pub(crate) fn with_taps(self, wanted: Taps) -> Self {
        Self { taps: Some(wanted), ..self }
    }

    /// The same package, whose stages write profiles (see [`Settings`]) into `folder`, each named
    /// after its stage.
    pub(crate) fn with_profiles(self, folder: &Path) -> Self {
        Self { profiles: Some(folder.to_owned()), ..self }
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(crate) fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// What the manifest says of `stage`.
    ///
    /// # Errors
    ///
    /// `BadRequest` if the package was exported without it.
    pub(crate) fn entry(&self, stage: Stage) -> Result<&StageEntry> {
        self.manifest.flavour(self.flavour)?.stages.get(&stage).ok_or_else(|| {
            let detail =
                format!("expected a package with the stage {stage}, found none: export it again");
            Error::new(ErrorKind::BadRequest, self.root.display().to_string(), detail)
        })
    }

    /// Checks the files of `stage` and loads it.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if a file was changed or its graph is not as the manifest says; `Runtime`
    /// if it does not load.
    pub(crate) fn load(&self, stage: Stage, loading: Loading) -> Result<Session> {
        self.load_tapped(stage, loading, self.taps)
    }

    /// As [`Self::load`], with the tapped values that `taps` wants among the outputs, whatever the
    /// package's own say.
    pub(crate) fn load_tapped(
        &self,
        stage: Stage,
        loading: Loading,
        taps: Option<Taps>,
    ) -> Result<Session> {
        let entry = self.entry(stage)?;
        std::iter::once(&entry.graph)
            .chain(&entry.weights)
            .try_for_each(|file| self.prepared.check(file))?;
        let profile = self.profiles.as_ref().map(|folder| folder.join(stage.name()));
        let settings = Settings {
            threads: self.threads,
            loading,
            form: Form::Exported,
            taps,
            profile: profile.as_deref(),
        };
        let optimised = if taps.is_none() && profile.is_none() {
            self.load_optimised(entry, settings)
        } else {
            None
        };
        self.prepared.save();
        optimised.map_or_else(|| Session::load(self.runtime, &self.root, entry, settings), Ok)
    }

    /// Loads the graph of `entry` as it was optimised before, or keeps what it is optimised to now.
    /// `None` if neither can be done: then it is loaded as it was exported, which also says what is
    /// wrong with it.
    fn load_optimised(&self, entry: &StageEntry, settings: Settings<'_>) -> Option<Session> {
        let load =
            |settings: Settings<'_>| Session::load(self.runtime, &self.root, entry, settings);
        if let Some(graph) = self.prepared.graph(entry) {
            match load(Settings { form: Form::Optimised(&graph), ..settings }) {
                Ok(session) => return Some(session),
                Err(error) => log::debug!("{}: optimised anew: {error}", entry.graph.path),
            }
        }
        let saved = self.prepared.workspace(entry)?;
        let session = load(Settings { form: Form::Saved(&saved.graph()), ..settings });
        self.prepared.keep(entry, session.as_ref().map(|_| saved));
        session.ok()
    }

    /// The bytes of the graph of `stage`, its weights left out.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the file was changed.
    pub(crate) fn graph(&self, stage: Stage) -> Result<Vec<u8>> {
        let file = &self.entry(stage)?.graph;
        self.prepared.check(file)?;
        let path = file.locate(&self.root);
        fs::read(&path).map_err(|error| Error::io(&path, error))
    }

    /// The file of colours of the tokens, and what it holds, if the package has one.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the file was changed.
    pub(crate) fn preview(&self) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let Some(file) = &self.manifest.preview else { return Ok(None) };
        self.prepared.check(file)?;
        let path = file.locate(&self.root);
        let bytes = fs::read(&path).map_err(|error| Error::io(&path, error))?;
        Ok(Some((path, bytes)))
    }

    /// A linear layer by itself, run as the graphs of this package are.
    ///
    /// # Errors
    ///
    /// `Runtime` if ONNX Runtime refuses.
    pub(crate) fn linear_layer(&self, layer: [usize; 3], precision: Precision) -> Result<Session> {
        let loading = Loading { arena: true, prepacking: true };
        let settings = Settings {
            threads: self.threads,
            loading,
            form: Form::Exported,
            taps: None,
            profile: None,
        };
        Session::linear_layer(self.runtime, layer, precision, settings)
    }

    /// The package's folder, once the tokenizer in it is checked.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the tokenizer was changed.
    pub(crate) fn tokenizer_folder(&self) -> Result<&Path> {
        self.prepared.check(&self.manifest.tokenizer.file)?;
        Ok(&self.root)
    }
}
