//! The `ckpt` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    ckpt_cli::run(std::env::args_os())
}
