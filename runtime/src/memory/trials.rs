//! Who was tried where `auto` says who computes a stage, and what came of it. Plain values.

use std::{fmt, time::Duration};

use crate::request::Provider;

/// Who was tried to compute a stage, in the order of [`Provider::ALL`]. Prints as a sentence:
/// `openvino 21.0 ms, cpu 43.1 ms; qnn refused: computes another logits`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trials(pub Vec<Trial>);

/// A provider that was tried to compute a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Who.
    pub provider: Provider,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It computes what the CPU does; this is what a run took, the median of some.
    Ran(Duration),
    /// It may not be used, for this reason.
    Refused(String),
}

impl Trial {
    /// What a run took, unless it was refused.
    pub fn run(&self) -> Option<Duration> {
        match self.outcome {
            Outcome::Ran(run) => Some(run),
            Outcome::Refused(_) => None,
        }
    }

    /// Why it was refused, if it was.
    pub fn refused(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Ran(_) => None,
            Outcome::Refused(reason) => Some(reason),
        }
    }
}

impl Trials {
    /// The fastest of those that were not refused: the CPU if there is none, or none is faster.
    pub(crate) fn fastest(&self) -> Provider {
        let fastest = self.ran().min_by_key(|(run, by)| (*run, *by != Provider::Cpu));
        fastest.map_or(Provider::Cpu, |(_, provider)| provider)
    }

    /// What a run of those took that were not refused.
    fn ran(&self) -> impl Iterator<Item = (Duration, Provider)> {
        self.0.iter().filter_map(|trial| Some((trial.run()?, trial.provider)))
    }
}

impl fmt::Display for Trials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ran: Vec<_> = self.ran().collect();
        ran.sort_by_key(|(run, _)| *run);
        let ran: Vec<_> =
            ran.into_iter().map(|(run, provider)| format!("{provider} {}", time(run))).collect();
        let refused = self
            .0
            .iter()
            .filter_map(|trial| Some(format!("{} refused: {}", trial.provider, trial.refused()?)));
        let ran = Some(ran.join(", ")).filter(|ran| !ran.is_empty());
        let parts: Vec<_> = ran.into_iter().chain(refused).collect();
        if parts.is_empty() {
            return f.write_str("no other provider has a library");
        }
        f.write_str(&parts.join("; "))
    }
}

fn time(run: Duration) -> String {
    match run.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds => format!("{:.1} ms", 1000.0 * seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trials(of: &[(Provider, Result<u64, &str>)]) -> Trials {
        let trial = |(provider, outcome): &(Provider, Result<u64, &str>)| Trial {
            provider: *provider,
            outcome: match outcome {
                Ok(ms) => Outcome::Ran(Duration::from_millis(*ms)),
                Err(reason) => Outcome::Refused((*reason).to_owned()),
            },
        };
        Trials(of.iter().map(trial).collect())
    }

    #[test]
    fn the_fastest_is_taken_and_all_are_told() {
        let (cpu, openvino, qnn, webgpu) =
            (Provider::Cpu, Provider::OpenVino, Provider::Qnn, Provider::WebGpu);
        for (of, fastest, said) in [
            (&[][..], cpu, "no other provider has a library"),
            (&[(qnn, Err("rel 0.12"))], cpu, "qnn refused: rel 0.12"),
            (
                &[(cpu, Ok(3300)), (openvino, Ok(2700)), (qnn, Err("rel 0.12"))],
                openvino,
                "openvino 2.7 s, cpu 3.3 s; qnn refused: rel 0.12",
            ),
            (&[(cpu, Ok(20)), (openvino, Ok(20))], cpu, "cpu 20.0 ms, openvino 20.0 ms"),
            (
                &[(cpu, Ok(30)), (openvino, Ok(20)), (webgpu, Ok(10))],
                webgpu,
                "webgpu 10.0 ms, openvino 20.0 ms, cpu 30.0 ms",
            ),
            (&[(openvino, Err("a")), (qnn, Err("b"))], cpu, "openvino refused: a; qnn refused: b"),
        ] {
            let trials = trials(of);
            assert_eq!(trials.fastest(), fastest, "{said}");
            assert_eq!(trials.to_string(), said);
        }
    }
}
