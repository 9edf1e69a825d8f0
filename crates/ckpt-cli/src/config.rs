//! Configuration: flag > `CKPT_*` environment > `./ckpt.toml` > the user's file > what the platform says.

use std::cell::OnceCell;
use std::path::PathBuf;

use ckpt_core::platform::{self, Detection, Platform};
use ckpt_core::{Error, ErrorKind};
use ckpt_store::{fs, scan, surroundings};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Deserializer, Serialize};

use crate::args::Global;
use crate::error::{Failure, Result};

/// The settings of all files and variables together.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Values {
    pub platform: Option<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub locations: Vec<String>,
    pub to: Option<PathBuf>,
    pub depth: usize,
    pub index: bool,
    pub best: Option<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub names: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub require: Vec<String>,
    pub resumable: bool,
    #[serde(deserialize_with = "one_or_many")]
    pub min: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    pub priority: Vec<String>,
}

/// The names of the settings, as in `ckpt.toml` and, in capitals after `CKPT_`, in the environment.
pub(crate) const NAMES: [&str; 11] =
    ["platform", "locations", "to", "depth", "index", "best", "names", "require", "resumable", "min", "priority"];

impl Default for Values {
    fn default() -> Self {
        Self {
            platform: None,
            locations: Vec::new(),
            to: None,
            depth: scan::DEFAULT_DEPTH,
            index: true,
            best: None,
            names: Vec::new(),
            require: Vec::new(),
            resumable: false,
            min: Vec::new(),
            priority: Vec::new(),
        }
    }
}

/// `a,b` in a variable, a list in a file.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::One(text) => {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        }
        Either::Many(list) => list,
    })
}

/// The settings and where they come from.
pub(crate) struct Settings {
    pub values: Values,
    pub quiet_progress: bool,
    platform: Option<Platform>,
    detection: OnceCell<Detection>,
    figment: Figment,
    flags: Vec<&'static str>,
}

impl Settings {
    /// Reads files, environment and flags.
    pub(crate) fn load(global: &Global) -> Result<Self> {
        let mut figment = Figment::from(Serialized::defaults(Values::default()));
        // An absent file is no file; one that is there and cannot be read is an error.
        let files = surroundings::config_directory().map(|directory| directory.join("config.toml"));
        for file in files.into_iter().chain([PathBuf::from("ckpt.toml")]) {
            if fs::status(&file).is_ok_and(|status| status.is_file) {
                figment = figment.merge(Toml::file_exact(file));
            }
        }
        figment = figment.merge(Env::prefixed("CKPT_").only(&NAMES));
        let mut values: Values = figment.extract().map_err(|error| {
            let message = format!("the configuration is wrong: {error}");
            Failure::from(Error::new(ErrorKind::Invalid, "ckpt.toml, CKPT_*", message))
                .with_hint("`ckpt doctor` lists every setting; the keys are ".to_owned() + &NAMES.join(", "))
        })?;
        let mut flags = Vec::new();
        if let Some(platform) = &global.platform {
            values.platform = Some(platform.clone());
            flags.push("platform");
        }
        if let Some(depth) = global.depth {
            values.depth = depth;
            flags.push("depth");
        }
        if global.no_index {
            values.index = false;
            flags.push("index");
        }
        let platform = values.platform.as_deref().map(str::parse::<Platform>).transpose()?;
        let quiet_progress = global.quiet || global.no_progress;
        Ok(Self { values, quiet_progress, platform, detection: OnceCell::new(), figment, flags })
    }

    /// The platform: as it was given, else as the machine looks.
    pub(crate) fn detection(&self) -> &Detection {
        self.detection.get_or_init(|| platform::detect(&surroundings::observe(), self.platform))
    }

    /// Where a setting comes from.
    pub(crate) fn origin(&self, name: &str) -> String {
        if let Some(flag) = self.flags.iter().find(|flag| **flag == name) {
            return format!("--{}", if *flag == "index" { "no-index" } else { flag });
        }
        let variable = format!("CKPT_{}", name.to_ascii_uppercase());
        match self.figment.find_metadata(name) {
            Some(metadata) if metadata.name.contains("environment") => variable,
            Some(metadata) if metadata.name.contains("TOML") => {
                metadata.source.as_ref().map_or_else(|| "a file".to_owned(), ToString::to_string)
            }
            _ => "default".to_owned(),
        }
    }

    /// Where the index is, unless it is switched off.
    pub(crate) fn cache(&self) -> Option<PathBuf> {
        self.values.index.then(surroundings::cache_directory).flatten()
    }

    /// Where training writes.
    pub(crate) fn to(&self, flag: Option<&PathBuf>, locations: &[ckpt_core::location::Location]) -> PathBuf {
        flag.or(self.values.to.as_ref())
            .cloned()
            .or_else(|| locations.iter().find_map(ckpt_core::location::Location::working))
            .unwrap_or_else(|| self.detection().working.clone())
    }
}
