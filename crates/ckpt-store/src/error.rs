//! What went wrong with a path, and what the caller can do about it.

use std::fmt;
use std::path::Path;

use ckpt_core::ErrorKind;

/// An error of this crate: a kind, the path it is about, what failed, and the cause.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    subject: String,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without a cause.
    pub fn new(kind: ErrorKind, subject: &Path, message: impl Into<String>) -> Self {
        Self { kind, subject: subject.display().to_string(), message: message.into(), source: None }
    }

    /// The system refused to do `doing` (`create`, `read`, …) with a path.
    pub fn io(doing: &str, subject: &Path, source: impl Into<std::io::Error>) -> Self {
        let source = source.into();
        Self {
            kind: ErrorKind::of_io(&source),
            subject: subject.display().to_string(),
            message: format!("cannot {doing}"),
            source: Some(Box::new(source)),
        }
    }

    /// libtorch could not do `doing` (`copy`, `convert`, …) with a tensor.
    #[cfg(feature = "tch")]
    pub(crate) fn torch(doing: &str, subject: &str, source: ::tch::TchError) -> Self {
        let message = format!("cannot {doing}");
        Self { kind: ErrorKind::Internal, subject: subject.to_owned(), message, source: Some(Box::new(source)) }
    }

    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same error once more, for a second reader; causes become text.
    #[must_use]
    pub fn again(&self) -> Self {
        let source = self.source.as_ref().map(|cause| cause.to_string().into());
        Self { kind: self.kind, subject: self.subject.clone(), message: self.message.clone(), source }
    }

    /// The path it is about.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.message, self.subject)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

impl From<ckpt_core::Error> for Error {
    fn from(error: ckpt_core::Error) -> Self {
        let source = std::error::Error::source(&error).map(|cause| cause.to_string().into());
        let text = error.to_string();
        let subject = error.subject().to_owned();
        let message = text.strip_suffix(&format!(" `{subject}`")).unwrap_or(&text).to_owned();
        Self { kind: error.kind(), subject, message, source }
    }
}
