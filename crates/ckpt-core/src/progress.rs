//! How long work tells how far it is, to whoever shows it.

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Files or checkpoints.
    Items,
    /// Bytes.
    Bytes,
}

/// Told about the progress of one piece of work at a time. Calls may come from several threads.
pub trait Progress: Sync {
    /// Work begins; `total` is 0 when it is not known.
    fn begin(&self, what: &str, total: u64, unit: Unit);
    /// `count` more units are done.
    fn advance(&self, count: u64);
    /// The work is over.
    fn end(&self);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _what: &str, _total: u64, _unit: Unit) {}
    fn advance(&self, _count: u64) {}
    fn end(&self) {}
}
