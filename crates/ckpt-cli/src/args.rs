//! What the command line accepts.

use std::path::PathBuf;

use ckpt_core::prune::{Best, Retention};
use ckpt_core::quantity;
use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::exit;

/// Find, judge, choose and fetch training checkpoints.
#[derive(Debug, Parser)]
#[command(name = "ckpt", version, after_help = exit::TABLE, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but the answer and errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more; twice, everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Show no progress.
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// The platform, instead of detecting it: kaggle, colab, sagemaker, isc, local. [env: `CKPT_PLATFORM`]
    #[arg(long, global = true, value_name = "NAME")]
    pub platform: Option<String>,
    /// Inspect everything anew, without the index of past inspections. [env: `CKPT_INDEX=false`]
    #[arg(long, global = true)]
    pub no_index: bool,
    /// How many levels of directories to walk. [env: `CKPT_DEPTH`]
    #[arg(long, global = true, value_name = "LEVELS")]
    pub depth: Option<usize>,
}

/// Where to look.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Where {
    /// Paths, or `kaggle:`, or `kaggle:/other/root`; where the platform keeps checkpoints when none is given.
    /// [env: `CKPT_LOCATIONS`]
    #[arg(value_name = "LOCATION")]
    pub locations: Vec<String>,
}

/// What to choose.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Choosing")]
pub(crate) struct Which {
    /// The best by a metric; the direction is asked of the files and known for usual names. [env: `CKPT_BEST`]
    #[arg(long, value_name = "METRIC[:max|:min]", conflicts_with = "latest")]
    pub best: Option<String>,
    /// The latest: by step, then epoch, then time of modification.
    #[arg(long)]
    pub latest: bool,
    /// Kinds of source, the most wanted first. [env: `CKPT_PRIORITY`]
    #[arg(long, value_name = "KIND,…", value_delimiter = ',')]
    pub priority: Vec<String>,
    #[command(flatten)]
    pub filter: Filter,
}

/// Among what to choose.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Choosing")]
pub(crate) struct Filter {
    /// Only files of this name; `*` and `?` are wildcards. May be repeated. [env: `CKPT_NAMES`]
    #[arg(long = "name", value_name = "GLOB")]
    pub names: Vec<String>,
    /// Only checkpoints with this top-level key. May be repeated. [env: `CKPT_REQUIRE`]
    #[arg(long = "require", value_name = "KEY")]
    pub require: Vec<String>,
    /// Only checkpoints from which training can go on. [env: `CKPT_RESUMABLE`]
    #[arg(long, visible_alias = "require-resumable")]
    pub resumable: bool,
    /// Only from this kind of source. May be repeated.
    #[arg(long = "source", value_name = "KIND")]
    pub sources: Vec<String>,
    /// Only checkpoints that meet this, as `accuracy>=0.8`. May be repeated. [env: `CKPT_MIN`]
    #[arg(long = "min", value_name = "CONDITION")]
    pub conditions: Vec<String>,
    /// Also checkpoints that would run dangerous code when loaded.
    #[arg(long)]
    pub allow_unsafe: bool,
    /// Check every byte of the chosen one, and take the next when it is damaged.
    #[arg(long)]
    pub deep: bool,
    /// Give the reason for every candidate.
    #[arg(long)]
    pub explain: bool,
}

/// What to keep when others go.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Keeping")]
pub(crate) struct Keep {
    /// Keep the last so many valid ones.
    #[arg(long, value_name = "N")]
    pub keep_last: Option<usize>,
    /// Keep those whose step (or epoch, where they tell no step) is a multiple of this.
    #[arg(long, value_name = "N")]
    pub keep_every: Option<u64>,
    /// Keep the best so many by a metric. May be repeated.
    #[arg(long, value_name = "METRIC[:max|:min]=N")]
    pub keep_best: Vec<Best>,
    /// Keep those saved less than this long ago, as `36h` or `7d`.
    #[arg(long, value_name = "AGE", value_parser = quantity::duration)]
    pub keep_within: Option<std::time::Duration>,
    /// All that stay together have at most so many bytes, as `20GB` or `20GiB`.
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes)]
    pub max_bytes: Option<u64>,
    /// Damaged ones go too, where a newer valid one stays.
    #[arg(long)]
    pub drop_damaged: bool,
}

impl Keep {
    /// As the library takes it.
    pub(crate) fn retention(&self) -> Retention {
        Retention {
            keep_last: self.keep_last,
            keep_every: self.keep_every,
            keep_best: self.keep_best.clone(),
            keep_within: self.keep_within,
            max_bytes: self.max_bytes,
            drop_damaged: self.drop_damaged,
        }
    }
}

/// Where to copy to.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Fetching")]
pub(crate) struct To {
    /// The directory where training may write; the platform's when none is given. [env: `CKPT_TO`]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Replace a newer file of that name; it is kept under another one.
    #[arg(long)]
    pub force: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What is there? Every checkpoint with what it says, valid or not.
    Scan(commands::scan::Scan),
    /// What does it say? Epoch, metrics, keys, tensors, imports; nothing is executed.
    Inspect(commands::inspect::Inspect),
    /// Can it be trusted?
    Verify(commands::verify::Verify),
    /// Which one? Prints its path.
    Select(commands::select::Select),
    /// Copy a checkpoint to where training may write; prints the new path.
    Fetch(commands::fetch::Fetch),
    /// Find the right checkpoint and bring it where training may write; prints its path.
    Resume(commands::resume::Resume),
    /// The latest checkpoint. Prints its path.
    Latest(commands::latest::Latest),
    /// The best checkpoint by a metric. Prints its path.
    Best(commands::latest::Best),
    /// Is the target met? Exit code 0 when a valid checkpoint meets the conditions, 3 when none does.
    Done(commands::done::Done),
    /// Adopt files that any trainer wrote into a committed checkpoint; prints its path.
    Save(commands::save::Save),
    /// Show which checkpoints may go and why, and with `--apply` delete them.
    Prune(commands::prune::Prune),
    /// Keep checkpoints, whatever prunes.
    Pin(commands::pin::Pin),
    /// Take pins away.
    Unpin(commands::pin::Unpin),
    /// Pack an archive again that was unpacked into a directory.
    Repack(commands::repack::Repack),
    /// Write a smaller, inference-only checkpoint, without the state of the optimizer and its like; prints its path.
    Compact(commands::compact::Compact),
    /// Write the model's weights into a safetensors file; prints its path.
    Convert(commands::convert::Convert),
    /// Training histories.
    #[command(subcommand)]
    History(commands::history::History),
    /// Could a run save there? Tries everything that a save does, and leaves nothing behind.
    Preflight(commands::preflight::Preflight),
    /// What was detected, where it looks, where each setting comes from, what to do about trouble.
    Doctor(commands::doctor::Doctor),
    /// Completions for a shell.
    Completions(commands::completions::Completions),
    /// Write the manual pages into a directory.
    Man(commands::man::Man),
}
