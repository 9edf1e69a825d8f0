//! inspect: what does it say? Opens a candidate and hands its bytes to [`ckpt_core::inspect`].

use std::path::Path;

use ckpt_core::candidate::{Candidate, Shape, file_name};
use ckpt_core::candidate::{Source, SourceKind};
use ckpt_core::inspect::DirectoryKind;
use ckpt_core::inspect::{self, Inspection, recognise};
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
        Shape::File => inspect::file(&candidate.name(), &FileReader::open(path)?)?,
        Shape::Index => {
            let parent = parent(path);
            inspect::index(&candidate.name(), &DirectoryMembers::flat(parent)?)?
        }
        Shape::Directory(kind) => inspect::directory(&candidate.name(), kind, &DirectoryMembers::open(path)?)?,
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
        let members = DirectoryMembers::flat(path)?;
        let files = members.statuses().iter().map(|(name, _)| name.clone()).collect();
        let directories = fs::list(path)?
            .into_iter()
            .filter(|(name, _)| fs::status(&path.join(name)).is_ok_and(|status| status.is_directory))
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .collect();
        let kind = recognise(&name, &files, &directories).unwrap_or(DirectoryKind::Unpacked);
        (Shape::Directory(kind), members.statuses().iter().map(|(_, status)| status.size).sum())
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
