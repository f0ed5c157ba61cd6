//! One error type for the whole project: a kind for code, a place, a sentence for people.

use std::{error, fmt, io, path::Path};

/// The result of everything in this project that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, for code that has to decide what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused: not found, no permission, disk full.
    Io,
    /// The disk has too little room for what is to be written.
    NoSpace,
    /// A checkpoint is damaged, inconsistent or of another architecture.
    BadCheckpoint,
    /// A package is damaged (fetch or export it again) or of a version this build cannot read.
    PackageDamaged,
    /// The request cannot be served by any machine: a value out of range, a size that does not fit
    /// the model.
    BadRequest,
    /// The memory that may be used is less than the request needs: a larger budget or a smaller
    /// image would do.
    NotEnoughMemory,
    /// An image or a reference file that the caller handed in is damaged.
    BadInput,
    /// ONNX Runtime was not found, is too old or failed.
    Runtime,
    /// The caller asked to stop.
    Cancelled,
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
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

impl Error {
    /// An error at a place: a file, a tensor, a field of a request.
    pub fn new(kind: ErrorKind, at: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind, at: at.into(), detail: detail.into(), source: None }
    }

    /// An operating system error at `path`.
    pub fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::new(ErrorKind::Io, path.as_ref().display().to_string(), source.to_string())
            .with_source(source)
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
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
