//! preflight: could a run save there? Everything that a save does is tried in a place that is deleted again, before an
//! accelerator is paid for.
//!
//! All of it happens inside one temporary directory: a probe that is killed leaves nothing but that, and
//! [`atomic::clean`] removes it.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ckpt_core::ErrorKind;
use ckpt_core::quantity::size;

use crate::atomic::{self, Temporary};
use crate::error::{Error, Result};
use crate::fs;

#[cfg(test)]
mod crash;

/// What the probe writes: one page.
const PROBE_BYTES: usize = 4096;
/// Fewer names than this hardly hold one sharded checkpoint beside the last.
const LEAST_INODES: u64 = 100;
/// By how much the clocks of this machine and of the file system may differ.
const SKEW: Duration = Duration::from_secs(60);
/// The beginning of 2020: no machine's clock that was ever set is before.
const OLDEST: Duration = Duration::from_secs(1_577_836_800);

/// What to ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Make the directory when it is not there.
    pub create: bool,
    /// The size of one checkpoint: there must be room for two, for the old one stays until the new one is whole.
    pub bytes: Option<u64>,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as it should be.
    Pass,
    /// A run can save, and something is worth knowing.
    Warn,
    /// A run cannot save.
    Fail(ErrorKind),
}

impl Outcome {
    /// The name in machine-readable output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail(_) => "fail",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What it found.
    pub outcome: Outcome,
    /// What was seen, and what it means.
    pub detail: String,
    /// How long it took.
    pub took: Duration,
}

/// What all checks found. Those that could not be made because of a failure are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preflight {
    /// The checks, as they were made.
    pub checks: Vec<Check>,
}

impl Preflight {
    /// What keeps a run from saving: that the place is not there before all else, then a lack of space.
    #[must_use]
    pub fn failure(&self) -> Option<ErrorKind> {
        let mut kinds: Vec<ErrorKind> = self
            .checks
            .iter()
            .filter_map(|check| if let Outcome::Fail(kind) = check.outcome { Some(kind) } else { None })
            .collect();
        kinds.sort_by_key(|kind| match kind {
            ErrorKind::NotFound => 0,
            ErrorKind::NoSpace => 1,
            _ => 2,
        });
        kinds.first().copied()
    }

    /// Makes a check; whether a run can save as far as it goes.
    fn check(&mut self, name: &'static str, check: impl FnOnce() -> Result<Seen>) -> bool {
        let start = Instant::now();
        let (outcome, detail) = match check() {
            Ok(Seen::Fine(detail)) => (Outcome::Pass, detail),
            Ok(Seen::Odd(detail)) => (Outcome::Warn, detail),
            Err(error) => (Outcome::Fail(error.kind()), told(&error)),
        };
        self.checks.push(Check { name, outcome, detail, took: start.elapsed() });
        !matches!(outcome, Outcome::Fail(_))
    }

    /// Makes a check of what a run can do without.
    fn check_extra(&mut self, name: &'static str, meaning: &str, check: impl FnOnce() -> Result<bool>) {
        self.check(name, || match check() {
            Ok(true) => fine("it works"),
            Ok(false) => odd(format!("the file system has none: {meaning}")),
            Err(error) => odd(format!("{}: {meaning}", told(&error))),
        });
    }
}

/// What a check sees when nothing fails.
enum Seen {
    Fine(String),
    Odd(String),
}

fn fine(detail: impl Into<String>) -> Result<Seen> {
    Ok(Seen::Fine(detail.into()))
}

fn odd(detail: impl Into<String>) -> Result<Seen> {
    Ok(Seen::Odd(detail.into()))
}

fn told(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Finds out whether a run could save checkpoints in `directory`. Whatever is found is in the answer; nothing is left behind,
/// but the directory itself when it was to be made.
#[must_use]
pub fn preflight(directory: &Path, options: &Options) -> Preflight {
    let mut found = Preflight::default();
    let is_there = found.check("exists", || exists(directory, options.create))
        && found.check("is_directory", || match fs::status(directory)?.is_directory {
            true => fine("a directory"),
            false => Err(Error::new(ErrorKind::Invalid, directory, "not a directory:")),
        });
    if !is_there {
        return found;
    }
    found.check("file_system", || Ok(file_system(fs::file_system_number(directory)?)));
    found.check("free_bytes", || free_bytes(directory, options.bytes));
    found.check("free_inodes", || free_inodes(directory));
    found.check("leftovers", || match atomic::count(directory)? {
        0 => fine("no temporaries of other writers"),
        count => odd(format!(
            "{count} temporaries: of writers at work, or of dead ones whose leftovers the next save removes"
        )),
    });
    let is_writable = found.check("writable", || match fs::is_writable(directory) {
        true => fine("the permissions and the mount allow it"),
        false => Err(Error::new(ErrorKind::Denied, directory, "no permission to write, or mounted read-only:")),
    });
    if is_writable {
        probe(directory, &mut found);
    }
    found
}

fn exists(directory: &Path, is_created: bool) -> Result<Seen> {
    match fs::status(directory) {
        Ok(_) => fine("it is there"),
        Err(error) if error.kind() == ErrorKind::NotFound && is_created => {
            fs::create_directories(directory)?;
            fine("it was made")
        }
        Err(error) => Err(error),
    }
}

/// Does what a save does, one thing after the other; what needs a thing that failed is not tried.
fn probe(directory: &Path, found: &mut Preflight) {
    let mut made = None;
    let is_made = found.check("create", || {
        made = Some(Temporary::directory(&directory.join("preflight"))?);
        fine("a directory was made in it")
    });
    let Some(temporary) = made.filter(|_| is_made) else { return };
    let name = |name: &str| temporary.path().join(name);
    let (one, other) = (name("one"), name("other"));
    if !write_and_read(&one, found) {
        return;
    }
    found.check("clock", || clock(&one));
    found.check("rename_over", || {
        write(&other, b"old")?;
        fs::rename_over(&one, &other)?;
        let is_new = fs::read(&other, PROBE_BYTES as u64)? == content() && is_gone(&one)?;
        if is_new { fine("a file takes the place of another") } else { Err(wrong(&other, "a rename went wrong:")) }
    });
    found.check_extra("rename_new", "two writers at the same moment could replace each other's file", || {
        write(&name("new"), b"new")?;
        Ok(fs::rename_new_in_one_step(&name("new"), &name("named"))? && fs::status(&name("named")).is_ok())
    });
    found.check_extra("exchange", "for a moment while a file is set aside, its name is free", || {
        let (left, right) = (name("left"), name("right"));
        write(&left, b"left")?;
        write(&right, b"right")?;
        Ok(fs::rename_exchange(&left, &right)? && fs::read(&left, 5)? == b"right")
    });
    found.check_extra("symlink", "only the pointer files, and no links, name the latest checkpoint", || {
        let text = Path::new("other");
        Ok(fs::make_link(text, &name("link"))? && fs::read_link(&name("link"))?.as_deref() == Some(text))
    });
    found.check_extra("lock", "leftovers of a killed run are removed only after an hour", || {
        write(&name("locked"), b"")?;
        fs::has_locks(&name("locked"))
    });
    found.check("directory_sync", || match fs::sync_directory_if_able(directory)? {
        true => fine("names were made durable"),
        false => odd("the file system cannot make names durable: after a power cut the last checkpoint may be gone"),
    });
    found.check("clean", || {
        let path = temporary.path().to_owned();
        drop(temporary);
        match is_gone(&path) {
            Ok(true) => fine("nothing is left of the probe"),
            _ => odd("the probe could not be deleted; the next save removes it"),
        }
    });
}

fn write_and_read(path: &Path, found: &mut Preflight) -> bool {
    let mut written = None;
    let is_written = found.check("write", || {
        let file = fs::create_new(path)?;
        fs::write_all(&file, path, &content())?;
        written = Some(file);
        fine(format!("{} were written", size(PROBE_BYTES as u64)))
    });
    let Some(file) = written.filter(|_| is_written) else { return false };
    // Some file systems tell only here that they are full.
    let is_durable = found.check("sync", || {
        fs::sync(&file, path)?;
        fine("they were made durable")
    });
    let is_read = found.check("read", || {
        let is_same = fs::read(path, PROBE_BYTES as u64)? == content();
        if is_same {
            fine("they were read again")
        } else {
            Err(wrong(path, "other bytes are read than were written to"))
        }
    });
    is_durable && is_read
}

fn is_gone(path: &Path) -> Result<bool> {
    match fs::status(path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = fs::create_new(path)?;
    fs::write_all(&file, path, bytes)
}

fn wrong(path: &Path, message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, path, message)
}

/// Bytes that no file system makes by itself.
fn content() -> Vec<u8> {
    b"ckpt preflight. ".iter().copied().cycle().take(PROBE_BYTES).collect()
}

fn free_bytes(directory: &Path, asked: Option<u64>) -> Result<Seen> {
    let free = fs::free_bytes(directory)?;
    let needed = asked.map(|bytes| bytes.saturating_mul(2));
    match needed {
        _ if free == u64::MAX => odd("the file system does not tell its free space"),
        None => fine(format!("{} are free", size(free))),
        Some(needed) if free >= needed => fine(format!("{} are free, {} are needed", size(free), size(needed))),
        Some(needed) => {
            let message = format!(
                "{} are free, and two checkpoints side by side, the old one and the new one, take {}: no space in",
                size(free),
                size(needed)
            );
            Err(Error::new(ErrorKind::NoSpace, directory, message))
        }
    }
}

fn free_inodes(directory: &Path) -> Result<Seen> {
    match fs::free_inodes(directory)? {
        None => fine("the file system does not count files"),
        Some(free) if free >= LEAST_INODES => fine(format!("{free} more files may be made")),
        Some(free) => {
            let message = format!("only {free} more files may be made in");
            Err(Error::new(ErrorKind::NoSpace, directory, message))
        }
    }
}

/// Compares the time that the file system gave to a new file with this machine's.
fn clock(path: &Path) -> Result<Seen> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let modified = Duration::from_nanos(u64::try_from(fs::status(path)?.modified_ns).unwrap_or(0));
    Ok(judge_clock(now, modified))
}

fn judge_clock(now: Duration, modified: Duration) -> Seen {
    let skew = now.abs_diff(modified);
    if now < OLDEST {
        Seen::Odd("this machine's clock was never set: it shows a time before 2020".to_owned())
    } else if skew > SKEW {
        let skew = ckpt_core::quantity::span(skew);
        Seen::Odd(format!("the clocks of this machine and of the file system differ by {skew}"))
    } else {
        Seen::Fine("this machine and the file system agree on the time".to_owned())
    }
}

/// What the kind of file system means for checkpoints. The numbers are those of Linux's `magic.h`.
fn file_system(number: u64) -> Seen {
    let gone = |name: &str| Seen::Odd(format!("{name}: it lies in memory and is gone after a reboot"));
    let remote = |name: &str| Seen::Odd(format!("{name}: whether durable means durable is up to its server"));
    let local = |name: &str| Seen::Fine(name.to_owned());
    match number {
        0x0102_1994 => gone("tmpfs"),
        0x8584_58f6 => gone("ramfs"),
        0x6969 => remote("NFS"),
        0x6573_5546 => remote("FUSE"),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => remote("SMB"),
        0x0102_1997 => remote("9p"),
        0x00c3_6400 => remote("Ceph"),
        0x0bd0_0bd0 => remote("Lustre"),
        0x4750_4653 => remote("GPFS"),
        0x1983_0326 => remote("BeeGFS"),
        0xef53 => local("ext4"),
        0x5846_5342 => local("XFS"),
        0x9123_683e => local("Btrfs"),
        0x2fc1_2fc1 => local("ZFS"),
        0xf2f5_2010 => local("F2FS"),
        0x794c_7630 => local("overlayfs, the layer of a container"),
        other => local(&format!("a file system of the number {other:#x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_disagree_or_were_never_set_are_told() {
        let now = Duration::from_secs(1_800_000_000);
        assert!(matches!(judge_clock(now, now + SKEW), Seen::Fine(_)));
        for (now, modified) in
            [(now, now - 2 * SKEW), (now, now + 2 * SKEW), (Duration::from_secs(5), Duration::from_secs(5))]
        {
            assert!(matches!(judge_clock(now, modified), Seen::Odd(_)));
        }
    }

    #[test]
    fn what_is_in_memory_or_on_a_server_is_told() {
        for number in [0x0102_1994, 0x6969, 0x6573_5546] {
            assert!(matches!(file_system(number), Seen::Odd(_)));
        }
        assert!(matches!(file_system(0xef53), Seen::Fine(_)));
    }
}
