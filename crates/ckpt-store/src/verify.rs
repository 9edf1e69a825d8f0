//! verify: can it be trusted? Reads every byte where that is asked for.

use ckpt_core::candidate::{Candidate, Shape};
use ckpt_core::finding::Finding;
use ckpt_core::format::deep;

use crate::error::{Error, Result};
use crate::fs::{DirectoryMembers, FileReader};
use crate::inspect::parent;

/// Reads every byte of a candidate, compares every checksum it carries, and counts NaN and infinities.
///
/// # Errors
/// It could not be read; what is wrong with it is a finding.
pub fn deep(candidate: &Candidate) -> Result<Vec<Finding>> {
    let path = &candidate.path;
    let name = candidate.name();
    let findings = match candidate.shape {
        Shape::File => deep::file(&name, &FileReader::open(path)?),
        Shape::Index => deep::index(&name, &DirectoryMembers::flat(parent(path))?),
        Shape::Directory(kind) => deep::directory(kind, &DirectoryMembers::open(path)?),
    };
    findings.map_err(|error| Error::io("read", path, error))
}
