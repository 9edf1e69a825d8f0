//! What training checkpoints are and what they say: types, parsers over bytes, and decisions.
//!
//! This crate touches no file system, network, clock, environment or thread. What it reads comes through
//! [`read::ReadAt`] and [`members::Members`]; what it decides is a pure function that gives a reason for every item.
//! Everything that comes from outside is bounded by [`limits`].
//!
//! The pipeline is scan → inspect → verify → select → fetch; this crate holds the decision of each stage, `ckpt-store`
//! its effect.

pub mod candidate;
pub mod digest;
pub mod error;
pub mod finding;
pub mod format;
pub mod history;
pub mod ids;
pub mod inspect;
pub mod json;
pub mod layout;
pub mod limits;
pub mod location;
pub mod manifest;
pub mod members;
pub mod metric;
pub mod name;
pub mod platform;
pub mod progress;
pub mod prune;
pub mod quantity;
pub mod read;
pub mod schedule;
pub mod seed;
pub mod select;
pub mod shrink;
pub mod transfer;
pub mod verify;

pub use error::{Error, ErrorKind, Result};
