//! scan: what is there? A candidate is a claim: a name, a place, a size. Nothing of it has been read.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::inspect::DirectoryKind;
use crate::name::Claim;

/// The kinds of place where checkpoints lie, as the founding document names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SourceKind {
    /// Where training writes.
    Working,
    /// A path given by the caller.
    Path,
    /// Attached datasets, in a folder of theirs.
    InputDatasets,
    /// Outputs of earlier notebook versions.
    NotebookOutputs,
    /// Files lying flat in an attached dataset.
    DirectFiles,
    /// Attached models.
    Models,
}

impl SourceKind {
    /// Every kind, in the order of default priority.
    pub const ALL: [Self; 6] =
        [Self::Working, Self::Path, Self::InputDatasets, Self::NotebookOutputs, Self::DirectFiles, Self::Models];

    /// The name in machine-readable output and in `--source`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Path => "path",
            Self::InputDatasets => "input_datasets",
            Self::NotebookOutputs => "notebook_outputs",
            Self::DirectFiles => "direct_files",
            Self::Models => "models",
        }
    }
}

impl std::str::FromStr for SourceKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
            format!("the source kinds are {}; there is no", known.join(", "))
        })
    }
}

/// Where a candidate comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The kind of place.
    pub kind: SourceKind,
    /// The place, short, for people: `input/hmolqd/checkpoints`.
    pub location: String,
    /// Whether the place cannot be written to, by its nature.
    pub is_read_only: bool,
}

/// What one candidate consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One file.
    File,
    /// An index file and the shards beside it.
    Index,
    /// A whole directory.
    Directory(DirectoryKind),
}

/// Something that may be a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is.
    pub path: PathBuf,
    /// Other names of the same file, by hard or symbolic link.
    pub aliases: Vec<PathBuf>,
    /// What it consists of.
    pub shape: Shape,
    /// How sure its name is.
    pub claim: Claim,
    /// Where it comes from.
    pub source: Source,
    /// Its size, all files together.
    pub bytes: u64,
    /// When it was last modified, in nanoseconds since 1970; on a mounted dataset this is not the time of the save.
    pub modified_ns: i64,
}

/// The last component of a path, as text.
#[must_use]
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

impl Candidate {
    /// The last component of its path.
    #[must_use]
    pub fn name(&self) -> String {
        file_name(&self.path)
    }

    /// The last components of its path and of its aliases.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        std::iter::once(&self.path).chain(&self.aliases).map(|path| file_name(path))
    }
}
