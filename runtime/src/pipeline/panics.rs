//! A panic becomes an error. Knows no job.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pocketmuse_package::{Error, ErrorKind, Result};

/// What `run` returns, or `Internal` if it panics. What it worked on must be as good as any
/// afterwards.
///
/// The error says nothing of the panic: its text may hold a prompt.
pub(super) fn caught<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        let detail = "expected the job to end, found a panic in it or in what watches it: this \
            job is lost, others can be run";
        Err(Error::new(ErrorKind::Internal, "pipeline", detail))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_does_not_say_what_it_was_about() {
        assert_eq!(caught(|| Ok(7)).expect("no panic"), 7);
        let error = caught::<()>(|| panic!("a secret prompt")).expect_err("a panic");
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
