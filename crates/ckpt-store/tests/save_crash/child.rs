//! Trainer processes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use crate::trainer::{ORDERS, Orders};

/// A trainer that runs.
pub(crate) struct Trainer {
    process: Child,
    reports: BufReader<ChildStderr>,
}

/// What a trainer said until its end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) said: Vec<String>,
}

impl Ended {
    /// Whether it carried out all of its orders.
    pub(crate) fn is_by_itself(&self) -> bool {
        self.status.code().is_some()
    }

    pub(crate) fn failures(&self) -> impl Iterator<Item = &String> {
        self.said.iter().filter(|line| line.starts_with("failed "))
    }
}

impl Trainer {
    /// Starts one, and waits until it is ready: its root is open, or it waits for [`Self::go`].
    pub(crate) fn start(orders: &Orders) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "without_orders_a_trainer_saves_nothing", "--test-threads=1", "--nocapture"])
            .env(ORDERS, serde_json::to_string(orders).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let reports = BufReader::new(process.stderr.take().unwrap());
        Self { process, reports }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The next line that it says; none when it has ended.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.reports.read_line(&mut line).unwrap();
        (count > 0).then(|| line.trim_end().to_owned())
    }

    /// Lets it begin.
    pub(crate) fn go(&mut self) {
        self.process.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    /// Kills it where it is.
    pub(crate) fn kill(mut self) -> Ended {
        // Fails when it has ended by itself, which is one of the moments.
        self.process.kill().unwrap_or(());
        self.end()
    }

    /// Waits until it ends.
    pub(crate) fn end(mut self) -> Ended {
        let mut said = Vec::new();
        while let Some(line) = self.line() {
            said.push(line);
        }
        Ended { status: self.process.wait().unwrap(), said }
    }
}

/// What `strace` does to a system call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Injected {
    Nothing,
    Kill,
    Error(&'static str),
}

/// Runs a trainer under `strace`, which meddles with the `count`-th call of `call` in each of its threads.
///
/// # Errors
/// Processes cannot be traced here.
pub(crate) fn traced(
    orders: &Orders,
    calls: &str,
    (call, count, injected): (&str, u32, Injected),
    trace: &Path,
) -> Result<Ended, String> {
    assert!(orders.waits);
    let mut trainer = Trainer::start(orders);
    assert_eq!(trainer.line().as_deref(), Some("ready"));
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "signal=none", "-e"]).arg(format!("trace={calls}")).arg("-o").arg(trace);
    match injected {
        Injected::Nothing => {}
        Injected::Kill => drop(command.arg("-e").arg(format!("inject={call}:signal=KILL:when={count}"))),
        Injected::Error(error) => drop(command.arg("-e").arg(format!("inject={call}:error={error}:when={count}"))),
    }
    command.arg("-p").arg(trainer.id().to_string());
    let tracer = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut tracer = tracer.map_err(|error| format!("strace: {error}"))?;
    let mut said = BufReader::new(tracer.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    if !line.contains("attached") {
        trainer.kill();
        tracer.wait().unwrap();
        return Err(line.trim_end().to_owned());
    }
    trainer.go();
    let ended = trainer.end();
    std::io::copy(&mut said, &mut std::io::sink()).unwrap();
    tracer.wait().unwrap();
    Ok(ended)
}
