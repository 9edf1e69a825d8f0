//! Tests only: makes the n-th operation of this thread fail, as a failing disk or a dying process would.
#![expect(clippy::disallowed_methods, reason = "it does what the door would do")]

use std::cell::Cell;
use std::io;
use std::path::Path;

use rustix::io::Errno;

/// What happens from the chosen operation on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// That one operation fails.
    Once(Errno),
    /// If that one operation is a write, it takes half of the bytes; the system promises no more.
    Short,
    /// It fails, and so does everything after it: what is left on the disk is what a dead process leaves.
    FromThenOn(Errno),
}

thread_local! {
    static PLAN: Cell<Option<(u64, Fault)>> = const { Cell::new(None) };
    static IS_DEAD: Cell<bool> = const { Cell::new(false) };
    static HAS_NO_FLAGS: Cell<bool> = const { Cell::new(false) };
}

/// Lets `count` operations pass, then fails.
pub(crate) fn arm(count: u64, fault: Fault) {
    PLAN.set(Some((count, fault)));
    IS_DEAD.set(false);
}

/// Ends the failures; tells whether any operation failed.
pub(crate) fn disarm() -> bool {
    matches!(PLAN.take(), None | Some((0, Fault::FromThenOn(_))))
}

/// Makes this thread's file systems such as know neither `RENAME_NOREPLACE` nor `RENAME_EXCHANGE`.
pub(crate) fn forget_rename_flags(is_forgotten: bool) {
    HAS_NO_FLAGS.set(is_forgotten);
}

pub(crate) fn knows_rename_flags() -> bool {
    !HAS_NO_FLAGS.get()
}

/// Counts one operation.
pub(crate) fn point() -> io::Result<()> {
    match PLAN.get() {
        None => Ok(()),
        Some((0, Fault::Short)) => {
            PLAN.set(None);
            Ok(())
        }
        Some((0, Fault::Once(error))) => {
            PLAN.set(None);
            Err(error.into())
        }
        Some((0, Fault::FromThenOn(error))) => {
            IS_DEAD.set(true);
            Err(error.into())
        }
        Some((count, fault)) => {
            PLAN.set(Some((count - 1, fault)));
            Ok(())
        }
    }
}

/// Counts one removal. One that fails has begun: of a directory, files are gone. Who died before begins nothing.
pub(crate) fn point_of_removal(path: &Path) -> io::Result<()> {
    let was_dead = IS_DEAD.get();
    point().inspect_err(|_| {
        if was_dead {
            return;
        }
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten().take(2) {
            // What is no file goes later.
            std::fs::remove_file(entry.path()).ok();
        }
    })
}

/// Counts one write of `count` bytes; tells how many of them the system takes.
pub(crate) fn allowed(count: usize) -> io::Result<usize> {
    let is_short = matches!(PLAN.get(), Some((0, Fault::Short)));
    point()?;
    Ok(if is_short { count.div_ceil(2) } else { count })
}
