//! The files of a checkpoint that is a directory, seen without touching a file system.

use std::collections::BTreeMap;
use std::io;

use crate::read::{Counted, ReadAt};

/// The files below one directory.
///
/// The contract: `list` is complete, sorted by name and does not change while the value lives; names are relative,
/// with `/` between their parts; `open` reads any listed file.
pub trait Members {
    /// Every file: relative name and size in bytes.
    fn list(&self) -> &BTreeMap<String, u64>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// It is not listed, or cannot be opened.
    fn open(&self, name: &str) -> io::Result<Box<dyn ReadAt + '_>>;
}

/// Files held in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryMembers {
    sizes: BTreeMap<String, u64>,
    files: BTreeMap<String, Vec<u8>>,
}

impl MemoryMembers {
    /// Adds or replaces a file.
    pub fn insert(&mut self, name: impl Into<String>, bytes: Vec<u8>) {
        let name = name.into();
        self.sizes.insert(name.clone(), bytes.len() as u64);
        self.files.insert(name, bytes);
    }
}

impl Members for MemoryMembers {
    fn list(&self) -> &BTreeMap<String, u64> {
        &self.sizes
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn ReadAt + '_>> {
        match self.files.get(name) {
            Some(bytes) => Ok(Box::new(bytes.as_slice())),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Opens a file and counts what is read from it.
pub(crate) struct CountedMembers<'a> {
    inner: &'a dyn Members,
    bytes: &'a std::cell::Cell<u64>,
}

impl<'a> CountedMembers<'a> {
    pub(crate) fn new(inner: &'a dyn Members, bytes: &'a std::cell::Cell<u64>) -> Self {
        Self { inner, bytes }
    }
}

impl Members for CountedMembers<'_> {
    fn list(&self) -> &BTreeMap<String, u64> {
        self.inner.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn ReadAt + '_>> {
        Ok(Box::new(Counted::new(self.inner.open(name)?, self.bytes)))
    }
}
