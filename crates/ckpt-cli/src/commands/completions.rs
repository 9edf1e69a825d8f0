//! `ckpt completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::Result;
use crate::exit;
use crate::output::Output;

/// Arguments of `ckpt completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, out: &Output) -> Result<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "ckpt", &mut script);
        out.answer(&String::from_utf8_lossy(&script));
        Ok(exit::DONE)
    }
}
