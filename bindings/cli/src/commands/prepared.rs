//! `pocketmuse prepared`: what the cache knows of packages, listed or removed.

use pocketmuse::prepared;
use pocketmuse_package::Result;

use crate::{
    args::PreparedArgs,
    runtime,
    terminal::{self, megabytes},
};

pub(crate) fn run(args: &PreparedArgs) -> Result<u8> {
    let Some(folder) = runtime::prepared_folder() else {
        terminal::print("nothing: this user has no cache folder")?;
        return Ok(0);
    };
    let entries = prepared::list(&folder)?;
    for entry in &entries {
        let package = match &entry.package {
            Some(package) => {
                let folders = entry.folders.iter().map(|folder| folder.display().to_string());
                let folders = folders.collect::<Vec<_>>().join(", ");
                let name = if folders.is_empty() { package.to_string() } else { folders };
                let graphs = entry.graphs.len();
                format!("{name}: {} files checked, {graphs} graphs optimised", entry.files)
            }
            None => "a damaged record or a leftover, which is not used".to_owned(),
        };
        terminal::print(format!(
            "{package} ({}, {})",
            entry.path.display(),
            megabytes(entry.bytes)
        ))?;
    }
    if args.clean {
        terminal::print(format!(
            "{} removed from {}",
            prepared::clean(&folder)?,
            folder.display()
        ))?;
    } else if entries.is_empty() {
        terminal::print(format!("nothing in {}", folder.display()))?;
    }
    Ok(0)
}
