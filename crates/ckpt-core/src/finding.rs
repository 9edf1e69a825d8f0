//! What was noticed about a checkpoint: a code for programs, a severity, a sentence for people.

use serde::{Deserialize, Serialize};

/// The kinds of finding. Their names in machine-readable output never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// No bytes at all.
    Empty,
    /// It ends before it should.
    Truncated,
    /// Its end was never written and reads as zeros.
    ZeroFilled,
    /// A checksum does not match.
    CrcMismatch,
    /// A part lies outside the file.
    OutOfBounds,
    /// Something else wears the name of a checkpoint.
    NotACheckpoint,
    /// Recognised, not inspected; or readable only with a caveat.
    Unsupported,
    /// Loading it would run code that no checkpoint needs.
    Unsafe,
    /// Keys that the caller requires are not there.
    MissingKeys,
    /// A file of a checkpoint of several files is missing or too short.
    MissingShard,
    /// A value that cannot be right: a negative epoch, a checkpoint that is not resumable when one was required.
    BadValue,
    /// A metric or a tensor holds NaN or an infinity.
    NonFinite,
}

impl Code {
    /// The name in machine-readable output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Truncated => "truncated",
            Self::ZeroFilled => "zero_filled",
            Self::CrcMismatch => "crc_mismatch",
            Self::OutOfBounds => "out_of_bounds",
            Self::NotACheckpoint => "not_a_checkpoint",
            Self::Unsupported => "unsupported",
            Self::Unsafe => "unsafe",
            Self::MissingKeys => "missing_keys",
            Self::MissingShard => "missing_shard",
            Self::BadValue => "bad_value",
            Self::NonFinite => "non_finite",
        }
    }
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Usable, with a caveat.
    Warning,
    /// Not usable.
    Error,
}

impl Severity {
    /// The name in machine-readable output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing noticed about a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its kind.
    pub code: Code,
    /// Its weight.
    pub severity: Severity,
    /// What it is about, for people.
    pub message: String,
}

impl Finding {
    /// A finding that makes the checkpoint unusable.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into() }
    }

    /// A finding that leaves it usable.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Warning, message: message.into() }
    }

    /// A remark.
    pub fn info(code: Code, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Info, message: message.into() }
    }
}
