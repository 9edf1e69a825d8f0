//! The zip container of `torch.save` since 1.6, packed or unpacked into a directory, and TorchScript archives.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::io;

use super::storages::Storages;
use super::tensor::{self, StorageRef};
use super::{Opened, TWICE, salvage};
use crate::finding::{Code, Finding};
use crate::format::Format;
use crate::format::pickle::{self, PickleError, PickleProblem};
use crate::format::safety::Risk;
use crate::format::zip::{self, Archive, Entry, Method, Problem};
use crate::limits;
use crate::members::Members;
use crate::read::{ReadAt, read_up_to};

/// Reads a zip archive as far as a checkpoint's facts need it.
///
/// # Errors
/// The source cannot be read.
pub fn open(source: &dyn ReadAt) -> io::Result<Opened<'_>> {
    match zip::open(source)? {
        Ok(archive) => open_archive(source, archive),
        Err(Problem::TooLarge) => Ok(Opened::unusable(
            Format::Zip,
            Finding::error(
                Code::Unsupported,
                format!("the archive's directory is larger than {} bytes", limits::ZIP_DIRECTORY_BYTES),
            ),
        )),
        Err(Problem::Misplaced(message)) => salvage::open(source, Some(Finding::error(Code::OutOfBounds, message))),
        Err(Problem::NoEnd) => salvage::open(source, None),
    }
}

/// The name that the archive's members share before their first slash, as PyTorch's reader takes it: the first one's.
pub(crate) fn root_of(archive: &Archive) -> Option<&str> {
    archive.entries.first()?.name.split_once('/').map(|(root, _)| root)
}

/// What a zip without `data.pkl` is.
fn other_kind(archive: &Archive) -> (Format, Finding) {
    let has = |suffix: &str| {
        archive.entries.iter().any(|entry| &*entry.name == suffix || entry.name.ends_with(&format!("/{suffix}")))
    };
    let recognised = |format: Format| {
        (format, Finding::warning(Code::Unsupported, format!("recognised as {}, not inspected", format.describe())))
    };
    if has("config.json") && has("metadata.json") && has("model.weights.h5") {
        return recognised(Format::Keras);
    }
    if !archive.entries.is_empty() && archive.entries.iter().all(|entry| entry.name.ends_with(".npy")) {
        return recognised(Format::Npz);
    }
    if has("archive_format") || has("serialized_exported_program.json") || has("models/model.json") {
        return recognised(Format::TorchExport);
    }
    if has("model.json")
        && archive.entries.iter().any(|entry| entry.name.contains("/code/") || entry.name.starts_with("code/"))
    {
        return recognised(Format::TorchScript);
    }
    let message = if has(".data/serialization_id") || has("version") {
        "a PyTorch archive without `data.pkl`: the save failed while it pickled; nothing can be read from it"
    } else {
        "a zip archive without `data.pkl`: not written by torch.save"
    };
    (Format::Zip, Finding::error(Code::NotACheckpoint, message))
}

fn open_archive(source: &dyn ReadAt, archive: Archive) -> io::Result<Opened<'_>> {
    let root = root_of(&archive).map(str::to_owned);
    let main = root.as_ref().and_then(|root| main_entry(&archive, root)).cloned();
    let Some((root, entry)) = root.zip(main) else {
        let (format, finding) = if archive.get("data.pkl").is_some() {
            let message =
                "its members are not inside one folder, so torch.load refuses it; unzip it and run `ckpt repack`";
            (Format::TorchZip, Finding::error(Code::NotACheckpoint, message))
        } else {
            other_kind(&archive)
        };
        return Ok(Opened::unusable(format, finding));
    };
    let is_script = archive.get(&format!("{root}/constants.pkl")).is_some();
    let format = if is_script { Format::TorchScript } else { Format::TorchZip };
    let mut findings = archive_findings(&archive, &root);
    let misnamed = name_finding(source, &entry)?;
    let is_misnamed = misnamed.is_some();
    findings.extend(misnamed);
    let mut opened = open_main(source, &entry, format, &mut findings)?;
    opened.findings.splice(0..0, findings);
    // PyTorch's reader ends a name there and finds another member than the directory shows.
    if archive.entries.iter().any(|entry| entry.name.contains('\0')) {
        opened.risks.push(("<a member whose name holds a NUL>", Risk::Dangerous));
    }
    if is_misnamed || is_twice(&archive, &root) {
        opened.risks.push((TWICE, Risk::Dangerous));
    }
    let mut name = format!("{root}/data/");
    let folder = name.len();
    let size_of = |key: &str| {
        name.truncate(folder);
        name.push_str(key);
        archive.get(&name).map(|entry| entry.size)
    };
    let found = storage_findings(&opened, size_of);
    opened.findings.extend(found);
    if is_script {
        opened
            .findings
            .push(Finding::info(Code::Unsupported, "a TorchScript export: it holds no state to resume from"));
        // A `__setstate__` of its own runs while it is loaded, and may write files.
        opened.risks.push(("<TorchScript code>", Risk::Unknown));
    }
    opened.storages = Storages::Archive { source, archive, root };
    Ok(opened)
}

/// The directory and the member's own header disagree on what `data.pkl` is: loaders that trust the one run another
/// pickle than loaders that trust the other.
fn name_finding(source: &dyn ReadAt, entry: &Entry) -> io::Result<Option<Finding>> {
    Ok(zip::local_header(source, entry.header_offset)?.filter(|header| !header.is_of(entry)).map(|header| {
        let message = format!("the archive's directory says `{}` where the member says `{}`", entry.name, header.name);
        Finding::error(Code::Unsafe, message)
    }))
}

/// Reads `data.pkl`; `findings` gets what stands beside its content.
fn open_main<'a>(
    source: &dyn ReadAt,
    entry: &Entry,
    format: Format,
    findings: &mut Vec<Finding>,
) -> io::Result<Opened<'a>> {
    Ok(match zip::member(source, entry, limits::PICKLE_BYTES)? {
        zip::Member::Whole { bytes, crc } => {
            if !entry.accepts(crc) {
                findings.push(Finding::error(
                    Code::CrcMismatch,
                    format!(
                        "`data.pkl` has checksum {crc:08x}, the archive says {:08x}: nothing it says can be trusted",
                        entry.crc
                    ),
                ));
            }
            read_main(format, bytes)
        }
        zip::Member::Damaged(message) => Opened::unusable(format, Finding::error(Code::OutOfBounds, message)),
        zip::Member::TooLarge => Opened::unusable(
            format,
            Finding::error(
                Code::Unsupported,
                format!("`data.pkl` of {} bytes is larger than the limit of {}", entry.size, limits::PICKLE_BYTES),
            ),
        ),
        zip::Member::Unsupported(method) => Opened::unusable(
            format,
            Finding::error(Code::Unsupported, format!("`data.pkl` is packed with zip method {method}")),
        ),
    })
}

/// `data.pkl`; PyTorch's reader ignores case where there is no such name.
fn main_entry<'a>(archive: &'a Archive, root: &str) -> Option<&'a Entry> {
    let main = format!("{root}/data.pkl");
    let any_case = || archive.entries.iter().rfind(|entry| entry.name.eq_ignore_ascii_case(&main));
    archive.get(&main).or_else(any_case)
}

fn is_twice(archive: &Archive, root: &str) -> bool {
    let main = format!("{root}/data.pkl");
    archive.entries.iter().filter(|entry| entry.name.eq_ignore_ascii_case(&main)).nth(1).is_some()
}

fn read_main<'a>(format: Format, bytes: Vec<u8>) -> Opened<'a> {
    match pickle::read_keeping(bytes) {
        Ok(pickle) => Opened { pickle: Some(pickle), ..Opened::new(format) },
        Err(broken) => Opened::broken(format, "data.pkl", broken),
    }
}

fn archive_findings(archive: &Archive, root: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(entry) = archive.outside().next() {
        let count = archive.outside().count();
        findings.push(Finding::error(
            Code::OutOfBounds,
            format!(
                "`{}` ({} bytes at {}) and {} more members lie outside the file",
                entry.name,
                entry.compressed,
                entry.header_offset,
                count.saturating_sub(1)
            ),
        ));
    }
    if archive.trailing > 0 {
        findings.push(Finding::warning(
            Code::OutOfBounds,
            format!("{} bytes follow the archive; torch.load ignores them", archive.trailing),
        ));
    }
    if is_twice(archive, root) {
        findings.push(Finding::error(
            Code::Unsafe,
            "the archive holds `data.pkl` twice: loaders disagree on which one they run",
        ));
    }
    if archive.get(&format!("{root}/version")).is_none() && archive.get(&format!("{root}/.data/version")).is_none() {
        findings.push(Finding::error(
            Code::MissingShard,
            "the archive has no member `version`, without which torch.load refuses it",
        ));
    }
    if archive.entries.iter().any(|entry| entry.method != Method::Stored && entry.name.contains("/data/")) {
        findings.push(Finding::warning(
            Code::Unsupported,
            "its tensors are compressed: torch.load reads them, but with mmap=True it returns garbage without an error",
        ));
    }
    findings
}

/// What a pickle that cannot be read says about its checkpoint.
#[must_use]
pub fn pickle_finding(name: &str, error: PickleError) -> Finding {
    let code = match error.problem {
        PickleProblem::Truncated => Code::Truncated,
        PickleProblem::TooLarge | PickleProblem::Refused(_) => Code::Unsupported,
        _ => Code::NotACheckpoint,
    };
    Finding::error(code, format!("`{name}`: {error}"))
}

/// Compares every storage that the pickle names with the size of the member that should hold it.
fn storage_findings(opened: &Opened<'_>, mut size_of: impl FnMut(&str) -> Option<u64>) -> Vec<Finding> {
    let mut is_whole = |storage: StorageRef| match (size_of(&storage.key), storage.bytes()) {
        (None, needs) => needs == Some(0),
        (Some(has), needs) => needs.is_none_or(|needs| has >= needs),
    };
    // Nearly always all are there, and then there is nothing to be remembered.
    if opened.pickle.as_ref().is_none_or(|pickle| tensor::storages(pickle).all(&mut is_whole)) {
        return Vec::new();
    }
    let storages = &opened.tensors().storages;
    let (mut missing, mut short) = (Vec::new(), Vec::new());
    for storage in storages.values() {
        match (size_of(&storage.key), storage.bytes()) {
            (None, Some(0)) => {}
            (None, _) => missing.push(storage.key.as_str()),
            (Some(has), Some(needs)) if has < needs => short.push((storage.key.as_str(), has, needs)),
            _ => {}
        }
    }
    let mut findings = Vec::new();
    if let Some(first) = missing.first() {
        let message = format!("`data/{first}` is missing, {} of {} storages in all", missing.len(), storages.len());
        findings.push(Finding::error(Code::MissingShard, message));
    }
    if let Some((key, has, needs)) = short.first() {
        let message = format!("`data/{key}` has {has} of {needs} bytes, {} storages in all are too short", short.len());
        findings.push(Finding::error(Code::Truncated, message));
    }
    findings
}

/// What stands before `data.pkl` in the names of an unpacked archive: the shortest such path, since Kaggle adds folders.
#[must_use]
pub fn directory_prefix(members: &dyn Members) -> Option<&str> {
    let names = members.list().keys().filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl"));
    names.min_by_key(|name| name.len())?.strip_suffix("data.pkl")
}

/// Reads an archive that was unpacked into a directory, as Kaggle does with uploads.
///
/// `prefix` is what stands before `data.pkl` in the members' names: empty, or the archive's root and a slash.
///
/// # Errors
/// A file cannot be read.
pub fn open_directory<'a>(members: &'a dyn Members, prefix: &str) -> io::Result<Opened<'a>> {
    let format = Format::TorchDirectory;
    let size = members.list().get(&format!("{prefix}data.pkl")).copied().unwrap_or(0);
    if size > limits::PICKLE_BYTES {
        let message = format!("`data.pkl` of {size} bytes is larger than the limit of {}", limits::PICKLE_BYTES);
        return Ok(Opened::unusable(format, Finding::error(Code::Unsupported, message)));
    }
    let file = members.open(&format!("{prefix}data.pkl"))?;
    let bytes = read_up_to(&*file, 0, usize::try_from(size).unwrap_or(usize::MAX))?;
    drop(file);
    let mut opened = read_main(format, bytes);
    let size_of = |key: &str| members.list().get(&format!("{prefix}data/{key}")).copied();
    let found = storage_findings(&opened, size_of);
    opened.findings.extend(found);
    opened.findings.push(Finding::info(
        Code::Unsupported,
        "a PyTorch archive unpacked into a directory: torch.load cannot open it until `ckpt repack DIR OUT.pth` has packed it again",
    ));
    opened.storages = Storages::Directory { members, prefix: prefix.to_owned() };
    Ok(opened)
}
