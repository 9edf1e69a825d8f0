//! `ckpt done`

use ckpt_core::select::Nothing;
use clap::Args;

use super::{choose, nothing};
use crate::args::{Filter, Where, Which};
use crate::config::Settings;
use crate::error::Result;
use crate::exit;
use crate::output::Output;
use crate::report::DoneReport;

/// Arguments of `ckpt done`.
#[derive(Debug, Args)]
pub(crate) struct Done {
    /// The target, as `accuracy>=0.85`; in quotes, for `>` means something to a shell. May be repeated: one checkpoint must
    /// meet all.
    #[arg(long = "if", value_name = "CONDITION", required = true)]
    targets: Vec<String>,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    filter: Filter,
}

impl Done {
    pub(crate) fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        let mut filter = self.filter.clone();
        filter.conditions.extend_from_slice(&self.targets);
        let which = Which { latest: true, filter, ..Which::default() };
        let (_, selection) = choose(&self.place, &which, settings, out)?;
        if out.is_json() {
            out.document(&DoneReport::new(&self.targets, &selection));
        }
        match (selection.selected(), selection.nothing()) {
            (Some(met), _) => {
                if !out.is_json() {
                    out.answer(&met.candidate.path.display().to_string());
                }
                Ok(exit::DONE)
            }
            // An answer, and no failure.
            (None, Nothing::Found) => {
                out.note(&format!("not done: {}", selection.reason()));
                Ok(exit::NOTHING_FOUND)
            }
            (None, _) => Err(nothing(&selection)),
        }
    }
}
