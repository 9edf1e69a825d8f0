//! `ckpt verify`

use std::path::{Path, PathBuf};

use ckpt_core::verify::{Expectations, Verified};
use ckpt_store::verify;
use clap::Args;

use super::{one, progress};
use crate::config::Settings;
use crate::error::Result;
use crate::exit;
use crate::output::{Output, text};
use crate::report::{InspectReport, VerifyReport};
use ckpt_core::progress::{Progress, Unit};

/// Arguments of `ckpt verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Files or directories.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Read every byte: compare every checksum, and look for NaN and infinities.
    #[arg(long)]
    deep: bool,
    /// A top-level key that must be there. May be repeated.
    #[arg(long = "require", value_name = "KEY")]
    require: Vec<String>,
    /// Training must be able to go on from it.
    #[arg(long, visible_alias = "require-resumable")]
    resumable: bool,
    /// Dangerous imports are accepted.
    #[arg(long)]
    allow_unsafe: bool,
}

impl Verify {
    pub(crate) fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        let expected =
            Expectations { keys: self.require.clone(), resumable: self.resumable, allow_unsafe: self.allow_unsafe };
        let shown = progress(settings);
        shown.begin("verifying", self.paths.len() as u64, Unit::Items);
        let mut verified = Vec::with_capacity(self.paths.len());
        let mut failed = 0;
        for path in &self.paths {
            match self.judged(path, &expected) {
                Ok(judged) => verified.push(judged),
                Err(error) if self.paths.len() == 1 => return Err(error),
                Err(error) => {
                    out.error(&error);
                    failed += 1;
                }
            }
            shown.advance(1);
        }
        shown.end();
        let valid = verified.iter().filter(|verified| verified.verdict.is_valid).count();
        if out.is_json() {
            let checkpoints = verified.iter().map(InspectReport::new).collect();
            out.document(&VerifyReport {
                schema: "ckpt.verify/1",
                deep: self.deep,
                valid: failed == 0 && valid == verified.len(),
                checkpoints,
            });
        } else {
            for item in &verified {
                out.answer(&format!(
                    "{}\t{}",
                    text::verdict(item),
                    text::one_line(&item.candidate.path.display().to_string())
                ));
                for finding in &item.verdict.findings {
                    out.answer(&format!(
                        "\t{} {}: {}",
                        finding.severity.name(),
                        finding.code.name(),
                        text::one_line(&finding.message)
                    ));
                }
            }
        }
        Ok(match valid {
            _ if failed > 0 => exit::PARTIAL,
            _ if valid == verified.len() => exit::DONE,
            0 if verified.iter().all(|item| item.verdict.is_only_unsafe()) => exit::REFUSED,
            0 => exit::NONE_VALID,
            _ => exit::PARTIAL,
        })
    }

    fn judged(&self, path: &Path, expected: &Expectations) -> Result<Verified> {
        let (candidate, inspection) = one(path)?;
        let deep = if self.deep { Some(verify::deep(&candidate)?) } else { None };
        Ok(Verified::new(candidate, inspection, deep, expected))
    }
}
