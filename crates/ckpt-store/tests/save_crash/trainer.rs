//! The process that is killed: it saves one checkpoint after the other, of content that its number tells.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ckpt_core::format::dtype::Dtype;
use ckpt_core::ids::Step;
use ckpt_store::save::{Existing, Policy, Saver, Tensor, Ticket};
use serde::{Deserialize, Serialize};

use crate::careless::{Careless, Flaw};

/// The environment variable with a trainer's orders.
pub(crate) const ORDERS: &str = "CKPT_TEST_TRAINER";
/// The single file that some saves write.
pub(crate) const SINGLE: &str = "best.safetensors";
pub(crate) const METRIC: &str = "accuracy";
/// Large enough for a digest by a second thread.
const MODEL_BYTES: usize = 300 << 10;

/// Who saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    /// The saver that is under test.
    Saver,
    /// A small one of this test's own, which shows what the harness can see.
    Careless(Flaw),
}

/// What a save does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The next step.
    Next,
    /// The next step, asynchronously.
    Later,
    /// The last step again.
    Again,
    /// The last step again, asynchronously.
    AgainLater,
    /// A single file.
    Single,
}

impl Way {
    /// What the save of a number does.
    pub(crate) fn kind(self, number: u64) -> Kind {
        match self {
            Self::Saver => match number % 8 {
                1 | 5 => Kind::Next,
                2 | 3 => Kind::Later,
                4 => Kind::Again,
                7 => Kind::AgainLater,
                _ => Kind::Single,
            },
            Self::Careless(_) if number.is_multiple_of(4) => Kind::Single,
            Self::Careless(_) => Kind::Next,
        }
    }

    /// The step of a number: that of the last new step up to it.
    pub(crate) fn step(self, number: u64) -> u64 {
        (1..=number).filter(|number| matches!(self.kind(*number), Kind::Next | Kind::Later)).count() as u64
    }
}

/// Mostly better from number to number, and never the same.
pub(crate) fn accuracy(number: u64) -> f64 {
    number as f64 - if number.is_multiple_of(3) { 2.5 } else { 0.0 }
}

/// A file's stem with the name and the bytes of each of its tensors.
type Tensors<'a> = (&'static str, Vec<(&'static str, &'a [u8])>);

/// What the save of a number holds.
pub(crate) struct State {
    pub(crate) weight: Vec<u8>,
    pub(crate) bias: Vec<u8>,
    pub(crate) momentum: Vec<u8>,
}

impl State {
    pub(crate) fn of(number: u64) -> Self {
        let bytes = |salt: u64, count: usize| {
            let mut bytes = vec![0; count];
            blake3::Hasher::new()
                .update(&[number, salt].map(u64::to_le_bytes).concat())
                .finalize_xof()
                .fill(&mut bytes);
            bytes
        };
        Self { weight: bytes(1, MODEL_BYTES), bias: bytes(2, 4 << 10), momentum: bytes(3, 64 << 10) }
    }

    /// By file.
    pub(crate) fn tensors(&self) -> [Tensors<'_>; 2] {
        [("model", vec![("bias", &self.bias), ("weight", &self.weight)]), ("optimizer", vec![("m", &self.momentum)])]
    }
}

/// A file that is copied into each checkpoint; it lies beside the root.
pub(crate) fn copied(root: &Path) -> PathBuf {
    root.with_file_name("config.yaml")
}

/// What a trainer process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) root: PathBuf,
    pub(crate) way: Way,
    /// The number of the first save.
    pub(crate) first: u64,
    /// How many; none: until it dies or fails.
    pub(crate) count: Option<u64>,
    /// Whether it waits for a line before it opens the root.
    pub(crate) waits: bool,
}

impl Orders {
    pub(crate) fn given() -> Option<Self> {
        let (_, text) = std::env::vars().find(|(name, _)| name == ORDERS)?;
        Some(serde_json::from_str(&text).unwrap())
    }
}

/// Tells the parent, by a system call that no save makes, in one piece.
fn report(line: &str) {
    let mut to = File::from(std::io::stderr().as_fd().try_clone_to_owned().unwrap());
    let line = format!("{line}\n");
    let count = to.write_vectored(&[IoSlice::new(line.as_bytes())]).unwrap();
    assert_eq!(count, line.len());
}

fn report_end(number: u64, result: &Result<(), String>) -> bool {
    match result {
        Ok(()) => report(&format!("done {number}")),
        Err(error) => report(&format!("failed {number} {error}")),
    }
    result.is_ok()
}

/// Carries out its orders and ends the process.
pub(crate) fn run(orders: &Orders) {
    if orders.waits {
        // Some systems let only parents look into a process; where this is not known, the attempt will tell.
        rustix::process::set_ptracer(rustix::process::PTracer::Any).unwrap_or(());
        report("ready");
        std::io::stdin().read_line(&mut String::new()).unwrap();
    }
    let hand = match Hand::open(&orders.root, orders.way) {
        Ok(hand) => hand,
        Err(error) => {
            report(&format!("failed 0 {error}"));
            std::process::exit(1);
        }
    };
    if !orders.waits {
        report("ready");
    }
    let mut under_way: Vec<(u64, Ticket)> = Vec::new();
    let last = orders.count.map(|count| orders.first + count - 1);
    for number in orders.first..=last.unwrap_or(u64::MAX) {
        report(&format!("begin {number}"));
        let started = hand.start(number);
        let mut is_good = true;
        match started {
            Ok(Some(ticket)) => under_way.push((number, ticket)),
            Ok(None) => is_good = report_end(number, &Ok(())),
            Err(error) => is_good = report_end(number, &Err(error)),
        }
        if under_way.len() == 2 || orders.way.kind(number + 1) != Kind::Later || last == Some(number) {
            for (number, ticket) in under_way.drain(..) {
                is_good &= report_end(number, &ticket.wait().map(drop).map_err(|error| told(&error)));
            }
        }
        if !is_good && last.is_none() {
            std::process::exit(1);
        }
    }
    let finished = hand.finish();
    report(&format!("end {finished:?}"));
    std::process::exit(i32::from(finished.is_err()));
}

fn told(error: &ckpt_store::Error) -> String {
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    format!("{error}{cause}")
}

/// One of the savers.
pub(crate) enum Hand {
    Ours(Saver, PathBuf),
    Careless(Careless),
}

impl Hand {
    pub(crate) fn open(root: &Path, way: Way) -> Result<Self, String> {
        match way {
            Way::Saver => {
                let policy = Policy { existing: Existing::Replace, ..Policy::default() };
                let saver = Saver::open(root, policy).map_err(|error| told(&error))?;
                Ok(Self::Ours(saver, copied(root)))
            }
            Way::Careless(flaw) => Careless::open(root, flaw).map(Self::Careless).map_err(|error| error.to_string()),
        }
    }

    /// Saves, or begins to.
    pub(crate) fn start(&self, number: u64) -> Result<Option<Ticket>, String> {
        match self {
            Self::Ours(saver, copied) => start(saver, copied, number).map_err(|error| told(&error)),
            Self::Careless(careless) => careless.save(number).map(|()| None).map_err(|error| error.to_string()),
        }
    }

    /// Saves.
    pub(crate) fn save(&self, number: u64) -> Result<(), String> {
        match self.start(number)? {
            Some(ticket) => ticket.wait().map(drop).map_err(|error| told(&error)),
            None => Ok(()),
        }
    }

    pub(crate) fn finish(self) -> Result<(), String> {
        match self {
            Self::Ours(saver, _) => saver.finish().map_err(|error| told(&error)),
            Self::Careless(_) => Ok(()),
        }
    }
}

fn start(saver: &Saver, copied: &Path, number: u64) -> ckpt_store::Result<Option<Ticket>> {
    let kind = Way::Saver.kind(number);
    let state = State::of(number);
    let mut pending = saver.begin(Step(Way::Saver.step(number)))?;
    pending.metric(METRIC, accuracy(number), None)?;
    for (stem, tensors) in state.tensors() {
        if kind == Kind::Single && stem != "model" {
            continue;
        }
        let tensor = |(name, bytes): (&'static str, _)| {
            let bytes: &[u8] = bytes;
            Tensor::new(name, Dtype::of_torch("uint8"), [bytes.len() as u64], bytes)
        };
        pending.tensors(stem, tensors.into_iter().map(tensor))?;
    }
    pending.json("trainer_state", &serde_json::json!({ "number": number }))?;
    if kind != Kind::Single {
        pending.file("code/config.yaml", copied)?;
    }
    Ok(match kind {
        Kind::Next | Kind::Again => {
            pending.commit()?;
            None
        }
        Kind::Later | Kind::AgainLater => Some(pending.commit_async()?),
        Kind::Single => {
            pending.commit_file(SINGLE)?;
            None
        }
    })
}
