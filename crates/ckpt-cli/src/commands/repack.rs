//! `ckpt repack`

use std::path::PathBuf;

use ckpt_store::repack;
use clap::Args;

use super::progress;
use crate::config::Settings;
use crate::error::Result;
use crate::exit;
use crate::output::Output;
use crate::report::FetchReport;
use crate::signals::clean_up_when_stopped;

/// Arguments of `ckpt repack`.
#[derive(Debug, Args)]
pub(crate) struct Repack {
    /// The directory that holds `data.pkl`, or one above it.
    directory: PathBuf,
    /// The file to write; it must not exist.
    output: PathBuf,
}

impl Repack {
    pub(crate) fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        clean_up_when_stopped();
        repack::repack(&self.directory, &self.output, &progress(settings))?;
        let path = self.output.display().to_string();
        if out.is_json() {
            out.document(&FetchReport {
                schema: "ckpt.repack/1",
                path,
                copied: true,
                action: "packed".to_owned(),
                set_aside: None,
            });
        } else {
            out.answer(&path);
        }
        Ok(exit::DONE)
    }
}
