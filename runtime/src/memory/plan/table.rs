//! A plan as people read it.

use std::fmt;

use super::Plan;
use crate::request::Provider;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        write!(f, "budget {} MB, threads {}", megabytes(self.budget_bytes), self.threads)?;
        for (bytes, what) in [
            (self.held_bytes, "of images that came in"),
            (self.prompt_bytes, "of the last prompts"),
        ] {
            if bytes > 0 {
                write!(f, ", {} MB {what}", megabytes(bytes))?;
            }
        }
        writeln!(f)?;
        writeln!(
            f,
            "{:<14}{:>12}{:>12}{:>8}{:>14}{:>14}{:>15}",
            "stage", "weights MB", "working MB", "loaded", "weights are", "peak MB", "anonymous MB"
        )?;
        for stage in &self.stages {
            writeln!(
                f,
                "{:<14}{:>12}{:>12}{:>8}{:>14}{:>14}{:>15}",
                stage.stage.name(),
                megabytes(stage.weights_bytes),
                megabytes(stage.working_bytes),
                if stage.warm { "always" } else { "alone" },
                stage.weights_are(),
                megabytes(stage.peak_rss_bytes),
                megabytes(stage.peak_anonymous_bytes),
            )?;
        }
        let others = self.stages.iter().filter(|stage| stage.provider != Provider::Cpu);
        for stage in others {
            let told = if stage.is_measured { "measured" } else { "estimated, before its proof" };
            let what = if stage.is_context { " of a context" } else { "" };
            writeln!(f, "{}: what {} takes{what} is {told}", stage.stage, stage.provider)?;
        }
        let [rss, anonymous] = [self.peak_rss_bytes(), self.peak_anonymous_bytes()].map(megabytes);
        write!(f, "peak {rss} MB, of which anonymous {anonymous} MB")
    }
}
