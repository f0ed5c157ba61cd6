//! `pocketmuse man`: manual pages, made of the same words as the help.

use std::{fs, io::Write};

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use pocketmuse_package::{Error, ErrorKind, Result, files};

use crate::{
    args::{Cli, ManArgs},
    terminal,
};

pub(crate) fn run(args: &ManArgs) -> Result<u8> {
    let pages = pages();
    let Some(folder) = &args.output else {
        let name = args.command.as_deref().map_or(NAME.to_owned(), |name| format!("{NAME}-{name}"));
        let found = pages.into_iter().find(|(page, _)| *page == name);
        let (_, page) = found.ok_or_else(|| {
            let detail = format!("expected the name of a command, found {name:?}");
            Error::new(ErrorKind::BadRequest, "man", detail)
        })?;
        terminal::print_bytes(&page)?;
        return Ok(0);
    };
    fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    for (name, page) in pages {
        let path = folder.join(name + ".1");
        files::write(&path, |out| out.write_all(&page))?;
        terminal::print_path(&path)?;
    }
    Ok(0)
}

const NAME: &str = "pocketmuse";

/// The name of each page, and the page.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let commands: Vec<_> =
        root.get_subcommands().filter(|one| !one.is_hide_set()).cloned().collect();
    let commands = commands.into_iter().map(|command| {
        let name = format!("{NAME}-{}", command.get_name());
        (name, command)
    });
    let all = std::iter::once((NAME.to_owned(), root.clone())).chain(commands);
    all.map(|(name, command)| (name, page(command))).collect()
}

fn page(command: Command) -> Vec<u8> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page).expect("a vector takes everything");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let pages = pages();
        assert!(pages.len() > 14, "{}", pages.len());
        for (name, page) in pages {
            let text = String::from_utf8(page).expect("UTF-8");
            assert!(text.contains(".SH SYNOPSIS"), "{name}: {text}");
        }
    }
}
