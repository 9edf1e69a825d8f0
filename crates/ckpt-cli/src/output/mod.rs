//! The only door that prints: answers to `stdout`, everything else to `stderr`.
#![expect(clippy::disallowed_methods, reason = "this is the door to the terminal")]

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::args::Global;
use crate::error::Failure;
use crate::exit;

pub(crate) mod progress;
pub(crate) mod text;

/// How to print.
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    is_terminal: bool,
}

/// Shows `clap`'s messages: help on `stdout`, errors on `stderr`.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // A closed pipe is no reason to fail.
    error.print().ok();
    ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::DONE })
}

/// Sends the library's events to `stderr`.
pub(crate) fn start_log(global: &Global) {
    let level = match global.verbose {
        0 => return,
        1 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .without_time()
        .init();
}

impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        Self { json: global.json, quiet: global.quiet, is_terminal: io::stdout().is_terminal() }
    }

    /// Whether JSON is asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person reads the answer.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Prints the answer as it is.
    pub(crate) fn answer(&self, text: &str) {
        print(&mut io::stdout().lock(), text);
    }

    /// Prints one document.
    pub(crate) fn document(&self, document: &impl Serialize) {
        match serde_json::to_string_pretty(document) {
            Ok(text) => self.answer(&(text + "\n")),
            Err(error) => self.note(&format!("the report could not be written: {error}")),
        }
    }

    /// Prints one document on one line.
    pub(crate) fn line(&self, document: &impl Serialize) {
        match serde_json::to_string(document) {
            Ok(text) => self.answer(&text),
            Err(error) => self.note(&format!("the report could not be written: {error}")),
        }
    }

    /// Tells the person at the terminal something beside the answer.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            print(&mut io::stderr().lock(), &text::harmless(text));
        }
    }

    /// Tells what failed and what to do; gives the exit code.
    pub(crate) fn error(&self, failure: &Failure) -> u8 {
        let mut stderr = io::stderr().lock();
        if self.json {
            let document = serde_json::json!({
                "schema": "ckpt.error/1",
                "kind": failure.kind.name(),
                "message": failure.message,
                "causes": failure.causes,
                "hints": failure.hints,
                "exit_code": failure.exit_code,
            });
            print(&mut stderr, &document.to_string());
        } else {
            let mut text = format!("error: {}", failure.message);
            for cause in &failure.causes {
                text.push_str(&format!("\n  caused by: {cause}"));
            }
            for hint in &failure.hints {
                text.push_str(&format!("\n\nhint: {hint}"));
            }
            print(&mut stderr, &text::harmless(&text));
        }
        failure.exit_code
    }
}

/// A reader that has gone away (`ckpt scan | head`) ends the program quietly and successfully. An answer that could not be
/// written for another reason, such as a full disk, must not pass for an empty one.
fn print(stream: &mut impl Write, text: &str) {
    let result = stream
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { stream.write_all(b"\n") })
        .and_then(|()| stream.flush());
    match result {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(i32::from(exit::DONE)),
        Err(error) => {
            // Where stderr is what failed there is nobody left to tell.
            writeln!(io::stderr(), "error: the answer could not be written\n  caused by: {error}").ok();
            std::process::exit(i32::from(exit::FAILED));
        }
    }
}
