//! Ctrl-C, SIGTERM and SIGHUP while something is being written: what is half done is deleted before the program dies of
//! the signal. In a notebook's working directory a leftover would become part of its output.

use ckpt_store::atomic;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Starts listening. Called by the commands that write, since it starts a thread.
pub(crate) fn clean_up_when_stopped() {
    let mut signals = match Signals::new([SIGHUP, SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => {
            // The next command that writes to that place finds the leftover.
            tracing::debug!(%error, "signals are not handled");
            return;
        }
    };
    std::thread::spawn(move || {
        for signal in &mut signals {
            let abandoned = atomic::abandon_all();
            tracing::debug!(signal, abandoned, "stopped");
            if let Err(error) = emulate_default_handler(signal) {
                tracing::debug!(%error, "the signal cannot be passed on");
            }
        }
    });
}
