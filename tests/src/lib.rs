//! Suites that look at the whole workspace; see the folders beside this one.

/// The README's Rust program compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
