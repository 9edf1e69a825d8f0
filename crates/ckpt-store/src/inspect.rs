//! inspect: what does it say? Opens a candidate and hands its bytes to [`ckpt_core::inspect`].

use std::path::Path;

use ckpt_core::candidate::{Candidate, Shape, Source, SourceKind, file_name};
use ckpt_core::finding::{Code, Finding};
use ckpt_core::format::Format;
use ckpt_core::inspect::{self, DirectoryKind, Inspection, recognise};
use ckpt_core::name::{self, Claim};

use crate::error::Result;
use crate::fs::{self, DirectoryMembers, FileReader};

/// Reads what a candidate says.
///
/// # Errors
/// It could not be looked at; damage is no error but a finding of the inspection.
pub fn inspect(candidate: &Candidate) -> Result<Inspection> {
    let path = &candidate.path;
    let mut inspection = match candidate.shape {
        Shape::File => inspect::file(&candidate.name(), &FileReader::open(path)?.for_facts())?,
        Shape::Index => {
            let parent = parent(path);
            inspect::index(&candidate.name(), &DirectoryMembers::flat(parent)?)?
        }
        Shape::Directory(kind) => {
            let members = DirectoryMembers::open(path)?;
            let mut inspection = inspect::directory(&candidate.name(), kind, &members)?;
            let problem = members.problem().map(|problem| Finding::warning(Code::MissingShard, problem));
            inspection.findings.extend(problem);
            inspection
        }
    };
    // A name of another link may tell what this one does not.
    if inspection.epoch.is_none() && inspection.step.is_none() && !inspection.is_finished {
        for alias in candidate.names().skip(1) {
            let told = name::facts(&alias);
            inspection.epoch = inspection.epoch.or(told.epoch);
            inspection.step = inspection.step.or(told.step);
        }
    }
    Ok(inspection)
}

/// Whether a directory that was taken for one of our checkpoints, because of a `manifest.json`, holds another program's.
#[must_use]
pub fn is_no_checkpoint(candidate: &Candidate, inspection: &Inspection) -> bool {
    candidate.shape == Shape::Directory(DirectoryKind::Ckpt) && inspection.format == Format::Unknown
}

/// The directory that holds a path.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Takes a path as a candidate, whatever its name claims.
///
/// # Errors
/// It is not there, or may not be looked at.
pub fn candidate(path: &Path) -> Result<Candidate> {
    let status = fs::status(path)?;
    let name = file_name(path);
    let (shape, bytes) = if status.is_directory {
        let bytes = DirectoryMembers::flat(path)?.statuses().iter().map(|(_, status)| status.size).sum();
        (Shape::Directory(directory_kind(path)?.unwrap_or(DirectoryKind::Unpacked)), bytes)
    } else if name::is_index(&name) {
        (Shape::Index, status.size)
    } else {
        (Shape::File, status.size)
    };
    let location = parent(path).display().to_string();
    Ok(Candidate {
        path: path.to_owned(),
        aliases: Vec::new(),
        shape,
        claim: Claim::Strong,
        source: Source { kind: SourceKind::Path, location, is_read_only: false },
        bytes,
        modified_ns: status.modified_ns,
    })
}

/// The kind of checkpoint that a directory is, by the names in it; `None` when it looks like none.
///
/// # Errors
/// It cannot be listed.
pub(crate) fn directory_kind(path: &Path) -> Result<Option<DirectoryKind>> {
    let (mut files, mut directories) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for (name, _) in fs::list(path)? {
        let text = name.to_string_lossy().into_owned();
        match fs::status(&path.join(name)) {
            Ok(status) if status.is_directory => directories.insert(text),
            Ok(status) if status.is_file => files.insert(text),
            // A link to nowhere is nothing that tells the kind.
            _ => continue,
        };
    }
    Ok(recognise(&file_name(path), &files, &directories))
}
