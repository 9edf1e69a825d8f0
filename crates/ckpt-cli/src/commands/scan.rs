//! `ckpt scan`

use std::fmt::Write as _;

use ckpt_core::candidate::SourceKind;
use ckpt_core::verify::{Expectations, Verified};
use ckpt_store::Survey;
use clap::Args;

use super::survey;
use crate::args::Where;
use crate::config::Settings;
use crate::error::Result;
use crate::exit;
use crate::output::{Output, text};
use crate::report::ScanReport;

/// Arguments of `ckpt scan`.
#[derive(Debug, Args)]
pub(crate) struct Scan {
    #[command(flatten)]
    place: Where,
    /// Only the valid ones.
    #[arg(long)]
    valid: bool,
    /// Check every byte of every checkpoint.
    #[arg(long)]
    deep: bool,
}

impl Scan {
    pub(crate) fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        let locations = self.place.resolve(settings)?;
        let mut survey = survey(&locations, &Expectations::default(), settings, self.deep)?;
        if self.valid {
            survey.verified.retain(|verified| verified.verdict.is_valid);
        }
        if out.is_json() {
            out.document(&ScanReport::new(&survey.places, &survey.verified));
        } else if out.is_terminal() {
            out.answer(&grouped(&survey));
        } else {
            for place in survey.places.iter().filter(|place| place.problem.is_some()) {
                out.note(&format!(
                    "note: `{}`: {}",
                    place.path.display(),
                    place.problem.as_deref().unwrap_or_default()
                ));
            }
            out.answer(&text::tab_separated(&rows(&survey)));
        }
        Ok(exit::DONE)
    }
}

fn note(verified: &Verified) -> String {
    match verified.verdict.reason().or_else(|| verified.verdict.findings.first()) {
        Some(finding) => text::one_line(&format!("{}: {}", finding.code.name(), finding.message)),
        None => String::new(),
    }
}

fn rows(survey: &Survey) -> Vec<Vec<String>> {
    let header = ["verdict", "kind", "path", "bytes", "epoch", "step", "metrics", "class", "note"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(survey.verified.iter().map(|verified| {
        let inspection = &verified.inspection;
        let metrics: Vec<String> =
            inspection.metrics.iter().map(|metric| format!("{}={}", metric.name, text::number(metric.value))).collect();
        vec![
            text::verdict(verified).to_owned(),
            verified.candidate.source.kind.name().to_owned(),
            verified.candidate.path.display().to_string(),
            inspection.bytes.to_string(),
            inspection.epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
            inspection.step.map(|step| step.to_string()).unwrap_or_default(),
            metrics.join(","),
            inspection.class.name().to_owned(),
            note(verified),
        ]
    }));
    rows
}

/// By kind of source, then by directory, as a person looks for it.
pub(crate) fn grouped(survey: &Survey) -> String {
    let mut shown = String::new();
    for kind in SourceKind::ALL {
        let places: Vec<_> = survey.places.iter().filter(|place| place.kind == kind).collect();
        let mut lines = String::new();
        for place in places {
            let inside: Vec<&Verified> = survey
                .verified
                .iter()
                .filter(|verified| {
                    verified.candidate.source.kind == kind && verified.candidate.path.parent() == Some(&place.path)
                })
                .collect();
            if inside.is_empty() && place.problem.is_none() {
                continue;
            }
            // Writing to a string cannot fail, here and below.
            writeln!(lines, "  {}", text::one_line(&place.path.display().to_string())).ok();
            if let Some(problem) = &place.problem {
                writeln!(lines, "    ! {problem}").ok();
            }
            for verified in inside {
                let name = text::one_line(&verified.candidate.name());
                let size = text::size(verified.inspection.bytes);
                writeln!(lines, "    {:<8}{name} ({size})", text::verdict(verified)).ok();
                writeln!(
                    lines,
                    "            {}, {}",
                    text::facts(&verified.inspection),
                    verified.inspection.class.name()
                )
                .ok();
                let note = note(verified);
                if !note.is_empty() {
                    writeln!(lines, "            {note}").ok();
                }
            }
        }
        if !lines.is_empty() {
            writeln!(shown, "{}\n{lines}", kind.name().replace('_', " ").to_uppercase()).ok();
        }
    }
    if shown.is_empty() {
        shown.push_str("no checkpoint and no problem in any location\n");
    }
    shown
}
