//! The files of a directory checkpoint that say nothing about it and may still be loaded: any of them can hold a pickle.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::{DirectoryKind, content};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::format::safety::{Risk, Safety};
use crate::format::sniff::{self, Sniffed};
use crate::format::torch::{UNREAD, archive};
use crate::limits;
use crate::members::Members;
use crate::read::{ReadAt, read_up_to};

/// Endings of names that loaders take for pickles.
const ENDINGS: &[&str] = &[
    "bin", "ckpt", "data", "dill", "distcp", "joblib", "metadata", "model", "p", "pk", "pickle", "pkl", "pt", "pt2",
    "pth", "ptl", "sav", "state", "tar", "th", "torch",
];

/// Files of which it is known which were opened.
pub(super) struct Noted<'a> {
    inner: &'a dyn Members,
    opened: RefCell<BTreeSet<String>>,
}

impl<'a> Noted<'a> {
    pub(super) fn new(inner: &'a dyn Members) -> Self {
        Self { inner, opened: RefCell::new(BTreeSet::new()) }
    }
}

impl Members for Noted<'_> {
    fn list(&self) -> &BTreeMap<String, u64> {
        self.inner.list()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn ReadAt + '_>> {
        self.opened.borrow_mut().insert(name.to_owned());
        self.inner.open(name)
    }
}

/// Judges every file that was not opened before and may be a pickle.
pub(super) fn judge(members: &Noted<'_>, kind: DirectoryKind, safety: &mut Safety) -> Result<()> {
    let known = members.opened.borrow().clone();
    let storages = match kind {
        DirectoryKind::Unpacked => archive::directory_prefix(members).map(|prefix| format!("{prefix}data/")),
        _ => None,
    };
    let is_storage = |name: &str| storages.as_ref().is_some_and(|prefix| name.starts_with(prefix.as_str()));
    // The items of these are read one by one, where the checkpoint's metadata says.
    let has_rows = match kind {
        DirectoryKind::Dcp => true,
        DirectoryKind::Ckpt => members.list().contains_key(".metadata"),
        _ => false,
    };
    let is_row = |name: &str| has_rows && name.ends_with(".distcp") && !name.contains('/');
    let rest = members.list().iter().filter(|(name, _)| !known.contains(*name) && !is_storage(name) && !is_row(name));
    for (index, (name, size)) in rest.enumerate() {
        if index >= limits::JUDGED_FILES {
            safety.add_as("<more files than are looked into>".to_owned(), Risk::Unknown);
            break;
        }
        file(members.inner, name, *size, safety).map_err(|error| Error::read(name.clone(), error))?;
    }
    Ok(())
}

fn file(members: &dyn Members, name: &str, size: u64, safety: &mut Safety) -> io::Result<()> {
    let file = members.open(name)?;
    let head = read_up_to(&*file, 0, sniff::HEAD_BYTES)?;
    let is_pickle = match sniff::sniff("", &head, size) {
        Sniffed::Zip => true,
        Sniffed::Known(format) => format != Format::Safetensors,
        _ => false,
    };
    if is_pickle || is_named(name) {
        // Its name must not decide what it is taken for.
        safety.merge(content("", &*file)?.safety);
        if !is_pickle {
            safety.add_as(UNREAD.to_owned(), Risk::Unknown);
        }
    }
    Ok(())
}

/// Whether loaders take a file of this name for a pickle.
pub(super) fn is_named(name: &str) -> bool {
    let ending = name.rsplit(['.', '/']).next().unwrap_or(name);
    name.contains('.') && ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending))
}
