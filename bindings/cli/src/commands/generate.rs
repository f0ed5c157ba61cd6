//! `pocketmuse generate`, `edit` and `resume`: a prompt, and an image to start from, become image
//! files.

use pocketmuse::Options;
use pocketmuse_package::Result;

use super::{batch, make};
use crate::{console::Console, order::Order, package, task::Task};

/// Runs an order.
pub(crate) fn run(order: &Order, offline: bool) -> Result<u8> {
    let console = Console::new(&order.package.run);
    let done = if order.is_batch() {
        batch::run(order, offline, &console)
    } else {
        one(order, offline, &console).map(|()| 0)
    };
    done.inspect_err(|error| console.error(error))
}

fn one(order: &Order, offline: bool, console: &Console) -> Result<()> {
    let mut task = Task::new(order)?;
    let package = task.package.clone();
    package::with_repair(&package, console, || generate(&mut task, offline, console))
}

fn generate(task: &mut Task, offline: bool, console: &Console) -> Result<()> {
    let found = package::find(&task.package, console)?;
    task.check(&found.manifest)?; // a wrong request fails before anything is fetched
    if let Some(files) = task.made_before(&found.manifest)? {
        return console.skipped(&files, None);
    }
    // One image, after which the process ends.
    let options = Options { staged: true, ..package::options(&task.package) };
    let has_others = !task.package.run.others().is_empty();
    if !has_others && (task.package.run.memory.is_some() || task.explain) {
        // Nor is anything fetched when the memory is too small.
        let plan = task.plan(&found.manifest, &options)?;
        if task.explain {
            return console.plan(&plan);
        }
    }
    let opened = found.open(&options, offline)?;
    if task.explain {
        // What other providers take may have been measured, with this ONNX Runtime.
        let job = task.job(&opened.pipeline)?;
        return console.plan(&opened.pipeline.plan_job(&job)?);
    }
    make::make(task, &opened, console, None)
}
