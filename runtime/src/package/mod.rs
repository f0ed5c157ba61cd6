//! An opened package: its manifest, the flavour in use, and the check of its files before they are
//! used. Runs nothing.

#[cfg(feature = "measure")]
mod measured;
pub mod prepared;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use pocketmuse_package::{Error, ErrorKind, Flavour, Manifest, Result, Stage, StageEntry};

use crate::{
    engine::loading::Loading,
    engine::runtime::Runtime,
    engine::session::{Form, Session, Settings, Taps},
    memory::budget::Budget,
    package::prepared::Prepared,
    pixels::preview::Preview,
};

/// How a package is opened. The default suits most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The graphs to run; `None` for the best that the package has.
    pub flavour: Option<Flavour>,
    /// Threads to compute with, at least 1; `None` for as many as the machine runs at once.
    pub threads: Option<usize>,
    /// The ONNX Runtime library file; `None` to look for one (see [`library`](crate::library)).
    pub library: Option<PathBuf>,
    /// How much memory may be used; see [`Plan`](crate::Plan).
    pub memory: Budget,
    /// Whether every stage is dropped before the next one is loaded, even where the budget would
    /// let it stay: right for a process that makes one picture.
    pub staged: bool,
    /// A folder for what is found out about a package once and holds until its files change, made
    /// if need be: with it only the first process reads all of a package to check it. See
    /// [`prepared`](crate::prepared).
    pub prepared: Option<PathBuf>,
}

impl Options {
    /// The flavour to run of a package with `manifest`.
    pub(crate) fn flavour_of(&self, manifest: &Manifest) -> Flavour {
        let best =
            || Flavour::ALL.iter().copied().find(|flavour| manifest.flavours.contains_key(flavour));
        self.flavour.or_else(best).unwrap_or(Flavour::F32)
    }

    /// The threads to compute with.
    pub(crate) fn threads(&self) -> usize {
        self.threads.or_else(|| thread::available_parallelism().ok().map(Into::into)).unwrap_or(1)
    }
}

/// An opened package. Files are checked when they are first used.
pub struct Package {
    root: PathBuf,
    manifest: Manifest,
    flavour: Flavour,
    threads: usize,
    runtime: &'static Runtime,
    /// The tapped values that every stage has among its outputs.
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
    pub fn open(root: &Path, options: &Options) -> Result<Self> {
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

    /// What the package says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The flavour in use.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// What the manifest says of `stage`.
    ///
    /// # Errors
    ///
    /// `BadRequest` if the package was exported without it.
    pub fn entry(&self, stage: Stage) -> Result<&StageEntry> {
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
    pub fn load(&self, stage: Stage, loading: Loading) -> Result<Session> {
        self.load_tapped(stage, loading, self.taps)
    }

    /// As [`Self::load`], with the tapped values that `taps` wants among the outputs, whatever the
    /// package's own say.
    pub fn load_tapped(
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
        let profile = profile.as_deref();
        let settings = Settings { taps, profile, ..Settings::new(self.threads, loading) };
        let is_plain = taps.is_none() && profile.is_none();
        let optimised = if is_plain { self.load_optimised(entry, settings) } else { None };
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
        let workspace = self.prepared.workspace(entry)?;
        let session = load(Settings { form: Form::Saved(workspace.saved()), ..settings });
        self.prepared.keep(entry, session.as_ref().map(|_| workspace));
        session.ok()
    }

    /// The colours of the codes, if the package has them.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the file was changed or is of another size than the model says.
    pub fn preview(&self) -> Result<Option<Preview>> {
        let Some(file) = &self.manifest.preview else { return Ok(None) };
        self.prepared.check(file)?;
        let path = file.locate(&self.root);
        let bytes = fs::read(&path).map_err(|error| Error::io(&path, error))?;
        Preview::parse(&bytes, &self.manifest)
            .map_err(|error| error.within(path.display()))
            .map(Some)
    }

    /// The package's folder, once the tokenizer in it is checked.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the tokenizer was changed.
    pub fn tokenizer_folder(&self) -> Result<&Path> {
        self.prepared.check(&self.manifest.tokenizer.file)?;
        Ok(&self.root)
    }
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::{FlavourEntry, MANIFEST};

    use super::*;

    #[test]
    fn a_package_that_lacks_the_flavour_says_which_it_has_before_its_files_are_looked_at() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut manifest = crate::request::tests::manifest();
        let entry = StageEntry {
            graph: manifest.tokenizer.file.clone(), // which is not there
            weights: None,
            held: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            taps: Default::default(),
        };
        let stages = Stage::ALL.iter().map(|stage| (*stage, entry.clone())).collect();
        manifest.flavours.insert(Flavour::Int8, FlavourEntry { stages });
        fs::write(folder.path().join(MANIFEST), manifest.to_json()).expect("written");
        let open = |flavour| {
            let options = Options { flavour: Some(flavour), ..Options::default() };
            Package::open(folder.path(), &options).err().expect("no such package")
        };
        let error = open(Flavour::F32);
        assert_eq!(error.kind(), ErrorKind::BadRequest);
        assert_eq!(error.to_string(), "flavour: expected one of this package (int8), found f32");
        assert_ne!(open(Flavour::Int8).at(), "flavour", "that one it has");
    }
}
