//! The draft of a package: what is measured before the package is whole.

use std::{ops::ControlFlow, path::Path};

use pocketmuse_package::{Flavour, Manifest, Measured, Stage};

use crate::{
    error::Result,
    networks::{Networks, is_quantized},
    progress::Progress,
    write::PackageWriter,
};

/// The flavour of a draft, except for its decoder: the fastest, and the one that takes the least
/// memory where images are small.
const DRAFT: Flavour = Flavour::Int8;

/// A whole package of the flavour [`DRAFT`] in the folder of the one that is being written.
pub(crate) struct Draft {
    /// Whether its graphs were written for the draft alone.
    is_extra: bool,
}

impl Draft {
    /// Which flavour's decoder is to be measured: the first quantized one's, or the first one's if
    /// only a preview is missing. `None` if there is nothing to measure.
    pub(crate) fn measured_flavour(flavours: &[Flavour], has_preview: bool) -> Option<Flavour> {
        let mut quantized = flavours.iter().copied().filter(|flavour| is_quantized(*flavour));
        quantized.next().or_else(|| flavours.first().copied().filter(|_| !has_preview))
    }

    /// Writes what the draft needs besides the flavours of `manifest`, which are written. It takes
    /// the decoder of `flavour`.
    pub(crate) fn write<F>(
        flavour: Flavour,
        networks: &Networks,
        manifest: &Manifest,
        writer: &mut PackageWriter<F>,
    ) -> Result<Self>
    where
        F: FnMut(&Progress<'_>) -> ControlFlow<()>,
    {
        let known = manifest.flavours.get(&DRAFT);
        let mut draft = known.unwrap_or(&manifest.flavours[&flavour]).clone();
        let is_extra = known.is_none();
        if is_extra {
            let mut graphs = networks.graphs(DRAFT)?;
            graphs.retain(|(stage, _)| ![Stage::Decoder, Stage::Encoder].contains(stage));
            draft.stages.extend(writer.graphs(DRAFT, &graphs)?);
        }
        writer.manifest(&Manifest { flavours: [(DRAFT, draft)].into(), ..manifest.clone() })?;
        Ok(Self { is_extra })
    }

    /// Has `calibrate` measure the draft, and removes what is not part of the package.
    pub(crate) fn measure<F>(
        self,
        writer: &PackageWriter<F>,
        calibrate: impl FnOnce(&Path) -> Result<Measured>,
    ) -> Result<Measured> {
        let measured = calibrate(writer.folder())?;
        if self.is_extra {
            writer.remove(DRAFT)?;
        }
        Ok(measured)
    }
}
