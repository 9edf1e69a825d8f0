//! `ckpt convert`

use ckpt_store::shrink;
use clap::Args;

use super::compact::Files;
use super::progress;
use crate::config::Settings;
use crate::error::Result;
use crate::output::Output;
use crate::signals::clean_up_when_stopped;

/// Arguments of `ckpt convert`.
#[derive(Debug, Args)]
pub(crate) struct Convert {
    #[command(flatten)]
    files: Files,
}

impl Convert {
    pub(crate) fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        clean_up_when_stopped();
        let Files { to, .. } = &self.files;
        let outcome = shrink::convert(&self.files.source()?, to, &self.files.options(false), &progress(settings))
            .map_err(|error| self.files.failure(error))?;
        Ok(self.files.report("ckpt.convert/1", &outcome, out))
    }
}
