//! The command line of `ckpt`: arguments in, library calls, reports out.
//!
//! `stdout` is the answer, `stderr` is everything else. Exit codes are fixed and listed in [`exit`].

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

mod args;
mod commands;
mod config;
mod error;
pub mod exit;
mod output;
pub mod report;
mod signals;

pub use args::Cli;

/// Runs one command line and gives its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error),
    };
    output::start_log(&cli.global);
    let out = output::Output::new(&cli.global);
    let result = config::Settings::load(&cli.global).and_then(|settings| commands::run(&cli.command, &settings, &out));
    let code = match result {
        Ok(code) => code,
        Err(error) => out.error(&error),
    };
    ExitCode::from(code)
}
