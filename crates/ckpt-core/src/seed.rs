//! Random numbers that a resumed run draws again: a seed per run, step and purpose, so that no generator has a state to save.
//!
//! A generator that runs through a whole training has a state that must be saved with the model, and that many libraries do
//! not give out. A generator that is seeded anew in each step, from numbers that the checkpoint holds anyway, has none: step
//! 1201 draws the same numbers whether the run came to it from step 1200 or from a checkpoint of step 1200.
//!
//! - What is drawn once per epoch (the order of the samples) takes the epoch's number for the step.
//! - What is drawn before the first step (the initial weights) takes step 0.
//! - Two draws of one step that must not be alike (dropout, augmentation) take two purposes.
//! - Under several ranks, what must differ between them (dropout) has the rank in its purpose, `dropout/rank3`; what must
//!   agree (the order of the samples, before it is split) has not.
//!
//! The seed is the first eight bytes, little-endian, of BLAKE3 in its mode of deriving keys, over the run's seed and the step,
//! eight bytes each, little-endian, and the purpose in UTF-8. It will not change: a checkpoint that was written long ago goes on
//! as it would have.

use crate::ids::Step;

/// Names this use of BLAKE3 and this version of the scheme.
const CONTEXT: &str = "ckpt-core seed/1: run, step, purpose";

/// The seed for one purpose in one step of the run with the seed `run`.
///
/// # Example
/// ```
/// use ckpt_core::{ids::Step, seed};
///
/// let run = 42;
/// let seed = seed::at(run, Step(1201), "dropout");
/// assert_eq!(seed, seed::at(run, Step(1201), "dropout"));
/// assert_ne!(seed, seed::at(run, Step(1202), "dropout"));
/// assert_ne!(seed, seed::at(run, Step(1201), "augmentation"));
/// ```
#[must_use]
pub fn at(run: u64, step: Step, purpose: &str) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&run.to_le_bytes());
    hasher.update(&step.0.to_le_bytes());
    hasher.update(purpose.as_bytes());
    let mut seed = [0; 8];
    hasher.finalize_xof().fill(&mut seed);
    u64::from_le_bytes(seed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_scheme_stays_what_old_checkpoints_were_written_with() {
        assert_eq!(at(0, Step(0), ""), 17_722_279_523_281_975_595);
        assert_eq!(at(42, Step(1201), "dropout"), 16_898_333_922_911_432_487);
    }

    #[test]
    fn runs_steps_and_purposes_do_not_share_seeds() {
        let mut seeds = BTreeSet::new();
        for run in 0..20 {
            for step in 0..20 {
                for purpose in ["", "dropout", "shuffle"] {
                    seeds.insert(at(run, Step(step), purpose));
                }
            }
        }
        assert_eq!(seeds.len(), 20 * 20 * 3);
    }
}
