//! `ckpt preflight`

use std::fmt::Write as _;
use std::path::PathBuf;

use ckpt_core::{ErrorKind, quantity};
use ckpt_store::preflight::{Options, Outcome, preflight};
use clap::Args;

use crate::config::Settings;
use crate::error::Result;
use crate::exit;
use crate::output::{Output, text};
use crate::report::PreflightReport;
use crate::signals::clean_up_when_stopped;

/// Arguments of `ckpt preflight`.
#[derive(Debug, Args)]
pub(crate) struct Preflight {
    /// Where checkpoints will be saved; where the platform keeps them when none is given.
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The size of one checkpoint, as `20GB` or `20GiB`: there must be room for two.
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes)]
    bytes: Option<u64>,
    /// Make the directory when it is not there.
    #[arg(long)]
    create: bool,
}

impl Preflight {
    pub(crate) fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        let directory = settings.to(self.directory.as_ref(), &[]);
        clean_up_when_stopped();
        let found = preflight(&directory, &Options { create: self.create, bytes: self.bytes });
        let failure = found.failure();
        if out.is_json() {
            out.document(&PreflightReport::new(&directory, &found));
        } else {
            let mut shown = String::new();
            for check in &found.checks {
                let milliseconds = check.took.as_secs_f64() * 1e3;
                let detail = text::one_line(&check.detail);
                // Writing to a string cannot fail.
                writeln!(shown, "{}\t{}\t{milliseconds:.1} ms\t{detail}", check.outcome.name(), check.name).ok();
            }
            out.answer(&shown);
            let failed = found.checks.iter().filter(|check| matches!(check.outcome, Outcome::Fail(_)));
            for check in failed {
                out.note(&format!("error: {}", check.detail));
            }
            if let Some(hint) = failure.and_then(|kind| hint(kind, directory.exists())) {
                out.note(&format!("\nhint: {hint}"));
            }
        }
        Ok(match failure {
            None => exit::DONE,
            Some(ErrorKind::NotFound) => exit::NOTHING_FOUND,
            Some(ErrorKind::NoSpace) => exit::NO_SPACE,
            Some(_) => exit::FAILED,
        })
    }
}

fn hint(kind: ErrorKind, is_there: bool) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::NotFound if is_there => "nothing can be saved there; choose another directory",
        ErrorKind::NotFound => "`--create` makes the directory; check that the volume is mounted first",
        ErrorKind::NoSpace => "free some space, or save elsewhere",
        ErrorKind::Denied => "check the owner and the permissions of the directory, and how it is mounted",
        _ => return None,
    })
}
