//! What the training examples share: their command line, their data, and a generator of random numbers without a state to save.

use std::error::Error;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use ckpt_core::ids::Step;
use ckpt_core::schedule::deadline;
use ckpt_core::seed;
use serde::{Deserialize, Serialize};

/// Pixels of an image, 8 by 8.
pub const PIXELS: usize = 64;

/// `ROOT [--steps N] [--seed N] [--deadline WHEN] [--async]`
#[derive(Debug)]
pub struct Arguments {
    /// Where the checkpoints are.
    pub root: PathBuf,
    /// How many steps the run has, from its very beginning.
    pub steps: u64,
    /// The seed of the run.
    pub seed: u64,
    /// When to have saved and stopped, in nanoseconds since 1970.
    pub deadline_ns: Option<i64>,
    /// Whether checkpoints are written while training goes on.
    pub is_async: bool,
}

/// What a run must know to go on, beside tensors: no generator has a state, and the place in the data follows from the step.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrainerState {
    /// How many steps were made.
    pub step: u64,
    /// The seed of the run.
    pub seed: u64,
}

impl Arguments {
    /// Reads the command line.
    ///
    /// # Errors
    /// There is no root, or an option that does not exist or has no number.
    pub fn parse() -> Result<Self, Box<dyn Error>> {
        let (mut root, mut steps, mut seed, mut deadline_ns, mut is_async) = (None, 200, 42, None, false);
        let now_ns = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            match &*argument {
                "--steps" => steps = number()?.parse()?,
                "--seed" => seed = number()?.parse()?,
                "--deadline" => deadline_ns = Some(deadline::parse(&number()?, now_ns)?.at_ns),
                "--async" => is_async = true,
                path if root.is_none() && !path.starts_with('-') => root = Some(PathBuf::from(path)),
                other => return Err(format!("unexpected argument `{other}`").into()),
            }
        }
        let root = root.ok_or("usage: ROOT [--steps N] [--seed N] [--deadline +11h30m] [--async]")?;
        Ok(Self { root, steps, seed, deadline_ns, is_async })
    }

    /// What to save after `step` steps.
    #[must_use]
    pub fn state(&self, step: u64) -> TrainerState {
        TrainerState { step, seed: self.seed }
    }

    /// Refuses to go on with a run of another seed, and tells how many steps were made.
    ///
    /// # Errors
    /// The seeds differ.
    pub fn resume(&self, state: &TrainerState) -> Result<u64, Box<dyn Error>> {
        if state.seed != self.seed {
            return Err(format!("the run in {} has the seed {}", self.root.display(), state.seed).into());
        }
        Ok(state.step)
    }
}

/// Handwritten digits: see `data/digits/README.md`.
#[derive(Debug)]
pub struct Digits(&'static [[u8; PIXELS + 1]]);

impl Digits {
    /// All of them.
    #[must_use]
    pub fn read() -> Self {
        Self(include_bytes!("data/digits/digits.bin").as_chunks().0)
    }

    /// The pixels of a digit, from 0 to 1, and which digit it is.
    #[must_use]
    pub fn get(&self, index: usize) -> ([f32; PIXELS], u8) {
        let row = &self.0[index];
        (std::array::from_fn(|pixel| f32::from(row[pixel]) / 16.0), row[PIXELS])
    }

    /// The digits of a step. Each epoch goes through all of them once, in an order of its own.
    #[must_use]
    pub fn batch(&self, run: u64, step: u64, size: usize) -> Vec<usize> {
        let steps = (self.0.len() / size) as u64;
        let mut random = Random::at(run, step / steps, "order of the digits");
        let mut order: Vec<usize> = (0..self.0.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last as u64 + 1) as usize);
        }
        let first = (step % steps) as usize * size;
        order[first..first + size].to_vec()
    }
}

/// A small generator (SplitMix64), seeded anew for each purpose in each step: it has no state to save.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The generator for a purpose in a step of a run.
    #[must_use]
    pub fn at(run: u64, step: u64, purpose: &str) -> Self {
        Self(seed::at(run, Step(step), purpose))
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    /// A number from 0 to below 1.
    pub fn fraction(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 24) as f32
    }
}
