//! `ckpt compact`

use std::path::{Path, PathBuf};

use ckpt_core::candidate::file_name;
use ckpt_core::shrink::Choice;
use ckpt_core::{ErrorKind, name};
use ckpt_store::load::Checkpoint;
use ckpt_store::shrink::{self, Options, Outcome};
use clap::Args;

use super::progress;
use crate::config::Settings;
use crate::error::{Failure, Result};
use crate::exit;
use crate::output::{Output, text};
use crate::report::ShrinkReport;
use crate::signals::clean_up_when_stopped;

/// Arguments of `ckpt compact`.
#[derive(Debug, Args)]
pub(crate) struct Compact {
    #[command(flatten)]
    files: Files,
}

/// What to read and what to write, here and in `ckpt convert`.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// The checkpoint: a file of torch.save, or of safetensors.
    #[arg(value_name = "IN")]
    pub(crate) from: PathBuf,
    /// The file to write.
    #[arg(value_name = "OUT")]
    pub(crate) to: PathBuf,
    /// Into a .safetensors: the weights under this key instead of the model's; dots lead further down.
    #[arg(long, value_name = "KEY", conflicts_with = "all")]
    key: Option<String>,
    /// Into a .safetensors: every tensor, each under its whole path.
    #[arg(long)]
    all: bool,
    /// Replace the file that is at OUT.
    #[arg(long)]
    force: bool,
}

impl Files {
    pub(crate) fn options(&self, is_compact: bool) -> Options {
        let choice = match &self.key {
            Some(key) => Choice::Key(key.clone()),
            None if self.all => Choice::All { is_compact },
            None => Choice::Model,
        };
        Options { choice, force: self.force }
    }

    /// The file to read: of a directory that `ckpt save` wrote, its only checkpoint.
    pub(crate) fn source(&self) -> Result<PathBuf> {
        let Ok(saved) = Checkpoint::open(&self.from) else { return Ok(self.from.clone()) };
        let names = saved.manifest().files.keys().filter(|name| name::claim(&file_name(name.as_ref())).is_some());
        let names: Vec<&str> = names.map(String::as_str).collect();
        match names.as_slice() {
            [] => Ok(self.from.clone()),
            [only] => Ok(self.from.join(only)),
            [first, ..] => {
                let message = format!("`{}` holds several files", self.from.display());
                let example = self.from.join(first);
                let hint = format!("name one of `{}`, as in `{}`", names.join("`, `"), example.display());
                Err(Failure::new(ErrorKind::Unsupported, message).with_hint(hint))
            }
        }
    }

    /// What failed, and what to do about it.
    pub(crate) fn failure(&self, error: ckpt_store::Error) -> Failure {
        let kind = error.kind();
        let is_of = |path: &Path| path.display().to_string() == error.subject();
        let is_about_target = is_of(&self.to) || self.to.parent().is_some_and(is_of);
        let failure = Failure::from(error);
        match kind {
            ErrorKind::AlreadyExists => failure.with_hint("`--force` replaces a file; or choose another name"),
            ErrorKind::NoSpace => failure.with_hint("free some space, or write to another place"),
            ErrorKind::Refused => failure.with_hint(
                "`ckpt inspect PATH` lists what loading it would import; weights from such a file are not to be trusted",
            ),
            ErrorKind::NotFound if is_about_target => {
                let message = format!("the directory of `{}` does not exist", self.to.display());
                Failure::new(ErrorKind::Invalid, message).with_hint("make the directory of OUT first")
            }
            ErrorKind::NotFound if !self.from.exists() => failure.with_hint("check the path; `ckpt scan DIR` shows the checkpoints in a directory"),
            ErrorKind::Invalid if is_about_target => failure.with_hint(
                "OUT is another file than IN, and its name ends in .safetensors, or for `ckpt compact` also in .pth, .pt, .bin or .ckpt; \
                 `--key` and `--all` are for a .safetensors",
            ),
            ErrorKind::Invalid | ErrorKind::NotFound => failure.with_hint(
                "`ckpt inspect PATH` lists the keys; for a .safetensors, `--key KEY` chooses among them and `--all` takes every tensor",
            ),
            ErrorKind::Unsupported => failure.with_hint(
                "a pickled model goes into a .safetensors (`ckpt convert`); an unpacked archive is packed first (`ckpt repack`); \
                 else save `model.state_dict()` with the training script",
            ),
            _ => failure,
        }
    }

    /// Says what became of every part; gives the exit code.
    pub(crate) fn report(&self, schema: &'static str, outcome: &Outcome, out: &Output) -> u8 {
        let Outcome::Written(shrunk) = outcome else {
            let path = self.from.display();
            if out.is_json() {
                out.document(&ShrinkReport::already(schema, &self.from));
            }
            out.note(&format!("`{path}` is what it would become already; nothing was written"));
            return exit::COMPLETE;
        };
        if out.is_json() {
            out.document(&ShrinkReport::new(schema, &self.to, shrunk));
            return exit::DONE;
        }
        for dropped in &shrunk.account.dropped {
            out.note(&format!("dropped {}: {}", text::one_line(&dropped.key), dropped.reason));
        }
        if shrunk.account.more > 0 {
            out.note(&format!("dropped {} more", shrunk.account.more));
        }
        let (before, after) = (text::size(shrunk.bytes_before), text::size(shrunk.bytes_after));
        out.note(&format!("{before} became {after}, inference-only"));
        out.answer(&self.to.display().to_string());
        exit::DONE
    }
}

impl Compact {
    pub(crate) fn run(&self, settings: &Settings, out: &Output) -> Result<u8> {
        clean_up_when_stopped();
        let Files { to, .. } = &self.files;
        let outcome = shrink::compact(&self.files.source()?, to, &self.files.options(true), &progress(settings))
            .map_err(|error| self.files.failure(error))?;
        Ok(self.files.report("ckpt.compact/1", &outcome, out))
    }
}
