//! An opened package: its manifest, the flavour in use, and the check of its files before they are
//! used. Runs nothing.

pub(crate) mod capabilities;
mod compiled;
mod entries;
pub(crate) mod import;
#[cfg(feature = "measure")]
mod measured;
pub mod prepared;
mod proved;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use pocketmuse_package::{
    Error, ErrorKind, FileEntry, Flavour, Held, Manifest, OnRead, Result, Stage, StageEntry,
    graph::Writer,
};

pub(crate) use self::compiled::ToCompile;
use self::entries::Loaded;
pub(crate) use crate::request::Options;
use crate::{
    engine::loading::Loading,
    engine::mapped::MappedFiles,
    engine::providers::{self, Assignment, Sizes},
    engine::runtime::Runtime,
    engine::session::{Form, Session, Settings, Taps},
    package::{capabilities::Capabilities, prepared::Prepared},
    request::{Provider, Providers, Sharing, control::MAX_THREADS},
};

/// How a stage is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) loading: Loading,
    /// Who computes it.
    pub(crate) by: Provider,
    /// Threads that share one operator's work.
    pub(crate) threads: usize,
    /// The tapped values that are wanted among the outputs.
    pub(crate) taps: Option<Taps>,
    /// For which sizes another provider than the CPU compiles it; `None` for the CPU.
    pub(crate) sizes: Option<Sizes>,
    /// Whether values are floats where the graph has them as integers of a range.
    pub(crate) floats: bool,
}

impl How {
    /// Whether it is this, whatever the taps.
    pub(crate) fn is(&self, loading: Loading, threads: usize) -> bool {
        (self.loading, self.threads) == (loading, threads)
    }
}

/// An opened package. Files are checked when they are first used. What is known of them is that of
/// all clones.
#[derive(Clone)]
pub struct Package {
    root: PathBuf,
    manifest: Arc<Manifest>,
    capabilities: Capabilities,
    flavour: Flavour,
    threads: usize,
    sharing: Sharing,
    measures_memory: bool,
    runtime: &'static Runtime,
    /// The tapped values that every stage has among its outputs.
    taps: Option<Taps>,
    /// Where every stage writes its profile.
    profiles: Option<PathBuf>,
    prepared: Arc<Prepared>,
    providers: Providers,
}

impl Package {
    /// Reads the manifest, checks that every file is there with its size and that no graph of the
    /// flavour leads out of the package, and starts ONNX Runtime.
    ///
    /// # Errors
    ///
    /// `Io`, `PackageDamaged` or `PackageTooNew` for the package; `Unsupported` for a flavour it
    /// lacks or a provider that this build lacks; `BadRequest` for 0 threads, a provider's option, or
    /// a plug-in's library that is not there; `EngineMissing` without ONNX Runtime.
    pub fn open(root: &Path, options: &Options) -> Result<Self> {
        let manifest = Manifest::read(root)?;
        let flavour = options.flavour_of(&manifest);
        let capabilities = Capabilities::of(&manifest, Some(flavour))?;
        if let Some(threads) =
            options.threads.filter(|threads| !(1..=MAX_THREADS).contains(threads))
        {
            return Err(Error::new(
                ErrorKind::BadRequest,
                "threads",
                format!("expected 1 to {MAX_THREADS}, found {threads}"),
            ));
        }
        providers::check_options(&options.providers)?;
        manifest.files().try_for_each(|file| file.check_size(root))?;
        for (stage, entry) in &manifest.flavour(flavour)?.stages {
            entry.check_graph(root)?;
            entries::check(*stage, entry, &options.providers)?;
        }
        let runtime = Runtime::start(options.library.as_deref())?;
        let prepared = options.prepared.as_deref();
        for stage in manifest.flavour(flavour)?.stages.keys() {
            let who = Assignment { provider: options.providers.of(*stage), stage: *stage };
            providers::check(who, &options.providers)?;
        }
        Ok(Self {
            root: root.to_path_buf(),
            capabilities,
            flavour,
            threads: options.threads(),
            sharing: options.sharing,
            measures_memory: options.measure_memory,
            runtime,
            taps: None,
            profiles: None,
            prepared: {
                let runtime = runtime.build_info();
                Arc::new(Prepared::open(prepared, root, manifest.digest(), runtime))
            },
            providers: options.providers.clone(),
            manifest: Arc::new(manifest),
        })
    }

    /// What the package says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether the memory that each stage takes is measured.
    pub fn measures_memory(&self) -> bool {
        self.measures_memory
    }

    /// What the flavour in use can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The flavour in use.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// What the manifest says of `stage`.
    ///
    /// # Errors
    ///
    /// `Unsupported` if the package was exported without it.
    pub fn entry(&self, stage: Stage) -> Result<&StageEntry> {
        self.manifest.flavour(self.flavour)?.stages.get(&stage).ok_or_else(|| {
            let detail = format!(
                "expected a package with this stage, found none in {}: take one that has it",
                self.root.display()
            );
            Error::new(ErrorKind::Unsupported, stage.name(), detail)
        })
    }

    /// What is loaded for `stage`: for `sizes` if another provider than the CPU computes it.
    ///
    /// # Errors
    ///
    /// As for [`Self::entry`] and [`Loaded::of`].
    fn loaded(&self, stage: Stage, sizes: Option<Sizes>) -> Result<Loaded<'_>> {
        Loaded::of((stage, self.entry(stage)?), &self.providers, sizes)
    }

    /// Whether the graph of `stage` takes an input of that name: graphs differ by flavour.
    ///
    /// # Errors
    ///
    /// As for [`Self::entry`].
    pub(crate) fn takes(&self, stage: Stage, input: &str) -> Result<bool> {
        Ok(self.entry(stage)?.inputs.iter().any(|spec| spec.name == input))
    }

    /// Checks the files of `stage` and loads it, as the package was opened.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if a file was changed or its graph is not as the manifest says;
    /// `EngineFailed` if it does not load.
    #[cfg(feature = "measure")]
    pub fn load(&self, stage: Stage, loading: Loading) -> Result<Session> {
        let how = self.how(loading);
        self.load_as(stage, how, &mut |_| Ok(()))
    }

    /// Checks the files of `stage` and loads it; `on_read` is told of every piece of a file that is
    /// read to check it.
    ///
    /// # Errors
    ///
    /// As for [`Self::load`], and what `on_read` stops with.
    pub(crate) fn load_as(&self, stage: Stage, how: How, on_read: OnRead<'_>) -> Result<Session> {
        let what = self.loaded(stage, how.sizes)?;
        let entry = &*what.entry;
        let mapped = MappedFiles::open(&self.root, entry)?;
        let checked = files(entry).try_for_each(|file| self.prepared.check(file, on_read));
        if checked.is_err() {
            self.prepared.save(); // what was found whole until then
        }
        checked?;
        what.check(&self.root)?; // what is there now may be another than was opened
        let profile = self.profiles.as_ref().map(|folder| folder.join(stage.name()));
        let (profile, sharing, taps) = (profile.as_deref(), self.sharing, how.taps);
        let plain = Settings::new(how.threads, how.loading);
        let target = what.target;
        let form = if how.floats { Form::Floats } else { plain.form };
        let is_usual = profile.is_none() && target.is_none() && !how.floats;
        let is_plain = is_usual && taps.is_none();
        let own_operators = match stage {
            Stage::Decoder => is_plain,
            Stage::Step => is_usual && has_own_operators(entry.held(self.flavour, stage)),
            _ => false,
        };
        let settings = Settings { sharing, taps, profile, target, form, own_operators, ..plain };
        let optimised = if is_plain { self.load_optimised(stage, settings) } else { None };
        self.prepared.save();
        let load = || Session::load(self.runtime, &self.root, entry, settings);
        optimised.map_or_else(load, Ok)?.loaded_from(mapped)
    }

    /// How a stage is loaded unless somebody looks inside or wants other threads.
    pub(crate) fn how(&self, loading: Loading) -> How {
        let (threads, taps, by) = (self.threads, self.taps, Provider::Cpu);
        How { loading, by, threads, taps, sizes: None, floats: false }
    }

    /// How `stage` is loaded by who computes it: for `sizes` if that is not the CPU.
    pub(crate) fn how_of(&self, stage: Stage, loading: Loading, sizes: Sizes) -> How {
        let by = self.provider(stage);
        let sizes = (by != Provider::Cpu).then_some(sizes);
        How { by, sizes, ..self.how(loading) }
    }

    /// Who computes which stage.
    pub(crate) fn providers(&self) -> &Providers {
        &self.providers
    }

    /// What is known of this package's files and stages.
    pub(crate) fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// Bytes that loading `stage` will read to check them, since that was not done yet.
    pub(crate) fn unchecked_bytes(&self, stage: Stage) -> u64 {
        let entry = self.entry(stage).into_iter().filter(|entry| !entry.without_graph);
        let files = entry.flat_map(files);
        files.filter(|file| !self.prepared.is_checked(file)).map(|file| file.bytes).sum()
    }

    /// Loads the graph of `stage` as it was optimised before, or keeps what it is optimised to now.
    /// `None` if neither can be done: then it is loaded as it was exported, which also says what is
    /// wrong with it. Nor is it done where the optimised graph would hold the weights once more.
    fn load_optimised(&self, stage: Stage, settings: Settings<'_>) -> Option<Session> {
        let entry = self.entry(stage).ok()?;
        if entry.held(self.flavour, stage).changes_at_load(stage) {
            return None;
        }
        let load =
            |settings: Settings<'_>| Session::load(self.runtime, &self.root, entry, settings);
        if let Some(graph) = self.prepared.graph(entry) {
            let checked = entry.check_model(&graph, Writer::OnnxRuntime);
            match checked
                .and_then(|()| load(Settings { form: Form::Optimised(&graph), ..settings }))
            {
                Ok(session) => return Some(session),
                Err(error) => log::debug!("{}: optimised anew: {error}", entry.graph.path),
            }
        }
        let workspace = self.prepared.workspace(entry)?;
        let session = load(Settings { form: Form::Saved(&workspace.graph()), ..settings });
        self.prepared.keep(entry, session.as_ref().map(|_| workspace));
        session.ok()
    }

    /// The file of colours of the tokens, and what it holds, if the package has one.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the file was changed.
    pub fn preview(&self) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let Some(file) = &self.manifest.preview else { return Ok(None) };
        self.prepared.check(file, &mut |_| Ok(()))?;
        let path = file.locate(&self.root);
        let bytes = fs::read(&path).map_err(|error| Error::io(&path, error))?;
        Ok(Some((path, bytes)))
    }

    /// The package's folder, once the tokenizer in it is checked.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` if the tokenizer was changed.
    pub fn tokenizer_folder(&self) -> Result<&Path> {
        self.prepared.check(&self.manifest.tokenizer.file, &mut |_| Ok(()))?;
        Ok(&self.root)
    }
}

/// Whether a step graph gets operators of our own: one of integers does, on processors where they were
/// measured to be faster than ONNX Runtime's. The graph of floats stays the yardstick.
fn has_own_operators(held: Held) -> bool {
    cfg!(target_arch = "x86_64") && held.linear_bits <= 8
}

/// The files of a stage.
fn files(entry: &StageEntry) -> impl Iterator<Item = &FileEntry> {
    std::iter::once(&entry.graph).chain(&entry.weights)
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
            contexts: Vec::new(),
            without_graph: false,
        };
        let stages = Stage::ALL.iter().map(|stage| (*stage, entry.clone())).collect();
        manifest.flavours.insert(Flavour::Int8, FlavourEntry { stages });
        fs::write(folder.path().join(MANIFEST), manifest.to_json()).expect("written");
        let open = |flavour| {
            let options = Options { flavour: Some(flavour), ..Options::default() };
            Package::open(folder.path(), &options).err().expect("no such package")
        };
        let error = open(Flavour::F32);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.to_string(), "flavour: expected one of this package (int8), found f32");
        assert_ne!(open(Flavour::Int8).at(), "flavour", "that one it has");
    }
}
