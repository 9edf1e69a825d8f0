//! `ckpt pin` and `ckpt unpin`

use std::path::{Path, PathBuf};

use ckpt_store::pins;
use clap::Args;

use super::one;
use crate::error::{Failure, Result};
use crate::exit;
use crate::output::Output;
use crate::report::{PinReport, PinnedReport};

/// Arguments of `ckpt pin`.
#[derive(Debug, Args)]
pub(crate) struct Pin {
    /// Checkpoints: files or directories. A link such as `latest` stands for what it names now.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Why, for whoever wonders later.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Arguments of `ckpt unpin`.
#[derive(Debug, Args)]
pub(crate) struct Unpin {
    /// Checkpoints: files or directories.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

impl Pin {
    pub(crate) fn run(&self, out: &Output) -> Result<u8> {
        let pin = |path: &Path| {
            // A pin on what is no checkpoint would keep nothing.
            one(path)?;
            Ok(PinnedReport::new(&pins::pin(path, &self.reason)?, true))
        };
        each(&self.paths, "ckpt.pin/1", pin, out)
    }
}

impl Unpin {
    pub(crate) fn run(&self, out: &Output) -> Result<u8> {
        let unpin = |path: &Path| {
            let (path, was_pinned) = pins::unpin(path)?;
            if !was_pinned {
                out.note(&format!("note: `{}` was not pinned", path.display()));
            }
            Ok(PinnedReport::new(&path, false))
        };
        each(&self.paths, "ckpt.unpin/1", unpin, out)
    }
}

/// Does it for every path, and goes on when one fails.
fn each(
    paths: &[PathBuf],
    schema: &'static str,
    act: impl Fn(&Path) -> Result<PinnedReport>,
    out: &Output,
) -> Result<u8> {
    let (mut checkpoints, mut failures) = (Vec::new(), Vec::<Failure>::new());
    for path in paths {
        match act(path) {
            Ok(done) => checkpoints.push(done),
            Err(error) if paths.len() == 1 => return Err(error),
            Err(error) => failures.push(error),
        }
    }
    if out.is_json() {
        out.document(&PinReport { schema, checkpoints });
    } else {
        checkpoints.iter().for_each(|checkpoint| out.answer(&checkpoint.path));
    }
    for failure in &failures {
        out.error(failure);
    }
    Ok(if failures.is_empty() { exit::DONE } else { exit::PARTIAL })
}
