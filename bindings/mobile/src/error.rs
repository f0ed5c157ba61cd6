//! What an app is told when something fails: one variant for each thing it would do differently.

use std::{
    error, fmt,
    panic::{self, AssertUnwindSafe},
};

use pocketmuse::{Amounts, Error, ErrorKind};

/// Why something failed, as what an app does about it.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Error)]
pub enum PocketMuseError {
    /// The package is damaged or was changed: fetch it again.
    PackageDamaged {
        /// What was expected and found, for people.
        reason: String,
    },
    /// The package is of a newer format than this library reads: update the app.
    PackageTooNew {
        /// What was expected and found, for people.
        reason: String,
    },
    /// The request needs more memory than may be used: ask for a smaller image, raise the budget,
    /// or close what else the app holds.
    NotEnoughMemory {
        /// What would do, in bytes.
        needed: u64,
        /// What may be used, in bytes.
        available: u64,
    },
    /// The disk has too little room: ask the user to free some.
    NoSpace {
        /// What would do, in bytes; 0 if a write failed that nobody had asked room for.
        needed: u64,
        /// What there is, in bytes; 0 as above.
        available: u64,
    },
    /// Something that was asked for or handed in is refused: show or correct it.
    BadRequest {
        /// The field of the request, or what was handed in: `pixels`, `job`.
        field: String,
        /// What was expected and found, for people.
        reason: String,
    },
    /// The package lacks what the request needs: offer another package, or not this function.
    Unsupported {
        /// What is lacking: a stage or a flavour.
        what: String,
    },
    /// The job was stopped because it was asked to.
    Cancelled,
    /// The generator was closed before the call, or while its job ran.
    Closed,
    /// There is no ONNX Runtime that can be used: the app was built without it, or with one that is
    /// too old.
    EngineMissing {
        /// What was looked for and found, for people.
        reason: String,
    },
    /// ONNX Runtime failed: try once more, with another flavour or fewer threads; then report it.
    EngineFailed {
        /// What failed, for people.
        reason: String,
    },
    /// Who was to compute a stage instead of the CPU does not take it whole, computes something
    /// else, or failed: let the CPU compute it.
    ProviderFailed {
        /// Who: `openvino`.
        provider: String,
        /// Which stage: `step`.
        stage: String,
        /// What was expected and found, for people.
        reason: String,
    },
    /// The system refused to read or write: not found, no permission.
    Io {
        /// What was refused, for people.
        reason: String,
    },
    /// A fault of this library, or of a listener in a way that it cannot name: report it.
    Internal {
        /// What happened, for people. Holds no prompt.
        reason: String,
    },
}

impl fmt::Display for PocketMuseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PackageDamaged { reason }
            | Self::PackageTooNew { reason }
            | Self::EngineMissing { reason }
            | Self::EngineFailed { reason }
            | Self::Io { reason }
            | Self::Internal { reason } => f.write_str(reason),
            Self::NotEnoughMemory { needed, available } => {
                write!(f, "expected {needed} bytes of memory, found {available}")
            }
            Self::NoSpace { needed: 0, .. } => f.write_str("the disk is full"),
            Self::NoSpace { needed, available } => {
                write!(f, "expected room for {needed} bytes on disk, found {available}")
            }
            Self::BadRequest { field, reason } if field.is_empty() => f.write_str(reason),
            Self::BadRequest { field, reason } => write!(f, "{field}: {reason}"),
            Self::ProviderFailed { stage, reason, .. } => write!(f, "{stage}: {reason}"),
            Self::Unsupported { what } => write!(f, "the package has no {what}"),
            Self::Cancelled => f.write_str("the job was stopped"),
            Self::Closed => f.write_str("the generator is closed"),
        }
    }
}

impl error::Error for PocketMuseError {}

impl From<Error> for PocketMuseError {
    fn from(error: Error) -> Self {
        let reason = error.to_string();
        let Amounts { needed, available } =
            error.amounts().unwrap_or(Amounts { needed: 0, available: 0 });
        match error.kind() {
            ErrorKind::PackageDamaged => Self::PackageDamaged { reason },
            ErrorKind::PackageTooNew => Self::PackageTooNew { reason },
            ErrorKind::NotEnoughMemory => Self::NotEnoughMemory { needed, available },
            ErrorKind::NoSpace => Self::NoSpace { needed, available },
            ErrorKind::BadRequest | ErrorKind::BadInput => {
                Self::BadRequest { field: error.at().to_owned(), reason: error.detail().to_owned() }
            }
            ErrorKind::Unsupported => Self::Unsupported { what: error.at().to_owned() },
            ErrorKind::Cancelled => Self::Cancelled,
            ErrorKind::EngineMissing => Self::EngineMissing { reason },
            ErrorKind::EngineFailed => Self::EngineFailed { reason },
            ErrorKind::ProviderFailed => Self::ProviderFailed {
                provider: error.provider().unwrap_or_default().to_owned(),
                stage: error.at().to_owned(),
                reason: error.detail().to_owned(),
            },
            ErrorKind::Io | ErrorKind::NotFound | ErrorKind::NotAllowed => Self::Io { reason },
            _ => Self::Internal { reason },
        }
    }
}

/// A callback that failed in a way that it cannot name.
impl From<uniffi::UnexpectedUniFFICallbackError> for PocketMuseError {
    fn from(error: uniffi::UnexpectedUniFFICallbackError) -> Self {
        Self::Internal { reason: error.reason }
    }
}

/// Runs what crosses the border. A panic ends here: it is an error.
pub(crate) fn guard<T>(
    call: impl FnOnce() -> Result<T, PocketMuseError>,
) -> Result<T, PocketMuseError> {
    panic::catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        // Its text may hold what was asked for, so it is left out.
        Err(PocketMuseError::Internal { reason: "the library panicked".to_owned() })
    })
}

/// A number that is handed over as `u32` or `u64` and used as a size.
pub(crate) fn size(value: impl TryInto<usize>, field: &str) -> Result<usize, PocketMuseError> {
    value.try_into().map_err(|_| PocketMuseError::BadRequest {
        field: field.to_owned(),
        reason: "expected a size that this system can address, found a larger one".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_variant() {
        let reason = || "here: so".to_owned();
        for (kind, expected) in [
            (ErrorKind::PackageDamaged, PocketMuseError::PackageDamaged { reason: reason() }),
            (ErrorKind::PackageTooNew, PocketMuseError::PackageTooNew { reason: reason() }),
            (
                ErrorKind::NotEnoughMemory,
                PocketMuseError::NotEnoughMemory { needed: 3, available: 2 },
            ),
            (ErrorKind::NoSpace, PocketMuseError::NoSpace { needed: 3, available: 2 }),
            (ErrorKind::BadRequest, bad()),
            (ErrorKind::BadInput, bad()),
            (ErrorKind::Unsupported, PocketMuseError::Unsupported { what: "here".to_owned() }),
            (ErrorKind::Cancelled, PocketMuseError::Cancelled),
            (ErrorKind::EngineMissing, PocketMuseError::EngineMissing { reason: reason() }),
            (ErrorKind::EngineFailed, PocketMuseError::EngineFailed { reason: reason() }),
            (ErrorKind::Io, PocketMuseError::Io { reason: reason() }),
            (ErrorKind::NotFound, PocketMuseError::Io { reason: reason() }),
            (ErrorKind::NotAllowed, PocketMuseError::Io { reason: reason() }),
            (ErrorKind::Internal, PocketMuseError::Internal { reason: reason() }),
        ] {
            let amounts = Amounts { needed: 3, available: 2 };
            let error = Error::new(kind, "here", "so").with_amounts(amounts);
            assert_eq!(PocketMuseError::from(error), expected, "{kind:?}");
        }
    }

    #[test]
    fn a_provider_that_failed_is_named_with_its_stage() {
        let error = Error::provider_failed("openvino", "step", "computes another logits");
        let text = error.to_string();
        let error = PocketMuseError::from(error);
        let expected = PocketMuseError::ProviderFailed {
            provider: "openvino".to_owned(),
            stage: "step".to_owned(),
            reason: "openvino computes another logits".to_owned(),
        };
        assert_eq!(error, expected);
        assert_eq!(error.to_string(), text);
    }

    fn bad() -> PocketMuseError {
        PocketMuseError::BadRequest { field: "here".to_owned(), reason: "so".to_owned() }
    }

    #[test]
    fn a_panic_is_an_error_without_its_text() {
        let error = guard::<()>(|| panic!("a secret prompt")).expect_err("panicked");
        assert_eq!(error, PocketMuseError::Internal { reason: "the library panicked".to_owned() });
    }
}
