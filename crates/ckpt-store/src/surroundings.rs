//! What this machine looks like: the variables and directories that tell the platform. The only reader of the environment.
#![expect(clippy::disallowed_methods, reason = "this file is the door to the environment")]

use std::path::{Path, PathBuf};

use ckpt_core::platform::{DIRECTORIES, Surroundings, VARIABLES, detect};
use ckpt_core::schedule::deadline::{self, Deadline};

/// Observes what [`ckpt_core::platform::detect`] decides from.
#[must_use]
pub fn observe() -> Surroundings {
    Surroundings {
        variables: VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect(),
        directories: DIRECTORIES
            .iter()
            .filter(|path| Path::new(path).is_dir())
            .map(|path| (*path).to_owned())
            .collect(),
    }
}

/// When this session ends, as far as SLURM or Kaggle tell; `started_ns` is when it started, in nanoseconds since 1970.
#[must_use]
pub fn deadline(started_ns: i64) -> Option<Deadline> {
    let seen = observe();
    let platform = detect(&seen, None).platform;
    deadline::of(&seen, platform, started_ns)
}

fn directory(variable: &str, below_home: &str) -> Option<PathBuf> {
    let given = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    given.or_else(|| Some(std::env::home_dir()?.join(below_home))).map(|path| path.join("ckpt"))
}

/// Where caches go: `$XDG_CACHE_HOME/ckpt`, else `~/.cache/ckpt`.
#[must_use]
pub fn cache_directory() -> Option<PathBuf> {
    directory("XDG_CACHE_HOME", ".cache")
}

/// Where the user's configuration is: `$XDG_CONFIG_HOME/ckpt`, else `~/.config/ckpt`.
#[must_use]
pub fn config_directory() -> Option<PathBuf> {
    directory("XDG_CONFIG_HOME", ".config")
}
