//! `--prompts` and `--seeds`: several jobs with the model loaded once. A job that fails does not
//! lose the others.

use std::{fs, path::Path};

use pocketmuse_package::{Error, ErrorKind, Result};

use super::{
    generate::{self, Console, Order},
    job::Job,
    package::{self, Opened},
};
use crate::{
    args::{EditArgs, GenerateArgs},
    stop, terminal,
};

/// The largest file of prompts, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// What some editors begin a file of UTF-8 text with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One job of several.
struct Item {
    line: Option<usize>,
    prompt: Option<Result<String>>,
    seed: Option<u64>,
}

pub(super) fn is_wanted(order: Order<'_>) -> bool {
    flags(order).is_some_and(|args| args.prompts.is_some() || !args.seeds.is_empty())
}

fn flags(order: Order<'_>) -> Option<&GenerateArgs> {
    match order {
        Order::Generate(args) => Some(args),
        Order::Edit(args) => Some(&args.generate),
        Order::Resume(_) => None,
    }
}

/// Makes the pictures of every line and seed. Returns the exit code: 1 if one failed.
pub(super) fn run(order: Order<'_>, offline: bool, console: &Console) -> Result<u8> {
    let Some(args) = flags(order) else { return Ok(0) };
    let mut items = items(args)?;
    let (count, mut opened, mut failed) = (items.len(), None, 0);
    for item in &mut items {
        stop::check()?;
        let (line, seed) = (item.line, item.seed);
        match make(order, item, &mut opened, offline, console) {
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => {
                failed += 1;
                let line = line.map(|line| format!("line {line}"));
                let place = line
                    .into_iter()
                    .chain(seed.map(|seed| format!("seed {seed}")))
                    .collect::<Vec<_>>();
                let error = error.within(place.join(", "));
                console.event(|| terminal::error_event(&error));
                terminal::note(format!("error: {error}"));
            }
            Ok(()) => {}
        }
    }
    if failed > 0 {
        terminal::note(format!("{failed} of {count} failed"));
    }
    Ok(u8::from(failed > 0))
}

/// The package is opened with the first job that comes so far.
fn make(
    order: Order<'_>,
    item: &mut Item,
    opened: &mut Option<Opened>,
    offline: bool,
    console: &Console,
) -> Result<()> {
    let prompt = item.prompt.take().transpose()?;
    let change = |args: &GenerateArgs| GenerateArgs {
        prompt: prompt.clone().or_else(|| args.prompt.clone()),
        seed: item.seed.or(args.seed),
        line: item.line,
        named_seed: item.seed,
        ..args.clone()
    };
    let job = match order {
        Order::Edit(args) => {
            Job::read(Order::Edit(&EditArgs { generate: change(&args.generate), ..args.clone() }))?
        }
        Order::Generate(args) => Job::read(Order::Generate(&change(args)))?,
        Order::Resume(_) => return Ok(()),
    };
    package::mended(&job.package(), console, || {
        let ready = match opened.take() {
            Some(ready) => ready,
            None => package::find(&job.package(), console)?.open(&job.options(), offline)?,
        };
        let made = job.check(&ready.manifest).and_then(|_| generate::make(&job, &ready, console));
        if made.as_ref().err().is_none_or(|error| error.kind() != ErrorKind::PackageDamaged) {
            *opened = Some(ready);
        }
        made
    })
}

/// Every line with every seed, line after line. Empty lines are left out.
fn items(args: &GenerateArgs) -> Result<Vec<Item>> {
    let seeds: Vec<_> = if args.seeds.is_empty() {
        vec![None]
    } else {
        args.seeds.iter().copied().map(Some).collect()
    };
    let Some(path) = &args.prompts else {
        return Ok(seeds.into_iter().map(|seed| Item { line: None, prompt: None, seed }).collect());
    };
    let bytes = read(path)?;
    let lines = bytes
        .strip_prefix(BYTE_ORDER_MARK)
        .unwrap_or(&bytes)
        .split(|byte| *byte == b'\n')
        .zip(1..)
        .filter(|(line, _)| !line.trim_ascii().is_empty());
    let items: Vec<_> = lines
        .flat_map(|(line, number)| {
            let prompt = move || {
                std::str::from_utf8(line).map(|text| text.trim().to_owned()).map_err(no_text)
            };
            seeds.iter().map(move |seed| Item {
                line: Some(number),
                prompt: Some(prompt()),
                seed: *seed,
            })
        })
        .collect();
    if items.is_empty() {
        let detail = "expected a prompt on each line, found none";
        return Err(Error::new(ErrorKind::BadRequest, path.display().to_string(), detail));
    }
    Ok(items)
}

fn no_text(error: std::str::Utf8Error) -> Error {
    let detail = format!("expected UTF-8 text, found none from byte {} on", error.valid_up_to());
    Error::new(ErrorKind::BadInput, "", detail)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let wrong = |detail| Error::new(ErrorKind::BadInput, path.display().to_string(), detail);
    let metadata = fs::metadata(path).map_err(|error| Error::io(path, error))?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        let found = if metadata.is_file() {
            format!("{} bytes", metadata.len())
        } else {
            "no file".to_owned()
        };
        return Err(wrong(format!(
            "expected a text file of at most {MAX_BYTES} bytes, found {found}"
        )));
    }
    let bytes = fs::read(path).map_err(|error| Error::io(path, error))?;
    match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => Err(wrong(format!(
            "expected UTF-8 text, found a zero at byte {at}: another encoding or no text"
        ))),
        None => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_every_seed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("prompts.txt");
        fs::write(&path, b" a tree\r\n\n  \nb\xff\na car").expect("written");
        let args = GenerateArgs {
            prompts: Some(path.clone()),
            seeds: vec![4, 9],
            ..GenerateArgs::default()
        };
        let found = items(&args).expect("read").into_iter().map(|item| {
            let prompt = item.prompt.expect("of a line").unwrap_or_else(|error| error.to_string());
            (item.line.expect("of a file"), prompt, item.seed.expect("given"))
        });
        let broken = "expected UTF-8 text, found none from byte 1 on";
        let expected = [
            (1, "a tree", 4),
            (1, "a tree", 9),
            (4, broken, 4),
            (4, broken, 9),
            (5, "a car", 4),
            (5, "a car", 9),
        ];
        assert!(found.eq(expected.map(|(line, prompt, seed)| (line, prompt.to_owned(), seed))));
        let none = "expected a prompt on each line, found none";
        let zero = |at| {
            format!("expected UTF-8 text, found a zero at byte {at}: another encoding or no text")
        };
        for (bytes, expected) in [
            (&b" \n\n"[..], none.to_owned()),
            (b"", none.to_owned()),
            (b"\xef\xbb\xbf\r\n", none.to_owned()),
            (b"a tree\n\0", zero(7)),
            (b"\xff\xfea\0", zero(3)), // UTF-16
        ] {
            fs::write(&path, bytes).expect("written");
            let error = items(&args).err().expect("no prompts");
            assert!(error.to_string().ends_with(&expected), "{error}");
        }
        fs::write(&path, b"\xef\xbb\xbfa tree\r\n").expect("written");
        let prompts = items(&args).expect("read").into_iter().filter_map(|item| item.prompt?.ok());
        assert!(prompts.eq(["a tree", "a tree"]), "without the mark of an editor");
        let args =
            GenerateArgs { prompts: Some(folder.path().to_owned()), ..GenerateArgs::default() };
        let error = items(&args).err().expect("a folder");
        assert!(
            error.kind() == ErrorKind::BadInput && error.to_string().ends_with("found no file"),
            "{error}"
        );
    }
}
