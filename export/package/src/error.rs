//! One error type for the whole project: a kind for code, a place, a sentence for people.

use std::{error, fmt, io, path::Path};

/// The result of everything in this project that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, for code that has to decide what to do next.
///
/// Documentation that names [`Io`](Self::Io) means [`NotFound`](Self::NotFound),
/// [`NotAllowed`](Self::NotAllowed) and [`NoSpace`](Self::NoSpace), too: it is the operating system
/// that says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system failed to read or write.
    Io,
    /// A file or folder is not there.
    NotFound,
    /// The operating system forbids it: a permission is missing, or the disk is read-only.
    NotAllowed,
    /// The disk has too little room for what is to be written. [`Error::amounts`] says how much,
    /// unless a write failed that nobody had asked room for.
    NoSpace,
    /// A checkpoint is damaged, inconsistent or of another architecture.
    BadCheckpoint,
    /// A package is damaged: fetch or export it again.
    PackageDamaged,
    /// A package is of a newer format than this build reads: update the program.
    PackageTooNew,
    /// The request cannot be served by any machine: a value out of range, a size that does not fit
    /// the model. [`Error::at`] is the field.
    BadRequest,
    /// The package lacks what the request needs, a stage or a flavour: [`Error::at`] is its name.
    /// Another package of the same model may have it.
    Unsupported,
    /// The memory that may be used is less than the request needs, as [`Error::amounts`] says: a
    /// larger budget or a smaller image would do.
    NotEnoughMemory,
    /// An image or a reference file that the caller handed in is damaged.
    BadInput,
    /// There is no ONNX Runtime to use: none was found, it is too old, or the process uses another
    /// than the one that was asked for.
    EngineMissing,
    /// ONNX Runtime failed, or what a graph returned is not what the manifest promises.
    EngineFailed,
    /// A provider other than the CPU's does not take a stage whole, computes something else than the
    /// CPU does, or failed. [`Error::at`] is the stage, [`Error::provider`] who: another provider or
    /// flavour may do.
    ProviderFailed,
    /// The caller asked to stop.
    Cancelled,
    /// A fault of this project.
    Internal,
}

impl From<io::ErrorKind> for ErrorKind {
    fn from(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::NotAllowed,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io,
        }
    }
}

/// How much is needed, and how much there is. In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amounts {
    /// What would do.
    pub needed: u64,
    /// What there is.
    pub available: u64,
}

/// What went wrong and where.
///
/// Prints as `place: sentence`, lower case, expected before found:
/// `text_encoder.layers.3.fc1.weight: expected f16 [3072, 768], found f16 [768, 3072]`.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    at: String,
    detail: String,
    amounts: Option<Amounts>,
    provider: Option<&'static str>,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

impl Error {
    /// An error at a place: a file, a tensor, a field of a request.
    pub fn new(kind: ErrorKind, at: impl Into<String>, detail: impl Into<String>) -> Self {
        let (at, detail) = (at.into(), detail.into());
        Self { kind, at, detail, amounts: None, provider: None, source: None }
    }

    /// A `provider` that failed at `stage`, both by their names; `reason` is said of it.
    pub fn provider_failed(provider: &'static str, stage: &str, reason: &str) -> Self {
        let detail = format!("{provider} {reason}");
        let error = Self::new(ErrorKind::ProviderFailed, stage, detail);
        Self { provider: Some(provider), ..error }
    }

    /// An operating system error at `path`, of the kind that it says.
    pub fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        let kind = source.kind().into();
        Self::new(kind, path.as_ref().display().to_string(), source.to_string()).with_source(source)
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says in bytes how much is needed and how much there is.
    #[must_use]
    pub fn with_amounts(mut self, amounts: Amounts) -> Self {
        self.amounts = Some(amounts);
        self
    }

    /// Adds to what it says to people.
    #[must_use]
    pub fn with_advice(mut self, advice: &str) -> Self {
        self.detail.push_str(advice);
        self
    }

    /// Says in which larger thing the place lies: `config.json: hidden_size: …` inside
    /// `transformer/`.
    #[must_use]
    pub fn within(mut self, outer: impl fmt::Display) -> Self {
        self.at =
            if self.at.is_empty() { outer.to_string() } else { format!("{outer}: {}", self.at) };
        self
    }

    /// What went wrong, for code.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where: a path, a tensor's name, a field.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// What went wrong, for people, without the place.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// How much is needed and how much there is, of [`ErrorKind::NotEnoughMemory`] and
    /// [`ErrorKind::NoSpace`].
    pub fn amounts(&self) -> Option<Amounts> {
        self.amounts
    }

    /// Who failed, of [`ErrorKind::ProviderFailed`].
    pub fn provider(&self) -> Option<&'static str> {
        self.provider
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() {
            f.write_str(&self.detail)
        } else {
            write!(f, "{}: {}", self.at, self.detail)
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_which_kind() {
        let cases = [
            (io::ErrorKind::NotFound, ErrorKind::NotFound),
            (io::ErrorKind::PermissionDenied, ErrorKind::NotAllowed),
            (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::NotAllowed),
            (io::ErrorKind::StorageFull, ErrorKind::NoSpace),
            (io::ErrorKind::QuotaExceeded, ErrorKind::NoSpace),
            (io::ErrorKind::TimedOut, ErrorKind::Io),
        ];
        for (found, kind) in cases {
            let error = Error::io("a/b", found.into());
            assert_eq!((error.kind(), error.at(), error.amounts()), (kind, "a/b", None));
        }
    }

    #[test]
    fn amounts_stay_with_an_error() {
        let amounts = Amounts { needed: 3, available: 2 };
        let error = Error::new(ErrorKind::NoSpace, "b", "full").with_amounts(amounts).within("a");
        assert_eq!((error.to_string().as_str(), error.amounts()), ("a: b: full", Some(amounts)));
    }

    #[test]
    fn a_provider_that_failed_is_named_with_its_stage() {
        let error = Error::provider_failed("openvino", "step", "computes something else");
        assert_eq!((error.kind(), error.at()), (ErrorKind::ProviderFailed, "step"));
        assert_eq!(error.provider(), Some("openvino"));
        assert_eq!(error.to_string(), "step: openvino computes something else");
        assert_eq!(Error::new(ErrorKind::EngineFailed, "step", "b").provider(), None);
    }
}
