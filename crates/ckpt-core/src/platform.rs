//! Which platform this is, and where its checkpoints lie: decided from observed variables and directories.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};
use crate::location::{KAGGLE_ROOT, Location};

/// A place where training runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Platform {
    /// A Kaggle notebook.
    Kaggle,
    /// Google Colab.
    Colab,
    /// Amazon SageMaker.
    Sagemaker,
    /// Strong Compute's ISC.
    Isc,
    /// Anything else.
    Local,
}

impl Platform {
    /// Every platform.
    pub const ALL: [Self; 5] = [Self::Kaggle, Self::Colab, Self::Sagemaker, Self::Isc, Self::Local];

    /// The name in configuration and output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kaggle => "kaggle",
            Self::Colab => "colab",
            Self::Sagemaker => "sagemaker",
            Self::Isc => "isc",
            Self::Local => "local",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|platform| platform.name() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|platform| platform.name()).collect();
            Error::new(ErrorKind::Invalid, text, format!("the platforms are {}; there is no", known.join(", ")))
        })
    }
}

/// The variables that tell the platform and its deadline.
pub const VARIABLES: [&str; 19] = [
    "CHECKPOINT_ARTIFACT_PATH",
    "COLAB_BACKEND_VERSION",
    "COLAB_GPU",
    "COLAB_RELEASE_TAG",
    "COLAB_TPU_ADDR",
    "ISC_EXPERIMENT_NAME",
    "KAGGLE_CONTAINER_NAME",
    "KAGGLE_DATA_PROXY_URL",
    "KAGGLE_KERNEL_RUN_TYPE",
    "KAGGLE_URL_BASE",
    "LOSSY_ARTIFACT_PATH",
    "OUTPUT_PATH",
    "SLURM_JOB_END_TIME",
    "SM_CHECKPOINT_DIR",
    "SM_MODEL_DIR",
    "SM_TRAINING_ENV",
    "TPU_NAME",
    "TPU_WORKER_ID",
    "TRAINING_JOB_NAME",
];
/// The directories that tell.
pub const DIRECTORIES: [&str; 7] = [
    "/kaggle/working",
    "/kaggle/input",
    "/content",
    "/content/drive/MyDrive",
    "/content/sample_data",
    "/opt/ml/checkpoints",
    "/opt/ml/input",
];

/// What was observed: those of [`VARIABLES`] that are set, those of [`DIRECTORIES`] that exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Variables and their values.
    pub variables: BTreeMap<String, String>,
    /// Existing directories.
    pub directories: BTreeSet<String>,
}

impl Surroundings {
    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn first(&self, names: &[&'static str]) -> Option<String> {
        names.iter().find(|name| self.variable(name).is_some()).map(|name| format!("{name} is set"))
    }

    fn directory(&self, path: &str) -> Option<String> {
        self.directories.contains(path).then(|| format!("{path} exists"))
    }
}

/// The platform, why, and where its checkpoints lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detection {
    /// The platform.
    pub platform: Platform,
    /// The sign that told.
    pub reason: String,
    /// Where to look, in order.
    pub locations: Vec<Location>,
    /// Where training writes.
    pub working: PathBuf,
}

/// Detects the platform, unless it is `given`.
#[must_use]
pub fn detect(seen: &Surroundings, given: Option<Platform>) -> Detection {
    let (platform, reason) = match given {
        Some(platform) => (platform, "as configured".to_owned()),
        None => guess(seen),
    };
    let (locations, working) = places(platform, seen);
    Detection { platform, reason, locations, working }
}

fn guess(seen: &Surroundings) -> (Platform, String) {
    // A cluster's variables are set by its launcher alone; Colab's images carry some of Kaggle's.
    if let Some(reason) = seen.first(&["CHECKPOINT_ARTIFACT_PATH", "LOSSY_ARTIFACT_PATH", "ISC_EXPERIMENT_NAME"]) {
        return (Platform::Isc, reason);
    }
    if let Some(reason) = seen.first(&["COLAB_RELEASE_TAG", "COLAB_BACKEND_VERSION", "COLAB_GPU", "COLAB_TPU_ADDR"]) {
        return (Platform::Colab, reason);
    }
    let kaggle = ["KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_CONTAINER_NAME", "KAGGLE_URL_BASE", "KAGGLE_DATA_PROXY_URL"];
    if let Some(reason) = seen.first(&kaggle).or_else(|| seen.directory("/kaggle/working")) {
        return (Platform::Kaggle, reason);
    }
    let sagemaker = ["SM_TRAINING_ENV", "SM_MODEL_DIR", "SM_CHECKPOINT_DIR", "TRAINING_JOB_NAME"];
    if let Some(reason) = seen.first(&sagemaker).or_else(|| seen.directory("/opt/ml/checkpoints")) {
        return (Platform::Sagemaker, reason);
    }
    if let Some(reason) = seen.directory("/content/drive/MyDrive").or_else(|| seen.directory("/content/sample_data")) {
        return (Platform::Colab, reason);
    }
    (Platform::Local, "no sign of a known platform".to_owned())
}

fn places(platform: Platform, seen: &Surroundings) -> (Vec<Location>, PathBuf) {
    let working = |path: &str| (vec![Location::Working(PathBuf::from(path))], PathBuf::from(path));
    match platform {
        Platform::Kaggle => {
            let location = Location::Kaggle(PathBuf::from(KAGGLE_ROOT));
            (vec![location], PathBuf::from(KAGGLE_ROOT).join("working").join("checkpoints"))
        }
        Platform::Colab if seen.directories.contains("/content/drive/MyDrive") => {
            let drive = PathBuf::from("/content/drive/MyDrive/checkpoints");
            (vec![Location::Working(drive.clone()), Location::Working("/content/checkpoints".into())], drive)
        }
        Platform::Colab => working("/content/checkpoints"),
        Platform::Sagemaker => working(seen.variable("SM_CHECKPOINT_DIR").unwrap_or("/opt/ml/checkpoints")),
        Platform::Isc => {
            let path = ["CHECKPOINT_ARTIFACT_PATH", "OUTPUT_PATH"].iter().find_map(|name| seen.variable(name));
            working(path.unwrap_or("checkpoints"))
        }
        Platform::Local => (vec![Location::Working(PathBuf::from("."))], PathBuf::from("checkpoints")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(variables: &[(&str, &str)], directories: &[&str]) -> Detection {
        let seen = Surroundings {
            variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            directories: directories.iter().map(|path| (*path).to_owned()).collect(),
        };
        detect(&seen, None)
    }

    #[test]
    fn each_platform_is_known_by_its_signs() {
        assert_eq!(detected(&[], &["/kaggle/working"]).platform, Platform::Kaggle);
        assert_eq!(detected(&[("KAGGLE_KERNEL_RUN_TYPE", "Batch")], &[]).platform, Platform::Kaggle);
        assert_eq!(detected(&[("COLAB_GPU", "1")], &["/content"]).platform, Platform::Colab);
        assert_eq!(detected(&[("SM_MODEL_DIR", "/opt/ml/model")], &[]).platform, Platform::Sagemaker);
        assert_eq!(detected(&[("CHECKPOINT_ARTIFACT_PATH", "/a")], &[]).working, PathBuf::from("/a"));
        assert_eq!(detected(&[("OUTPUT_PATH", "/o"), ("LOSSY_ARTIFACT_PATH", "/l")], &[]).working, PathBuf::from("/o"));
        assert_eq!(detected(&[], &["/content"]).platform, Platform::Local);
        assert_eq!(detected(&[("COLAB_GPU", "")], &[]).platform, Platform::Local);
    }

    #[test]
    fn colab_prefers_the_drive_that_outlives_the_session() {
        let with = detected(&[("COLAB_GPU", "0")], &["/content/drive/MyDrive"]);
        assert_eq!(with.working, PathBuf::from("/content/drive/MyDrive/checkpoints"));
        assert_eq!(with.locations.len(), 2);
        assert_eq!(detected(&[("COLAB_GPU", "0")], &[]).working, PathBuf::from("/content/checkpoints"));
    }

    #[test]
    fn a_given_platform_wins_over_every_sign() {
        let seen = Surroundings { directories: ["/kaggle/working".to_owned()].into(), ..Surroundings::default() };
        assert_eq!(detect(&seen, Some(Platform::Local)).platform, Platform::Local);
    }
}
