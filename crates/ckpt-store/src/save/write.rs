//! The bytes of one file: written, digested meanwhile, durable.

use std::fs::File;
use std::path::Path;

use ckpt_core::digest::Digest;
use ckpt_core::read::ReadAt;
use ckpt_core::{ErrorKind, manifest};

use super::draft::Source;
use crate::error::{Error, Result};
use crate::fetch::transfer::{copy_durably, digest as digest_of};
use crate::fs::{self, FileReader, Status};

/// Writes the new file `to` at `path` and makes it durable; gives what the manifest says about it.
pub(super) fn write(source: &Source<'_>, buffer: &[u8], to: &File, path: &Path) -> Result<manifest::File> {
    let bytes = source.bytes();
    let digest = match source {
        Source::Tensors { header, tensors } => {
            let mut parts = vec![header.as_slice()];
            parts.extend(tensors.iter().map(|tensor| &*tensor.bytes));
            write_parts(&parts, to, path)?
        }
        Source::Text(text) => write_parts(&[text], to, path)?,
        Source::Snapshot { header, range } => {
            write_parts(&[header, buffer.get(range.clone()).unwrap_or_default()], to, path)?
        }
        Source::Copied { from, seen } => {
            let reader = FileReader::open(from)?;
            let digest = copy_durably((&reader, from), (to, path), || {
                if !fs::reflink(&reader, to, path)? {
                    fs::copy(&reader, to, path, |_| ())?;
                }
                Ok(())
            })?;
            if !is_same(&fs::status(from)?, seen) {
                return Err(Error::new(ErrorKind::Conflict, from, "somebody wrote to it while it was saved:"));
            }
            digest.into()
        }
    };
    Ok(manifest::File { bytes, blake3: digest })
}

/// Makes a file durable that has got its place by a second name; gives what the manifest says about it.
pub(super) fn adopt(source: &Source<'_>, path: &Path) -> Result<manifest::File> {
    let reader = FileReader::open(path)?;
    fs::sync(reader.handle(), path)?;
    let digest = digest_of(&reader).map_err(|error| Error::io("read", path, error))?;
    match source {
        Source::Copied { from, seen } if !is_same(seen, &fs::status(path)?) => {
            Err(Error::new(ErrorKind::Conflict, from, "somebody wrote to it while it was saved:"))
        }
        _ => Ok(manifest::File { bytes: reader.size(), blake3: digest.into() }),
    }
}

/// Whether the content is the same, as far as size and time tell; a new name changes the rest.
pub(super) fn is_same(one: &Status, other: &Status) -> bool {
    (one.identity, one.size, one.modified_ns) == (other.identity, other.size, other.modified_ns)
}

fn write_parts(parts: &[&[u8]], to: &File, path: &Path) -> Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    fs::write_parts(to, path, parts, |bytes| {
        hasher.update(bytes);
    })?;
    fs::sync(to, path)?;
    Ok(hasher.finalize().into())
}
