//! `ckpt man`

use std::path::PathBuf;

use ckpt_store::{atomic, fs};
use clap::{Args, CommandFactory};

use crate::args::Cli;
use crate::error::Result;
use crate::exit;
use crate::output::Output;

/// Arguments of `ckpt man`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The directory to write `ckpt.1`, `ckpt-scan.1`, … into.
    directory: PathBuf,
}

impl Man {
    pub(crate) fn run(&self, out: &Output) -> Result<u8> {
        fs::create_directories(&self.directory)?;
        let mut pending = vec![("ckpt".to_owned(), Cli::command())];
        while let Some((name, command)) = pending.pop() {
            for inner in command.get_subcommands() {
                pending.push((format!("{name}-{}", inner.get_name()), inner.clone()));
            }
            let path = self.directory.join(format!("{name}.1"));
            let mut page = Vec::new();
            let title: &'static str = Box::leak(name.into_boxed_str());
            clap_mangen::Man::new(command.name(title))
                .render(&mut page)
                .map_err(|error| ckpt_store::Error::io("write", &path, error))?;
            atomic::replace_text(&path, &page)?;
            out.answer(&path.display().to_string());
        }
        Ok(exit::DONE)
    }
}
