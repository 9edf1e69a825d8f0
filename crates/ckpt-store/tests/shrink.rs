//! compact and convert: what is kept, what is refused, and that damage is never carried on.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests prepare files")]

mod common;

use std::path::{Path, PathBuf};

use ckpt_core::ErrorKind;
use ckpt_core::format::safetensors;
use ckpt_core::inspect::Inspection;
use ckpt_core::layout::Class;
use ckpt_core::progress::Silent;
use ckpt_core::shrink::Choice;
use ckpt_core::verify::{Expectations, judge};
use ckpt_store::shrink::{Options, Outcome, Shrunk, compact, convert};
use ckpt_store::{inspect, verify};
use common::{fixture, names};

fn inspected(path: &Path) -> Inspection {
    inspect::inspect(&inspect::candidate(path).unwrap()).unwrap()
}

fn written(outcome: Outcome) -> Shrunk {
    match outcome {
        Outcome::Written(shrunk) => shrunk,
        Outcome::Already => panic!("nothing was written"),
    }
}

fn small(source: &str, name: &str) -> (tempfile::TempDir, PathBuf, Shrunk) {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().join(name);
    let shrunk = written(compact(&fixture(source), &to, &Options::default(), &Silent).unwrap());
    assert_eq!(names(directory.path()), [name]);
    (directory, to, shrunk)
}

#[test]
fn what_training_needs_goes_and_everything_else_stays_readable() {
    for name in ["small.pth", "small.safetensors"] {
        let source = fixture("torch/full_resumable.pth");
        let (_directory, path, shrunk) = small("torch/full_resumable.pth", name);
        let (before, after) = (inspected(&source), inspected(&path));
        assert_eq!((after.epoch, after.step), (before.epoch, before.step), "{name}");
        let values = |inspection: &Inspection| {
            let mut values: Vec<_> =
                inspection.metrics.iter().map(|metric| (metric.name.clone(), metric.value)).collect();
            values.sort_by(|one, other| one.0.cmp(&other.0));
            values
        };
        assert_eq!(values(&after), values(&before), "{name}");
        assert!(after.is_valid() && after.findings.is_empty(), "{name}: {:?}", after.findings);
        assert_eq!(verify::deep(&inspect::candidate(&path).unwrap()).unwrap(), [], "{name}");
        assert!(after.parts.model && !after.parts.optimizer && !after.parts.scheduler && !after.parts.rng, "{name}");
        assert!(shrunk.bytes_after < shrunk.bytes_before / 2, "{name}: {shrunk:?}");
        assert!(shrunk.account.dropped.iter().all(|dropped| !dropped.reason.is_empty()));
    }
}

#[test]
fn a_file_that_declares_itself_inference_only_is_never_resumable() {
    for name in ["small.pth", "small.safetensors"] {
        let (_directory, path, _) = small("torch/full_resumable.pth", name);
        let mut inspection = inspected(&path);
        assert_eq!(inspection.class, Class::InferenceOnly, "{name}");
        // Whatever it may hold.
        inspection.parts.optimizer = true;
        let expected = Expectations { resumable: true, ..Expectations::default() };
        let verdict = judge(&inspection, Vec::new(), &expected);
        assert!(!verdict.is_valid && verdict.reason().unwrap().message.contains("inference-only"), "{verdict:?}");
    }
    // The whole optimizer under its own name, in a file that says what it is.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("all.safetensors");
    let options = Options { choice: Choice::All { is_compact: false }, force: false };
    convert(&fixture("torch/detectron2_style.pth"), &path, &options, &Silent).unwrap();
    let header = safetensors::read(&std::fs::read(&path).unwrap().as_slice()).unwrap();
    assert!(header.tensors.keys().any(|name| name.starts_with("optimizer.state.0.")));
    assert_eq!(inspected(&path).class, Class::InferenceOnly);
}

#[test]
fn a_second_time_there_is_nothing_to_do() {
    for name in ["small.pth", "small.safetensors"] {
        let (directory, path, _) = small("torch/full_resumable.pth", name);
        let again = directory.path().join("again").with_extension(path.extension().unwrap());
        assert_eq!(compact(&path, &again, &Options::default(), &Silent).unwrap(), Outcome::Already, "{name}");
        assert!(!again.exists());
    }
}

#[test]
fn only_the_bytes_that_tensors_use_are_written_and_what_shared_a_storage_still_does() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("views.safetensors");
    let options = Options::default();
    convert(&fixture("torch/tensor_views.pth"), &path, &options, &Silent).unwrap();
    let inspection = inspected(&path);
    let bytes = std::fs::read(&path).unwrap();
    let header = safetensors::read(&bytes.as_slice()).unwrap();
    assert_eq!(inspection.tensors.bytes, bytes.len() as u64 - header.data_offset);
    let (_directory, path, _) = small("torchvision/model_3.pth", "small.pth");
    assert_eq!(inspected(&path).tensors.count, 104);
}

#[test]
fn nothing_is_overwritten_unless_asked_and_never_the_source() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("a.pth");
    std::fs::copy(fixture("torch/zip_default.pth"), &source).unwrap();
    let to = directory.path().join("b.pth");
    std::fs::write(&to, "mine").unwrap();
    let forced = Options { force: true, ..Options::default() };
    let kind = |from: &Path, to: &Path, options: &Options| compact(from, to, options, &Silent).unwrap_err().kind();
    assert_eq!(kind(&source, &to, &Options::default()), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&to).unwrap(), b"mine");
    assert_eq!(kind(&source, &source, &forced), ErrorKind::Invalid);
    let link = directory.path().join("link.pth");
    std::os::unix::fs::symlink(&source, &link).unwrap();
    assert_eq!(kind(&source, &link, &forced), ErrorKind::Invalid);
    std::fs::create_dir(directory.path().join("d.pth")).unwrap();
    assert_eq!(kind(&source, &directory.path().join("d.pth"), &forced), ErrorKind::AlreadyExists);
    assert_eq!(kind(&source, &directory.path().join("x.gguf"), &forced), ErrorKind::Invalid);
    written(compact(&source, &to, &forced, &Silent).unwrap());
    assert!(inspected(&to).is_valid());
    assert_eq!(names(directory.path()).len(), 4);
}

#[test]
fn what_is_hostile_or_damaged_gives_an_error_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut count = 0;
    for folder in ["hostile", "broken"] {
        for entry in std::fs::read_dir(fixture(folder)).unwrap() {
            let from = entry.unwrap().path();
            // These are whole as far as their own model goes: bombs that do not go off, remarks, a checksum beside it.
            let name = from.file_name().unwrap().to_str().unwrap().to_owned();
            if !from.is_file() || name.ends_with(".md") {
                continue;
            }
            for to in ["x.pth", "x.safetensors"] {
                let to = directory.path().join(to);
                let options = Options { choice: Choice::All { is_compact: false }, force: false };
                let options = if to.extension().unwrap() == "pth" { Options::default() } else { options };
                match compact(&from, &to, &options, &Silent) {
                    Ok(Outcome::Written(_)) => {
                        assert!(inspected(&from).is_valid(), "{name}");
                        assert_eq!(verify::deep(&inspect::candidate(&to).unwrap()).unwrap(), [], "{name}");
                        std::fs::remove_file(&to).unwrap();
                    }
                    Ok(Outcome::Already) => assert!(inspected(&from).is_valid(), "{name}"),
                    Err(error) => {
                        count += 1;
                        if folder == "hostile"
                            && inspected(&from).safety.verdict == ckpt_core::format::safety::Risk::Dangerous
                        {
                            let expected =
                                [ErrorKind::Refused, ErrorKind::Unsupported, ErrorKind::Corrupt, ErrorKind::Incomplete];
                            assert!(expected.contains(&error.kind()), "{name}: {error}");
                        }
                    }
                }
                assert_eq!(names(directory.path()), Vec::<String>::new(), "{name}");
            }
        }
    }
    assert!(count > 40, "{count}");
}

/// Flips and cuts everywhere: an error, or the very tensors of the undamaged file.
#[test]
fn no_flipped_bit_and_no_cut_reaches_the_new_file() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("in.pth"), directory.path().join("out.safetensors"));
    let sound = std::fs::read(fixture("torch/zip_default.pth")).unwrap();
    let options = Options { force: true, ..Options::default() };
    std::fs::write(&from, &sound).unwrap();
    convert(&from, &to, &options, &Silent).unwrap();
    let expected = std::fs::read(&to).unwrap();
    let tensors = |bytes: &[u8]| {
        let header = safetensors::read(&bytes).unwrap();
        let start = usize::try_from(header.data_offset).unwrap();
        (header.tensors, bytes[start..].to_vec())
    };
    let mut refused = 0;
    let mut check = |damaged: &[u8], what: String| {
        std::fs::remove_file(&to).ok();
        std::fs::write(&from, damaged).unwrap();
        match convert(&from, &to, &options, &Silent) {
            Ok(_) => assert!(tensors(&std::fs::read(&to).unwrap()) == tensors(&expected), "{what}"),
            Err(_) => {
                refused += 1;
                assert_eq!(names(directory.path()), ["in.pth"], "{what}");
            }
        }
    };
    for position in (0..sound.len()).step_by(37) {
        let mut damaged = sound.clone();
        damaged[position] ^= 1 << (position % 8);
        check(&damaged, format!("bit flipped in byte {position}"));
    }
    for length in (0..sound.len()).step_by(211) {
        check(&sound[..length], format!("cut to {length} bytes"));
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn of_several_models_one_must_be_chosen() {
    let directory = tempfile::tempdir().unwrap();
    let source = fixture("torch/full_resumable.pth");
    let to = directory.path().join("x.safetensors");
    let by_key = |key: &str| Options { choice: Choice::Key(key.to_owned()), force: true };
    let kept = |options: &Options| written(convert(&source, &to, options, &Silent).unwrap()).account;
    assert!(kept(&Options::default()).kept.iter().any(|kept| kept.key == "model_state_dict" && kept.tensors > 0));
    assert!(kept(&by_key("ema_state_dict")).kept.iter().any(|kept| kept.key == "ema_state_dict" && kept.tensors > 0));
    assert_eq!(convert(&source, &to, &by_key("nosuch"), &Silent).unwrap_err().kind(), ErrorKind::NotFound);
    let pth = directory.path().join("x.pth");
    assert_eq!(compact(&source, &pth, &by_key("ema_state_dict"), &Silent).unwrap_err().kind(), ErrorKind::Invalid);
    // An averaged copy is not another model.
    let diffusion =
        common::repository("examples/data/kaggle/input/notebooks/user123/hmolqd-training/checkpoints/final_model.pth");
    assert!(diffusion.is_file());
    let account =
        written(convert(&diffusion, &to, &Options { force: true, ..Options::default() }, &Silent).unwrap()).account;
    assert!(account.kept.iter().any(|kept| kept.key == "diffusion_state_dict" && kept.tensors > 0), "{account:?}");
    assert!(account.dropped.iter().any(|dropped| dropped.key == "ema_diffusion_state_dict"), "{account:?}");
}
