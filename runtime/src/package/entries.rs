//! What is loaded for a stage: its graph, or what was compiled of it ahead. Loads nothing.

use std::{borrow::Cow, path::Path};

use pocketmuse_package::{ContextEntry, Error, ErrorKind, Result, Stage, StageEntry};

use crate::{
    engine::providers::{Ahead, Sizes, Target, contexts},
    request::Providers,
};

/// What is loaded for a stage: its graph, or a context for its provider's chip.
pub(super) struct Loaded<'a> {
    /// The files, and what goes in and comes out.
    pub(super) entry: Cow<'a, StageEntry>,
    /// Who loads it, if that is not the CPU.
    pub(super) target: Option<Target<'a>>,
    pub(super) context: Option<&'a ContextEntry>,
}

impl<'a> Loaded<'a> {
    /// Of `entry`, which is what a package has of `stage`: for `sizes` if another provider than the
    /// CPU computes it.
    ///
    /// # Errors
    ///
    /// `Unsupported` if there is no graph for the CPU; `ProviderFailed` if what was compiled does not
    /// fit.
    pub(super) fn of(
        (stage, entry): (Stage, &'a StageEntry),
        providers: &'a Providers,
        sizes: Option<Sizes>,
    ) -> Result<Self> {
        let Some(sizes) = sizes else {
            check(stage, entry, &Providers::default())?;
            return Ok(Self { entry: Cow::Borrowed(entry), target: None, context: None });
        };
        let target = Target::of(providers, stage, sizes);
        let context = contexts::find(entry, &target)?;
        let ahead = context.map_or(Ahead::Nothing, |_| Ahead::Done);
        let target = Some(Target { ahead, ..target });
        let compiled = context.map(|context| Cow::Owned(entry.compiled(context)));
        Ok(Self { entry: compiled.unwrap_or(Cow::Borrowed(entry)), target, context })
    }

    /// Checks what the graph names, and of a context that it is what the manifest says and was made
    /// by the libraries at hand.
    ///
    /// # Errors
    ///
    /// `PackageDamaged` for a file; `ProviderFailed` for a context of something else.
    pub(super) fn check(&self, root: &Path) -> Result<()> {
        match (self.context, &self.target) {
            (Some(context), Some(target)) => contexts::check(target, context, &context.read(root)?),
            _ => self.entry.check_graph(root),
        }
    }
}

/// Checks that who computes a stage finds something to load.
///
/// # Errors
///
/// `Unsupported` if that has no context, and the graph stayed behind.
pub(super) fn check(stage: Stage, entry: &StageEntry, providers: &Providers) -> Result<()> {
    let by = providers.of(stage);
    let is_theirs = |context: &ContextEntry| context.provider == by.name();
    if !entry.without_graph || entry.contexts.iter().any(is_theirs) {
        return Ok(());
    }
    let has =
        entry.contexts.iter().map(|context| format!("{}:{}", context.provider, context.target));
    let mut has: Vec<_> = has.collect();
    has.dedup();
    let detail = format!(
        "expected a graph for {by}, found what was compiled for {} alone: name that provider for \
         this stage",
        has.join(", ")
    );
    Err(Error::new(ErrorKind::Unsupported, stage.name(), detail))
}
