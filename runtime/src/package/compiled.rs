//! Stages are compiled ahead for a chip, and what comes of it is added to the package.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    iter,
    path::Path,
};

use pocketmuse_package::{
    ContextEntry, Error, ErrorKind, FileEntry, MANIFEST, Manifest, OnRead, Result, Stage,
    StageEntry, files,
};

use super::{Package, entries, proved::Yardstick};
use crate::{
    engine::{
        loading::Loading,
        providers::{Ahead, Binary, Sizes, Target, contexts},
        session::{Session, Settings},
    },
    request::Providers,
};

/// What a graph is to be compiled for.
pub(crate) struct ToCompile {
    /// The sizes.
    pub(crate) sizes: Sizes,
    /// What the CPU makes of a proof's inputs.
    pub(crate) yardstick: Yardstick,
    /// What its files are called: see [`Package::free_name`].
    pub(crate) name: String,
}

impl Package {
    /// The context that is loaded for `stage`, if one is.
    pub(crate) fn context(&self, stage: Stage, sizes: Sizes) -> Option<&ContextEntry> {
        contexts::find(self.entry(stage).ok()?, &Target::of(&self.providers, stage, sizes)).ok()?
    }

    /// What the CPU made of a proof's inputs when the context of `stage` was compiled.
    pub(super) fn rows(
        &self,
        stage: Stage,
        sizes: Sizes,
        on_read: OnRead<'_>,
    ) -> Result<(FileEntry, Vec<u8>)> {
        let none = || Error::new(ErrorKind::Unsupported, stage.name(), "expected a context");
        let file = &self.loaded(stage, Some(sizes))?.context.ok_or_else(none)?.rows;
        self.prepared.check(file, on_read)?;
        let path = file.locate(&self.root);
        let rows = fs::read(&path).map_err(|error| Error::io(&path, error))?;
        Ok((file.clone(), rows))
    }

    /// Compiles the graph of `stage` into the folder `work`, for each of these sizes. What comes back
    /// names its files there: with several sizes, one binary that they share.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a provider that compiles nothing ahead; `ProviderFailed` if it does not
    /// take the whole stage; `NoSpace`; else as for [`Self::load_as`].
    pub(crate) fn compile(
        &self,
        stage: Stage,
        threads: usize,
        compiled: Vec<ToCompile>,
        work: &Path,
    ) -> Result<Vec<ContextEntry>> {
        let entry = self.entry(stage)?;
        entries::check(stage, entry, &Providers::default())?;
        let bytes = super::files(entry).map(|file| file.bytes).sum();
        files::check_room(work, bytes)?; // what is compiled has the weights in it
        let Some(first) = compiled.first() else { return Ok(Vec::new()) };
        let [chip, ending] = contexts::chip(&Target::of(&self.providers, stage, first.sizes))?;
        let binary = format!("{}{ending}", first.name); // a shared one is called so, too
        let (graphs, mut made) = (compiled.len(), Vec::new());
        for (place, ToCompile { sizes, yardstick, name }) in compiled.into_iter().enumerate() {
            let [graph, rows] = ["onnx", "rows"].map(|ending| format!("{name}.{ending}"));
            let path = work.join(&rows);
            fs::write(&path, yardstick.into_rows()).map_err(|error| Error::io(&path, error))?;
            let into = work.join(&graph);
            let ahead = Ahead::Into(&into, Binary { place, graphs });
            let target = Target::of(&self.providers, stage, sizes);
            let target = Target { ahead, allows_fallback: false, ..target };
            let plain = Settings::new(threads, Loading::of(stage));
            let settings = Settings { sharing: self.sharing, target: Some(target), ..plain };
            drop(Session::load(self.runtime, &self.root, entry, settings)?);
            let model = fs::read(&into).map_err(|error| Error::io(&into, error))?;
            let told = contexts::told_of(&target, &model)?;
            made.push((told, contexts::extents(entry, sizes)?, [graph, rows]));
        }
        let binary = FileEntry::describe(work, &binary)?;
        let mut contexts = Vec::new();
        for (told, extents, [graph, rows]) in made {
            let context = ContextEntry {
                provider: self.providers.of(stage).name().to_owned(),
                target: chip.to_owned(),
                architecture: told.architecture,
                sdk: told.sdk,
                extents,
                source: entry.source(),
                graph: FileEntry::describe(work, &graph)?,
                binary: binary.clone(),
                rows: FileEntry::describe(work, &rows)?,
            };
            context.read(work)?; // it names its binary and nothing else
            contexts.push(context);
        }
        Ok(contexts)
    }

    /// A name for the files of what is compiled of `stage` for `extents`, which no other has: who
    /// uses what is replaced keeps it as it was.
    pub(crate) fn free_name(&self, stage: Stage, sizes: Sizes) -> Result<String> {
        let target = Target::of(&self.providers, stage, sizes);
        let [chip, binary] = contexts::chip(&target)?;
        let folder = self.root.join(self.folder_of(target.assignment.provider.name(), chip));
        let extents = contexts::extents(self.entry(stage)?, sizes)?;
        let own = ["height", "width", "branches"].iter().filter_map(|name| extents.get(*name));
        let name = own.fold(stage.to_string(), |name, extent| format!("{name}-{extent}"));
        let names = iter::once(name.clone()).chain((2..).map(|count| format!("{name}.{count}")));
        let is_there = |name: &str, ending: &str| folder.join(format!("{name}{ending}")).exists();
        // A binary may be others' still when its first graph was replaced.
        let mut free =
            names.filter(|name| ![".onnx", binary].iter().any(|end| is_there(name, end)));
        Ok(free.next().unwrap_or(name))
    }

    fn folder_of(&self, provider: &str, chip: &str) -> String {
        format!("{}/{provider}-{chip}", self.flavour)
    }

    /// Moves what was compiled from the folder `work` into the package, and then names it in the
    /// manifest. What it replaces is removed.
    ///
    /// # Errors
    ///
    /// `BadRequest` if another process changed the package meanwhile; `Io`.
    pub(crate) fn add_contexts(
        &self,
        stage: Stage,
        mut contexts: Vec<ContextEntry>,
        work: &Path,
    ) -> Result<Vec<ContextEntry>> {
        let one_at_a_time = File::open(&self.root).map_err(|error| Error::io(&self.root, error))?;
        let _ = one_at_a_time.lock(); // where a file system has no locks, nobody waits
        let changed = |found: &str| {
            let detail = format!("expected the package as it was opened, found {found}");
            Error::new(ErrorKind::BadRequest, self.root.display().to_string(), detail)
        };
        let mut manifest = Manifest::read(&self.root)?; // others may have added to it
        let flavour = manifest.flavours.get_mut(&self.flavour);
        let entry = flavour.and_then(|flavour| flavour.stages.get_mut(&stage));
        let is_same = |context: &ContextEntry, entry: &StageEntry| {
            entry.source() == context.source && !entry.without_graph
        };
        let entry = entry
            .filter(|entry| contexts.iter().all(|context| is_same(context, entry)))
            .ok_or_else(|| changed("another graph"))?;
        let mut old = Vec::new();
        for context in &mut contexts {
            let folder = self.folder_of(&context.provider, &context.target);
            let target = self.root.join(&folder);
            fs::create_dir_all(&target).map_err(|error| Error::io(&target, error))?;
            for file in [&mut context.rows, &mut context.binary, &mut context.graph] {
                let [from, to] = [work, &target].map(|folder| folder.join(&file.path));
                // One that is shared was moved with the first of those that share it.
                let is_moved = !from.exists() && to.exists();
                if to.exists() && !is_moved {
                    return Err(changed("what another process compiled"));
                }
                if !is_moved {
                    let moved = File::open(&from).and_then(|file| file.sync_all());
                    let moved = moved.and_then(|()| fs::rename(&from, &to));
                    moved.map_err(|error| Error::io(&to, error))?;
                }
                file.path = format!("{folder}/{}", file.path);
            }
            old.extend(entry.add_context(context.clone()));
        }
        let named: BTreeSet<_> = entry.files().map(|file| file.path.clone()).collect();
        manifest.format = manifest.format.max(manifest.oldest_format());
        let json = manifest.to_json();
        files::write(&self.root.join(MANIFEST), |out| out.write_all(json.as_bytes()))?;
        let old = old.iter().flat_map(ContextEntry::files);
        for file in old.filter(|file| !named.contains(&file.path)) {
            let _ = fs::remove_file(file.locate(&self.root)); // nobody names it any more
        }
        Ok(contexts)
    }
}
