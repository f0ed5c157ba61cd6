//! How values of flags are read that are more than one word or number.

use std::{
    hash::{BuildHasher, RandomState},
    num::ParseIntError,
    ops::RangeInclusive,
    path::PathBuf,
};

use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};

use pocketmuse::{Provider, Providers};

use crate::named;

/// Reads one of `all` by its name; the help lists the names.
pub(super) fn one_of<T: Copy + Send + Sync + 'static, const N: usize>(
    all: [T; N],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.map(name)).map(move |text| {
        let found = all.into_iter().find(|one| name(*one) == text);
        found.expect("clap lets these names through alone")
    })
}

/// Reads a package's folder, or its name.
pub(super) fn package() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|path| named::locate(&path))
}

/// Reads a provider and the file of its plug-in.
pub(super) fn library(text: &str) -> Result<(Provider, PathBuf), String> {
    let (provider, file) = text
        .split_once('=')
        .filter(|(_, file)| !file.is_empty())
        .ok_or_else(|| format!("expected PROVIDER=FILE, found {text:?}"))?;
    let provider = provider.parse().map_err(|error: pocketmuse::Error| error.to_string())?;
    Ok((provider, file.into()))
}

/// Reads a provider and chips that it compiles for.
pub(super) fn targets(text: &str) -> Result<(Provider, Vec<String>), String> {
    let (provider, chips) = text
        .split_once(':')
        .ok_or_else(|| format!("expected PROVIDER:CHIP, such as qnn:sm8650, found {text:?}"))?;
    let provider = provider.parse().map_err(|error: pocketmuse::Error| error.to_string())?;
    let chips: Vec<_> = chips.split(',').map(str::to_owned).collect();
    if chips.iter().any(String::is_empty) {
        return Err(format!("expected names of chips with commas between, found {text:?}"));
    }
    Ok((provider, chips))
}

/// Reads a provider and one chip that it compiled for.
pub(super) fn target(text: &str) -> Result<(String, String), String> {
    match targets(text)? {
        (provider, chips) if chips.len() == 1 => Ok((provider.to_string(), chips.concat())),
        _ => Err(format!("expected one chip, found {text:?}")),
    }
}

/// Reads a provider's option: provider, name, value.
pub(super) fn provider_option(text: &str) -> Result<(Provider, String, String), String> {
    Providers::option_of(text).map_err(|error| error.to_string())
}

/// Reads whole numbers with commas between.
fn numbers<const N: usize>(text: &str) -> Option<[u32; N]> {
    let numbers: Result<Vec<u32>, _> =
        text.split(',').map(|number| number.trim().parse()).collect();
    numbers.ok()?.try_into().ok()
}

/// Reads `0,0`.
pub(super) fn corner(text: &str) -> Result<[u32; 2], String> {
    numbers(text)
        .ok_or_else(|| format!("expected two whole numbers with a comma between, found {text:?}"))
}

/// Reads `40,0,64,64`.
pub(super) fn area(text: &str) -> Result<[u32; 4], String> {
    numbers(text)
        .ok_or_else(|| format!("expected four whole numbers with commas between, found {text:?}"))
}

/// Reads `left=64,top=32` as left, top, right and bottom.
pub(super) fn sides(text: &str) -> Result<[u32; 4], String> {
    let wrong = || format!("expected sides such as left=64,top=32, found {text:?}");
    let mut sides = [0; 4];
    for part in text.split(',') {
        let (name, pixels) = part.split_once('=').ok_or_else(wrong)?;
        let side = ["left", "top", "right", "bottom"]
            .iter()
            .position(|side| *side == name.trim())
            .ok_or_else(wrong)?;
        let pixels = pixels.trim();
        sides[side] = pixels.parse().map_err(|_| {
            format!("expected 0 to {} pixels at the {}, found {pixels:?}", u32::MAX, name.trim())
        })?;
    }
    Ok(sides)
}

/// Reads `-15,0`.
pub(super) fn motion(text: &str) -> Result<[f32; 2], String> {
    let numbers: Option<Vec<f32>> =
        text.split(',').map(|number| number.trim().parse().ok()).collect();
    let numbers = numbers.and_then(|numbers| <[f32; 2]>::try_from(numbers).ok());
    numbers.ok_or_else(|| format!("expected two numbers with a comma between, found {text:?}"))
}

/// Reads frames in a second.
pub(super) fn fps(text: &str) -> Result<f64, String> {
    let fps = text.parse().ok().filter(|fps| (0.1..=100.0).contains(fps));
    fps.ok_or_else(|| format!("expected a number of 0.1 to 100, found {text:?}"))
}

/// Reads a seed; -1 is a random one.
pub(super) fn seed(text: &str) -> Result<u64, String> {
    if text.trim() == "-1" {
        return Ok(random_seed());
    }
    text.parse().map_err(|error: ParseIntError| {
        if text.starts_with('-') {
            format!("expected 0 to {}, or -1 for a random seed, found {text:?}", u64::MAX)
        } else {
            error.to_string()
        }
    })
}

/// A seed short enough to be typed again.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().hash_one(std::process::id()) >> 32
}

/// The most seeds of one range.
const MOST_SEEDS: u64 = 1_000_000;

/// Reads a seed, or the first and the last of several, such as 1-3.
pub(super) fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let Some((first, last)) = text.split_once('-').filter(|(first, _)| !first.trim().is_empty())
    else {
        return seed(text).map(|seed| seed..=seed);
    };
    let number = |text: &str| text.trim().parse().map_err(|error: ParseIntError| error.to_string());
    let (first, last) = (number(first)?, number(last)?);
    if first > last || last - first >= MOST_SEEDS {
        return Err(format!("expected 1 to {MOST_SEEDS} seeds as FIRST-LAST, found {text:?}"));
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_their_length() {
        assert_eq!(corner("8, 16"), Ok([8, 16]));
        assert_eq!(area("1, 2,3,4"), Ok([1, 2, 3, 4]));
        assert_eq!(sides("right=8, top=16"), Ok([0, 16, 8, 0]));
        assert_eq!(motion("-15,0.5"), Ok([-15.0, 0.5]));
        for wrong in ["", "1", "1,2,3", "1,x", "-1,0"] {
            assert!(corner(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["up=3", "left", "left=-1"] {
            assert!(sides(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_name_is_read_by_the_list_that_it_is_in() {
        let command = clap::Command::new("test").arg(
            clap::Arg::new("flavour")
                .value_parser(one_of(pocketmuse::Flavour::ALL, pocketmuse::Flavour::name)),
        );
        for flavour in pocketmuse::Flavour::ALL {
            let matches = command.clone().try_get_matches_from(["test", flavour.name()]);
            let found = matches.expect("a name").get_one::<pocketmuse::Flavour>("flavour").copied();
            assert_eq!(found, Some(flavour));
        }
        let error = command.try_get_matches_from(["test", "int3"]).expect_err("no name");
        assert!(error.to_string().contains("[possible values: "), "{error}");
    }

    #[test]
    fn seeds_are_short_and_differ() {
        let seeds: std::collections::HashSet<_> =
            (0..8).map(|_| seed("-1").expect("a random one")).collect();
        assert!(seeds.len() > 1 && seeds.iter().all(|seed| *seed < 1 << 32), "{seeds:?}");
    }

    #[test]
    fn several_seeds_are_a_range() {
        assert_eq!(seeds("3"), Ok(3..=3));
        assert_eq!(seeds("1-3"), Ok(1..=3));
        assert_eq!(seeds("0 - 0"), Ok(0..=0));
        for wrong in ["3-1", "1-", "-2", "1-2-3", "x-3", "0-1000000"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_negative_seed_is_told_what_to_do() {
        assert_eq!(seed("18446744073709551615"), Ok(u64::MAX));
        let error = seed("-2").expect_err("negative");
        assert!(error.contains("or -1 for a random seed"), "{error}");
        assert_eq!(seed("x").expect_err("no number"), "invalid digit found in string");
    }
}
