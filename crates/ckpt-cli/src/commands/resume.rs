//! `ckpt resume`

use ckpt_core::select::Nothing;
use ckpt_store::fetch;
use clap::Args;

use super::{choose, nothing, progress};
use crate::args::{To, Where, Which};
use crate::config::Settings;
use crate::error::Result;
use crate::exit;
use crate::output::Output;
use crate::report::SelectReport;
use crate::signals::clean_up_when_stopped;

/// Arguments of `ckpt resume`.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    to: To,
    /// Succeed with an empty answer when there is nothing to resume from.
    #[arg(long)]
    or_fresh: bool,
}

impl Resume {
    pub(crate) fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        clean_up_when_stopped();
        let (locations, selection) = choose(&self.place, &self.which, settings, out)?;
        let mut report = SelectReport::new("ckpt.resume/1", &selection);
        let Some(chosen) = selection.selected() else {
            if out.is_json() {
                out.document(&report);
            }
            if self.or_fresh && selection.nothing() == Nothing::Found {
                out.note("nothing to resume from: starting fresh, as asked");
                return Ok(exit::DONE);
            }
            let failure = nothing(&selection);
            return Err(match selection.nothing() {
                Nothing::Found => failure.with_hint(
                    "`ckpt scan` shows everything that is there, `ckpt doctor` where it looks; `--or-fresh` makes a fresh start a success",
                ),
                _ => failure,
            });
        };
        if chosen.inspection.is_finished {
            out.note("note: its trainer says that training is finished");
        }
        let to = settings.to(self.to.to.as_ref(), &locations);
        let options = fetch::Options { always_copy: false, force: self.to.force };
        let fetched = match fetch::fetch(chosen, &to, &options, &progress(settings)) {
            Ok(fetched) => fetched,
            Err(error) => {
                if out.is_json() {
                    report.path = None;
                    report.action = Some(error.to_string());
                    out.document(&report);
                }
                return Err(error.into());
            }
        };
        let path = fetched.path.display().to_string();
        if out.is_json() {
            report.path = Some(path);
            report.copied = fetched.is_copied;
            report.action = Some(fetched.action);
            report.set_aside = fetched.set_aside.map(|path| path.display().to_string());
            out.document(&report);
        } else {
            out.note(&format!("{}; training goes on with epoch {}", fetched.action, next_epoch(report.resume_epoch)));
            out.answer(&path);
        }
        Ok(exit::DONE)
    }
}

fn next_epoch(epoch: Option<i64>) -> String {
    epoch.map_or_else(|| "unknown".to_owned(), |epoch| epoch.to_string())
}
