//! `ckpt save`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ckpt_core::ids::{Epoch, Step};
use ckpt_core::layout::Class;
use ckpt_core::manifest;
use ckpt_core::metric::Direction;
use ckpt_core::prune::Retention;
use ckpt_core::{Error, ErrorKind, select::Choice};
use ckpt_store::adopt::{Adoption, adopt};
use ckpt_store::load::Checkpoint;
use ckpt_store::save::{Committed, Existing, PendingSave, Policy, Saver, Tracked};
use clap::Args;

use super::prune::checked;
use crate::args::Keep;
use crate::error::{Failure, Result};
use crate::exit;
use crate::output::Output;
use crate::report::SaveReport;
use crate::signals::clean_up_when_stopped;

/// Arguments of `ckpt save`.
#[derive(Debug, Args)]
pub(crate) struct Save {
    /// Files, each adopted under its own name, and directories, with what is in them under relative names.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The directory of the run's checkpoints; made when it is not there.
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// How many optimizer steps were made; what the files tell when it is not given.
    #[arg(long, value_name = "N")]
    step: Option<u64>,
    /// The last finished epoch; what the files tell when it is not given.
    #[arg(long, value_name = "E", value_parser = epoch, allow_negative_numbers = true)]
    epoch: Option<Epoch>,
    /// A metric, with the direction that is better where its name is unusual. May be repeated. What the files tell comes
    /// along.
    #[arg(long = "metric", value_name = "NAME=VALUE[:max|:min]")]
    metrics: Vec<Given>,
    /// Point at the best by this metric alone. May be repeated; every metric of known direction when none is given.
    #[arg(long, value_name = "METRIC")]
    best: Vec<String>,
    /// The name of the run; that of the latest checkpoint in the root otherwise.
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// Whether training can go on from it: `resumable` or `inference-only`; what the files tell when it is not given.
    #[arg(long, value_name = "CLASS", value_parser = class)]
    class: Option<Class>,
    /// Put it in the place of the one that was saved for this step.
    #[arg(long)]
    replace: bool,
    /// Move the files: they lose their old names after the commit, and nothing is copied within one file system.
    #[arg(long = "move")]
    is_move: bool,
    /// Also files that would run dangerous code when loaded.
    #[arg(long)]
    allow_unsafe: bool,
    #[command(flatten)]
    keep: Keep,
}

/// A metric as the command line says it.
#[derive(Clone, Debug, PartialEq)]
struct Given {
    name: String,
    value: f64,
    direction: Option<Direction>,
}

impl FromStr for Given {
    type Err = Error;

    fn from_str(text: &str) -> std::result::Result<Self, Error> {
        let wrong = || Error::new(ErrorKind::Invalid, text, "not a metric such as accuracy=0.875 or energy=-3.5:min:");
        let (name, value) = text.rsplit_once('=').ok_or_else(wrong)?;
        let Choice::Best { metric: value, direction } = value.parse()? else { return Err(wrong()) };
        let value = value.trim().parse().map_err(|_| wrong())?;
        let name = name.trim().to_owned();
        if name.is_empty() { Err(wrong()) } else { Ok(Self { name, value, direction }) }
    }
}

fn epoch(text: &str) -> std::result::Result<Epoch, String> {
    text.parse().ok().and_then(Epoch::new).ok_or_else(|| "an epoch is a number".to_owned())
}

fn class(text: &str) -> std::result::Result<Class, String> {
    let known = [Class::Resumable, Class::InferenceOnly];
    known.into_iter().find(|class| class.name() == text).ok_or_else(|| "`resumable` or `inference-only`".to_owned())
}

impl Save {
    pub(crate) fn run(&self, out: &Output) -> Result<u8> {
        clean_up_when_stopped();
        let retention = self.keep.retention();
        // Rules that contradict themselves are told before anything is saved.
        checked(&retention)?;
        self.no_metric_twice()?;
        let adoption = adopt(&self.files, &self.root, self.allow_unsafe).map_err(unadopted)?;
        if self.is_move && adoption.is_committed {
            let message = "the files of a committed checkpoint cannot be moved: it would be damaged";
            return Err(Failure::new(ErrorKind::Invalid, message).with_hint("without `--move` they are copied"));
        }
        for path in &adoption.unread {
            out.note(&format!("note: `{}` is adopted unread: nothing here understands it", path.display()));
        }
        for path in &adoption.dangling {
            out.note(&format!("note: `{}` is a link to nowhere and is left out", path.display()));
        }
        if !adoption.is_recognised() && self.class.is_none() {
            return Err(Failure::new(ErrorKind::Invalid, "none of the files is a checkpoint of a known format")
                .with_hint("`--class resumable` or `--class inference-only` says that they are one all the same"));
        }
        let mut taken = Vec::new();
        let step = self.step(&adoption, &mut taken)?;
        self.known_best(&adoption)?;
        let saver = Saver::open(&self.root, self.policy()).map_err(explained)?;
        let mut pending = saver.begin(step).map_err(explained)?;
        self.describe(&mut pending, &adoption, &mut taken)?;
        adoption.add_to(&mut pending, self.is_move).map_err(explained)?;
        for fact in &taken {
            out.note(&format!("note: {fact}, as the files tell"));
        }
        let committed = pending.commit().map_err(explained)?;
        self.tell(&saver, (&committed, &adoption), taken, out)
    }

    fn policy(&self) -> Policy {
        Policy {
            run_id: self.run.clone(),
            best: if self.best.is_empty() { Tracked::Every } else { Tracked::Only(self.best.clone()) },
            existing: if self.replace { Existing::Replace } else { Existing::Refuse },
            ..Policy::default()
        }
    }

    fn no_metric_twice(&self) -> Result<()> {
        for (index, metric) in self.metrics.iter().enumerate() {
            if self.metrics[..index].iter().any(|before| before.name == metric.name) {
                return Err(Failure::new(ErrorKind::Invalid, format!("the metric `{}` is given twice", metric.name)));
            }
        }
        Ok(())
    }

    /// A mistyped metric would point at nothing, and retention would let the best one go.
    fn known_best(&self, adoption: &Adoption) -> Result<()> {
        let given = self.metrics.iter().map(|metric| metric.name.as_str());
        let recorded: BTreeSet<&str> =
            given.chain(adoption.metrics().iter().map(|metric| metric.name.as_str())).collect();
        let is_pointed_at = |metric: &str| {
            manifest::best_name(metric).is_some_and(|name| self.root.join(format!("{name}.json")).exists())
        };
        // Evaluation may come later, or not at every save.
        let is_known = |metric: &str| recorded.is_empty() || recorded.contains(metric) || is_pointed_at(metric);
        let Some(unknown) = self.best.iter().find(|metric| !is_known(metric)) else { return Ok(()) };
        let names = recorded.into_iter().collect::<Vec<_>>().join("`, `");
        Err(Failure::new(ErrorKind::Invalid, format!("`--best {unknown}`: no such metric is recorded"))
            .with_hint(format!("recorded are `{names}`; `--metric {unknown}=VALUE` records it")))
    }

    fn step(&self, adoption: &Adoption, taken: &mut Vec<String>) -> Result<Step> {
        if let Some(step) = self.step {
            return Ok(Step(step));
        }
        let hinted = |failure: Failure| failure.with_hint("`--step N` says how many optimizer steps were made");
        if let Some(step) = adoption.step().map_err(|error| hinted(error.into()))? {
            taken.push(format!("step {step}"));
            return Ok(step);
        }
        let failure = Failure::new(ErrorKind::Invalid, "no file tells its step");
        Err(match self.epoch.or(adoption.epoch().ok().flatten()).and_then(Epoch::whole) {
            Some(epoch) => failure.with_hint(format!("`--step {epoch}` counts epochs, where steps are not counted")),
            None => hinted(failure),
        })
    }

    /// Says what is known about the checkpoint: what was given, and else what the files tell.
    fn describe(&self, pending: &mut PendingSave<'_, '_>, adoption: &Adoption, taken: &mut Vec<String>) -> Result<()> {
        let epoch = match self.epoch {
            Some(epoch) => Some(epoch),
            None => {
                let told = adoption.epoch().map_err(|error| {
                    Failure::from(error).with_hint("`--epoch E` says which epoch was finished last")
                })?;
                taken.extend(told.map(|epoch| format!("epoch {epoch}")));
                told
            }
        };
        if let Some(epoch) = epoch {
            pending.epoch(epoch);
        }
        for metric in &self.metrics {
            pending.metric(&metric.name, metric.value, metric.direction)?;
        }
        let is_given = |name: &str| self.metrics.iter().any(|given| given.name == name);
        for metric in adoption.metrics().into_iter().filter(|metric| !is_given(&metric.name)) {
            // A name that no pointer can have is nothing to fail for.
            if pending.metric(&metric.name, metric.value, metric.direction).is_ok() {
                taken.push(format!("{}={}", metric.name, metric.value));
            }
        }
        let class = self.class.or_else(|| adoption.class().inspect(|class| taken.push(class.name().to_owned())));
        if let Some(class) = class {
            pending.class(class);
        }
        Ok(())
    }

    /// Gives the path, and lets go what the rules do not keep. The checkpoint is saved, whatever fails here.
    fn tell(
        &self,
        saver: &Saver,
        (committed, adoption): (&Committed, &Adoption),
        taken: Vec<String>,
        out: &Output,
    ) -> Result<u8> {
        let checkpoint = Checkpoint::open(&committed.path)?;
        let retention = self.keep.retention();
        let pruned = if retention == Retention::default() { Ok(Vec::new()) } else { saver.prune(&retention) };
        let mut report = SaveReport::new(committed, checkpoint.manifest(), adoption, taken);
        report.removed = pruned.as_ref().map(Clone::clone).unwrap_or_default();
        if out.is_json() {
            out.document(&report);
        } else {
            if !committed.best_by.is_empty() {
                out.note(&format!("the best so far by {}", committed.best_by.join(", ")));
            }
            for name in &report.removed {
                out.note(&format!("removed `{name}`"));
            }
            out.answer(&report.path);
        }
        match pruned {
            Ok(_) => Ok(exit::DONE),
            Err(error) => {
                out.error(&Failure::from(error).with_hint("it is saved; `ckpt prune` shows what the rules do"));
                Ok(exit::PARTIAL)
            }
        }
    }
}

/// What failed while files were looked at, and what to do about it.
fn unadopted(error: ckpt_store::Error) -> Failure {
    let is_manifest = Path::new(error.subject()).ends_with(manifest::FILE_NAME);
    let hint = match error.kind() {
        ErrorKind::NotFound => "check the path: what is to be saved must be there",
        ErrorKind::Invalid if is_manifest => "rename it, or pass the files of the directory one by one",
        ErrorKind::Invalid => {
            "FILE is one checkpoint: a file, or a directory without others; `--root` is a directory beside it"
        }
        _ => return explained(error),
    };
    Failure::from(error).with_hint(hint)
}

fn explained(error: ckpt_store::Error) -> Failure {
    let failure = Failure::from(error);
    let hint = match failure.kind {
        ErrorKind::AlreadyExists => "`--replace` puts the new one in its place",
        ErrorKind::Corrupt => "`ckpt inspect FILE` tells what can still be read from it; save it again",
        ErrorKind::Incomplete => "name a directory that holds all of it; `ckpt inspect` tells what belongs to it",
        ErrorKind::Refused => "`ckpt inspect FILE` lists what it imports; `--allow-unsafe` adopts it all the same",
        ErrorKind::NoSpace => "free some space, or save elsewhere; `ckpt prune` shows what may go",
        _ => return failure,
    };
    failure.with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_has_a_name_a_value_and_perhaps_a_direction() {
        let parsed = |text: &str| text.parse::<Given>().ok().map(|given| (given.name, given.value, given.direction));
        assert_eq!(parsed("accuracy=0.5"), Some(("accuracy".to_owned(), 0.5, None)));
        assert_eq!(parsed("energy=-3.5:min"), Some(("energy".to_owned(), -3.5, Some(Direction::Min))));
        assert_eq!(parsed("a=b=1e-3:max"), Some(("a=b".to_owned(), 1e-3, Some(Direction::Max))));
        assert!(parsed("loss=nan").is_some_and(|(_, value, _)| value.is_nan()));
        for text in ["accuracy", "=1", "accuracy=", "accuracy=high", "accuracy=1:up", "accuracy:max=1x"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
