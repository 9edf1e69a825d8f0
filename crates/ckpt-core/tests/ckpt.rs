//! The directories that this project saves: what they say, and that no damage to them is missed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use ckpt_core::finding::{Code, Finding, Severity};
use ckpt_core::format::safety::Risk;
use ckpt_core::format::{Format, deep};
use ckpt_core::ids::{Epoch, Step};
use ckpt_core::inspect::{self, DirectoryKind, Inspection, recognise};
use ckpt_core::layout::{Class, Layout};
use ckpt_core::members::{Members, MemoryMembers};
use ckpt_core::metric::Direction;
use common::{errors, manifest, saved, saved_files};

mod common;

const NAME: &str = "step-00001200";

fn inspected(members: &dyn Members) -> Inspection {
    inspect::directory(NAME, DirectoryKind::Ckpt, members).unwrap()
}

fn deep_errors(members: &dyn Members) -> Vec<Finding> {
    let mut findings = deep::directory(DirectoryKind::Ckpt, members).unwrap();
    findings.retain(|finding| finding.severity == Severity::Error);
    findings
}

fn is_invalid(members: &dyn Members) -> bool {
    !inspected(members).is_valid() || !deep_errors(members).is_empty()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_saved_directory_says_what_its_manifest_says() {
    let members = saved(&saved_files());
    let inspection = inspected(&members);
    assert_eq!(errors(&inspection), []);
    assert_eq!((inspection.format, inspection.layout), (Format::Directory, Layout::Ckpt));
    assert_eq!((inspection.step, inspection.epoch), (Some(Step(1200)), Some(Epoch::from(3))));
    assert_eq!(inspection.resume_epoch(), Some(4));
    assert_eq!((inspection.sequence, inspection.run_id.as_deref()), (Some(7), Some("run")));
    assert_eq!(inspection.saved_ns, Some(1_700_000_000_000_000_000));
    assert_eq!(inspection.class, Class::Resumable);
    assert_eq!(inspection.keys, ["manifest.json", "model.safetensors", "optimizer.safetensors", "trainer_state.json"]);
    let accuracy = &inspection.metrics[0];
    assert_eq!((accuracy.value, accuracy.direction), (0.5, Some(Direction::Max)));
    assert_eq!(accuracy.provenance, "manifest.json");
    assert!(inspection.metrics[1].value.is_nan());
    let parts = inspection.parts;
    assert!(parts.model && parts.optimizer && parts.rng && parts.history && !parts.loader);
    assert_eq!((inspection.tensors.count, inspection.tensors.bytes), (2, 32));
    assert_eq!(inspection.safety.verdict, Risk::Safe);
    assert_eq!(inspection.findings, []);
    assert_eq!(inspection.bytes, members.list().values().sum::<u64>());
    assert_eq!(deep::directory(DirectoryKind::Ckpt, &members).unwrap(), []);
}

#[test]
fn every_cut_of_every_file_is_noticed_without_reading_it_whole() {
    let files = saved_files();
    let whole = saved(&files);
    for name in whole.list().keys() {
        let bytes = files.get(name).cloned().unwrap_or_else(|| manifest(&files).to_bytes());
        for end in 0..bytes.len() {
            let mut members = whole.clone();
            members.insert(name, bytes[..end].to_vec());
            assert!(!inspected(&members).is_valid(), "{name} cut at {end}");
        }
    }
}

#[test]
fn every_flipped_bit_of_every_file_is_found_by_reading_every_byte() {
    let files = saved_files();
    let whole = saved(&files);
    for name in whole.list().keys() {
        let bytes = files.get(name).cloned().unwrap_or_else(|| manifest(&files).to_bytes());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let mut members = whole.clone();
                members.insert(name, changed);
                assert!(is_invalid(&members), "bit {bit} of byte {at} of {name}");
            }
        }
    }
}

#[test]
fn a_file_that_is_missing_or_of_another_size_is_named() {
    let files = saved_files();
    let mut without = MemoryMembers::default();
    without.insert("manifest.json", manifest(&files).to_bytes());
    without.insert("model.safetensors", files["model.safetensors"].clone());
    without.insert("optimizer.safetensors", [files["optimizer.safetensors"].clone(), vec![0]].concat());
    let inspection = inspected(&without);
    assert_eq!(errors(&inspection)[..2], [Code::OutOfBounds, Code::MissingShard]);
    assert!(inspection.findings[1].message.contains("trainer_state.json"), "{:?}", inspection.findings);
}

#[test]
fn thousands_of_missing_files_are_few_findings() {
    let files: BTreeMap<String, Vec<u8>> = (0..5000).map(|number| (format!("{number}.bin"), vec![1])).collect();
    let mut members = MemoryMembers::default();
    members.insert("manifest.json", manifest(&files).to_bytes());
    let findings = inspected(&members).findings;
    assert_eq!(findings.len(), 17);
    assert!(findings[16].message.starts_with("5000 of 5000"), "{findings:?}");
}

#[test]
fn a_file_that_the_manifest_does_not_name_is_told_and_judged_and_counts_for_nothing() {
    let mut members = saved(&saved_files());
    members.insert("extra.safetensors", common::safetensors("more"));
    let inspection = inspected(&members);
    assert_eq!((errors(&inspection).len(), inspection.tensors.count), (0, 2));
    assert!(inspection.findings[0].message.contains("`extra.safetensors`"), "{:?}", inspection.findings);
    assert_eq!(inspection.findings[0].severity, Severity::Info);
    members.insert("planted.pth", b"cos\nsystem\n(S'id'\ntR.".to_vec());
    assert_eq!(errors(&inspected(&members)), [Code::Unsafe]);
}

#[test]
fn an_adopted_file_is_judged_as_it_is_elsewhere() {
    let adopted = |name: &str, bytes: Vec<u8>| saved(&BTreeMap::from([(name.to_owned(), bytes)]));
    let inspection = inspected(&adopted("checkpoint.pth", common::bytes("torch/full_resumable.pth")));
    assert_eq!(errors(&inspection), []);
    assert!(inspection.parts.model && inspection.parts.optimizer && inspection.tensors.count > 0);
    assert_eq!((inspection.step, inspection.epoch), (Some(Step(1200)), Some(Epoch::from(3))), "the manifest's");
    let planted = inspected(&adopted("checkpoint.pth", b"cos\nsystem\n(S'id'\ntR.".to_vec()));
    assert!(errors(&planted).contains(&Code::Unsafe), "{:?}", planted.findings);
    let broken = inspected(&adopted("checkpoint.pth", common::bytes("broken/trunc_in_data.pth")));
    assert_eq!(errors(&broken), [Code::Truncated]);
    let flipped = adopted("checkpoint.pth", common::bytes("broken/bitflip_in_data.pth"));
    assert_eq!(deep_errors(&flipped)[0].code, Code::CrcMismatch, "damaged before it was adopted");
    assert!(inspected(&adopted("vocabulary.bin", vec![7; 4000])).is_valid(), "a file of everyday use is no checkpoint");
}

#[test]
fn an_adopted_distributed_checkpoint_is_judged_as_it_is_elsewhere() {
    let plain = common::FsMembers::new(&common::root().join("dcp/step-100"));
    let files: BTreeMap<String, Vec<u8>> =
        plain.list().keys().map(|name| (name.clone(), common::bytes(&format!("dcp/step-100/{name}")))).collect();
    let members = saved(&files);
    let (ours, theirs) = (inspected(&members), common::inspect_directory("dcp/step-100"));
    assert_eq!(errors(&ours), []);
    assert_eq!((ours.tensors, ours.safety), (theirs.tensors, theirs.safety));
    assert_eq!((ours.parts, ours.step), (theirs.parts, Some(Step(1200))));
    assert_eq!(deep_errors(&members), []);
}

#[test]
fn a_manifest_of_a_newer_version_says_what_to_do() {
    let mut members = saved(&saved_files());
    members.insert("manifest.json", br#"{"schema": "ckpt.manifest/2"}"#.to_vec());
    let inspection = inspected(&members);
    assert_eq!(errors(&inspection).len(), 1);
    assert_eq!(inspection.step, Some(Step(1200)), "the directory's name still tells");
    assert!(inspection.parts.model && inspection.parts.optimizer, "what the files hold is still told");
}

#[test]
fn a_directory_is_ours_by_the_names_in_it() {
    let kind = |name: &str, files: &[&str]| recognise(name, &names(files), &BTreeSet::new());
    let ours = Some(DirectoryKind::Ckpt);
    assert_eq!(kind(NAME, &["manifest.json", "checkpoint.pth"]), ours);
    assert_eq!(kind("latest", &["manifest.json", "checkpoint.pth"]), ours);
    assert_eq!(kind("best-val%2Facc", &["manifest.json", "checkpoint.pth"]), ours);
    assert_eq!(kind("renamed", &["manifest.json", "trainer_state.json"]), ours);
    assert_eq!(kind("renamed", &["manifest.json", "model.safetensors"]), ours);
    assert_eq!(kind("renamed", &["manifest.json", "checkpoint.pth"]), None);
    assert_eq!(kind(NAME, &["checkpoint.pth", "model.safetensors"]), None);
}

#[test]
fn another_programs_manifest_makes_no_difference() {
    let hf = common::root().join("hf/run/checkpoint-8");
    let plain = common::FsMembers::new(&hf);
    let mut members = MemoryMembers::default();
    for name in plain.list().keys() {
        members.insert(name, common::bytes(&format!("hf/run/checkpoint-8/{name}")));
    }
    members.insert("manifest.json", br#"{"name": "an app", "icons": []}"#.to_vec());
    let (with, without) = (
        inspect::directory("checkpoint-8", DirectoryKind::Ckpt, &members).unwrap(),
        inspect::directory("checkpoint-8", DirectoryKind::HfTrainer, &plain).unwrap(),
    );
    assert_eq!((with.layout, with.step, with.metrics), (Layout::HfTrainer, without.step, without.metrics));
    assert!(with.findings.is_empty() && with.sequence.is_none());
    let mut other = MemoryMembers::default();
    other.insert("manifest.json", b"{}".to_vec());
    other.insert("model.safetensors", common::safetensors("weight"));
    assert_eq!(inspected(&other).format, Format::Unknown);
    assert!(!inspected(&other).is_valid());
}

#[test]
fn epoch_and_step_zero_are_told() {
    let files = saved_files();
    let mut manifest = manifest(&files);
    (manifest.step, manifest.epoch) = (Step(0), Epoch::new(0.0));
    let mut members = saved(&files);
    members.insert("manifest.json", manifest.to_bytes());
    let inspection = inspect::directory("step-00000000", DirectoryKind::Ckpt, &members).unwrap();
    assert_eq!((inspection.step, inspection.epoch), (Some(Step(0)), Some(Epoch::from(0))));
    assert!(inspection.is_valid());
}
