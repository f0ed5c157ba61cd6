//! Options of providers, which are this project's own: what a provider does not know it ignores, and
//! a misspelt word would go unseen. Knows no provider; the list of each is in its file.

use std::{collections::BTreeMap, ops::RangeInclusive};

use pocketmuse_package::{Error, ErrorKind, Result};

use super::plug_in;
use crate::request::{Provider, Providers};

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
    fn allows(&self, value: &str) -> bool {
        match self {
            Self::OneOf(words) => words.contains(&value),
            Self::Number(range) => value.parse().is_ok_and(|number| range.contains(&number)),
        }
    }

    /// What is expected, for people.
    fn expected(&self) -> String {
        match self {
            Self::OneOf(words) => words.join(" or "),
            Self::Number(range) => {
                format!("a whole number of {} to {}", range.start(), range.end())
            }
        }
    }
}

/// Checks that each option is one of its provider, that it may be what it is, and that the provider
/// computes a stage.
///
/// # Errors
///
/// `BadRequest`, and `Unsupported` for a provider that this build lacks.
pub(crate) fn check(providers: &Providers) -> Result<()> {
    for (provider, chosen) in &providers.options {
        let bad = |key: &str, detail: String| {
            let at = format!("provider_option: {provider}{key}");
            Err(Error::new(ErrorKind::BadRequest, at, detail))
        };
        let known = match provider {
            Provider::Cpu => &[][..],
            other => plug_in(*other)?.options,
        };
        for (key, value) in chosen {
            let Some(option) = known.iter().find(|option| option.key == key) else {
                let keys: Vec<_> = known.iter().map(|option| option.key).collect();
                let keys = if keys.is_empty() { "no option".to_owned() } else { keys.join(" or ") };
                return bad("", format!("expected {keys}, found {key:?}"));
            };
            if !option.kind.allows(value) {
                let expected = option.kind.expected();
                return bad(&format!(".{key}"), format!("expected {expected}, found {value:?}"));
            }
        }
        if !chosen.is_empty() && !providers.stages.values().any(|used| used == provider) {
            return bad(
                "",
                format!("expected {provider} to compute a stage, found none that it does"),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pocketmuse_package::Stage;

    use super::*;

    fn providers(stage: Provider, options: &[&str]) -> Providers {
        let mut providers =
            Providers { stages: [(Stage::Step, stage)].into(), ..Providers::default() };
        for text in options {
            let (provider, key, value) = Providers::option_of(text).expect(text);
            providers.options.entry(provider).or_default().insert(key, value);
        }
        providers
    }

    #[test]
    fn only_what_a_provider_knows_passes() {
        for good in [
            &["openvino.precision=f32"][..],
            &["openvino.precision=bf16", "openvino.threads=1"],
            &["openvino.threads=1024"],
            &[],
        ] {
            check(&providers(Provider::OpenVino, good)).unwrap_or_else(|error| panic!("{error}"));
        }
        for (option, expected) in [
            ("openvino.precision=fp16", "openvino.precision: expected f32 or bf16, found \"fp16\""),
            ("openvino.precision=", "openvino.precision: expected f32 or bf16, found \"\""),
            ("openvino.precison=f32", "openvino: expected precision or threads, found"),
            ("openvino.threads=many", "openvino.threads: expected a whole number of 1 to 1024,"),
            ("openvino.threads=0", "openvino.threads: expected a whole number of 1 to 1024,"),
            ("openvino.threads=-1", "openvino.threads: expected a whole number of 1 to 1024,"),
            ("openvino.threads=1.5", "openvino.threads: expected a whole number of 1 to 1024,"),
            ("cpu.precision=f32", "cpu: expected no option, found \"precision\""),
        ] {
            let error = check(&providers(Provider::OpenVino, &[option])).expect_err(option);
            assert_eq!(error.kind(), ErrorKind::BadRequest, "{error}");
            let expected = format!("provider_option: {expected}");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn an_option_of_a_provider_that_computes_nothing_is_refused() {
        let error = check(&providers(Provider::Cpu, &["openvino.precision=bf16"]))
            .expect_err("nobody would obey it");
        assert_eq!(error.kind(), ErrorKind::BadRequest);
        assert!(error.detail().contains("expected openvino to compute a stage"), "{error}");
        let error = check(&providers(Provider::CoreMl, &["coreml.precision=f16"]))
            .expect_err("not in this build");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

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
