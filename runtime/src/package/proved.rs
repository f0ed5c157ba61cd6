//! Other providers than the CPU are proved before they are trusted, once: what they showed is kept
//! with what is known of the package.

use std::{collections::BTreeMap, path::PathBuf};

use pocketmuse_package::{Digest, Error, Flavour, Result, Stage};

use super::{
    How, Package,
    prepared::{Need, Verdict},
};
use crate::{
    engine::{
        loading::Loading,
        providers::{
            self, Assignment, Sizes, Target,
            option::Choice,
            proof::{self, Compared, Made, Reference, Tolerance},
        },
        session::Session,
    },
    request::{Cancel, Provider},
};

/// A provider's session that was compared with the CPU's.
pub(crate) struct Shown {
    compared: Compared,
    /// Holds its memory until that is measured.
    _session: Session,
}

impl Package {
    /// Who computes `stage`.
    pub(crate) fn provider(&self, stage: Stage) -> Provider {
        self.providers.of(stage)
    }

    /// Who computes `stage` for `sizes`, and with which plug-in.
    pub(super) fn target(&self, stage: Stage, sizes: Sizes) -> Target<'_> {
        let provider = self.providers.of(stage);
        let library = self.providers.libraries.get(&provider).map(PathBuf::as_path);
        let choice = Choice(self.providers.options.get(&provider));
        Target { assignment: Assignment { provider, stage }, choice, library, sizes }
    }

    /// How near to the CPU the provider of `stage` must be.
    fn tolerance(&self, stage: Stage) -> Tolerance {
        let provider = self.providers.of(stage);
        let choice = Choice(self.providers.options.get(&provider));
        Tolerance::of((self.flavour, stage), providers::precision(provider, choice))
    }

    /// Whether a proof of `stage` is due before it is loaded like this: another provider than the
    /// CPU computes it, and nothing is known of that.
    ///
    /// # Errors
    ///
    /// `ProviderFailed` if it is known to compute something else.
    pub(crate) fn is_proof_due(&self, stage: Stage, how: &How) -> Result<bool> {
        let Some(sizes) = how.sizes else { return Ok(false) };
        match self.prepared.verdict(&self.key(stage, sizes)?.to_string()) {
            None => Ok(true),
            Some(Verdict { is_right: true, .. }) => Ok(false),
            Some(wrong) => Err(self.target(stage, sizes).assignment.failed(&wrong.reason)),
        }
    }

    /// What the CPU makes of the proof's inputs; its session is gone again, and so are those of the
    /// stages that make these inputs.
    ///
    /// # Errors
    ///
    /// As for [`Self::load_as`]; `Cancelled` if it is to stop.
    pub(crate) fn reference(
        &self,
        (stage, sizes): (Stage, Sizes),
        how: How,
        cancel: &Cancel,
    ) -> Result<Reference> {
        let cpu = |stage, how| {
            let mut cpu = self.load_as(stage, how, &mut |_| cancel.check())?;
            cpu.obey(cancel);
            Ok::<_, Error>((cpu, self.entry(stage)?))
        };
        let mut made = Made::default();
        for earlier in proof::earlier(stage) {
            let how = How { threads: how.threads, ..self.how(Loading::of(*earlier)) };
            let (mut session, entry) = cpu(*earlier, how)?;
            made.add(&mut session, (*earlier, entry), sizes)?;
        }
        // Ranges that are wrong are wrong on the CPU, too.
        let how = How { sizes: None, floats: self.flavour == Flavour::Qdq, ..how };
        let (mut session, entry) = cpu(stage, how)?;
        Reference::new(&mut session, entry, (sizes, &made))
    }

    /// What the other provider makes of them, compared.
    ///
    /// # Errors
    ///
    /// `ProviderFailed` if it does not take the whole stage, or fails; `Cancelled` if it is to stop;
    /// else as for [`Self::load_as`].
    pub(crate) fn show(
        &self,
        (stage, _): (Stage, Sizes),
        how: How,
        (reference, cancel): (&Reference, &Cancel),
    ) -> Result<Shown> {
        let mut session = self.load_as(stage, how, &mut |_| cancel.check())?;
        session.obey(cancel);
        let (entry, tolerance) = (self.entry(stage)?, self.tolerance(stage));
        let compared = reference.compare(&mut session, entry, tolerance)?;
        Ok(Shown { compared, _session: session })
    }

    /// Keeps what a proof showed and what that took.
    ///
    /// # Errors
    ///
    /// `ProviderFailed` if the provider computes something else.
    pub(crate) fn keep(
        &self,
        (stage, sizes): (Stage, Sizes),
        (shown, need): (Shown, Option<Need>),
    ) -> Result<()> {
        let Compared { is_right, reason } = shown.compared;
        let who = self.target(stage, sizes).assignment;
        log::debug!("{stage}: {} proved: {reason}: {need:?}", who.provider);
        let key = self.key(stage, sizes)?.to_string();
        let verdict = Verdict { is_right, reason: reason.clone(), need };
        self.prepared.add_verdict(&key, verdict);
        if is_right { Ok(()) } else { Err(who.failed(&reason)) }
    }

    /// What the stages of other providers than the CPU take that were measured.
    pub(crate) fn needs(&self, sizes: Sizes) -> BTreeMap<Stage, Need> {
        let others = self.providers.stages.iter().filter(|(_, by)| **by != Provider::Cpu);
        let measured = others.filter_map(|(stage, _)| {
            let key = self.key(*stage, sizes).ok()?; // a stage that the package lacks
            Some((*stage, self.prepared.verdict(&key.to_string())?.need?))
        });
        measured.collect()
    }

    fn key(&self, stage: Stage, sizes: Sizes) -> Result<Digest> {
        let target = self.target(stage, sizes);
        let entry = self.entry(stage)?;
        let about = (providers::key(&target, entry)?, proof::version(self.tolerance(stage)));
        Ok(Digest::of(format!("{about:?}").as_bytes()))
    }
}
