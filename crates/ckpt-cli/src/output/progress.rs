//! Progress on `stderr`: a bar on a terminal, a line every ten seconds elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ckpt_core::progress::{Progress, Unit};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two lines where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// Shows one piece of work at a time.
pub(crate) struct Shown {
    is_silent: bool,
    current: Mutex<Option<Work>>,
}

struct Work {
    bar: ProgressBar,
    what: String,
    is_terminal: bool,
    last_line: Instant,
}

impl Shown {
    pub(crate) fn new(is_silent: bool) -> Self {
        Self { is_silent, current: Mutex::new(None) }
    }

    fn with(&self, change: impl FnOnce(&mut Option<Work>)) {
        if !self.is_silent {
            change(&mut self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        }
    }
}

impl Progress for Shown {
    fn begin(&self, what: &str, total: u64, unit: Unit) {
        self.with(|current| {
            let template = match (unit, total) {
                (_, 0) => "{msg} {elapsed}",
                (Unit::Items, _) => "{msg} {bar:30} {pos}/{len}",
                (Unit::Bytes, _) => "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            };
            #[expect(clippy::disallowed_methods, reason = "progress is part of the output")]
            let is_terminal = std::io::stderr().is_terminal();
            let target =
                if is_terminal { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar =
                ProgressBar::with_draw_target(Some(total), target).with_style(style).with_message(what.to_owned());
            *current = Some(Work { bar, what: what.to_owned(), is_terminal, last_line: Instant::now() });
        });
    }

    fn advance(&self, count: u64) {
        self.with(|current| {
            let Some(work) = current else { return };
            work.bar.inc(count);
            if !work.is_terminal && work.last_line.elapsed() >= INTERVAL {
                work.last_line = Instant::now();
                let (done, total) = (work.bar.position(), work.bar.length().unwrap_or(0));
                #[expect(clippy::print_stderr, reason = "progress is part of the output")]
                {
                    eprintln!("{}: {done} of {total}", work.what);
                }
            }
        });
    }

    fn end(&self) {
        self.with(|current| {
            if let Some(work) = current.take() {
                work.bar.finish_and_clear();
            }
        });
    }
}
