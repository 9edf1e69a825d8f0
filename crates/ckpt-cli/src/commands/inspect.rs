//! `ckpt inspect`

use std::fmt::Write as _;
use std::path::PathBuf;

use ckpt_core::verify::{Expectations, Verified};
use clap::Args;

use super::one;
use crate::error::Result;
use crate::exit;
use crate::output::Output;
use crate::output::text::{self, one_line};
use crate::report::{InspectReport, timestamp};

/// Arguments of `ckpt inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Files or directories.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

impl Inspect {
    pub(crate) fn run(&self, out: &Output) -> Result<u8> {
        let mut failed = None;
        for (index, path) in self.paths.iter().enumerate() {
            let inspected = one(path)
                .map(|(candidate, inspection)| Verified::new(candidate, inspection, None, &Expectations::default()));
            match inspected {
                Ok(verified) if out.is_json() && self.paths.len() == 1 => out.document(&InspectReport::new(&verified)),
                Ok(verified) if out.is_json() => out.line(&InspectReport::new(&verified)),
                Ok(verified) => out.answer(&format!("{}{}", if index > 0 { "\n" } else { "" }, shown(&verified))),
                Err(error) if self.paths.len() == 1 => return Err(error),
                Err(error) => failed = Some(out.error(&error)),
            }
        }
        Ok(failed.map_or(exit::DONE, |_| exit::PARTIAL))
    }
}

/// One fact a line.
pub(crate) fn shown(verified: &Verified) -> String {
    let Verified { candidate, inspection, .. } = verified;
    let mut lines = vec![("path", candidate.path.display().to_string())];
    lines.push(("verdict", text::verdict(verified).to_owned()));
    lines.push(("format", format!("{}, {}", inspection.format.name(), inspection.layout.name())));
    lines.push(("size", text::size(inspection.bytes)));
    lines.extend(inspection.saved_ns.and_then(timestamp).map(|saved| ("saved", saved)));
    lines.extend(inspection.run_id.iter().map(|run| ("run", run.clone())));
    lines.extend(inspection.sequence.map(|sequence| ("commit", sequence.to_string())));
    lines.extend(inspection.epoch.map(|epoch| ("epoch", epoch.to_string())));
    lines.extend(inspection.step.map(|step| ("step", step.to_string())));
    lines.extend(inspection.resume_epoch().map(|epoch| ("next epoch", epoch.to_string())));
    for metric in &inspection.metrics {
        let direction =
            metric.direction.map(|direction| format!(", {} is better", direction.name())).unwrap_or_default();
        lines.push((
            "metric",
            format!("{} = {} (from {}{direction})", metric.name, text::number(metric.value), metric.provenance),
        ));
    }
    let tensors = &inspection.tensors;
    let dtypes: Vec<String> = tensors.dtypes.iter().map(|(dtype, count)| format!("{count} {dtype}")).collect();
    lines.push((
        "tensors",
        format!(
            "{} with {} elements, {} ({})",
            tensors.count,
            tensors.parameters,
            text::size(tensors.bytes),
            dtypes.join(", ")
        ),
    ));
    let parts = inspection.parts;
    let there: Vec<&str> = [
        (parts.model, "model"),
        (parts.optimizer, "optimizer"),
        (parts.scheduler, "scheduler"),
        (parts.scaler, "scaler"),
        (parts.rng, "rng"),
        (parts.loader, "loader"),
        (parts.history, "history"),
    ]
    .into_iter()
    .filter_map(|(is_there, name)| is_there.then_some(name))
    .collect();
    lines.push(("state", format!("{}: {}", inspection.class.name(), there.join(", "))));
    let keys: Vec<&str> = inspection.keys.iter().take(12).map(String::as_str).collect();
    let more = if inspection.keys.len() > keys.len() { ", …" } else { "" };
    lines.push(("keys", format!("{}{more}", keys.join(", "))));
    if !inspection.prefixes.is_empty() {
        lines.push(("prefixes", inspection.prefixes.join(", ")));
    }
    let suspicious: Vec<&str> = inspection
        .safety
        .globals
        .iter()
        .filter(|global| global.risk > ckpt_core::format::safety::Risk::Safe)
        .map(|global| global.name.as_str())
        .collect();
    lines.push(("safety", format!("{} {}", inspection.safety.verdict.name(), suspicious.join(", "))));
    for finding in &verified.verdict.findings {
        lines.push((finding.severity.name(), format!("{}: {}", finding.code.name(), finding.message)));
    }
    lines.push(("bytes read", inspection.bytes_read.to_string()));
    lines.into_iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string cannot fail.
        writeln!(text, "{name:<12}{}", one_line(value.trim_end())).ok();
        text
    })
}
