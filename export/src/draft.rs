//! The draft of a package: what is measured before the package is whole.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

use pocketmuse_package::{CALIBRATION, Flavour, FlavourEntry, Manifest, Measured, Stage};

use crate::{
    error::Result,
    networks::{Networks, is_quantized},
    progress::Progress,
    write::PackageWriter,
};

/// A whole package of one flavour in the folder of the one that is being written.
pub(crate) struct Draft {
    /// The flavour, except for the decoder.
    flavour: Flavour,
    /// Whether its graphs were written for the draft alone.
    is_extra: bool,
    /// Whether it has the taps of the flavour qdq.
    wants_qdq: bool,
}

impl Draft {
    /// Which flavour's decoder is to be measured: the first quantized one's, or the first one's if
    /// only a preview is missing. `None` if there is nothing to measure.
    ///
    /// The flavour qdq is none of them.
    pub(crate) fn measured_flavour(flavours: &[Flavour], has_preview: bool) -> Option<Flavour> {
        let mut quantized = flavours.iter().copied().filter(|flavour| is_quantized(*flavour));
        quantized.next().or_else(|| flavours.first().copied().filter(|_| !has_preview))
    }

    /// Writes what the draft of the flavour `own` needs besides the flavours of `manifest`, which
    /// are written. It takes the decoder of `measured`, if there is one, and the taps of the
    /// flavour qdq if that is wanted.
    pub(crate) fn write<F>(
        own: Flavour,
        (measured, wants_qdq): (Option<Flavour>, bool),
        networks: &Networks,
        manifest: &Manifest,
        writer: &mut PackageWriter<F>,
    ) -> Result<Self>
    where
        F: FnMut(&Progress<'_>) -> ControlFlow<()>,
    {
        let known = manifest.flavours.get(&own);
        let taken = known.or_else(|| measured.map(|flavour| &manifest.flavours[&flavour]));
        let mut draft = taken.cloned().unwrap_or_else(|| FlavourEntry { stages: BTreeMap::new() });
        let is_extra = known.is_none();
        if is_extra {
            let mut graphs = networks.graphs(own)?;
            let is_missing = |stage| draft.stages.is_empty() && stage == Stage::Decoder;
            graphs.retain(|(stage, _)| {
                is_missing(*stage) || ![Stage::Decoder, Stage::Encoder].contains(stage)
            });
            draft.stages.extend(writer.graphs(own, &graphs)?);
        }
        if let Some(flavour) = measured.filter(|flavour| is_quantized(*flavour)) {
            let stages = &manifest.flavours[&flavour].stages;
            draft.stages.insert(Stage::Decoder, stages[&Stage::Decoder].clone());
        }
        let mut flavours = BTreeMap::from([(own, draft)]);
        if wants_qdq {
            let stages = writer.graphs(Flavour::Qdq, &networks.observed(own)?)?;
            flavours.insert(Flavour::Qdq, FlavourEntry { stages });
        }
        let mut manifest = Manifest { flavours, ..manifest.clone() };
        manifest.format = manifest.oldest_format();
        writer.manifest(&manifest)?;
        Ok(Self { flavour: own, is_extra, wants_qdq })
    }

    /// Has `calibrate` measure the draft, and removes what is not part of the package. The
    /// checkpoint's `own_prompts` lie in the draft meanwhile.
    pub(crate) fn measure<F>(
        self,
        writer: &mut PackageWriter<F>,
        own_prompts: Option<&str>,
        calibrate: impl FnOnce(&Path) -> Result<Measured>,
    ) -> Result<Measured> {
        if let Some(text) = own_prompts {
            writer.file(CALIBRATION, text.as_bytes())?;
        }
        let measured = calibrate(writer.folder())?;
        if own_prompts.is_some() {
            writer.remove_file(CALIBRATION)?;
        }
        if self.is_extra {
            writer.remove(self.flavour)?;
        }
        if self.wants_qdq {
            writer.remove(Flavour::Qdq)?;
        }
        Ok(measured)
    }
}
