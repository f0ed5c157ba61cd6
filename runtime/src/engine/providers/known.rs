//! The providers of this build, and what a caller may say of them.

use pocketmuse_package::{Error, ErrorKind, Result};

use super::{openvino, plug_in::PlugIn, qnn, target::not_in_this_build, webgpu};
use crate::request::{Provider, Providers};

/// What is known of `provider`.
///
/// # Errors
///
/// `Unsupported` if this build lacks it.
pub(super) fn plug_in(provider: Provider) -> Result<&'static PlugIn> {
    match provider {
        Provider::OpenVino => Ok(&openvino::PLUG_IN),
        Provider::Qnn => Ok(&qnn::PLUG_IN),
        Provider::WebGpu => Ok(&webgpu::PLUG_IN),
        _ => Err(not_in_this_build(provider)),
    }
}

/// Checks that each option is one of its provider, that it may be what it is, and that the provider
/// computes a stage.
///
/// # Errors
///
/// `BadRequest`, and `Unsupported` for a provider that this build lacks.
pub(crate) fn check_options(providers: &Providers) -> Result<()> {
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
        if !chosen.is_empty() && !providers.uses(&providers.stages, *provider) {
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
            check_options(&providers(Provider::OpenVino, good))
                .unwrap_or_else(|error| panic!("{error}"));
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
            let error = check_options(&providers(Provider::OpenVino, &[option])).expect_err(option);
            assert_eq!(error.kind(), ErrorKind::BadRequest, "{error}");
            let expected = format!("provider_option: {expected}");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn an_option_of_a_provider_that_computes_nothing_is_refused() {
        let error = check_options(&providers(Provider::Cpu, &["openvino.precision=bf16"]))
            .expect_err("nobody would obey it");
        assert_eq!(error.kind(), ErrorKind::BadRequest);
        assert!(error.detail().contains("expected openvino to compute a stage"), "{error}");
        let error = check_options(&providers(Provider::CoreMl, &["coreml.precision=f16"]))
            .expect_err("not in this build");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
