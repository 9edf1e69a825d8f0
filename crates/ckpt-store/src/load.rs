//! Reading back what [`crate::save`] wrote.

use std::io;
use std::path::{Path, PathBuf};

use ckpt_core::ErrorKind;
use ckpt_core::digest::Digest;
use ckpt_core::format::safetensors::{self, Header};
use ckpt_core::limits;
use ckpt_core::manifest::{self, Manifest};
use ckpt_core::read::ReadAt;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::fetch::transfer;
use crate::fs::{self, FileReader};
use crate::save::Tensor;

/// A committed checkpoint: a directory with its manifest.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
    manifest: Manifest,
    digest: Digest,
}

impl Checkpoint {
    /// Opens a checkpoint's directory, or a link to one. The manifest is read, and every file must be there in its size;
    /// their contents are checked when they are read, or by [`Self::verify`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]: there is no manifest. [`ErrorKind::Corrupt`]: the manifest was cut off or changed.
    /// [`ErrorKind::Incomplete`]: a file is missing or of another size. [`ErrorKind::Unsupported`]: of a newer version.
    pub fn open(path: &Path) -> Result<Self> {
        let at = path.join(manifest::FILE_NAME);
        let bytes = fs::read(&at, limits::JSON_BYTES)?;
        let manifest = Manifest::parse(&bytes).map_err(|message| {
            let is_newer = message.contains("use a newer ckpt");
            let kind = if is_newer { ErrorKind::Unsupported } else { ErrorKind::Corrupt };
            Error::new(kind, &at, format!("{message}:"))
        })?;
        for (name, file) in &manifest.files {
            let at = path.join(name);
            let is_whole = fs::status(&at).map(|status| status.is_file && status.size == file.bytes);
            match is_whole {
                Ok(true) => {}
                Ok(false) => {
                    let message = format!("of another size than the {} bytes of the manifest:", file.bytes);
                    return Err(Error::new(ErrorKind::Incomplete, &at, message));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(Error::new(ErrorKind::Incomplete, &at, "named by the manifest and missing:"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self { path: path.to_owned(), manifest, digest: Digest::of(&bytes) })
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says about itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The digest of its manifest, which stands for all its bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Reads every file and compares its digest with the manifest's.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`], with the file's path.
    pub fn verify(&self) -> Result<()> {
        for (name, file) in &self.manifest.files {
            let at = self.path.join(name);
            let digest = transfer::digest(&FileReader::open(&at)?).map_err(|error| Error::io("read", &at, error))?;
            matches(&at, digest.into(), file)?;
        }
        Ok(())
    }

    /// The content of a file, its digest checked.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]: the checkpoint has no such file. [`ErrorKind::Corrupt`]: the bytes are not those that
    /// were saved.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let at = self.path.join(name);
        let Some(file) = self.manifest.files.get(name) else {
            let names: Vec<&str> = self.manifest.files.keys().map(String::as_str).collect();
            let message = format!("the checkpoint's files are {}; there is no", names.join(", "));
            return Err(Error::new(ErrorKind::NotFound, &at, message));
        };
        let bytes = read_whole(&at, file.bytes)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_rayon(&bytes);
        matches(&at, hasher.finalize().into(), file)?;
        Ok(bytes)
    }

    /// The tensors of `STEM.safetensors`, digest checked.
    ///
    /// # Errors
    /// As [`Self::bytes`]; [`ErrorKind::Corrupt`] also when the file is no safetensors file.
    pub fn tensors(&self, stem: &str) -> Result<Tensors> {
        let name = format!("{stem}.safetensors");
        Tensors::parse(self.bytes(&name)?, &self.path.join(&name))
    }

    /// The value in `STEM.json`, digest checked.
    ///
    /// # Errors
    /// As [`Self::bytes`]; [`ErrorKind::Invalid`]: it is not of this type.
    pub fn json<T: DeserializeOwned>(&self, stem: &str) -> Result<T> {
        let name = format!("{stem}.json");
        serde_json::from_slice(&self.bytes(&name)?).map_err(|error| {
            Error::new(ErrorKind::Invalid, &self.path.join(&name), format!("not what was expected ({error}):"))
        })
    }
}

fn matches(at: &Path, digest: Digest, file: &manifest::File) -> Result<()> {
    if digest == file.blake3 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt, at, "its bytes are not those that were saved: the digest does not match:"))
}

fn read_whole(at: &Path, bytes: u64) -> Result<Vec<u8>> {
    let reader = FileReader::open(at)?;
    let failed = |error: io::Error| Error::io("read", at, error);
    let size = usize::try_from(bytes).map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
    let mut content = Vec::new();
    // A manifest may claim any size: memory is taken only for what is there.
    if reader.size() != bytes {
        return Err(Error::new(ErrorKind::Incomplete, at, "of another size than the manifest says:"));
    }
    content.try_reserve_exact(size).map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
    content.resize(size, 0);
    let mut filled = 0;
    while filled < size {
        match reader.read_at(filled as u64, &mut content[filled..]) {
            Ok(0) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(content)
}

/// The tensors of one file, in memory.
#[derive(Clone, Debug)]
pub struct Tensors {
    bytes: Vec<u8>,
    header: Header,
}

impl Tensors {
    /// Reads a safetensors file of its own, such as `PendingSave::commit_file` wrote. No digest is known of it: what its
    /// header says is checked against its size.
    ///
    /// # Errors
    /// It is not there; [`ErrorKind::Corrupt`]: it was cut off, or is no safetensors file.
    pub fn read(path: &Path) -> Result<Self> {
        let size = FileReader::open(path)?.size();
        Self::parse(read_whole(path, size)?, path)
    }

    fn parse(bytes: Vec<u8>, at: &Path) -> Result<Self> {
        let header = safetensors::read(&bytes.as_slice()).map_err(|error| Error::io("read", at, error))?;
        if let Some(finding) = header.findings.first() {
            return Err(Error::new(ErrorKind::Corrupt, at, format!("{}:", finding.message)));
        }
        Ok(Self { bytes, header })
    }

    /// The texts beside them: of a single file its step, epoch, metrics and JSON values.
    #[must_use]
    pub fn metadata(&self) -> &std::collections::BTreeMap<String, String> {
        &self.header.metadata
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.header.tensors.keys().filter_map(|name| self.get(name))
    }

    /// The tensor of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        let (name, tensor) = self.header.tensors.get_key_value(name)?;
        let at = |offset: u64| usize::try_from(self.header.data_offset.checked_add(offset)?).ok();
        let bytes = self.bytes.get(at(tensor.start)?..at(tensor.end)?)?;
        Some(Tensor::new(name.as_str(), tensor.dtype.clone(), tensor.shape.clone(), bytes))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.header.tensors.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.tensors.is_empty()
    }
}
