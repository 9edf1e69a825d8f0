//! `ckpt history`

use std::path::PathBuf;

use ckpt_core::candidate::SourceKind;
use ckpt_core::history::{self, Merged, ResumePoint, Source};
use ckpt_core::ids::Epoch;
use ckpt_core::select::NamePattern;
use ckpt_core::{Error, ErrorKind};
use ckpt_store::history::{NAMES, find, read};
use ckpt_store::{atomic, inspect};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use crate::args::Where;
use crate::config::Settings;
use crate::error::{Failure, Result};
use crate::exit;
use crate::output::Output;
use crate::report::HistoryReport;

/// Commands about histories.
#[derive(Debug, Subcommand)]
pub(crate) enum History {
    /// Join the histories of all sources into one, without the records of abandoned branches.
    Merge(Merge),
}

/// How to write the merged history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// One JSON list.
    #[default]
    Json,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values.
    Csv,
}

/// Arguments of `ckpt history merge`.
#[derive(Debug, Args)]
pub(crate) struct Merge {
    #[command(flatten)]
    place: Where,
    /// Only files of this name; `*` and `?` are wildcards. May be repeated. The usual names of histories if not given.
    #[arg(long = "name", value_name = "GLOB")]
    names: Vec<String>,
    /// Training resumes after this epoch: what was recorded later belongs to an abandoned branch and is left out.
    #[arg(long, value_name = "EPOCH", conflicts_with = "cut_at_checkpoint")]
    cut_at: Option<f64>,
    /// Training resumes from this checkpoint: what was recorded after its epoch or step is left out.
    #[arg(long, value_name = "PATH")]
    cut_at_checkpoint: Option<PathBuf>,
    /// Take a history that begins late as that of a run that was resumed from the epoch before, and leave out what
    /// other sources recorded after that epoch.
    #[arg(long)]
    lineage: bool,
    /// How to write it.
    #[arg(long, value_enum, default_value_t)]
    format: Form,
    /// Write it to this file instead of printing it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl History {
    pub(crate) fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        match self {
            Self::Merge(merge) => merge.run(settings, out),
        }
    }
}

impl Merge {
    fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        let locations = self.place.resolve(settings)?;
        let names: Vec<&str> =
            if self.names.is_empty() { NAMES.to_vec() } else { self.names.iter().map(String::as_str).collect() };
        let patterns = names.iter().map(|text| text.parse::<NamePattern>()).collect::<ckpt_core::Result<Vec<_>>>()?;
        let found = find(&locations, &patterns, settings.values.depth);
        if found.is_empty() {
            return Err(Failure::new(ErrorKind::NotFound, format!("no history named {} was found", names.join(", ")))
                .with_hint("`--name GLOB` names the files; locations may be files too"));
        }
        let mut warnings = Vec::new();
        let mut sources = Vec::new();
        let total = found.len();
        for (order, file) in found.into_iter().enumerate() {
            let label = file.path.display().to_string();
            match read(&file.path) {
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                    warnings.push(format!("{error}{cause}"));
                }
                Ok(history) => {
                    warnings.extend(history.warnings().iter().map(|warning| format!("{label}: {warning}")));
                    let kind = SourceKind::ALL
                        .iter()
                        .position(|kind| *kind == file.source.kind)
                        .unwrap_or(SourceKind::ALL.len());
                    let priority = u32::try_from(kind * total + order).unwrap_or(u32::MAX);
                    let resumed_at = history.implied_resume().filter(|_| self.lineage);
                    sources.push(Source { resumed_at, ..Source::new(label, priority, history) });
                }
            }
        }
        let code = if sources.is_empty() {
            exit::NONE_VALID
        } else if sources.len() < total {
            exit::PARTIAL
        } else {
            exit::DONE
        };
        let merged = history::merge(sources, self.cut()?);
        self.print(&merged, warnings, out)?;
        Ok(code)
    }

    fn cut(&self) -> Result<Option<ResumePoint>> {
        if let Some(epoch) = self.cut_at {
            let epoch =
                Epoch::new(epoch).ok_or_else(|| Error::new(ErrorKind::Invalid, epoch.to_string(), "not an epoch:"))?;
            return Ok(Some(ResumePoint::of_epoch(epoch)));
        }
        let Some(path) = &self.cut_at_checkpoint else { return Ok(None) };
        let inspection = inspect::inspect(&inspect::candidate(path)?)?;
        if inspection.epoch.is_none() && inspection.step.is_none() {
            let subject = path.display().to_string();
            return Err(Error::new(ErrorKind::Invalid, subject, "neither epoch nor step is told by").into());
        }
        Ok(Some(ResumePoint { epoch: inspection.epoch, step: inspection.step }))
    }

    fn print(&self, merged: &Merged, warnings: Vec<String>, out: &Output) -> Result<()> {
        let text = match self.format {
            Form::Json => history::to_json(merged.records()),
            Form::Jsonl => history::to_json_lines(merged.records()),
            Form::Csv => history::to_csv(merged.records()),
        };
        if let Some(path) = &self.out {
            atomic::replace_text(path, text.as_bytes())?;
        }
        if out.is_json() {
            out.document(&HistoryReport {
                schema: "ckpt.history/1",
                records: merged.records().map(|record| serde_json::to_value(record).unwrap_or(Value::Null)).collect(),
                sources: merged.entries.iter().map(|entry| entry.source.to_string()).collect(),
                gaps: merged.gaps.clone(),
                duplicates: merged.duplicates,
                cut: merged.cut,
                conflicts: merged.conflicts.len(),
                warnings,
            });
            return Ok(());
        }
        for warning in &warnings {
            out.note(&format!("warning: {warning}"));
        }
        for (first, last) in &merged.gaps {
            out.note(&format!("warning: no record of the epochs {first} to {last}"));
        }
        out.note(&format!(
            "{} records; {} dropped as known from a source of higher priority, {} as later than a resume point",
            merged.entries.len(),
            merged.duplicates,
            merged.cut
        ));
        match &self.out {
            Some(path) => out.answer(&path.display().to_string()),
            None => out.answer(&text),
        }
        Ok(())
    }
}
