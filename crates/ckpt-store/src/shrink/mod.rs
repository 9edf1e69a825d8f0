//! compact and convert: a smaller checkpoint that is for inference alone, and one of tensors alone.
//!
//! Storages stream from the old file into the new one; their checksums are compared on the way, so that no damage is
//! carried on. The new file appears under its name whole and durable, or not at all. Nothing is unpickled, and yet a dangerous
//! checkpoint is refused: its weights come from whoever planted the rest, and in a new file nothing would show that.

use std::io::{BufWriter, Write};
use std::path::Path;

use ckpt_core::candidate::{Candidate, Shape};
use ckpt_core::finding::{Code, Finding, Severity};
use ckpt_core::format::sniff::{self, Sniffed};
use ckpt_core::format::torch::{Opened, archive, legacy};
use ckpt_core::format::{Format, safetensors};
use ckpt_core::inspect::{self as facts, Inspection};
use ckpt_core::layout::Class;
use ckpt_core::progress::{Progress, Unit};
use ckpt_core::read::{ReadAt, read_up_to};
use ckpt_core::shrink::{self, Account, Choice};
use ckpt_core::{Error as CoreError, ErrorKind};

use crate::atomic::{self, Replacing, Temporary};
use crate::error::{Error, Result};
use crate::fs::{self, FileReader, Occupant, Sink, Status};
use crate::inspect::{candidate, parent};

#[cfg(test)]
mod crash;
mod write;

const BUFFER_BYTES: usize = 1 << 20;
/// Room for what is written beside the tensors: headers, padding, the directory.
const MEMBER_BYTES: u64 = 512;

/// How to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Which tensors go into a file of tensors alone.
    pub choice: Choice,
    /// Whether a file that is there is replaced.
    pub force: bool,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// The container of the new file.
    pub format: Format,
    /// The size of the old file.
    pub bytes_before: u64,
    /// The size of the new one.
    pub bytes_after: u64,
    /// What became of every part.
    pub account: Account,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A new file is there.
    Written(Shrunk),
    /// Nothing was written: the file is already what it was to become.
    Already,
}

/// Writes what `from` holds for inference into the new file `to`, a `.pth` or a `.safetensors` by its name.
///
/// # Errors
/// [`ErrorKind::Refused`]: loading `from` would run dangerous code. [`ErrorKind::Corrupt`], [`ErrorKind::Incomplete`]: it is
/// damaged. [`ErrorKind::AlreadyExists`]: something is at `to`. [`ErrorKind::Unsupported`]: it holds what cannot be written
/// without running code. [`ErrorKind::NoSpace`]. In every case nothing is left behind.
pub fn compact(from: &Path, to: &Path, options: &Options, progress: &dyn Progress) -> Result<Outcome> {
    match container(to) {
        Some(target) => run(from, to, target, options, progress),
        None => Err(Error::new(ErrorKind::Invalid, to, "neither .safetensors nor .pth, .pt, .bin or .ckpt ends")),
    }
}

/// Writes the tensors of `from` into the new safetensors file `to`.
///
/// # Errors
/// As of [`compact`].
pub fn convert(from: &Path, to: &Path, options: &Options, progress: &dyn Progress) -> Result<Outcome> {
    match container(to) {
        Some(Format::Safetensors) => run(from, to, Format::Safetensors, options, progress),
        _ => Err(Error::new(ErrorKind::Invalid, to, "not a name that ends in .safetensors:")),
    }
}

/// The container that a name asks for.
fn container(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "safetensors" => Some(Format::Safetensors),
        "pth" | "pt" | "bin" | "ckpt" => Some(Format::TorchZip),
        _ => None,
    }
}

/// What has been decided to write.
enum Plan<'a> {
    Pth(&'a Opened<'a>, shrink::Pth),
    Flat(&'a Opened<'a>, shrink::Flat),
    Slim(shrink::Slim),
}

impl Plan<'_> {
    fn account(&self) -> &Account {
        match self {
            Self::Pth(_, plan) => &plan.account,
            Self::Flat(_, plan) => &plan.account,
            Self::Slim(plan) => &plan.account,
        }
    }

    /// At least as many bytes as are written, and those of them that are tensors.
    fn bytes(&self) -> (u64, u64) {
        match self {
            Self::Pth(_, plan) => {
                let tensors = plan.pieces.iter().fold(0_u64, |sum, piece| sum.saturating_add(piece.end - piece.start));
                let members = (plan.pieces.len() as u64 + 8).saturating_mul(MEMBER_BYTES);
                (tensors.saturating_add(members).saturating_add(plan.pickle.len() as u64), tensors)
            }
            Self::Flat(_, shrink::Flat { plan, .. }) | Self::Slim(shrink::Slim { plan, .. }) => {
                (plan.bytes, plan.bytes.saturating_sub(plan.header.len() as u64))
            }
        }
    }
}

/// One file to write.
struct Job<'a> {
    from: &'a Path,
    to: &'a Path,
    target: Format,
    options: &'a Options,
    progress: &'a dyn Progress,
    /// The old file, and what the system says about it.
    source: FileReader,
    before: Status,
}

fn run(from: &Path, to: &Path, target: Format, options: &Options, progress: &dyn Progress) -> Result<Outcome> {
    let Candidate { shape: Shape::File, .. } = candidate(from)? else {
        return Err(Error::new(
            ErrorKind::Unsupported,
            from,
            "only a checkpoint that is one file can be written anew, not",
        ));
    };
    let before = fs::status(from)?;
    check_target(to, &before, options.force)?;
    let job = Job { from, to, target, options, progress, source: FileReader::open(from)?, before };
    job.run()
}

impl Job<'_> {
    fn read_error(&self, error: std::io::Error) -> Error {
        Error::io("read", self.from, error)
    }

    /// The error of a plan, with the file it is about.
    fn about(&self, error: &CoreError) -> Error {
        let text = error.to_string();
        let is_whole = error.subject() == shrink::WHOLE;
        let whole = text.strip_suffix(&format!(" `{}`", shrink::WHOLE)).filter(|_| is_whole);
        Error::new(error.kind(), self.from, whole.map_or_else(|| format!("{text}, in"), str::to_owned))
    }

    fn unsupported(&self, format: Format) -> Error {
        let message = format!("{} cannot be written anew:", format.describe());
        Error::new(ErrorKind::Unsupported, self.from, message)
    }

    fn run(&self) -> Result<Outcome> {
        // Without its name: what a name claims is not written into the new file.
        let inspection = facts::file("", &self.source)?;
        check_source(self.from, &inspection)?;
        let head = read_up_to(&self.source, 0, sniff::HEAD_BYTES).map_err(|error| self.read_error(error))?;
        let opened = match sniff::sniff("", &head, self.source.size()) {
            Sniffed::Zip => archive::open(&self.source),
            Sniffed::Known(Format::TorchLegacy) => legacy::open(&self.source),
            Sniffed::Known(Format::Safetensors) => return self.slim(&inspection),
            _ => return Err(self.unsupported(inspection.format)),
        };
        let opened = opened.map_err(|error| self.read_error(error))?;
        if !matches!(opened.format, Format::TorchZip | Format::TorchLegacy) {
            return Err(self.unsupported(opened.format));
        }
        if opened.is_big_endian().map_err(|error| self.read_error(error))? {
            let message = "its elements stand with their last byte first, as on a machine of another kind:";
            return Err(Error::new(ErrorKind::Unsupported, self.from, message));
        }
        if self.target == Format::Safetensors {
            let plan = shrink::flat(&opened, &inspection, &self.options.choice).map_err(|error| self.about(&error))?;
            return self.write(&Plan::Flat(&opened, plan));
        }
        if self.options.choice != Choice::Model {
            let message = "weights are chosen for a .safetensors alone, and all are kept in";
            return Err(Error::new(ErrorKind::Invalid, self.to, message));
        }
        let plan = shrink::pth(&opened).map_err(|error| self.about(&error))?;
        if plan.account.is_smaller { self.write(&Plan::Pth(&opened, plan)) } else { Ok(Outcome::Already) }
    }

    fn slim(&self, inspection: &Inspection) -> Result<Outcome> {
        if self.target != Format::Safetensors {
            let message = "of a safetensors file only another one can be made, not";
            return Err(Error::new(ErrorKind::Unsupported, self.to, message));
        }
        if self.options.choice != Choice::Model {
            return Err(Error::new(
                ErrorKind::Invalid,
                self.from,
                "there is nothing to choose in the safetensors file",
            ));
        }
        let header = safetensors::read(&self.source).map_err(|error| self.read_error(error))?;
        let plan = shrink::slim(&header, inspection).map_err(|error| self.about(&error))?;
        if plan.account.is_smaller { self.write(&Plan::Slim(plan)) } else { Ok(Outcome::Already) }
    }

    fn write(&self, plan: &Plan<'_>) -> Result<Outcome> {
        let (from, to) = (self.from, self.to);
        atomic::clean(parent(to))?;
        let (needed, tensors) = plan.bytes();
        let free = fs::free_bytes(parent(to))?;
        if free < needed {
            let message = format!("{needed} bytes are needed and {free} are free; nothing was written to");
            return Err(Error::new(ErrorKind::NoSpace, parent(to), message));
        }
        let temporary = Temporary::file(to)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, Sink(temporary.handle()));
        self.progress.begin("writing", tensors, Unit::Bytes);
        let mut writer = write::Writer { from, to, out: &mut out, advance: &|count| self.progress.advance(count) };
        let written = match plan {
            Plan::Pth(opened, plan) => writer.pth(opened, plan),
            Plan::Flat(opened, plan) => writer.flat(opened, plan),
            Plan::Slim(plan) => writer.slim(&self.source, plan),
        };
        self.progress.end();
        written?;
        // A buffer that is dropped would hide that its last bytes were not written.
        out.flush().map_err(|error| Error::io("write", to, error))?;
        drop(out);
        temporary.sync()?;
        if fs::status(from)? != self.before {
            return Err(Error::new(ErrorKind::Conflict, from, "it changed while it was read:"));
        }
        let new = FileReader::of(temporary.handle(), temporary.path())?;
        check_new(to, &new)?;
        temporary.commit(if self.options.force { &Replacing::Old } else { &Replacing::Nothing })?;
        Ok(Outcome::Written(Shrunk {
            format: self.target,
            bytes_before: self.before.size,
            bytes_after: new.size(),
            account: plan.account().clone(),
        }))
    }
}

fn check_source(from: &Path, inspection: &Inspection) -> Result<()> {
    let worst = |finding: &&Finding| finding.severity == Severity::Error;
    let Some(finding) = inspection.findings.iter().find(worst) else { return Ok(()) };
    let kind = match finding.code {
        Code::Unsafe => ErrorKind::Refused,
        Code::Unsupported | Code::NotACheckpoint => ErrorKind::Unsupported,
        Code::Truncated | Code::Empty | Code::ZeroFilled | Code::MissingShard => ErrorKind::Incomplete,
        _ => ErrorKind::Corrupt,
    };
    Err(Error::new(kind, from, format!("nothing was written, because {}:", finding.message)))
}

fn check_target(to: &Path, source: &Status, force: bool) -> Result<()> {
    match fs::occupant(to)? {
        Occupant::Nothing => Ok(()),
        Occupant::Something(status) if status.identity == source.identity => {
            Err(Error::new(ErrorKind::Invalid, to, "the new file would take the place of the old one:"))
        }
        Occupant::Something(status) if status.is_directory => {
            Err(Error::new(ErrorKind::AlreadyExists, to, "not written over the directory"))
        }
        _ if force => Ok(()),
        _ => Err(Error::new(ErrorKind::AlreadyExists, to, "not written over what is there:")),
    }
}

/// Reads what the new file says: it must be whole and of the class that it was made for.
fn check_new(to: &Path, new: &FileReader) -> Result<()> {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let inspection = facts::file(&name, new)?;
    if inspection.is_valid() && inspection.class == Class::InferenceOnly {
        return Ok(());
    }
    let why = inspection.findings.first().map_or("it is of the wrong class", |finding| finding.message.as_str());
    Err(Error::new(ErrorKind::Internal, to, format!("what was written is not valid, because {why}:")))
}
