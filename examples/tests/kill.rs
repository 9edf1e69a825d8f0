//! The training examples, killed at random steps, come to the losses of a run that nobody killed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ckpt_core::ids::Step;
use ckpt_store::save::{Policy, Saver};

const STEPS: u64 = 200;
const KILLS: usize = 6;
/// At most so many lines are read before a kill, so that there is something left to kill.
const LINES: u64 = 25;

fn start(program: &str, root: &Path, options: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.arg(root).args(["--steps", &STEPS.to_string()]).args(options);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// Losses by step, as they were printed.
type Curve = BTreeMap<u64, String>;

/// Adds whole lines: the last one may be cut off by the kill.
fn add(curve: &mut Curve, text: &str) {
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let (step, loss) = line.split_once(' ').unwrap();
        let step = step.parse().unwrap();
        if let Some(before) = curve.insert(step, loss.to_owned()) {
            assert_eq!(before, loss, "step {step} was made twice");
        }
    }
}

/// Runs to the end.
fn finish(program: &str, root: &Path, options: &[&str], curve: &mut Curve) {
    let output = start(program, root, options).wait_with_output().unwrap();
    assert!(output.status.success());
    add(curve, &String::from_utf8(output.stdout).unwrap());
}

/// Sends SIGKILL once so many steps are printed; whether that came before the end.
fn kill(program: &str, root: &Path, options: &[&str], lines: u64, curve: &mut Curve) -> bool {
    let mut child = start(program, root, options);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    for _ in 0..lines {
        output.read_line(&mut text).unwrap();
    }
    child.kill().unwrap();
    let is_killed = !child.wait().unwrap().success();
    output.read_to_string(&mut text).unwrap();
    add(curve, &text);
    is_killed
}

fn the_curve_does_not_show_the_kills(program: &str, options: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let mut whole = Curve::new();
    finish(program, &directory.path().join("whole"), options, &mut whole);
    assert!(whole.keys().copied().eq(0..STEPS));

    // A run that was done before its kill came, on a busy machine, gives way to a fresh one.
    let mut root = directory.path().join("killed-0");
    let mut curve = Curve::new();
    let mut kills = Vec::new();
    for i in 1..=10 * KILLS {
        let lines = 1 + RandomState::new().hash_one(i) % LINES;
        if kill(program, &root, options, lines, &mut curve) {
            kills.push(lines);
        } else {
            root = directory.path().join(format!("killed-{i}"));
        }
        if kills.len() == KILLS {
            break;
        }
    }
    assert_eq!(kills.len(), KILLS, "no run could be killed so often");
    finish(program, &root, options, &mut curve);
    assert_eq!(curve, whole, "killed after so many steps each: {kills:?}");

    let last = Saver::open(&root, Policy::default()).unwrap().resume().unwrap().unwrap();
    assert_eq!(last.manifest().step, Step(STEPS));
    let loss = |step: u64| -> f32 { whole[&step].split_once(' ').unwrap().1.parse().unwrap() };
    let mean = |steps: std::ops::Range<u64>| steps.map(loss).sum::<f32>() / 20.0;
    assert!(mean(STEPS - 20..STEPS) < mean(0..20) / 3.0, "it learns: {whole:?}");
}

#[test]
fn a_killed_training_in_plain_rust_goes_on_as_if_nothing_had_been() {
    the_curve_does_not_show_the_kills(env!("CARGO_BIN_EXE_train"), &[]);
}

#[test]
fn a_killed_training_that_saves_while_it_goes_on_goes_on_as_if_nothing_had_been() {
    the_curve_does_not_show_the_kills(env!("CARGO_BIN_EXE_train"), &["--async"]);
}

#[cfg(feature = "tch")]
#[test]
fn a_killed_training_with_libtorch_goes_on_as_if_nothing_had_been() {
    the_curve_does_not_show_the_kills(env!("CARGO_BIN_EXE_train_tch"), &[]);
    the_curve_does_not_show_the_kills(env!("CARGO_BIN_EXE_train_tch"), &["--async"]);
}

#[test]
fn another_run_is_not_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let train = |seed: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
        command.arg(directory.path()).args(["--steps", "1", "--seed", seed]).output().unwrap().status.success()
    };
    assert!(train("1"));
    assert!(train("1"), "there is nothing left to do");
    assert!(!train("2"));
}

#[test]
fn a_signal_to_end_is_answered_by_a_save_of_the_last_step() {
    for signal in ["TERM", "USR1"] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let mut child = start(env!("CARGO_BIN_EXE_train"), root, &[]);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        // Not at a multiple of the steps between saves.
        for _ in 0..3 {
            output.read_line(&mut text).unwrap();
        }
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        output.read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success(), "{signal}");
        let mut curve = Curve::new();
        add(&mut curve, &text);
        let last = curve.keys().max().unwrap() + 1;
        let saved = Saver::open(root, Policy::default()).unwrap().latest().unwrap().unwrap();
        assert_eq!(saved.manifest().step, Step(last), "{signal}");
        if last < STEPS {
            finish(env!("CARGO_BIN_EXE_train"), root, &[], &mut curve);
        }
    }
}

#[test]
fn before_a_deadline_the_run_saves_and_stops() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let mut curve = Curve::new();
    // No save was measured yet, so five minutes are kept in hand.
    finish(env!("CARGO_BIN_EXE_train"), root, &["--deadline", "+2m"], &mut curve);
    assert_eq!(curve.len(), 1);
    let latest = || Saver::open(root, Policy::default()).unwrap().latest().unwrap().unwrap().manifest().step;
    assert_eq!(latest(), Step(1));
    finish(env!("CARGO_BIN_EXE_train"), root, &["--deadline", "+10h"], &mut curve);
    assert_eq!(latest(), Step(STEPS));
}
