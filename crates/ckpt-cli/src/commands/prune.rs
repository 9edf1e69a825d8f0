//! `ckpt prune`

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use ckpt_core::ErrorKind;
use ckpt_core::candidate::file_name;
use ckpt_core::prune::{Action, Planned, Retention};
use ckpt_core::select::NamePattern;
use ckpt_core::verify::Expectations;
use ckpt_store::Survey;
use ckpt_store::prune::{self, Pruned, Pruning, Rules};
use clap::Args;

use super::{progress, survey};
use crate::args::{Keep, Where};
use crate::config::Settings;
use crate::error::{Failure, Result};
use crate::exit;
use crate::output::{Output, text};
use crate::report::PruneReport;

/// Arguments of `ckpt prune`.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Where: directories, or `kaggle:`. None is taken from the configuration.
    #[arg(value_name = "LOCATION", required = true)]
    locations: Vec<String>,
    #[command(flatten)]
    keep: Keep,
    /// Only files of this name; `*` and `?` are wildcards. May be repeated. Files whose names tell neither step nor epoch, as
    /// `best.pt`, go only when they are named.
    #[arg(long = "name", value_name = "GLOB")]
    names: Vec<NamePattern>,
    /// Delete what the plan says. Without it nothing is deleted.
    #[arg(short = 'y', long)]
    apply: bool,
}

impl Prune {
    pub(crate) fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        let retention = self.keep.retention();
        if retention == Retention::default() {
            return Err(Failure::new(ErrorKind::Invalid, "no rule says what to keep").with_hint(
                "`ckpt prune LOCATION --keep-last 3 --keep-best accuracy=2` shows what would go; see `ckpt prune --help`",
            ));
        }
        checked(&retention)?;
        let locations = Where { locations: self.locations.clone() }.resolve(settings)?;
        let mut survey = survey(&locations, &Expectations::default(), settings, false)?;
        notes(&survey, out);
        let is_missing = |place: &ckpt_store::scan::Place| place.problem.is_some() && !place.path.exists();
        if survey.verified.is_empty() && survey.places.iter().any(is_missing) {
            return Err(Failure::new(ErrorKind::NotFound, "no checkpoint in any location, and not every one exists"));
        }
        let rules = Rules { retention: &retention, names: &self.names, now_ns: prune::now_ns() };
        let prunings = prune::plan_checked(&mut survey.verified, &rules, &progress(settings)).map_err(|error| {
            let failure = Failure::from(error);
            match failure.kind {
                ErrorKind::Invalid => {
                    failure.with_hint("`ckpt scan LOCATION` shows the checkpoints with their metrics")
                }
                _ => failure,
            }
        })?;
        let (mut done, mut failures) = (Vec::new(), Vec::new());
        if self.apply {
            for pruning in &prunings {
                match prune::apply(pruning) {
                    Ok(pruned) => done.push(pruned),
                    Err(error) => failures.push(Failure::from(error)),
                }
            }
        }
        if out.is_json() {
            out.document(&PruneReport::new(&prunings, &done, self.apply));
        } else {
            out.answer(&if out.is_terminal() { shown(&prunings) } else { text::tab_separated(&rows(&prunings)) });
        }
        self.tell(&prunings, &done, out);
        failures.extend(done.into_iter().flat_map(|pruned| pruned.failed).map(|(_, error)| Failure::from(error)));
        for failure in &failures {
            out.error(failure);
        }
        Ok(if failures.is_empty() { exit::DONE } else { exit::PARTIAL })
    }

    /// What there is to say beside the plan.
    fn tell(&self, prunings: &[Pruning], done: &[Pruned], out: &Output) {
        for pruning in prunings {
            for warning in &pruning.plan.warnings {
                out.note(&format!("warning: `{}`: {warning}", pruning.directory.display()));
            }
        }
        let going = prunings.iter().map(|pruning| pruning.plan.dropped().count()).sum::<usize>();
        let staying = prunings.iter().map(|pruning| pruning.plan.kept().count()).sum::<usize>();
        let kept = text::size(sum(prunings.iter().map(|pruning| pruning.plan.kept_bytes())));
        let freed = text::size(sum(prunings.iter().map(|pruning| pruning.plan.freed_bytes())));
        if self.apply {
            let removed = done.iter().map(|pruned| pruned.removed.len()).sum::<usize>();
            let freed = text::size(sum(done.iter().map(|pruned| pruned.bytes)));
            out.note(&format!("deleted {removed} of {going}, {freed}; {staying} stay, {kept}"));
        } else if going == 0 {
            out.note(&format!("nothing would go; {staying} stay, {kept}"));
        } else {
            out.note(&format!(
                "{going} would go, {freed}; {staying} stay, {kept}; `--apply` deletes what the plan drops"
            ));
        }
    }
}

/// Tells of rules that contradict themselves by the names of their options.
pub(crate) fn checked(retention: &Retention) -> Result<()> {
    let Err(error) = ckpt_core::prune::plan(Vec::new(), retention, 0) else { return Ok(()) };
    let mut failure = Failure::from(error);
    for rule in ["keep_last", "keep_every", "keep_best", "keep_within", "max_bytes"] {
        let option = format!("`--{}`", rule.replace('_', "-"));
        failure.message = failure.message.replace(&format!("`{rule}`"), &option);
    }
    Err(failure)
}

fn sum(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

/// What was not looked at, and what is left out.
fn notes(survey: &Survey, out: &Output) {
    for place in survey.places.iter().filter(|place| place.problem.is_some()) {
        out.note(&format!("note: `{}`: {}", place.path.display(), place.problem.as_deref().unwrap_or_default()));
    }
    let read_only: BTreeSet<Option<&Path>> = survey
        .verified
        .iter()
        .filter(|verified| verified.candidate.source.is_read_only)
        .map(|verified| verified.candidate.path.parent())
        .collect();
    for place in read_only.into_iter().flatten() {
        out.note(&format!("note: `{}` cannot be written to: what lies there is left out", place.display()));
    }
}

fn action(planned: &Planned) -> &'static str {
    match planned.action {
        Action::Keep => "keep",
        Action::Drop => "drop",
    }
}

fn rows(prunings: &[Pruning]) -> Vec<Vec<String>> {
    let header = ["action", "path", "step", "epoch", "bytes", "reasons"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let items = prunings.iter().flat_map(|pruning| &pruning.plan.items);
    rows.extend(items.map(|planned| {
        let item = &planned.item;
        vec![
            action(planned).to_owned(),
            item.name.clone(),
            item.step.map(|step| step.to_string()).unwrap_or_default(),
            item.epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
            item.bytes.to_string(),
            planned.reasons.join("; "),
        ]
    }));
    rows
}

/// By directory, for a person.
fn shown(prunings: &[Pruning]) -> String {
    let mut shown = String::new();
    for pruning in prunings {
        // Writing to a string cannot fail, here and below.
        writeln!(shown, "{}", text::one_line(&pruning.directory.display().to_string())).ok();
        for planned in &pruning.plan.items {
            let item = &planned.item;
            let mut facts = vec![text::size(item.bytes)];
            facts.extend(item.step.map(|step| format!("step {step}")));
            facts.extend(item.epoch.map(|epoch| format!("epoch {epoch}")));
            let (name, reasons) = (file_name(item.name.as_ref()), planned.reasons.join("; "));
            let line = format!("{}  {name} ({}): {reasons}", action(planned), facts.join(", "));
            writeln!(shown, "  {}", text::one_line(&line)).ok();
        }
    }
    if shown.is_empty() {
        shown.push_str("no checkpoint in any location\n");
    }
    shown
}
