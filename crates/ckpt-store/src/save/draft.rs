//! What is to be saved, before a byte of it is written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ckpt_core::ErrorKind;
use ckpt_core::format::dtype::Dtype;
use ckpt_core::format::safetensors::write::{self, Entry};
use ckpt_core::ids::{Epoch, Step};
use ckpt_core::layout::Class;
use ckpt_core::manifest::{self, Recorded};

use super::Session;
use super::root::Root;
use crate::error::{Error, Result};
use crate::fs::{self, Status};

/// One tensor: its bytes are those of its elements, little-endian, in row-major order without gaps.
///
/// Borrowed bytes are not copied by a synchronous save.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape; none for a scalar.
    pub shape: Vec<u64>,
    /// Its elements.
    pub bytes: Cow<'a, [u8]>,
}

impl<'a> Tensor<'a> {
    /// A tensor out of its parts. The sizes are checked when it is added to a save.
    pub fn new(
        name: impl Into<Cow<'a, str>>,
        dtype: Dtype,
        shape: impl Into<Vec<u64>>,
        bytes: impl Into<Cow<'a, [u8]>>,
    ) -> Self {
        Self { name: name.into(), dtype, shape: shape.into(), bytes: bytes.into() }
    }
}

/// Where the bytes of a file come from.
#[derive(Debug)]
pub(super) enum Source<'a> {
    /// A safetensors header, then the tensors in the order of the file.
    Tensors { header: Vec<u8>, tensors: Vec<Tensor<'a>> },
    /// These bytes.
    Text(Vec<u8>),
    /// A header, then a part of the draft's buffer.
    Snapshot { header: Vec<u8>, range: Range<usize> },
    /// A file to copy, as it was when it was added.
    Copied { from: PathBuf, seen: Status },
}

impl Source<'_> {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Tensors { header, tensors } => (header.len() + size(tensors)) as u64,
            Self::Text(text) => text.len() as u64,
            Self::Snapshot { header, range } => (header.len() + range.len()) as u64,
            Self::Copied { seen, .. } => seen.size,
        }
    }
}

fn size(tensors: &[Tensor<'_>]) -> usize {
    tensors.iter().map(|tensor| tensor.bytes.len()).sum()
}

/// One checkpoint to be.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub step: Step,
    pub epoch: Option<Epoch>,
    pub metrics: BTreeMap<String, Recorded>,
    pub class: Option<Class>,
    pub files: BTreeMap<String, Source<'a>>,
    /// The files that lose their old names after the commit.
    pub moved: BTreeMap<String, PathBuf>,
    /// What the snapshots are ranges of.
    pub buffer: Vec<u8>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(step: Step) -> Self {
        let (epoch, metrics, class) = (None, BTreeMap::new(), None);
        let (files, moved) = (BTreeMap::new(), BTreeMap::new());
        Self { step, epoch, metrics, class, files, moved, buffer: Vec::new() }
    }

    /// The size of all files together.
    pub(super) fn bytes(&self) -> u64 {
        self.files.values().fold(0, |sum, file| sum.saturating_add(file.bytes()))
    }

    /// With an optimizer training can go on; that is what its file is called.
    pub(super) fn class(&self) -> Class {
        let has_optimizer = self.files.keys().any(|name| name.starts_with("optimizer"));
        self.class.unwrap_or(if has_optimizer { Class::Resumable } else { Class::InferenceOnly })
    }

    pub(super) fn add(&mut self, name: &str, source: Source<'a>) -> Result<()> {
        let name = manifest::file_name(name)
            .map_err(|message| Error::new(ErrorKind::Invalid, Path::new(name), format!("{message}:")))?;
        if self.files.contains_key(&name) {
            return Err(Error::new(ErrorKind::Invalid, Path::new(&name), "added twice to one save:"));
        }
        self.files.insert(name, source);
        Ok(())
    }

    pub(super) fn add_tensors(&mut self, stem: &str, tensors: Vec<Tensor<'a>>) -> Result<()> {
        let name = format!("{stem}.safetensors");
        let source = layout(Path::new(&name), tensors, &BTreeMap::new())?;
        self.add(&name, source)
    }

    pub(super) fn add_file(&mut self, name: &str, from: &Path) -> Result<()> {
        let seen = fs::status(from)?;
        if !seen.is_file {
            return Err(Error::new(ErrorKind::Invalid, from, "not a regular file, so it cannot be saved:"));
        }
        self.add(name, Source::Copied { from: from.to_owned(), seen })
    }

    /// The same as one safetensors file: facts and JSON values become its metadata.
    pub(super) fn into_single(self, root: &Root, session: &Session, name: &str) -> Result<Self> {
        let invalid = |message: &str| Err(Error::new(ErrorKind::Invalid, Path::new(name), message));
        if !name.ends_with(".safetensors") || name.contains('/') || name.starts_with('.') {
            return invalid("a single file's name ends with .safetensors and has no directory, unlike");
        }
        let mut metadata = BTreeMap::from([
            ("format".to_owned(), "pt".to_owned()),
            ("step".to_owned(), self.step.to_string()),
            ("ckpt.class".to_owned(), self.class().name().to_owned()),
            ("ckpt.run_id".to_owned(), session.run_id(root, None)?),
            ("ckpt.session_id".to_owned(), session.id.clone()),
        ]);
        metadata.extend(self.epoch.map(|epoch| ("epoch".to_owned(), epoch.to_string())));
        metadata.extend(self.metrics.iter().map(|(name, metric)| (name.clone(), metric.value.to_string())));
        let mut groups = Vec::new();
        for (file, source) in self.files {
            match (source, file.strip_suffix(".json"), file.strip_suffix(".safetensors")) {
                (Source::Tensors { tensors, .. }, _, Some(group)) => groups.push((group.to_owned(), tensors)),
                (Source::Text(text), Some(stem), _) => {
                    metadata.insert(stem.to_owned(), String::from_utf8_lossy(&text).into_owned());
                }
                _ => return invalid("a file cannot be a part of the single file"),
            }
        }
        let is_one = groups.len() == 1;
        let tensors = groups.into_iter().flat_map(|(group, tensors)| {
            tensors.into_iter().map(move |tensor| match is_one {
                true => tensor,
                false => Tensor { name: format!("{group}.{}", tensor.name).into(), ..tensor },
            })
        });
        let mut single = Self::new(self.step);
        single.files.insert(name.to_owned(), layout(Path::new(name), tensors.collect(), &metadata)?);
        Ok(single)
    }

    /// Copies everything that is borrowed into `buffer`, which is reused as far as it reaches.
    pub(super) fn snapshot(self, mut buffer: Vec<u8>) -> Draft<'static> {
        buffer.clear();
        let borrowed = |source: &Source<'_>| match source {
            Source::Tensors { tensors, .. } => size(tensors),
            Source::Text(_) | Source::Snapshot { .. } | Source::Copied { .. } => 0,
        };
        // At once: growing in steps would copy again what was copied.
        buffer.reserve_exact(self.files.values().map(borrowed).sum());
        let mut take = |source| match source {
            Source::Tensors { header, tensors } => {
                let start = buffer.len();
                tensors.iter().for_each(|tensor| buffer.extend_from_slice(&tensor.bytes));
                Source::Snapshot { header, range: start..buffer.len() }
            }
            Source::Text(text) => Source::Text(text),
            Source::Snapshot { header, range } => Source::Snapshot { header, range },
            Source::Copied { from, seen } => Source::Copied { from, seen },
        };
        let files = self.files.into_iter().map(|(name, source)| (name, take(source))).collect();
        let Self { step, epoch, metrics, class, moved, .. } = self;
        Draft { step, epoch, metrics, class, files, moved, buffer }
    }
}

/// Lays tensors out as a safetensors file.
pub(super) fn layout<'a>(
    name: &Path,
    tensors: Vec<Tensor<'a>>,
    metadata: &BTreeMap<String, String>,
) -> Result<Source<'a>> {
    let entry = |tensor| {
        let Tensor { name, dtype, shape, .. }: &Tensor<'_> = tensor;
        Entry { name, dtype, shape }
    };
    let plan = write::plan(&tensors.iter().map(entry).collect::<Vec<_>>(), metadata)?;
    for (tensor, size) in tensors.iter().zip(&plan.sizes) {
        if tensor.bytes.len() as u64 != *size {
            let Tensor { name: tensor_name, dtype, shape, bytes } = tensor;
            let message = format!(
                "tensor `{tensor_name}` of type {dtype} and shape {shape:?} takes {size} bytes and has {}; it cannot go into",
                bytes.len()
            );
            return Err(Error::new(ErrorKind::Invalid, name, message));
        }
    }
    let mut tensors: Vec<Option<Tensor<'a>>> = tensors.into_iter().map(Some).collect();
    let tensors = plan.order.iter().filter_map(|index| tensors.get_mut(*index)?.take()).collect();
    Ok(Source::Tensors { header: plan.header, tensors })
}
