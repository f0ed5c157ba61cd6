//! A part of a package that is a package itself: fewer flavours, or no encoder.

use crate::{Flavour, Manifest, Result, Stage};

/// What to take of a package. The default is all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subset {
    /// The flavours to take; none named: all that the package has.
    pub flavours: Vec<Flavour>,
    /// Whether the encoder stays behind, which only edits need.
    pub without_encoder: bool,
}

impl Manifest {
    /// The manifest of a part of this package. The files that it names are the same.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a flavour that this package lacks.
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
        if part.oldest_format() < self.oldest_format() {
            part.format = part.oldest_format(); // what asked for the newer one stays behind
        }
        Ok(part)
    }
}
