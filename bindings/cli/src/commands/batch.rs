//! `--prompts` and `--seeds`: several jobs with the model loaded once. A job that fails does not
//! lose the others.

use pocketmuse_package::{Error, ErrorKind, Result};

use super::make;
use crate::{
    console::Console,
    order::Order,
    package::{self, Opened},
    prompts::Prompts,
    stop,
    task::Task,
    terminal,
};

/// Makes the images of every line and seed. Returns the exit code: 1 if one failed.
pub(super) fn run(order: &Order, offline: bool, console: &Console) -> Result<u8> {
    let mut batch = Batch { order, offline, console, opened: None, failed: 0, done: 0 };
    match &order.prompts {
        Some(path) => {
            let prompts = Prompts::read(path)?;
            prompts.lines().try_for_each(|line| batch.line(Some(line)))?;
        }
        None => batch.line(None)?,
    }
    if batch.failed > 0 {
        terminal::note(format!("{} of {} failed", batch.failed, batch.done));
    }
    Ok(u8::from(batch.failed > 0))
}

/// Whether a failure is not of one job alone: the user stops, or nothing can be told any more.
fn is_of_all(error: &Error) -> bool {
    error.kind() == ErrorKind::Cancelled || error.at() == terminal::STDOUT
}

/// Several jobs, one after another.
struct Batch<'a> {
    order: &'a Order,
    offline: bool,
    console: &'a Console,
    /// The package, from the first job that comes so far.
    opened: Option<Opened>,
    failed: usize,
    done: usize,
}

impl Batch<'_> {
    /// Makes the images of a line with every seed.
    fn line(&mut self, line: Option<(usize, Result<&str>)>) -> Result<()> {
        let order = self.order;
        let (number, prompt) = line.map_or((None, None), |(number, prompt)| {
            (Some(number), Some(prompt.map(|prompt| (number, prompt))))
        });
        let prompt = prompt.transpose();
        let seeds = order.seeds.iter().copied().map(Some);
        let none = order.seeds.is_empty().then_some(None);
        for seed in seeds.chain(none) {
            stop::check()?;
            let made = match &prompt {
                Ok(prompt) => self.make(&order.one_of(*prompt, seed)),
                Err(error) => {
                    Err(Error::new(error.kind(), error.at().to_owned(), error.detail().to_owned()))
                }
            };
            self.done += 1;
            match made {
                Err(error) if is_of_all(&error) => return Err(error),
                Err(error) => {
                    self.failed += 1;
                    let line = number.map(|line| format!("line {line}"));
                    let place: Vec<_> =
                        line.into_iter().chain(seed.map(|seed| format!("seed {seed}"))).collect();
                    let error = error.within(place.join(", "));
                    self.console.error(&error);
                    terminal::tell(&error);
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn make(&mut self, order: &Order) -> Result<()> {
        let mut task = Task::new(order)?;
        let package = task.package.clone();
        package::with_repair(&package, self.console, || {
            let opened = match self.opened.take() {
                Some(opened) => opened,
                None => package::find(&package, self.console)?
                    .open(&package::options(&package), self.offline)?,
            };
            let made = task
                .check(&opened.manifest)
                .and_then(|_| make::make(&mut task, &opened, self.console));
            let is_damaged = made.as_ref().is_err_and(package::is_damaged);
            if !is_damaged {
                self.opened = Some(opened);
            }
            made
        })
    }
}
