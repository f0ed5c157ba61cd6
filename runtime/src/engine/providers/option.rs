//! Options of providers, which are this project's own: what a provider does not know it ignores, and
//! a misspelt word would go unseen. Knows no provider; the list of each is in its file.

use std::{collections::BTreeMap, ops::RangeInclusive};

/// An option of a provider.
#[derive(Debug)]
pub(super) struct ProviderOption {
    /// Its name, behind that of the provider.
    pub(super) key: &'static str,
    /// What it may be.
    pub(super) kind: Kind,
    /// What it is if nobody says; `None` if nothing is told to the provider then.
    pub(super) default: Option<&'static str>,
}

/// What an option may be.
#[derive(Debug)]
pub(super) enum Kind {
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A whole number.
    Number(RangeInclusive<u32>),
}

/// What was chosen of a provider's options.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a>(pub(crate) Option<&'a BTreeMap<String, String>>);

impl<'a> Choice<'a> {
    /// What an option is.
    pub(super) fn of(self, option: &ProviderOption) -> Option<&'a str> {
        let chosen = self.0.and_then(|chosen| chosen.get(option.key));
        chosen.map(String::as_str).or(option.default)
    }
}

impl Kind {
    pub(super) fn allows(&self, value: &str) -> bool {
        match self {
            Self::OneOf(words) => words.contains(&value),
            Self::Number(range) => value.parse().is_ok_and(|number| range.contains(&number)),
        }
    }

    /// What is expected, for people.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::OneOf(words) => words.join(" or "),
            Self::Number(range) => {
                format!("a whole number of {} to {}", range.start(), range.end())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_chosen_is_the_default() {
        let option =
            ProviderOption { key: "precision", kind: Kind::OneOf(&["f32"]), default: Some("f32") };
        let chosen = BTreeMap::from([("precision".to_owned(), "bf16".to_owned())]);
        assert_eq!(Choice(Some(&chosen)).of(&option), Some("bf16"));
        assert_eq!(Choice(None).of(&option), Some("f32"));
        assert_eq!(Choice(None).of(&ProviderOption { default: None, ..option }), None);
    }
}
