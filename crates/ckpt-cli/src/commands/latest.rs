//! `ckpt latest` and `ckpt best`: `ckpt select` by one word.

use std::path::Path;

use clap::Args;

use super::select::answer;
use crate::args::{Filter, Where, Which};
use crate::config::Settings;
use crate::error::Result;
use crate::output::Output;

/// Arguments of `ckpt latest`.
#[derive(Debug, Args)]
pub(crate) struct Latest {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    filter: Filter,
}

/// Arguments of `ckpt best`.
#[derive(Debug, Args)]
pub(crate) struct Best {
    /// The metric; the direction is asked of the files and known for usual names.
    #[arg(value_name = "METRIC[:max|:min]")]
    metric: String,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    filter: Filter,
}

impl Latest {
    pub(crate) fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        let which = Which { latest: true, filter: self.filter.clone(), ..Which::default() };
        answer(&self.place, &which, settings, out)
    }
}

impl Best {
    pub(crate) fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        let which = Which { best: Some(self.metric.clone()), filter: self.filter.clone(), ..Which::default() };
        let answered = answer(&self.place, &which, settings, out);
        let is_place = self.place.locations.is_empty() && Path::new(&self.metric).exists();
        answered.map_err(|failure| {
            if is_place { failure.with_hint("METRIC comes first: `ckpt best accuracy LOCATION`") } else { failure }
        })
    }
}
