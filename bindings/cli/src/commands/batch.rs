//! `--prompts` and `--seeds`: several jobs with the model loaded once. A job that fails does not
//! lose the others.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use pocketmuse_package::{Error, ErrorKind, Result};

use super::make;
use crate::{
    console::Console,
    events::{Event, Place},
    order::{Begin, Line, Order},
    outputs,
    package::{self, Opened},
    prompts::Prompts,
    stop,
    task::Task,
    terminal::{self, milliseconds},
};

/// Makes the images of every line and seed. Returns the exit code: 1 if one failed.
pub(super) fn run(order: &Order, offline: bool, console: &Console) -> Result<u8> {
    if let Begin::Request(wish) = &order.begin
        && wish.output.as_deref() == Some(Path::new(outputs::STDOUT))
    {
        let detail = "expected a file or a folder for several images, found stdout";
        return Err(Error::new(ErrorKind::BadRequest, "output", detail));
    }
    let prompts = order.prompts.as_deref().map(Prompts::read).transpose()?;
    let lines = prompts.as_ref().map_or(1, |prompts| prompts.lines().count());
    let mut batch = Batch {
        order,
        offline,
        console,
        opened: None,
        counts: Counts { total: lines * order.seeds.len().max(1), ..Counts::default() },
        started: Instant::now(),
    };
    let done = match &prompts {
        Some(prompts) => {
            let last = prompts.lines().last().map_or(0, |(number, _)| number);
            let line = |number| Line { number, last };
            let mut lines = prompts.lines();
            lines.try_for_each(|(number, prompt)| batch.line(Some((line(number), prompt))))
        }
        None => batch.line(None),
    };
    let Counts { failed, total, .. } = batch.counts;
    if failed > 0 {
        terminal::note(format!("{failed} of {total} failed"));
    }
    console.event(&batch.counts.event(batch.started.elapsed()))?;
    done?;
    Ok(u8::from(failed > 0))
}

/// Whether a failure is not of one job alone: the user stops, nothing can be told any more, or there
/// is no room for an image.
fn is_of_all(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::NoSpace)
        || error.at() == terminal::STDOUT
}

/// What became of jobs.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    made: usize,
    skipped: usize,
    failed: usize,
    total: usize,
}

impl Counts {
    fn done(&self) -> usize {
        self.made + self.skipped + self.failed
    }

    fn event(&self, time: Duration) -> Event<'static> {
        let Self { made, skipped, failed, total } = *self;
        Event::Batch { made, skipped, failed, total, total_ms: milliseconds(time) }
    }

    /// How far it is after so much time, for people. What was skipped took none.
    fn line(&self, time: Duration) -> String {
        let (done, worked) = (self.done(), self.made + self.failed);
        let left = time.mul_f64((self.total - done) as f64 / worked.max(1) as f64).as_secs();
        let left = match left {
            0..100 => format!("{left} s"),
            100..6000 => format!("{} min", (left + 30) / 60),
            _ => format!("{} h", (left + 1800) / 3600),
        };
        format!("{done} of {}, {left} left", self.total)
    }
}

/// How a job's images came to be there.
enum Made {
    New,
    Before,
}

/// Several jobs, one after another.
struct Batch<'a> {
    order: &'a Order,
    offline: bool,
    console: &'a Console,
    /// The package, from the first job that comes so far.
    opened: Option<Opened>,
    counts: Counts,
    started: Instant,
}

impl Batch<'_> {
    /// Makes the images of a line with every seed.
    fn line(&mut self, line: Option<(Line, Result<&str>)>) -> Result<()> {
        let order = self.order;
        let (number, prompt) = line.map_or((None, None), |(number, prompt)| {
            (Some(number), Some(prompt.map(|prompt| (number, prompt))))
        });
        let prompt = prompt.transpose();
        let seeds = order.seeds.iter().copied().map(Some);
        let none = order.seeds.is_empty().then_some(None);
        for seed in seeds.chain(none) {
            stop::check()?;
            let place = Place {
                line: number.map(|line: Line| line.number),
                job: self.counts.done() + 1,
                total: self.counts.total,
            };
            let made = match &prompt {
                Ok(prompt) => self.make(&order.one_of(*prompt, seed), place),
                Err(error) => {
                    Err(Error::new(error.kind(), error.at().to_owned(), error.detail().to_owned()))
                }
            };
            match made {
                Err(error) if is_of_all(&error) => return Err(error),
                Err(error) => {
                    self.counts.failed += 1;
                    let line = place.line.map(|line| format!("line {line}"));
                    let place: Vec<_> =
                        line.into_iter().chain(seed.map(|seed| format!("seed {seed}"))).collect();
                    let error = error.within(place.join(", "));
                    self.console.error(&error);
                    terminal::tell(&error);
                }
                Ok(Made::New) => self.counts.made += 1,
                Ok(Made::Before) => self.counts.skipped += 1,
            }
            if self.counts.done() < self.counts.total {
                self.console.note(self.counts.line(self.started.elapsed()));
            }
        }
        Ok(())
    }

    fn make(&mut self, order: &Order, place: Place) -> Result<Made> {
        let mut task = Task::new(order)?;
        let package = task.package.clone();
        package::with_repair(&package, self.console, || {
            let opened = match self.opened.take() {
                Some(opened) => opened,
                None => package::find(&package, self.console)?
                    .open(&package::options(&package), self.offline)?,
            };
            let before =
                task.check(&opened.manifest).and_then(|()| task.made_before(&opened.manifest));
            let made = before.and_then(|before| match before {
                Some(files) => self.console.skipped(&files, Some(place)).map(|()| Made::Before),
                None => {
                    make::make(&mut task, &opened, self.console, Some(place)).map(|()| Made::New)
                }
            });
            let is_damaged = made.as_ref().is_err_and(package::is_damaged);
            if !is_damaged {
                self.opened = Some(opened);
            }
            made
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_in_words() {
        let line = |made, skipped, total, seconds| {
            Counts { made, skipped, total, ..Counts::default() }.line(Duration::from_secs(seconds))
        };
        assert_eq!(line(12, 0, 200, 36), "12 of 200, 9 min left");
        assert_eq!(line(2, 10, 15, 20), "12 of 15, 30 s left");
        assert_eq!(line(1, 0, 1000, 60), "1 of 1000, 17 h left");
        assert_eq!(line(0, 3, 4, 0), "3 of 4, 0 s left");
    }
}
