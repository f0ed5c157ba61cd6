//! What an app is told when something fails: one variant for each thing it would do differently.

use std::{
    error, fmt,
    panic::{self, AssertUnwindSafe},
};

use pocketmuse::{Error, ErrorKind};

/// Why something failed, as what an app does about it.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Error)]
pub enum PocketMuseError {
    /// The package is damaged or was changed: fetch it again.
    PackageDamaged {
        /// What was expected and found, for people.
        reason: String,
    },
    /// The request needs more memory than may be used: ask for a smaller image, or raise the
    /// budget.
    NotEnoughMemory {
        /// What was expected and found, for people.
        reason: String,
    },
    /// The disk has too little room: ask the user to free some.
    NoSpace {
        /// What was expected and found, for people.
        reason: String,
    },
    /// Something that was asked for or handed in is refused: show or correct it.
    BadRequest {
        /// The field of the request, or what was handed in: `pixels`, `job`.
        field: String,
        /// What was expected and found, for people.
        reason: String,
    },
    /// The job was stopped because it was asked to.
    Cancelled,
    /// The generator was closed before the call, or while its job ran.
    Closed,
    /// ONNX Runtime was not found, is too old, or failed.
    EngineFailed {
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
            | Self::NotEnoughMemory { reason }
            | Self::NoSpace { reason }
            | Self::EngineFailed { reason }
            | Self::Io { reason }
            | Self::Internal { reason } => f.write_str(reason),
            Self::BadRequest { field, reason } if field.is_empty() => f.write_str(reason),
            Self::BadRequest { field, reason } => write!(f, "{field}: {reason}"),
            Self::Cancelled => f.write_str("the job was stopped"),
            Self::Closed => f.write_str("the generator is closed"),
        }
    }
}

impl error::Error for PocketMuseError {}

impl From<Error> for PocketMuseError {
    fn from(error: Error) -> Self {
        let reason = error.to_string();
        match error.kind() {
            ErrorKind::PackageDamaged => Self::PackageDamaged { reason },
            ErrorKind::NotEnoughMemory => Self::NotEnoughMemory { reason },
            ErrorKind::NoSpace => Self::NoSpace { reason },
            ErrorKind::BadRequest | ErrorKind::BadInput => {
                Self::BadRequest { field: error.at().to_owned(), reason: error.detail().to_owned() }
            }
            ErrorKind::Cancelled => Self::Cancelled,
            ErrorKind::Runtime => Self::EngineFailed { reason },
            ErrorKind::Io => Self::Io { reason },
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
    fn a_panic_is_an_error_without_its_text() {
        let error = guard::<()>(|| panic!("a secret prompt")).expect_err("panicked");
        assert_eq!(error, PocketMuseError::Internal { reason: "the library panicked".to_owned() });
    }
}
