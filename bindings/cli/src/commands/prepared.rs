//! `pocketmuse prepared`: what the cache knows of packages, listed or removed.

use pocketmuse::prepared;
use pocketmuse_package::Result;

use crate::{
    args::PreparedArgs,
    runtime,
    terminal::{self, mebibytes},
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
                format!(
                    "{}: {} files checked, {} graphs optimised",
                    package.display(),
                    entry.files,
                    entry.graphs.len()
                )
            }
            None => "a damaged record or a leftover, which is not used".to_owned(),
        };
        terminal::print(format!(
            "{package} ({}, {})",
            entry.path.display(),
            mebibytes(entry.bytes)
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
