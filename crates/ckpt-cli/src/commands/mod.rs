//! One file for each command: its arguments, the library calls, the report.

use std::path::Path;

use ckpt_core::candidate::{Candidate, Shape, SourceKind};
use ckpt_core::inspect::{DirectoryKind, Inspection};
use ckpt_core::location::Location;
use ckpt_core::select::{Choice, Criteria, Nothing, Selection};
use ckpt_core::verify::Expectations;
use ckpt_core::{Error, ErrorKind};
use ckpt_store::inspect as inspect_store;
use ckpt_store::{Options, Survey};

use crate::args::{Command, Where, Which};
use crate::config::Settings;
use crate::error::{Failure, Result};
use crate::exit;
use crate::output::Output;
use crate::output::progress::Shown;

pub(crate) mod compact;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod doctor;
pub(crate) mod done;
pub(crate) mod fetch;
pub(crate) mod history;
pub(crate) mod inspect;
pub(crate) mod latest;
pub(crate) mod man;
pub(crate) mod pin;
pub(crate) mod preflight;
pub(crate) mod prune;
pub(crate) mod repack;
pub(crate) mod resume;
pub(crate) mod save;
pub(crate) mod scan;
pub(crate) mod select;
pub(crate) mod verify;

/// Runs a command; gives its exit code.
pub(crate) fn run(command: &Command, settings: &Settings, out: &Output) -> Result<u8> {
    match command {
        Command::Scan(command) => command.run(settings, out),
        Command::Inspect(command) => command.run(out),
        Command::Verify(command) => command.run(settings, out),
        Command::Select(command) => command.run(settings, out),
        Command::Fetch(command) => command.run(settings, out),
        Command::Resume(command) => command.run(settings, out),
        Command::Latest(command) => command.run(settings, out),
        Command::Best(command) => command.run(settings, out),
        Command::Done(command) => command.run(settings, out),
        Command::Save(command) => command.run(out),
        Command::Prune(command) => command.run(settings, out),
        Command::Pin(command) => command.run(out),
        Command::Unpin(command) => command.run(out),
        Command::Repack(command) => command.run(settings, out),
        Command::Compact(command) => command.run(settings, out),
        Command::Convert(command) => command.run(settings, out),
        Command::History(command) => command.run(settings, out),
        Command::Preflight(command) => command.run(settings, out),
        Command::Doctor(command) => command.run(settings, out),
        Command::Completions(command) => command.run(out),
        Command::Man(command) => command.run(out),
    }
}

impl Where {
    /// The locations of the command line, else of the configuration, else of the platform.
    pub(crate) fn resolve(&self, settings: &Settings) -> Result<Vec<Location>> {
        let given = if self.locations.is_empty() { &settings.values.locations } else { &self.locations };
        if given.is_empty() {
            return Ok(settings.detection().locations.clone());
        }
        given.iter().map(|text| text.parse::<Location>().map_err(Failure::from)).collect()
    }
}

impl Which {
    /// The criteria of the command line, where it is silent of the configuration.
    pub(crate) fn criteria(&self, settings: &Settings) -> Result<Criteria> {
        let values = &settings.values;
        let choice = match (self.latest, self.best.as_ref().or(values.best.as_ref())) {
            (true, _) => Choice::Latest,
            (false, Some(best)) => best.parse()?,
            (false, None) => Choice::Priority,
        };
        let kind = |text: &String| {
            text.parse::<SourceKind>()
                .map_err(|message| Failure::from(Error::new(ErrorKind::Invalid, text.clone(), message)))
        };
        Ok(Criteria {
            choice,
            names: either(&self.filter.names, &values.names)
                .iter()
                .map(|text| text.parse())
                .collect::<ckpt_core::Result<_>>()?,
            kinds: self.filter.sources.iter().map(kind).collect::<Result<_>>()?,
            conditions: either(&self.filter.conditions, &values.min)
                .iter()
                .map(|text| text.parse())
                .collect::<ckpt_core::Result<_>>()?,
            priority: either(&self.priority, &values.priority).iter().map(kind).collect::<Result<_>>()?,
        })
    }

    /// What is demanded of a checkpoint.
    pub(crate) fn expectations(&self, settings: &Settings) -> Expectations {
        Expectations {
            keys: either(&self.filter.require, &settings.values.require).clone(),
            resumable: self.filter.resumable || settings.values.resumable,
            allow_unsafe: self.filter.allow_unsafe,
        }
    }
}

fn either<'a>(flag: &'a Vec<String>, configured: &'a Vec<String>) -> &'a Vec<String> {
    if flag.is_empty() { configured } else { flag }
}

/// The one checkpoint at a path, and what it says.
pub(crate) fn one(path: &Path) -> Result<(Candidate, Inspection)> {
    let candidate = inspect_store::candidate(path)?;
    let inspection = inspect_store::inspect(&candidate)?;
    let is_unpacked = matches!(candidate.shape, Shape::Directory(DirectoryKind::Unpacked));
    let is_none = is_unpacked && inspection.findings.iter().any(|finding| finding.message == "`data.pkl` is missing");
    if is_none || inspect_store::is_no_checkpoint(&candidate, &inspection) {
        let message = format!("`{}` is a directory and not one checkpoint", path.display());
        return Err(Failure::new(ErrorKind::Invalid, message).with_hint("`ckpt scan DIR` shows the checkpoints in it"));
    }
    Ok((candidate, inspection))
}

/// scan → inspect → verify, as configured.
pub(crate) fn survey(
    locations: &[Location],
    expected: &Expectations,
    settings: &Settings,
    deep: bool,
) -> Result<Survey> {
    let options = Options { depth: settings.values.depth, cache: settings.cache(), deep };
    Ok(ckpt_store::survey(locations, expected, &options, &progress(settings))?)
}

pub(crate) fn progress(settings: &Settings) -> Shown {
    Shown::new(settings.quiet_progress)
}

/// scan → inspect → verify → select, and what there is to say about it beside the answer.
pub(crate) fn choose(
    place: &Where,
    which: &Which,
    settings: &Settings,
    out: &Output,
) -> Result<(Vec<Location>, Selection)> {
    let locations = place.resolve(settings)?;
    let (criteria, expected) = (which.criteria(settings)?, which.expectations(settings));
    let survey = survey(&locations, &expected, settings, false)?;
    for place in survey.places.iter().filter(|place| place.problem.is_some()) {
        let problem = place.problem.as_deref().unwrap_or("unreadable");
        out.note(&format!("note: `{}`: {problem}", place.path.display()));
    }
    let selection = ckpt_store::choose(survey.verified, &criteria, &expected, which.filter.deep, &progress(settings))?;
    if !out.is_json() {
        explain(&selection, which.filter.explain, out);
    }
    Ok((locations, selection))
}

fn explain(selection: &Selection, is_asked: bool, out: &Output) {
    if is_asked {
        out.note(&format!("rule: {}", selection.rule));
        for (index, (verified, outcome)) in selection.ranked.iter().zip(&selection.outcomes).enumerate() {
            let mark = if selection.taken == Some(index) { "->" } else { "  " };
            out.note(&format!("{mark} {}: {}", verified.candidate.path.display(), outcome.reason));
        }
    }
    const SHOWN: usize = 8;
    if selection.fell_back_from().count() > SHOWN {
        out.note("warning: fell back from many damaged ones; `--explain` names them all");
    }
    for damaged in selection.fell_back_from().take(SHOWN) {
        let reason = damaged.verdict.reason().map_or("damaged", |finding| finding.message.as_str());
        out.note(&format!("warning: fell back from `{}`: {reason}", damaged.candidate.path.display()));
    }
    for warning in &selection.warnings {
        out.note(&format!("warning: {warning}"));
    }
    if let Some(chosen) = selection.selected() {
        out.note(&format!("selected `{}`: {}", chosen.candidate.path.display(), selection.reason()));
    }
}

/// The failure, when nothing was selected.
pub(crate) fn nothing(selection: &Selection) -> Failure {
    let (kind, hint) = match selection.nothing() {
        Nothing::Found => {
            (ErrorKind::NotFound, "`ckpt scan` shows everything that is there, `ckpt doctor` where it looks")
        }
        Nothing::Valid => (ErrorKind::Corrupt, "`--explain` gives the reason for each; `ckpt scan` shows them all"),
        Nothing::Safe => {
            (ErrorKind::Refused, "`ckpt inspect PATH` lists what they import; `--allow-unsafe` takes them all the same")
        }
    };
    let mut failure = Failure::new(kind, selection.reason()).with_hint(hint);
    failure.exit_code = match selection.nothing() {
        Nothing::Found => exit::NOTHING_FOUND,
        Nothing::Valid => exit::NONE_VALID,
        Nothing::Safe => exit::REFUSED,
    };
    failure
}
