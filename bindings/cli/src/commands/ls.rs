//! `pocketmuse ls`: the packages that --package takes by their names.

use pocketmuse_package::{Manifest, Result};

use crate::{
    args::LsArgs,
    events::{self, PathText},
    named,
    results::Listed,
    terminal::{self, megabytes},
};

pub(crate) fn run(args: &LsArgs) -> Result<u8> {
    let Some(folder) = named::folder() else {
        terminal::warn("this user has no folder for packages: set XDG_DATA_HOME to one");
        return Ok(0);
    };
    let packages = named::list(&folder)?;
    for (path, manifest) in &packages {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match manifest {
            Ok(manifest) if args.json => {
                let listed = Listed {
                    name: &name,
                    package: PathText(path),
                    model: &manifest.model.name,
                    flavours: manifest.flavours.keys().copied().collect(),
                    bytes: bytes(manifest),
                };
                terminal::print(events::line(&events::plain_json(&listed)))?;
            }
            Ok(manifest) => {
                let flavours: Vec<_> = manifest.flavours.keys().map(|one| one.name()).collect();
                let (model, size) = (&manifest.model.name, megabytes(bytes(manifest)));
                terminal::print(format!("{name}  {model}, {}, {size}", flavours.join(" ")))?;
            }
            Err(error) => terminal::warn(error.to_string()),
        }
    }
    if packages.is_empty() {
        let folder = folder.display();
        terminal::note(format!("no package in {folder}: a package's folder there has its name"));
    }
    Ok(0)
}

fn bytes(manifest: &Manifest) -> u64 {
    manifest.files().map(|file| file.bytes).sum()
}
