//! A part of a package that is a package itself: fewer flavours, no encoder, or what was compiled
//! for one chip instead of graphs.

use crate::{Error, ErrorKind, Flavour, Manifest, Result, Stage};

/// What to take of a package. The default is all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subset {
    /// The flavours to take; none named: all that the package has.
    pub flavours: Vec<Flavour>,
    /// Whether the encoder stays behind, which only edits need.
    pub without_encoder: bool,
    /// A provider and a chip, `qnn` and `sm8650`: stages that have contexts for it come without
    /// their graphs, the weights of these, and other contexts.
    pub target: Option<(String, String)>,
}

impl Manifest {
    /// The manifest of a part of this package. The files that it names are the same.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a flavour that this package lacks, and for a chip that no stage has contexts
    /// for.
    pub fn subset(&self, subset: &Subset) -> Result<Self> {
        let mut part = self.clone();
        if !subset.flavours.is_empty() {
            subset.flavours.iter().try_for_each(|&flavour| self.flavour(flavour).map(drop))?;
            part.flavours.retain(|flavour, _| subset.flavours.contains(flavour));
        }
        if subset.without_encoder {
            for entry in part.flavours.values_mut() {
                entry.stages.remove(&Stage::Encoder);
            }
        }
        if let Some(target) = &subset.target {
            part.keep_compiled(target)?;
        }
        if part.oldest_format() < self.oldest_format() {
            part.format = part.oldest_format(); // what asked for the newer one stays behind
        }
        Ok(part)
    }

    /// Leaves the graphs behind that have contexts for a provider's chip, and all other contexts.
    fn keep_compiled(&mut self, (provider, target): &(String, String)) -> Result<()> {
        let (mut found, mut is_any, mut is_lost) = (Vec::new(), false, false);
        let stages = self.flavours.values_mut().flat_map(|flavour| flavour.stages.values_mut());
        for stage in stages {
            let known = stage.contexts.iter();
            found.extend(known.map(|context| format!("{}:{}", context.provider, context.target)));
            stage
                .contexts
                .retain(|context| (&context.provider, &context.target) == (provider, target));
            is_lost |= stage.without_graph && stage.contexts.is_empty();
            stage.without_graph = !stage.contexts.is_empty();
            is_any |= stage.without_graph;
        }
        if is_any && !is_lost {
            return Ok(());
        }
        found.sort();
        found.dedup();
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        let detail = format!(
            "expected contexts for {provider}:{target}, found {found}: make them with compile"
        );
        Err(Error::new(ErrorKind::Unsupported, "target", detail))
    }
}
