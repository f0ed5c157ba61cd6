//! An opened package: its manifest, the flavour in use, and which of its files have been checked. Runs nothing.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use pocketmuse_package::{Error, ErrorKind, FileEntry, Flavour, Manifest, Result, Stage, StageEntry};

use crate::session::{Precision, Runtime, Session, Settings};

/// How a package is opened. The default suits most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The graphs to run; `None` for the best that the package has.
    pub flavour: Option<Flavour>,
    /// Threads to compute with, at least 1; `None` for as many as the machine runs at once.
    pub threads: Option<usize>,
    /// The ONNX Runtime library file; `None` to look for one (see [`library`](crate::library)).
    pub library: Option<PathBuf>,
}

pub(crate) struct Package {
    root: PathBuf,
    manifest: Manifest,
    flavour: Flavour,
    threads: Option<usize>,
    runtime: &'static Runtime,
    taps: bool,
    /// Where every stage writes its profile.
    profiles: Option<PathBuf>,
    checked: Mutex<BTreeSet<String>>,
}

impl Package {
    /// Reads the manifest, checks that every file is there with its size, and starts ONNX Runtime.
    ///
    /// # Errors
    ///
    /// `Io` or `PackageDamaged` for the package; `BadRequest` for a flavour it lacks or 0 threads; `Runtime` without
    /// ONNX Runtime.
    pub(crate) fn open(root: &Path, options: &Options) -> Result<Self> {
        let manifest = Manifest::read(root)?;
        let best = || Flavour::ALL.iter().copied().find(|flavour| manifest.flavours.contains_key(flavour));
        let flavour = options.flavour.or_else(best).unwrap_or(Flavour::F32);
        manifest.flavour(flavour)?;
        if let Some(threads) = options.threads.filter(|threads| !(1..=1024).contains(threads)) {
            return Err(Error::new(ErrorKind::BadRequest, "threads", format!("expected 1 to 1024, found {threads}")));
        }
        manifest.files().try_for_each(|file| file.check_size(root))?;
        Ok(Self {
            root: root.to_path_buf(),
            flavour,
            threads: options.threads,
            runtime: Runtime::start(options.library.as_deref())?,
            taps: false,
            profiles: None,
            checked: Mutex::default(),
            manifest,
        })
    }

    /// The same package with every tapped value of its graphs among their outputs, for comparing with references.
    pub(crate) fn with_taps(self) -> Self {
        Self { taps: true, ..self }
    }

    /// The same package, whose stages write profiles (see [`Settings`]) into `folder`, each named after its stage.
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
            let detail = format!("expected a package with the stage {stage}, found none: export it again");
            Error::new(ErrorKind::BadRequest, self.root.display().to_string(), detail)
        })
    }

    /// Checks the files of `stage` and loads it; `arena` as in [`Settings`].
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if a file was changed or its graph is not as the manifest says; `Runtime` if it does not load.
    pub(crate) fn load(&self, stage: Stage, arena: bool) -> Result<Session> {
        let entry = self.entry(stage)?;
        std::iter::once(&entry.graph).chain(&entry.weights).try_for_each(|file| self.check(file))?;
        let profile = self.profiles.as_ref().map(|folder| folder.join(stage.name()));
        let settings = Settings { threads: self.threads, arena, taps: self.taps, profile: profile.as_deref() };
        Session::load(self.runtime, &self.root, entry, settings)
    }

    /// The bytes of the graph of `stage`, its weights left out.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the file was changed.
    pub(crate) fn graph(&self, stage: Stage) -> Result<Vec<u8>> {
        let file = &self.entry(stage)?.graph;
        self.check(file)?;
        let path = file.locate(&self.root);
        fs::read(&path).map_err(|error| Error::io(&path, error))
    }

    /// A linear layer by itself, run as the graphs of this package are.
    ///
    /// # Errors
    ///
    /// `Runtime` if ONNX Runtime refuses.
    pub(crate) fn linear_layer(&self, layer: [usize; 3], precision: Precision) -> Result<Session> {
        let settings = Settings { threads: self.threads, arena: true, taps: false, profile: None };
        Session::linear_layer(self.runtime, layer, precision, settings)
    }

    /// The package's folder, once the tokenizer in it is checked.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the tokenizer was changed.
    pub(crate) fn tokenizer_folder(&self) -> Result<&Path> {
        self.check(&self.manifest.tokenizer.file)?;
        Ok(&self.root)
    }

    /// Checks a file's contents, once in this package's life.
    fn check(&self, file: &FileEntry) -> Result<()> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if !checked.contains(&file.path) {
            let started = Instant::now();
            file.check(&self.root)?;
            log::debug!("{}: {} bytes checked in {:.1?}", file.path, file.bytes, started.elapsed());
            checked.insert(file.path.clone());
        }
        Ok(())
    }
}
