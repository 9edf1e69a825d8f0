//! Exit codes, fixed for ever.

use ckpt_core::ErrorKind;

/// Done.
pub const DONE: u8 = 0;
/// Failed.
pub const FAILED: u8 = 1;
/// Wrong usage or configuration.
pub const USAGE: u8 = 2;
/// Nothing was found: start fresh.
pub const NOTHING_FOUND: u8 = 3;
/// Checkpoints were found, none of them valid.
pub const NONE_VALID: u8 = 4;
/// Some items failed.
pub const PARTIAL: u8 = 5;
/// Locked, or in conflict with somebody else.
pub const CONFLICT: u8 = 6;
/// Refused for safety.
pub const REFUSED: u8 = 7;
/// No space left.
pub const NO_SPACE: u8 = 8;
/// The remote cannot be reached.
pub const REMOTE: u8 = 9;
/// Complete already.
pub const COMPLETE: u8 = 10;

/// The table that `--help` prints.
pub const TABLE: &str = "Exit codes:
  0 done                     6 locked or in conflict
  1 failed                   7 refused for safety (would overwrite a newer one, unsafe pickle)
  2 usage or configuration   8 no space left
  3 nothing found            9 remote unreachable
  4 found, but none valid   10 already complete
  5 partial                130, 143 interrupted";

/// The exit code of an error.
#[must_use]
pub fn of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::NotFound => NOTHING_FOUND,
        ErrorKind::Incomplete | ErrorKind::Corrupt => NONE_VALID,
        ErrorKind::Invalid | ErrorKind::Unsupported => USAGE,
        ErrorKind::AlreadyExists | ErrorKind::Conflict => CONFLICT,
        ErrorKind::Refused => REFUSED,
        ErrorKind::NoSpace => NO_SPACE,
        ErrorKind::Unavailable | ErrorKind::TimedOut | ErrorKind::Denied | ErrorKind::Internal => FAILED,
        _ => FAILED,
    }
}
