//! `ckpt select`

use clap::Args;

use super::{choose, nothing};
use crate::args::{Where, Which};
use crate::config::Settings;
use crate::error::Result;
use crate::exit;
use crate::output::Output;
use crate::report::SelectReport;

/// Arguments of `ckpt select`.
#[derive(Debug, Args)]
pub(crate) struct Select {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    which: Which,
}

impl Select {
    pub(crate) fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        answer(&self.place, &self.which, settings, out)
    }
}

/// Chooses, and prints the path of what was chosen.
pub(super) fn answer(place: &Where, which: &Which, settings: &Settings, out: &Output) -> Result<u8> {
    let (_, selection) = choose(place, which, settings, out)?;
    if out.is_json() {
        out.document(&SelectReport::new("ckpt.select/1", &selection));
    }
    match selection.selected() {
        None => Err(nothing(&selection)),
        Some(chosen) => {
            if !out.is_json() {
                out.answer(&chosen.candidate.path.display().to_string());
            }
            Ok(exit::DONE)
        }
    }
}
