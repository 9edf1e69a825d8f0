//! Where to look, as the command line and the configuration write it: a path, or `kaggle:`, or `kaggle:/other/root`.

use std::path::{Path, PathBuf};

use crate::candidate::{Source, SourceKind};
use crate::error::{Error, ErrorKind, Result};

/// The root of Kaggle's file system.
pub const KAGGLE_ROOT: &str = "/kaggle";

/// A place to scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file or directory.
    Path(PathBuf),
    /// A directory where training writes.
    Working(PathBuf),
    /// A tree of Kaggle's shape: `working/` and `input/` below the root.
    Kaggle(PathBuf),
}

impl std::str::FromStr for Location {
    type Err = Error;

    /// ```
    /// use ckpt_core::location::Location;
    /// assert_eq!("kaggle:".parse::<Location>()?, Location::Kaggle("/kaggle".into()));
    /// assert_eq!("kaggle:/mnt/k".parse::<Location>()?, Location::Kaggle("/mnt/k".into()));
    /// assert_eq!("runs/a".parse::<Location>()?, Location::Path("runs/a".into()));
    /// assert!("ftp://host/x".parse::<Location>().is_err());
    /// # Ok::<(), ckpt_core::Error>(())
    /// ```
    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, text, "empty location"));
        }
        if let Some(root) = text.strip_prefix("kaggle:") {
            let root = if root.is_empty() { KAGGLE_ROOT } else { root };
            return Ok(Self::Kaggle(PathBuf::from(root)));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            let known = matches!(scheme, "s3" | "r2" | "gs" | "http" | "https");
            let (kind, message) = if known {
                (ErrorKind::Unsupported, "remote locations cannot be scanned by this version")
            } else {
                (ErrorKind::Invalid, "unknown scheme of location")
            };
            return Err(Error::new(kind, text, message));
        }
        Ok(Self::Path(PathBuf::from(text)))
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) | Self::Working(path) => path.display().fmt(f),
            Self::Kaggle(root) => write!(f, "kaggle:{}", root.display()),
        }
    }
}

impl Location {
    /// The directories to walk.
    #[must_use]
    pub fn roots(&self) -> Vec<PathBuf> {
        match self {
            Self::Path(path) | Self::Working(path) => vec![path.clone()],
            Self::Kaggle(root) => vec![root.join("working"), root.join("input")],
        }
    }

    /// The directory where training writes, when it follows from the location.
    #[must_use]
    pub fn working(&self) -> Option<PathBuf> {
        match self {
            Self::Path(_) | Self::Working(_) => None,
            Self::Kaggle(root) => Some(root.join("working").join("checkpoints")),
        }
    }

    /// Where a candidate in `directory`, found below this location, comes from.
    #[must_use]
    pub fn source(&self, directory: &Path) -> Source {
        match self {
            Self::Path(_) => {
                Source { kind: SourceKind::Path, location: directory.display().to_string(), is_read_only: false }
            }
            Self::Working(_) => {
                Source { kind: SourceKind::Working, location: directory.display().to_string(), is_read_only: false }
            }
            Self::Kaggle(root) => kaggle(directory.strip_prefix(root).unwrap_or(directory)),
        }
    }
}

/// Classifies a directory below Kaggle's root.
///
/// Mounts come in an old form, `input/<slug>`, and a new one, `input/datasets/<owner>/<slug>`; outputs of notebooks are
/// at `input/notebooks/<user>/<notebook>`, models at `input/models/<owner>/<model>/<framework>/<variation>/<version>`.
fn kaggle(relative: &Path) -> Source {
    let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let parts: Vec<&str> = parts.iter().map(|part| &**part).collect();
    let kind = match parts.as_slice() {
        ["input", "notebooks", ..] => SourceKind::NotebookOutputs,
        ["input", "models" | "m", ..] => SourceKind::Models,
        ["input"] | ["input", "datasets" | "competitions", _, _] | ["input", "competitions", _] => {
            SourceKind::DirectFiles
        }
        ["input", "datasets" | "competitions", ..] => SourceKind::InputDatasets,
        ["input", _] => SourceKind::DirectFiles,
        ["input", ..] => SourceKind::InputDatasets,
        _ => SourceKind::Working,
    };
    Source { kind, location: relative.display().to_string(), is_read_only: kind != SourceKind::Working }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kaggles_mounts_old_and_new_are_told_apart() {
        for (path, kind) in [
            ("working", SourceKind::Working),
            ("working/checkpoints", SourceKind::Working),
            ("working/lightning_logs/version_0/checkpoints", SourceKind::Working),
            ("input/hmolqd/checkpoints", SourceKind::InputDatasets),
            ("input/hmolqd", SourceKind::DirectFiles),
            ("input/datasets/minh/run2/checkpoints", SourceKind::InputDatasets),
            ("input/datasets/minh/run2", SourceKind::DirectFiles),
            ("input/notebooks/user/nb", SourceKind::NotebookOutputs),
            ("input/notebooks/user/nb/checkpoints", SourceKind::NotebookOutputs),
            ("input/models/o/m/pytorch/base/1", SourceKind::Models),
            ("input/competitions/digits", SourceKind::DirectFiles),
        ] {
            let source = kaggle(Path::new(path));
            assert_eq!((source.kind, source.is_read_only), (kind, kind != SourceKind::Working), "{path}");
        }
    }
}
