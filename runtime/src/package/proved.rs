//! Other providers than the CPU are proved before they are trusted, once: what they showed is kept
//! with what is known of the package.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use pocketmuse_package::{Digest, Flavour, Result, Stage};

use super::{
    How, Package, files,
    prepared::{Marker, Need, Speed, Verdict},
};
use crate::{
    engine::{
        loading::Loading,
        providers::{
            self, Assignment, Sizes, Target,
            option::Choice,
            proof::{self, Compared, Made, Reference},
            tolerance::Tolerance,
        },
        session::Session,
    },
    request::{Cancel, Provider, Providers},
};

/// What a provider shows that did not come to the end of a proof, for people.
const UNFINISHED: &str = "did not come to the end of an earlier proof: it crashed, hung or was \
                          killed";

/// What the CPU makes of a proof's inputs, and the time that it takes.
pub(crate) struct Yardstick {
    reference: Reference,
    /// What loading takes the CPU, where it has a graph.
    load: Option<Duration>,
}

impl Yardstick {
    /// What is kept of it for who has no graph.
    pub(super) fn into_rows(self) -> Vec<u8> {
        self.reference.into_rows()
    }
}

/// A provider's session that was compared with the CPU's.
pub(crate) struct Shown {
    verdict: Verdict,
    /// Holds its memory until that is measured.
    _session: Session,
}

impl Shown {
    /// What was shown; what it took is measured.
    pub(crate) fn verdict(self, need: Option<Need>) -> Verdict {
        Verdict { need, ..self.verdict }
    }
}

impl Package {
    /// Who computes `stage`.
    pub(crate) fn provider(&self, stage: Stage) -> Provider {
        self.providers.of(stage)
    }

    /// The same package, and `providers` compute its stages.
    pub(crate) fn computed_by(&self, providers: Providers) -> Self {
        Self { providers, ..self.clone() }
    }

    /// What was chosen of the options of who computes `stage`.
    fn choice(&self, stage: Stage) -> Choice<'_> {
        Choice(self.providers.options.get(&self.provider(stage)))
    }

    /// How near to the CPU the provider of `stage` must be.
    fn tolerance(&self, stage: Stage) -> Tolerance {
        let precision = providers::precision(self.provider(stage), self.choice(stage));
        Tolerance::of((self.flavour, stage), precision)
    }

    /// Whether a proof of `stage` is due before it is loaded like this: another provider than the
    /// CPU computes it, and nothing is known of that.
    ///
    /// # Errors
    ///
    /// `ProviderFailed` if it is known to compute something else, or not to come to an end.
    pub(crate) fn is_proof_due(&self, stage: Stage, how: &How) -> Result<bool> {
        let Some(sizes) = how.sizes else { return Ok(false) };
        match self.verdict((stage, sizes))? {
            None => Ok(true),
            Some(Verdict { is_right: true, .. }) => Ok(false),
            Some(wrong) => {
                let provider = self.provider(stage);
                Err(Assignment { provider, stage }.failed(&wrong.reason))
            }
        }
    }

    /// What is known of the provider of `stage`.
    ///
    /// # Errors
    ///
    /// `Unsupported` if the package lacks the stage, or this build the provider.
    pub(crate) fn verdict(&self, (stage, sizes): (Stage, Sizes)) -> Result<Option<Verdict>> {
        let key = self.key(stage, sizes)?.to_string();
        let known = self.prepared.verdict(&key);
        let is_unfinished = known.is_none() && self.prepared.is_unfinished(&key);
        Ok(known.or_else(|| is_unfinished.then(|| Verdict::not_ended(UNFINISHED))))
    }

    /// Takes note that a proof of `stage` runs, until what is returned is dropped.
    ///
    /// # Errors
    ///
    /// As for [`Self::verdict`].
    pub(crate) fn mark(&self, (stage, sizes): (Stage, Sizes)) -> Result<Option<Marker>> {
        Ok(self.prepared.mark(&self.key(stage, sizes)?.to_string()))
    }

    /// Forgets what is known of the provider of `stage`, so that a proof is due.
    ///
    /// # Errors
    ///
    /// As for [`Self::verdict`].
    pub(crate) fn forget_verdict(&self, (stage, sizes): (Stage, Sizes)) -> Result<()> {
        for key in [self.key(stage, sizes)?, self.failure_key(stage, sizes)?] {
            self.prepared.forget_verdict(&key.to_string());
        }
        Ok(())
    }

    /// As [`Self::verdict`], for who chooses by it: that the provider failed is known, too, and
    /// what says nothing of time is not.
    ///
    /// # Errors
    ///
    /// As for [`Self::verdict`].
    pub(crate) fn tried(&self, (stage, sizes): (Stage, Sizes)) -> Result<Option<Verdict>> {
        let failure = self.failure_key(stage, sizes)?.to_string();
        let known = self.verdict((stage, sizes))?.or_else(|| self.prepared.verdict(&failure));
        Ok(known.filter(|verdict| !verdict.is_right || verdict.speed.is_some()))
    }

    /// Keeps that the provider of `stage` failed in its proof. Whoever asks for it by its name
    /// tries it again.
    ///
    /// # Errors
    ///
    /// As for [`Self::verdict`].
    pub(crate) fn keep_failure(&self, (stage, sizes): (Stage, Sizes), reason: &str) -> Result<()> {
        let key = self.failure_key(stage, sizes)?.to_string();
        self.prepared.add_verdict(&key, Verdict::not_ended(reason));
        Ok(())
    }

    fn failure_key(&self, stage: Stage, sizes: Sizes) -> Result<Digest> {
        let key = self.key(stage, sizes)?;
        Ok(Digest::of(format!("failed {key}").as_bytes()))
    }

    /// What the CPU makes of the proof's inputs; its session is gone again, and so are those of the
    /// stages that make these inputs. Of a stage without a graph it is what the CPU made of them when
    /// the context was compiled; stages without one make the inputs as they make them for images.
    ///
    /// # Errors
    ///
    /// As for [`Self::load_as`]; `Cancelled` if it is to stop.
    pub(crate) fn yardstick(
        &self,
        (stage, sizes): (Stage, Sizes),
        how: How,
        cancel: &Cancel,
    ) -> Result<Yardstick> {
        let on_read = &mut |_: u64| cancel.check();
        let mut made = Made::default();
        for earlier in proof::earlier(stage) {
            let loading = Loading::of(*earlier);
            let by = match self.entry(*earlier)?.without_graph {
                true => self.how_of(*earlier, loading, sizes), // which was proved before
                false => self.how(loading),
            };
            let how = How { threads: how.threads, ..by };
            let mut cpu = self.load_as(*earlier, how, on_read)?;
            cpu.obey(cancel);
            made.add(&mut cpu, (*earlier, self.entry(*earlier)?), sizes)?;
        }
        let entry = self.entry(stage)?;
        if entry.without_graph {
            let (file, rows) = self.rows(stage, sizes, on_read)?;
            let reference = Reference::of_rows(entry, (sizes, &made), (&file, &rows))?;
            return Ok(Yardstick { reference, load: None });
        }
        files(entry).try_for_each(|file| self.prepared.check(file, on_read))?; // not timed
        let mut loaded = |floats| -> Result<_> {
            let started = Instant::now();
            let mut cpu = self.load_as(stage, How { sizes: None, floats, ..how }, on_read)?;
            let load = started.elapsed();
            cpu.obey(cancel);
            Ok((cpu, load))
        };
        // Ranges that are wrong are wrong on the CPU, too.
        let floats = self.flavour == Flavour::Qdq;
        let (mut cpu, load) = loaded(floats)?;
        let reference = Reference::new(&mut cpu, entry, (sizes, &made))?;
        if !floats {
            return Ok(Yardstick { reference, load: Some(load) });
        }
        drop(cpu);
        // What counts is the time of what makes images.
        let (mut cpu, load) = loaded(false)?;
        Ok(Yardstick { reference: reference.timed(&mut cpu)?, load: Some(load) })
    }

    /// What the other provider makes of them, compared.
    ///
    /// # Errors
    ///
    /// `ProviderFailed` if it does not take the whole stage, or fails; `Cancelled` if it is to stop;
    /// else as for [`Self::load_as`].
    pub(crate) fn show(
        &self,
        stage: Stage,
        how: How,
        (yardstick, cancel): (&Yardstick, &Cancel),
    ) -> Result<Shown> {
        let started = Instant::now();
        let mut session = self.load_as(stage, how, &mut |_| cancel.check())?;
        let load = started.elapsed();
        session.obey(cancel);
        let (entry, tolerance) = (self.entry(stage)?, self.tolerance(stage));
        let Yardstick { reference, load: cpu_load } = yardstick;
        let Compared { is_right, reason, run } =
            reference.compare(&mut session, entry, tolerance)?;
        let speed = cpu_load.zip(reference.run).map(|(cpu_load, cpu_run)| {
            let [load_us, run_us, cpu_load_us, cpu_run_us] =
                [load, run, cpu_load, cpu_run].map(|time| time.as_micros() as u64);
            Speed { load_us, run_us, cpu_load_us, cpu_run_us }
        });
        let nodes = session.nodes().cloned();
        let devices = providers::devices(self.runtime, self.providers.of(stage));
        let verdict = Verdict { is_right, nodes, speed, devices, ..Verdict::not_ended(reason) };
        Ok(Shown { verdict, _session: session })
    }

    /// Keeps what a proof showed.
    ///
    /// # Errors
    ///
    /// As for [`Self::verdict`].
    pub(crate) fn keep(&self, (stage, sizes): (Stage, Sizes), verdict: Verdict) -> Result<()> {
        log::debug!("{stage}: {} proved: {verdict:?}", self.providers.of(stage));
        self.prepared.add_verdict(&self.key(stage, sizes)?.to_string(), verdict);
        Ok(())
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
        let what = self.loaded(stage, Some(sizes))?;
        let target = what.target.unwrap_or_else(|| Target::of(&self.providers, stage, sizes));
        let about = (providers::key(&target, &what.entry)?, proof::version(self.tolerance(stage)));
        Ok(Digest::of(format!("{about:?}").as_bytes()))
    }
}
