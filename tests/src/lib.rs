//! Suites that look at the whole workspace; see the folders beside this one.
