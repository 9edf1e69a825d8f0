//! Moves bytes from the old file into the new one.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use ckpt_core::ErrorKind;
use ckpt_core::finding::{Code, Finding};
use ckpt_core::format::torch::storages::Storages;
use ckpt_core::format::torch::tensor::TensorRef;
use ckpt_core::format::torch::{Opened, strided};
use ckpt_core::read::{ReadAt, stream};
use ckpt_core::shrink::{Flat, Piece, Pth, Slim};

use crate::archive::Archive;
use crate::error::{Error, Result};

/// Largest part of a compressed storage that is held to take a view out of it.
const HELD_BYTES: u64 = 16 << 20;

/// What is written to, and what errors are about.
pub(super) struct Writer<'a> {
    pub(super) from: &'a Path,
    pub(super) to: &'a Path,
    pub(super) out: &'a mut dyn Write,
    pub(super) advance: &'a dyn Fn(u64),
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| Error::io("write", self.to, error))
    }

    /// The archive: the pickle, the byte order, the storages, the version that torch.load asks for.
    pub(super) fn pth(&mut self, opened: &Opened<'_>, plan: &Pth) -> Result<()> {
        let (from, advance) = (self.from, self.advance);
        let stem = self.to.file_stem().unwrap_or_default().to_string_lossy();
        let root = if stem.is_empty() { "archive" } else { &stem };
        let mut archive = Archive::new(self.out, self.to);
        archive.member(&format!("{root}/data.pkl"), &plan.pickle.as_slice(), self.to, &|_| ())?;
        archive.member(&format!("{root}/byteorder"), &b"little".as_slice(), self.to, &|_| ())?;
        for (number, piece) in plan.pieces.iter().enumerate() {
            let mut member = archive.begin(&format!("{root}/data/{number}"), piece.end - piece.start)?;
            part(from, &opened.storages, piece, &mut |bytes| {
                advance(bytes.len() as u64);
                member.put(bytes)
            })?;
            member.end()?;
        }
        archive.member(&format!("{root}/version"), &b"3\n".as_slice(), self.to, &|_| ())?;
        archive.finish()
    }

    /// A header and the tensors of an opened checkpoint.
    pub(super) fn flat(&mut self, opened: &Opened<'_>, plan: &Flat) -> Result<()> {
        self.put(&plan.plan.header)?;
        // Storages whose checksum was compared, and those of a single tensor, whose comparison is part of the copying.
        let mut is_checked: HashMap<&str, bool> = HashMap::new();
        for index in &plan.plan.order {
            let (name, tensor) = &plan.tensors[*index];
            let size = plan.plan.sizes[*index];
            let Some(storage) = tensor.storage.as_ref().filter(|_| size > 0) else { continue };
            let checked = is_checked.entry(storage.key.as_str()).or_default();
            let written = self.tensor(&opened.storages, name, tensor, checked)?;
            if written != size {
                let message = format!("{size} bytes were announced of `{name}` and {written} written to");
                return Err(Error::new(ErrorKind::Internal, self.to, message));
            }
        }
        Ok(())
    }

    /// One tensor; gives the bytes that were written.
    fn tensor(
        &mut self,
        storages: &Storages<'_>,
        name: &str,
        tensor: &TensorRef,
        is_checked: &mut bool,
    ) -> Result<u64> {
        let key = tensor.storage.as_ref().map_or("", |storage| storage.key.as_str());
        let outside = || Error::new(ErrorKind::Corrupt, self.from, format!("`{name}` lies outside its storage in"));
        let (start, end) = tensor.bytes_in_storage().ok_or_else(outside)?;
        let read = |error| Error::io("read", self.from, error);
        let window = storages.window(key).map_err(read)?;
        let (from, advance) = (self.from, self.advance);
        let mut count = 0;
        let mut put = |bytes: &[u8]| {
            advance(bytes.len() as u64);
            count += bytes.len() as u64;
            self.out.write_all(bytes).map_err(|error| Error::io("write", self.to, error))
        };
        let piece = Piece { key: key.to_owned(), start, end };
        if tensor.is_contiguous() && !(*is_checked && window.is_some()) {
            part(from, storages, &piece, &mut put)?;
            *is_checked = true;
            return Ok(count);
        }
        if !std::mem::replace(is_checked, true) {
            part(from, storages, &Piece { end: start, ..piece.clone() }, &mut |_| Ok(()))?;
        }
        let held;
        let (source, view): (&dyn ReadAt, TensorRef) = match &window {
            Some(window) => (window, tensor.clone()),
            None => {
                held = hold(from, storages, &piece)?;
                let width = tensor.dtype.bytes(1).unwrap_or(1).max(1);
                (&held, TensorRef { offset: tensor.offset - start / width, ..tensor.clone() })
            }
        };
        let mut written = Ok(());
        let mut each = |bytes: &[u8]| {
            if written.is_ok() {
                written = put(bytes);
            }
        };
        let is_whole = if tensor.is_contiguous() {
            stream(source, start, end - start, each).map_err(read)?
        } else {
            strided::copy(&view, source, &mut each).map_err(read)?
        };
        written?;
        if is_whole { Ok(count) } else { Err(damaged(from, &short(key))) }
    }

    /// A header and ranges of a safetensors file, in the order of the plan.
    pub(super) fn slim(&mut self, source: &dyn ReadAt, plan: &Slim) -> Result<()> {
        self.put(&plan.plan.header)?;
        for index in &plan.plan.order {
            let (start, length) = plan.ranges[*index];
            let mut written = Ok(());
            let is_whole = stream(source, start, length, |bytes| {
                if written.is_ok() {
                    written = self.put(bytes);
                }
                (self.advance)(bytes.len() as u64);
            })
            .map_err(|error| Error::io("read", self.from, error))?;
            written?;
            if !is_whole {
                return Err(damaged(self.from, &Finding::error(Code::Truncated, "it ends early")));
            }
        }
        Ok(())
    }
}

fn short(key: &str) -> Finding {
    Finding::error(Code::Truncated, format!("`data/{key}` ends early"))
}

fn damaged(from: &Path, finding: &Finding) -> Error {
    let kind = match finding.code {
        Code::Unsupported => ErrorKind::Unsupported,
        Code::Truncated | Code::MissingShard => ErrorKind::Incomplete,
        _ => ErrorKind::Corrupt,
    };
    Error::new(kind, from, format!("nothing was written, because {}:", finding.message))
}

/// Reads a whole storage, compares its checksum, and hands on the part of it that is wanted.
fn part(from: &Path, storages: &Storages<'_>, piece: &Piece, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    if piece.start == piece.end && storages.size(&piece.key).is_none() {
        return Ok(());
    }
    let (mut position, mut handed) = (0_u64, 0_u64);
    let mut written = Ok(());
    let finding = storages
        .stream(&piece.key, |bytes| {
            let clamp =
                |edge: u64| usize::try_from(edge.saturating_sub(position)).unwrap_or(usize::MAX).min(bytes.len());
            let wanted = &bytes[clamp(piece.start)..clamp(piece.end)];
            if written.is_ok() && !wanted.is_empty() {
                written = each(wanted);
            }
            handed += wanted.len() as u64;
            position += bytes.len() as u64;
        })
        .map_err(|error| Error::io("read", from, error))?;
    written?;
    match finding {
        // A method of compression that is not read here is a warning to others.
        Some(finding) => Err(damaged(from, &finding)),
        None if handed != piece.end - piece.start => Err(damaged(from, &short(&piece.key))),
        None => Ok(()),
    }
}

/// A part of a compressed storage, which cannot be read at any offset.
fn hold(from: &Path, storages: &Storages<'_>, piece: &Piece) -> Result<Held> {
    if piece.end - piece.start > HELD_BYTES {
        let message =
            format!("`data/{}` is compressed, and a tensor takes elements from far apart in it, in", piece.key);
        return Err(Error::new(ErrorKind::Unsupported, from, message));
    }
    let mut bytes = Vec::new();
    part(from, storages, piece, &mut |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })?;
    Ok(Held(bytes))
}

struct Held(Vec<u8>);

impl ReadAt for Held {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.as_slice().read_at(offset, buffer)
    }
}
