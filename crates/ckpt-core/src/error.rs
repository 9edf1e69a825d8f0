//! What went wrong, in terms of what the caller can do about it.

use std::fmt;

/// What a caller can do about an error. Each kind has one exit code in the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing is there.
    NotFound,
    /// Something is there already.
    AlreadyExists,
    /// It was not finished: a save that was cut off.
    Incomplete,
    /// It contradicts itself or its checksum.
    Corrupt,
    /// Somebody else holds or changed it.
    Conflict,
    /// A remote or device does not answer.
    Unavailable,
    /// The deadline passed.
    TimedOut,
    /// The system refuses it.
    Denied,
    /// A safety rule refuses it: it would lose something newer, or run dangerous code.
    Refused,
    /// No space is left.
    NoSpace,
    /// Recognised, and not something this build can do.
    Unsupported,
    /// The request itself is wrong.
    Invalid,
    /// A broken invariant of this program.
    Internal,
}

impl ErrorKind {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::TimedOut)
    }

    /// The kind of an input/output error of the system.
    #[must_use]
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound | Io::NotADirectory => Self::NotFound,
            Io::AlreadyExists => Self::AlreadyExists,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => Self::Denied,
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => Self::NoSpace,
            Io::TimedOut => Self::TimedOut,
            Io::UnexpectedEof => Self::Incomplete,
            Io::InvalidInput | Io::InvalidFilename => Self::Invalid,
            Io::Unsupported => Self::Unsupported,
            _ => Self::Unavailable,
        }
    }

    /// The kind's name in machine-readable output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Incomplete => "incomplete",
            Self::Corrupt => "corrupt",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed_out",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::NoSpace => "no_space",
            Self::Unsupported => "unsupported",
            Self::Invalid => "invalid",
            Self::Internal => "internal",
        }
    }

    /// Every kind, for tables and tests.
    pub const ALL: [Self; 13] = [
        Self::NotFound,
        Self::AlreadyExists,
        Self::Incomplete,
        Self::Corrupt,
        Self::Conflict,
        Self::Unavailable,
        Self::TimedOut,
        Self::Denied,
        Self::Refused,
        Self::NoSpace,
        Self::Unsupported,
        Self::Invalid,
        Self::Internal,
    ];
}

/// An error of this crate: a kind, what it is about, and what failed.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    subject: String,
    message: String,
    source: Option<std::io::Error>,
}

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error about `subject` (a path, a key, a flag's value).
    pub fn new(kind: ErrorKind, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, subject: subject.into(), message: message.into(), source: None }
    }

    /// The system refused to read `subject`.
    pub fn read(subject: impl Into<String>, source: std::io::Error) -> Self {
        Self {
            kind: ErrorKind::of_io(&source),
            subject: subject.into(),
            message: "cannot read".to_owned(),
            source: Some(source),
        }
    }

    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The path, key or value it is about.
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
        self.source.as_ref().map(|source| source as _)
    }
}
