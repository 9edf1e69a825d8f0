//! The n-th file operation of a save fails, for every n: whatever fails, the pointers name a whole checkpoint, it is the
//! old or the new one, the older ones are untouched, and the next save works and leaves no temporary.
#![allow(clippy::disallowed_methods, reason = "tests look at files")]

use std::path::Path;

use ckpt_core::format::dtype::Dtype;
use ckpt_core::ids::Step;
use rustix::io::Errno;

use super::{Existing, Policy, Saver, Tensor};
use crate::error::Result;
use crate::fs::fault::{self, Fault};
use crate::load::Checkpoint;

fn fast_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn policy(existing: Existing) -> Policy {
    Policy { existing, ..Policy::default() }
}

/// One of the ways to save.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Case {
    /// A later step, better by its metric.
    Next,
    /// A step that is there already.
    Again,
    /// One file in the place of another.
    Single,
}

fn save(saver: &Saver, case: Case, generation: u8) -> Result<()> {
    save_step(saver, case, if case == Case::Again { 1 } else { u64::from(generation) }, generation)
}

fn save_step(saver: &Saver, case: Case, step: u64, generation: u8) -> Result<()> {
    // Of a second thread's operations none would fail: both files are small enough for one.
    let weights = vec![generation; 4096];
    let mut pending = saver.begin(Step(step))?;
    pending.metric("accuracy", f64::from(generation), None)?;
    pending.tensors("model", [Tensor::new("w", Dtype::of_torch("uint8"), [4096], &weights)])?;
    if case == Case::Single {
        pending.commit_file("best.safetensors")?;
    } else {
        pending.json("sub/trainer_state", &serde_json::json!({"generation": generation}))?;
        pending.commit()?;
    }
    Ok(())
}

/// The generation of a checkpoint, whose every byte must be as it was saved.
fn generation(checkpoint: &Checkpoint) -> u8 {
    checkpoint.verify().unwrap();
    let tensors = checkpoint.tensors("model").unwrap();
    tensors.get("w").unwrap().bytes[0]
}

/// What the root holds for those who read it without us: the generations behind the links and the single file.
fn seen(root: &Path) -> Vec<Option<u8>> {
    let linked = |name: &str| {
        let link = root.join(name);
        std::fs::symlink_metadata(&link).is_ok().then(|| generation(&Checkpoint::open(&link).unwrap()))
    };
    let single = std::fs::read(root.join("best.safetensors")).ok().map(|bytes| {
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let data = tensors.tensor("w").unwrap().data();
        assert!(data.iter().all(|byte| *byte == data[0]) && data.len() == 4096);
        data[0]
    });
    vec![linked("latest"), linked("best-accuracy"), single]
}

fn every_operation(case: Case, fault: Fault, has_flags: bool) -> u64 {
    for count in 0.. {
        let directory = fast_directory();
        let root = directory.path();
        fault::forget_rename_flags(!has_flags);
        let saver = Saver::open(root, policy(Existing::Replace)).unwrap();
        if case != Case::Single {
            // What a pointer would move to, were the right one overlooked.
            save_step(&saver, case, 0, 0).unwrap();
        }
        save(&saver, case, 1).unwrap();
        let old = seen(root);
        fault::arm(count, fault);
        let result = Saver::open(root, policy(Existing::Replace)).and_then(|saver| save(&saver, case, 2));
        let has_failed = fault::disarm();
        let context = format!("{case:?}, operation {count}, {fault:?}, flags {has_flags}: {result:?}");
        saver.background.wait_for_all();

        // Without an exchange of names there is a moment when the old one was moved away; who lives moves it back.
        let is_between = !has_flags && case == Case::Again && matches!(fault, Fault::FromThenOn(_));
        if !is_between {
            let is_new = |now: &Option<u8>, old: &Option<u8>| *now == *old || *now == Some(2);
            let now = seen(root);
            assert!(now.iter().zip(&old).all(|(now, old)| is_new(now, old)), "{context}: {now:?} after {old:?}");
        }
        if case == Case::Next {
            assert_eq!(generation(&Checkpoint::open(&root.join("step-00000001")).unwrap()), 1, "{context}");
        }

        let saver = Saver::open(root, policy(Existing::Replace)).unwrap_or_else(|error| panic!("{context}: {error}"));
        if case != Case::Single {
            let latest = saver.latest().unwrap().expect("there was one");
            let healed = generation(&latest);
            assert!(healed == 2 || (healed == 1 && result.is_err()), "{context}: healed to {healed}");
            assert_eq!(seen(root)[..2], [Some(healed), Some(healed)], "{context}");
        }
        save(&saver, case, 3).unwrap_or_else(|error| panic!("{context}: {error}"));
        saver.finish().unwrap();
        fault::forget_rename_flags(false);
        let expected = if case == Case::Single { [None, None, Some(3)] } else { [Some(3), Some(3), None] };
        assert_eq!(seen(root), expected, "{context}");
        for entry in std::fs::read_dir(root).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.contains(".ckpt-tmp-") && !name.ends_with(".replaced"), "{context}: `{name}` is left");
        }
        if !has_failed {
            assert!(result.is_ok(), "{context}");
            return count;
        }
    }
    unreachable!("a save has finitely many operations")
}

fn sweep(fault: Fault, flags: &[bool]) {
    for case in [Case::Next, Case::Again, Case::Single] {
        for &has_flags in flags {
            let operations = every_operation(case, fault, has_flags);
            assert!(operations > 8, "only {operations} operations were counted");
        }
    }
}

#[test]
fn whatever_operation_fails_once_the_pointers_name_the_old_or_the_new() {
    sweep(Fault::Once(Errno::IO), &[true, false]);
}

#[test]
fn whatever_write_finds_the_disk_full_the_older_ones_stay() {
    sweep(Fault::Once(Errno::NOSPC), &[true]);
}

#[test]
fn a_write_that_takes_half_of_the_bytes_is_gone_on_with() {
    sweep(Fault::Short, &[true]);
}

#[test]
fn wherever_the_process_dies_the_next_open_mends_it() {
    sweep(Fault::FromThenOn(Errno::IO), &[true, false]);
}
