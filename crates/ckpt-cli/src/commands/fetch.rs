//! `ckpt fetch`

use std::path::PathBuf;

use ckpt_core::ErrorKind;
use ckpt_core::verify::{Expectations, Verified};
use ckpt_store::{fetch, verify};
use clap::Args;

use super::{one, progress};
use crate::args::To;
use crate::config::Settings;
use crate::error::{Failure, Result};
use crate::exit;
use crate::output::Output;
use crate::report::FetchReport;
use crate::signals::clean_up_when_stopped;

/// Arguments of `ckpt fetch`.
#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// The checkpoint: a file or directory.
    path: PathBuf,
    #[command(flatten)]
    to: To,
    /// Check every byte of it first.
    #[arg(long)]
    deep: bool,
    /// Also one that would run dangerous code when loaded.
    #[arg(long)]
    allow_unsafe: bool,
}

impl Fetch {
    pub(crate) fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        clean_up_when_stopped();
        let (candidate, inspection) = one(&self.path)?;
        let deep = if self.deep { Some(verify::deep(&candidate)?) } else { None };
        let expected = Expectations { allow_unsafe: self.allow_unsafe, ..Expectations::default() };
        let verified = Verified::new(candidate, inspection, deep, &expected);
        if let Some(finding) = verified.verdict.reason().filter(|_| verified.inspection.format.is_inspected()) {
            let message =
                format!("`{}` is not valid: {}: {}", self.path.display(), finding.code.name(), finding.message);
            let (kind, hint) = if verified.verdict.is_only_unsafe() {
                (ErrorKind::Refused, "`--allow-unsafe` copies it all the same")
            } else {
                (ErrorKind::Corrupt, "`ckpt inspect PATH` tells what can still be read from it")
            };
            return Err(Failure::new(kind, message).with_hint(hint));
        }
        let to = settings.to(self.to.to.as_ref(), &[]);
        let options = fetch::Options { always_copy: true, force: self.to.force };
        let fetched = fetch::fetch(&verified, &to, &options, &progress(settings))?;
        let path = fetched.path.display().to_string();
        if out.is_json() {
            let set_aside = fetched.set_aside.map(|path| path.display().to_string());
            let report = FetchReport {
                schema: "ckpt.fetch/1",
                path,
                copied: fetched.is_copied,
                action: fetched.action,
                set_aside,
            };
            out.document(&report);
        } else {
            out.note(&fetched.action);
            out.answer(&path);
        }
        Ok(exit::DONE)
    }
}
