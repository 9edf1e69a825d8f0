//! `ckpt verify`

use std::path::PathBuf;

use ckpt_core::verify::{Expectations, Verified};
use ckpt_store::{inspect, verify};
use clap::Args;

use super::progress;
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
        for path in &self.paths {
            let candidate = inspect::candidate(path)?;
            let inspection = inspect::inspect(&candidate)?;
            let deep = if self.deep { Some(verify::deep(&candidate)?) } else { None };
            verified.push(Verified::new(candidate, inspection, deep, &expected));
            shown.advance(1);
        }
        shown.end();
        let valid = verified.iter().filter(|verified| verified.verdict.is_valid).count();
        if out.is_json() {
            let checkpoints = verified.iter().map(InspectReport::new).collect();
            out.document(&VerifyReport {
                schema: "ckpt.verify/1",
                deep: self.deep,
                valid: valid == verified.len(),
                checkpoints,
            });
        } else {
            for item in &verified {
                out.answer(&format!("{}\t{}", text::verdict(item), item.candidate.path.display()));
                for finding in &item.verdict.findings {
                    out.answer(&format!("\t{} {}: {}", finding.severity.name(), finding.code.name(), finding.message));
                }
            }
        }
        Ok(match valid {
            _ if valid == verified.len() => exit::DONE,
            0 if verified.iter().all(|item| item.verdict.is_only_unsafe()) => exit::REFUSED,
            0 => exit::NONE_VALID,
            _ => exit::PARTIAL,
        })
    }
}
