//! From library errors to what a person reads: message, causes, hints, exit code. Hints are written here alone.

use ckpt_core::ErrorKind;

use crate::exit;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub kind: ErrorKind,
    pub message: String,
    pub causes: Vec<String>,
    pub hints: Vec<String>,
    pub exit_code: u8,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let hints = hint(kind).into_iter().map(str::to_owned).collect();
        Self { kind, message: message.into(), causes: Vec::new(), hints, exit_code: exit::of(kind) }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints = vec![hint.into()];
        self
    }

    fn of(kind: ErrorKind, error: &dyn std::error::Error) -> Self {
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        Self { causes, ..Self::new(kind, error.to_string()) }
    }
}

impl From<ckpt_core::Error> for Failure {
    fn from(error: ckpt_core::Error) -> Self {
        Self::of(error.kind(), &error)
    }
}

impl From<ckpt_store::Error> for Failure {
    fn from(error: ckpt_store::Error) -> Self {
        Self::of(error.kind(), &error)
    }
}

/// What to do about an error of a kind.
fn hint(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::NotFound => "`ckpt scan` shows what is there, `ckpt doctor` where it looks",
        ErrorKind::Incomplete | ErrorKind::Corrupt => {
            "`ckpt verify --deep PATH` names what is damaged; take an older checkpoint"
        }
        ErrorKind::Refused => {
            "`--force` replaces a newer file and keeps it under another name; `--to DIR` copies elsewhere; `--latest` takes the newest"
        }
        ErrorKind::NoSpace => "free some space, or copy elsewhere with `--to DIR`",
        ErrorKind::AlreadyExists => "choose another name, or move away what is there",
        ErrorKind::Denied => "check the owner and the permissions of the path",
        _ => return None,
    })
}
