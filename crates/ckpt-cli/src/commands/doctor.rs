//! `ckpt doctor`

use std::fmt::Write as _;

use ckpt_core::verify::Expectations;
use ckpt_store::{Survey, fs, surroundings};
use clap::Args;

use super::survey;
use crate::args::Where;
use crate::config::{NAMES, Settings};
use crate::error::Result;
use crate::exit;
use crate::output::{Output, text};
use crate::report::{DoctorReport, SettingReport, TroubleReport};

/// Arguments of `ckpt doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    place: Where,
}

impl Doctor {
    pub(crate) fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        let locations = self.place.resolve(settings)?;
        let survey = survey(&locations, &Expectations::default(), settings, false)?;
        let working = settings.to(None, &locations);
        let mut existing = working.as_path();
        while fs::status(existing).is_err() && existing.parent().is_some() {
            existing =
                existing.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
        }
        // Where the system does not tell, the report says that it is unknown.
        let free_bytes = fs::free_bytes(existing).ok();
        // Plain data: it always becomes a JSON object.
        let values = serde_json::to_value(&settings.values).unwrap_or_default();
        let valid = survey.verified.iter().filter(|item| item.verdict.is_valid);
        let report = DoctorReport {
            schema: "ckpt.doctor/1",
            platform: settings.detection().platform.name(),
            platform_reason: settings.detection().reason.clone(),
            locations: locations.iter().map(ToString::to_string).collect(),
            working: working.display().to_string(),
            free_bytes,
            writable: fs::is_writable(existing),
            settings: NAMES
                .iter()
                .map(|name| SettingReport {
                    name,
                    value: values.get(name).cloned().unwrap_or_default(),
                    origin: settings.origin(name),
                })
                .collect(),
            checkpoints: survey.verified.len(),
            valid: valid.clone().count(),
            resumable: valid.filter(|item| item.inspection.class == ckpt_core::layout::Class::Resumable).count(),
            troubles: troubles(&survey, free_bytes),
        };
        if out.is_json() {
            out.document(&report);
        } else {
            out.answer(&shown(&report));
        }
        Ok(exit::DONE)
    }
}

/// The four troubles of the founding document, each looked for.
fn troubles(survey: &Survey, free_bytes: Option<u64>) -> Vec<TroubleReport> {
    let valid: Vec<_> = survey.verified.iter().filter(|item| item.verdict.is_valid).collect();
    let invalid: Vec<_> = survey.verified.iter().filter(|item| !item.verdict.is_valid).collect();
    let unreadable: Vec<String> = survey
        .places
        .iter()
        .filter_map(|place| Some(format!("{}: {}", place.path.display(), place.problem.as_ref()?)))
        .collect();
    let resumable = valid.iter().filter(|item| item.inspection.class == ckpt_core::layout::Class::Resumable).count();
    let largest = valid.iter().map(|item| item.inspection.bytes).max().unwrap_or(0);
    let reasons: Vec<String> = invalid
        .iter()
        .filter_map(|item| Some(format!("{}: {}", item.candidate.path.display(), item.verdict.reason()?.message)))
        .collect();
    let not_found = TroubleReport {
        trouble: "not_found",
        present: survey.verified.is_empty(),
        seen: match (survey.verified.len(), unreadable.is_empty()) {
            (count, true) => format!("{count} checkpoints"),
            (count, false) => format!("{count} checkpoints; not looked at: {}", unreadable.join("; ")),
        },
        remedy: "attach the dataset or notebook output that holds them (Kaggle: Add Input), keep their extension, name another \
                 place (`ckpt scan kaggle:/other/root`, `--platform`), or raise `--depth`"
            .to_owned(),
    };
    let invalid_trouble = TroubleReport {
        trouble: "invalid",
        present: !invalid.is_empty(),
        seen: if reasons.is_empty() { "none is invalid".to_owned() } else { reasons.join("; ") },
        remedy: "an older one is taken instead; download a damaged one again, or take the previous version of its dataset; \
                 `ckpt inspect PATH` tells its keys and what can be salvaged, `ckpt verify --deep PATH` checks every byte"
            .to_owned(),
    };
    let not_resuming = TroubleReport {
        trouble: "not_resuming",
        present: !valid.is_empty() && resumable == 0,
        seen: format!("{resumable} of {} valid ones hold model and optimizer state", valid.len()),
        remedy: "load what `ckpt resume` prints, and go on with the `resume_epoch` of `ckpt resume --json`; `--resumable` leaves out \
                 inference-only files; `--explain` tells why another one was taken; `ckpt inspect` shows prefixes such as `module.` \
                 that a model without that wrapper will not load"
            .to_owned(),
    };
    let disk_full = TroubleReport {
        trouble: "disk_full",
        present: free_bytes.is_some_and(|free| free < largest.saturating_mul(2)),
        seen: format!("{} free, the largest checkpoint takes {}", free_bytes.map_or_else(|| "unknown".to_owned(), text::size), text::size(largest)),
        remedy: "delete old outputs, keep fewer checkpoints, save without optimizer state in between, or resume into another place with \
                 `--to DIR`; nothing is ever copied halfway"
            .to_owned(),
    };
    vec![not_found, invalid_trouble, not_resuming, disk_full]
}

fn shown(report: &DoctorReport) -> String {
    let mut shown = String::new();
    // Writing to a string cannot fail, here and below.
    writeln!(shown, "platform     {} ({})", report.platform, report.platform_reason).ok();
    for location in &report.locations {
        writeln!(shown, "looks in     {location}").ok();
    }
    let free = report.free_bytes.map_or_else(|| "unknown space".to_owned(), text::size);
    let writable = if report.writable { "writable" } else { "NOT writable" };
    writeln!(shown, "writes to    {} ({free} free, {writable})", report.working).ok();
    writeln!(
        shown,
        "found        {} checkpoints, {} valid, {} resumable",
        report.checkpoints, report.valid, report.resumable
    )
    .ok();
    if let Some(directory) = surroundings::config_directory() {
        writeln!(shown, "user file    {}", directory.join("config.toml").display()).ok();
    }
    writeln!(shown, "\nsettings").ok();
    for setting in &report.settings {
        writeln!(shown, "  {:<11}{} ({})", setting.name, setting.value, setting.origin).ok();
    }
    for trouble in &report.troubles {
        let mark = if trouble.present { "!" } else { "-" };
        writeln!(shown, "\n{mark} {}: {}\n    {}", trouble.trouble.replace('_', " "), trouble.seen, trouble.remedy)
            .ok();
    }
    shown
}
