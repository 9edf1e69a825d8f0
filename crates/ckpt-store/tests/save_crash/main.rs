//! A trainer that saves dies at any moment, of a signal, of a failing disk or of a power cut; and the same harness
//! catches savers that are made wrong on purpose.
//!
//! `CKPT_LONG_TESTS=1` does ten times as much.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests prepare files, look at them, and say what they skip"
)]

mod careless;
mod child;
mod disk;
mod judge;
mod kills;
mod power;
mod syscalls;
mod trainer;

/// Whether there is time for many rounds.
fn is_long() -> bool {
    std::env::vars().any(|(name, value)| name == "CKPT_LONG_TESTS" && value == "1")
}

/// A directory where nothing waits for a disk.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Chance that is the same in every run.
struct Chance(u64);

impl Chance {
    /// At least 0, below 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
    }
}

/// The other tests start this one again, as a process of its own that gets its orders from the environment.
#[test]
fn without_orders_a_trainer_saves_nothing() {
    if let Some(orders) = trainer::Orders::given() {
        trainer::run(&orders);
    }
}
