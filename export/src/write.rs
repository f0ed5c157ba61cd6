//! The package folder: graphs, aligned external data, digests. Everything is written to a temporary
//! neighbour, which takes the package's name when it is complete.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io::{BufWriter, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use pocketmuse_package::{
    Digest, DigestWriter, FileEntry, Flavour, MANIFEST, Manifest, Stage, StageEntry,
    files::{self, NewFolder},
    graph::weights_name,
};

use crate::{
    ahead,
    error::{Error, ErrorKind, Result},
    graph::{Graph, Initializer},
    networks::Graphs,
    progress::{Counter, Progress},
    proto::{self, Location},
    quantize,
};

/// Constants up to this size stay inside the graph's own file.
const INLINE_BYTES: usize = 1024;

/// What a graph holds at most of constants that no other flavour has.
const MOST_INLINE_BYTES: u64 = 32 << 20;

/// Large constants begin at a multiple of this, so that any system can map them into memory by
/// themselves.
const LARGE_ALIGNMENT: u64 = 64 << 10;

/// Constants from this size on are large.
const LARGE_BYTES: usize = 1 << 20;

/// Smaller ones begin at a multiple of a cache line.
const SMALL_ALIGNMENT: u64 = 64;

/// A package that is being written, removed again if it is not finished.
pub(crate) struct PackageWriter<F> {
    target: PathBuf,
    folder: NewFolder,
    progress: Counter<F>,
    sharing: Option<Sharing>,
    lent: BTreeMap<Stage, Lent>,
}

/// Two flavours, of which one reads weights of the other where they lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sharing {
    pub(crate) lender: Flavour,
    pub(crate) borrower: Flavour,
}

/// Weights of a stage that another flavour may read, too.
struct Lent {
    file: FileEntry,
    /// First byte and number of bytes of each constant, by its contents.
    places: HashMap<Digest, [u64; 2]>,
}

impl<F> PackageWriter<F> {
    /// Starts a package at `target`, which must not exist unless it is to be overwritten. Its
    /// parent must, and have room. `progress` is told of every constant before it is read.
    pub(crate) fn create(target: &Path, overwrite: bool, progress: Counter<F>) -> Result<Self> {
        let request =
            |detail: &str| Error::new(ErrorKind::BadRequest, target.display().to_string(), detail);
        if target.exists() && !overwrite {
            return Err(request("expected a folder that does not exist yet, found one"));
        }
        if target.exists() {
            replaceable(target).map_err(|found| {
                request(&format!("expected a package to overwrite, found {found}"))
            })?;
        }
        let folder = NewFolder::begin(target, overwrite)?;
        files::check_room(files::parent(target), progress.total_bytes())?;
        let (sharing, lent) = Default::default();
        Ok(Self { target: target.to_owned(), folder, progress, sharing, lent })
    }

    /// Has graphs of the borrower read constants that the lender has where they are written.
    pub(crate) fn share(&mut self, sharing: Sharing) {
        self.sharing = Some(sharing);
    }

    fn lends(&self, flavour: Flavour) -> bool {
        self.sharing.is_some_and(|sharing| sharing.lender == flavour)
    }

    fn borrows(&self, flavour: Flavour) -> bool {
        self.sharing.is_some_and(|sharing| sharing.borrower == flavour)
    }

    /// Writes one of the package's small files.
    pub(crate) fn file(&self, path: &str, contents: &[u8]) -> Result<FileEntry> {
        let file = self.folder.path().join(path);
        fs::write(&file, contents).map_err(|error| Error::io(self.target.join(path), error))?;
        FileEntry::describe(self.folder.path(), path)
    }

    /// Where the package lies while it is written.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Removes the files of a flavour again.
    pub(crate) fn remove(&mut self, flavour: Flavour) -> Result<()> {
        if self.lends(flavour) {
            self.lent.clear();
        }
        let folder = self.folder.path().join(flavour.name());
        fs::remove_dir_all(&folder)
            .map_err(|error| Error::io(self.target.join(flavour.name()), error))
    }

    /// Removes one of the small files again.
    pub(crate) fn remove_file(&self, path: &str) -> Result<()> {
        fs::remove_file(self.folder.path().join(path))
            .map_err(|error| Error::io(self.target.join(path), error))
    }

    /// Writes the manifest, so that a runtime accepts what was written before.
    pub(crate) fn manifest(&self, manifest: &Manifest) -> Result<()> {
        self.file(MANIFEST, manifest.to_json().as_bytes())?;
        Manifest::read(self.folder.path()).map(drop)
    }

    /// Writes the manifest and gives the package its name.
    pub(crate) fn finish(self, manifest: &Manifest) -> Result<()> {
        self.manifest(manifest)?;
        self.folder.finish()
    }
}

impl<F: FnMut(&Progress<'_>) -> ControlFlow<()>> PackageWriter<F> {
    /// Writes graphs of a flavour and their weights.
    pub(crate) fn graphs(
        &mut self,
        flavour: Flavour,
        graphs: &Graphs,
    ) -> Result<BTreeMap<Stage, StageEntry>> {
        let entries =
            graphs.iter().map(|(stage, graph)| Ok((*stage, self.graph(flavour, *stage, graph)?)));
        entries.collect()
    }

    fn graph(&mut self, flavour: Flavour, stage: Stage, graph: &Graph) -> Result<StageEntry> {
        let folder = self.folder.path().join(flavour.name());
        fs::create_dir_all(&folder)
            .map_err(|error| Error::io(self.target.join(flavour.name()), error))?;
        let data = format!("{flavour}/{stage}.data");
        let borrowed = if self.borrows(flavour) { self.borrowed(stage, graph)? } else { None };
        let (weights, locations) = match borrowed {
            Some((file, locations)) => (Some(file), locations),
            None => self.weights(&data, (flavour, stage), graph)?,
        };
        let path = format!("{flavour}/{stage}.onnx");
        let external = weights.as_ref().and_then(|weights| weights_name(&path, &weights.path));
        let bytes = proto::model(graph, &locations, external.as_deref().unwrap_or_default());
        Ok(StageEntry {
            graph: self.file(&path, &bytes)?,
            weights,
            held: Some(quantize::held(graph)),
            inputs: graph.inputs.clone(),
            outputs: graph.outputs.clone(),
            taps: graph.taps.clone(),
            contexts: Vec::new(),
            without_graph: false,
        })
    }

    /// The lender's file and where in it the graph's constants are, the others in the graph itself;
    /// `None` if the file does not hold most of what they take.
    fn borrowed(
        &mut self,
        stage: Stage,
        graph: &Graph,
    ) -> Result<Option<(FileEntry, Vec<Location>)>> {
        let Some(lent) = self.lent.get(&stage) else { return Ok(None) };
        let (mut inside, mut outside) = (0, 0);
        let mut locations = Vec::new();
        let constants: Vec<_> = graph.initializers.iter().collect();
        ahead::each_with_values(&constants, |place, values| {
            let initializer = constants[place];
            self.progress.advance(stage, &initializer.name, initializer.bytes() as u64)?;
            let is_small = values.len() <= INLINE_BYTES;
            let place = if is_small { None } else { lent.places.get(&Digest::of(&values)) };
            locations.push(match place {
                Some(&[offset, length]) => {
                    outside += length;
                    Location::External { offset, length }
                }
                None => {
                    inside += values.len() as u64;
                    Location::Inline(values)
                }
            });
            let fits = inside <= MOST_INLINE_BYTES;
            Ok(if fits { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        let is_most = inside <= outside.min(MOST_INLINE_BYTES);
        Ok(is_most.then(|| (lent.file.clone(), locations)))
    }

    fn weights(
        &mut self,
        path: &str,
        (flavour, stage): (Flavour, Stage),
        graph: &Graph,
    ) -> Result<(Option<FileEntry>, Vec<Location>)> {
        let mut places = self.lends(flavour).then(HashMap::new);
        let target = self.target.join(path);
        let failed = |error| Error::io(&target, error);
        let mut file = None;
        let mut position = 0u64;
        let mut locations: Vec<_> =
            graph.initializers.iter().map(|_| Location::Inline(Vec::new())).collect();
        // Large constants first: a small one between two of them would leave most of an alignment
        // unused.
        let (large, small): (Vec<_>, Vec<_>) =
            (0..locations.len()).partition(|at| is_large(&graph.initializers[*at]));
        let order: Vec<_> = large.into_iter().chain(small).collect();
        let constants: Vec<_> = order.iter().map(|at| &graph.initializers[*at]).collect();
        ahead::each_with_values(&constants, |place, values| {
            let (initializer, location) = (constants[place], &mut locations[order[place]]);
            self.progress.advance(stage, &initializer.name, initializer.bytes() as u64)?;
            if values.len() <= INLINE_BYTES {
                *location = Location::Inline(values);
                return Ok(ControlFlow::Continue(()));
            }
            let writer = match &mut file {
                Some(writer) => writer,
                None => {
                    let created = File::create(self.folder.path().join(path)).map_err(failed)?;
                    file.insert(DigestWriter::new(BufWriter::with_capacity(1 << 20, created)))
                }
            };
            let offset = position.next_multiple_of(alignment(initializer));
            let padding = vec![0; (offset - position) as usize];
            writer.write_all(&padding).and_then(|()| writer.write_all(&values)).map_err(failed)?;
            position = offset + values.len() as u64;
            let length = values.len() as u64;
            *location = Location::External { offset, length };
            if let Some(places) = &mut places {
                places.insert(Digest::of(&values), [offset, length]);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let Some(writer) = file else { return Ok((None, locations)) };
        let (mut inner, sha256) = writer.finish();
        inner.flush().map_err(failed)?;
        let file = FileEntry { path: path.to_owned(), bytes: position, sha256 };
        if let Some(places) = places {
            self.lent.insert(stage, Lent { file: file.clone(), places });
        }
        Ok((Some(file), locations))
    }
}

/// Only a package or an empty folder may be overwritten, and nothing that lies in it besides: what
/// is there instead.
fn replaceable(target: &Path) -> Result<(), String> {
    let entries = fs::read_dir(target).map_err(|_| "something else".to_owned())?;
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let manifest = Manifest::read(target).map_err(|_| "something else".to_owned())?;
    let files = manifest.files().map(|file| file.path.split('/').next().unwrap_or_default());
    let ours: BTreeSet<_> = files.chain([MANIFEST]).collect();
    match names.iter().find(|name| !name.to_str().is_some_and(|name| ours.contains(name))) {
        Some(other) => Err(format!("{other:?} beside one")),
        None => Ok(()),
    }
}

fn is_large(initializer: &Initializer) -> bool {
    initializer.bytes() >= LARGE_BYTES
}

fn alignment(initializer: &Initializer) -> u64 {
    if is_large(initializer) { LARGE_ALIGNMENT } else { SMALL_ALIGNMENT }
}
