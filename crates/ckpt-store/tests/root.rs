//! The directories that this project saves, and what lies beside them: found once, chosen by commit, copied whole.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests prepare files")]

mod common;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ckpt_core::ErrorKind;
use ckpt_core::candidate::Shape;
use ckpt_core::format::dtype::Dtype;
use ckpt_core::inspect::{DirectoryKind, Inspection};
use ckpt_core::location::Location;
use ckpt_core::manifest::Pointer;
use ckpt_core::progress::Silent;
use ckpt_core::select::{Choice, Criteria};
use ckpt_core::verify::Expectations;
use ckpt_core::{digest::Digest, ids::Step};
use ckpt_store::save::{Policy, Saver, Tensor};
use ckpt_store::scan::{DEFAULT_DEPTH, Scan, scan};
use ckpt_store::{Options, Survey, choose, fetch, survey, verify};
use common::{fixture, names, newer, put, read_only, safetensors, save, tree, writable};

/// A root with steps 800, 1200 and, after going back, 900; with pointers, a lock, a pin and leftovers of a killed save.
fn root() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("run");
    for (step, sequence) in [(800, 3), (1200, 4), (900, 5)] {
        save(&root, step, sequence);
    }
    for (name, target, step) in [("latest", "step-00000900", 900), ("best-val%2Facc", "step-00001200", 1200)] {
        let manifest = Digest::of(&std::fs::read(root.join(target).join("manifest.json")).unwrap());
        let pointer = Pointer { checkpoint: target.to_owned(), step: Step(step), sequence: 1, manifest, metric: None };
        symlink(target, root.join(name)).unwrap();
        std::fs::write(root.join(format!("{name}.json")), pointer.to_bytes()).unwrap();
    }
    std::fs::write(root.join(".ckpt-lock"), "").unwrap();
    put(&root.join("step-00000800"), &root.join(".step-00001300.ckpt-tmp-1-2"));
    put(&root.join("step-00000800/manifest.json"), &root.join(".ckpt-pins/step-00000800"));
    (directory, root)
}

fn scanned(root: &Path) -> Scan {
    scan(&[Location::Path(root.to_owned())], DEFAULT_DEPTH)
}

fn surveyed(root: &Path) -> Survey {
    survey(&[Location::Path(root.to_owned())], &Expectations::default(), &Options::default(), &Silent).unwrap()
}

fn found(scan: &Scan) -> Vec<String> {
    scan.candidates.iter().map(ckpt_core::candidate::Candidate::name).collect()
}

fn taken(root: &Path, names: &[&str]) -> PathBuf {
    let names = names.iter().map(|name| name.parse().unwrap()).collect();
    let criteria = Criteria { choice: Choice::Latest, names, ..Criteria::default() };
    let selection = choose(surveyed(root).verified, &criteria, &Expectations::default(), false, &Silent).unwrap();
    selection.selected().unwrap().candidate.path.clone()
}

#[test]
fn steps_are_candidates_and_pointers_are_other_names_of_them() {
    let (_directory, root) = root();
    let scan = scanned(&root);
    assert_eq!(found(&scan), ["step-00000800", "step-00000900", "step-00001200"]);
    let aliases: Vec<_> = scan.candidates.iter().map(|candidate| candidate.aliases.clone()).collect();
    assert_eq!(aliases, [vec![], vec![root.join("latest")], vec![root.join("best-val%2Facc")]]);
    assert!(scan.candidates.iter().all(|candidate| candidate.shape == Shape::Directory(DirectoryKind::Ckpt)));
    assert!(scan.places.iter().all(|place| place.problem.is_none()), "{:?}", scan.places);
    assert!(surveyed(&root).verified.iter().all(|item| item.verdict.is_valid && item.verdict.findings.is_empty()));
}

#[test]
fn the_latest_is_what_the_pointer_names_and_pointers_can_be_asked_for() {
    let (_directory, root) = root();
    assert_eq!(taken(&root, &[]), root.join("step-00000900"));
    assert_eq!(taken(&root, &["latest"]), root.join("latest"));
    assert_eq!(taken(&root, &["best-*"]), root.join("best-val%2Facc"));
}

#[test]
fn where_links_became_copies_or_texts_the_latest_is_the_same() {
    let (_directory, root) = root();
    let step = |path: &Path| writable(path).inspection.step;
    std::fs::remove_file(root.join("latest")).unwrap();
    put(&root.join("step-00000900"), &root.join("latest"));
    std::fs::remove_file(root.join("best-val%2Facc")).unwrap();
    std::fs::write(root.join("best-val%2Facc"), "step-00001200").unwrap();
    assert_eq!(found(&scanned(&root)), ["latest", "step-00000800", "step-00000900", "step-00001200"]);
    assert_eq!(surveyed(&root).verified.len(), 4);
    assert_eq!(taken(&root, &[]), root.join("step-00000900"), "a step's own name before a copy of it");
    assert_eq!(step(&taken(&root, &["latest"])), Some(Step(900)));
    std::fs::remove_dir_all(root.join("latest")).unwrap();
    std::fs::write(root.join("latest"), "step-00000900").unwrap();
    assert_eq!(surveyed(&root).verified.len(), 3);
    assert_eq!(taken(&root, &[]), root.join("step-00000900"));
    // Texts whose names end like a checkpoint's.
    std::fs::write(root.join("best-x.pt"), "step-00000900").unwrap();
    std::fs::write(root.join("best-x.pt.json"), "{}").unwrap();
    assert_eq!(surveyed(&root).verified.len(), 3);
}

#[test]
fn a_step_without_its_manifest_is_the_files_in_it() {
    let (_directory, root) = root();
    std::fs::remove_file(root.join("step-00000900/manifest.json")).unwrap();
    std::fs::remove_file(root.join("step-00000900/trainer_state.json")).unwrap();
    let scan = scanned(&root);
    assert_eq!(found(&scan), ["step-00000800", "model.safetensors", "optimizer.safetensors", "step-00001200"]);
    assert_eq!(taken(&root, &["step-*"]), root.join("step-00001200"));
}

#[test]
fn what_a_step_is_replaced_with_or_by_counts_only_where_it_is_the_only_one() {
    let (_directory, root) = root();
    put(&root.join("step-00000900"), &root.join("step-00000900.replaced"));
    assert_eq!(found(&scanned(&root)), ["step-00000800", "step-00000900", "step-00001200"]);
    std::fs::remove_dir_all(root.join("step-00000900")).unwrap();
    std::fs::remove_file(root.join("latest")).unwrap();
    assert_eq!(taken(&root, &[]), root.join("step-00000900.replaced"));
}

#[test]
fn what_the_saver_writes_is_found_and_sound() {
    let directory = tempfile::tempdir().unwrap();
    let saver = Saver::open(directory.path(), Policy::default()).unwrap();
    let bytes = 1.0_f32.to_le_bytes();
    for (step, loss) in [(5, 0.5), (9, 0.75), (7, 0.625)] {
        let mut pending = saver.begin(Step(step)).unwrap();
        pending.metric("loss", loss, None).unwrap();
        let tensor = || [Tensor::new("weight", Dtype::of_torch("float32"), [1], &bytes)];
        pending.tensors("model", tensor()).unwrap();
        pending.tensors("optimizer", tensor()).unwrap();
        pending.json("trainer_state", &serde_json::json!({"epoch": step, "rng": {"a": 1}})).unwrap();
        pending.commit().unwrap();
    }
    drop(saver);
    let root = directory.path();
    assert_eq!(taken(root, &[]), root.join("step-00000007"));
    assert_eq!(taken(root, &["best-*"]), root.join("best-loss"));
    let options = Options { deep: true, ..Options::default() };
    let survey = survey(&[Location::Path(root.to_owned())], &Expectations::default(), &options, &Silent).unwrap();
    assert_eq!(survey.verified.len(), 3);
    for item in survey.verified {
        assert!(item.verdict.is_valid && item.verdict.findings.is_empty(), "{:?}", item.verdict);
        let Inspection { step, epoch, parts, sequence, .. } = item.inspection;
        assert_eq!(epoch.map(|epoch| epoch.to_string()), step.map(|step| step.to_string()));
        assert!(parts.model && parts.optimizer && parts.rng && sequence.is_some());
    }
}

#[test]
fn a_damaged_latest_is_fallen_back_from() {
    let (_directory, root) = root();
    std::fs::write(root.join("step-00000900/model.safetensors"), safetensors("w")).unwrap();
    assert_eq!(taken(&root, &[]), root.join("step-00001200"));
}

#[test]
fn another_programs_manifest_hides_no_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for place in ["app", "app/deeper", "step-00000007"] {
        std::fs::create_dir_all(path(place)).unwrap();
        std::fs::write(path(place).join("manifest.json"), r#"{"name": "an app"}"#).unwrap();
        std::fs::write(path(place).join("model.safetensors"), safetensors("weight")).unwrap();
    }
    put(&newer(), &path("app/deeper/x.pth"));
    put(&fixture("hf/run/checkpoint-8"), &path("hf/checkpoint-8"));
    std::fs::write(path("hf/checkpoint-8/manifest.json"), "{}").unwrap();
    let survey = surveyed(directory.path());
    let mut found: Vec<_> = survey
        .verified
        .iter()
        .map(|item| (item.candidate.path.strip_prefix(directory.path()).unwrap().to_owned(), item.verdict.is_valid))
        .collect();
    found.sort();
    let expected = [
        "app/deeper/model.safetensors",
        "app/deeper/x.pth",
        "app/model.safetensors",
        "hf/checkpoint-8",
        "step-00000007/model.safetensors",
    ];
    assert_eq!(found, expected.map(|name| (PathBuf::from(name), true)));
}

#[test]
fn a_run_with_a_state_and_a_manifest_of_its_own_does_not_hide_its_steps() {
    let (_directory, root) = root();
    std::fs::write(root.join("manifest.json"), "{}").unwrap();
    std::fs::write(root.join("trainer_state.json"), "{}").unwrap();
    assert_eq!(found(&scanned(&root)), ["step-00000800", "step-00000900", "step-00001200"]);
}

#[test]
fn a_copy_is_whole_of_the_same_name_and_as_its_manifest_says() {
    let (directory, root) = root();
    let to = directory.path().join("working");
    let source = root.join("step-00000900");
    let options = fetch::Options::default();
    let fetched = fetch::fetch(&read_only(&source), &to, &options, &Silent).unwrap();
    assert_eq!(fetched.path, to.join("step-00000900"));
    assert_eq!(tree(&fetched.path), tree(&source));
    assert_eq!(names(&to), ["step-00000900"]);
    assert!(verify::deep(&writable(&fetched.path).candidate).unwrap().is_empty());
    let again = fetch::fetch(&read_only(&root.join("latest")), &to, &options, &Silent).unwrap();
    assert_eq!((again.path, again.is_copied), (to.join("step-00000900"), false), "a pointer's name is no step's");
}

#[test]
fn bytes_that_are_not_those_of_the_manifest_are_not_copied() {
    let (directory, root) = root();
    let (to, source) = (directory.path().join("working"), root.join("step-00000900"));
    let path = source.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let chosen = read_only(&source);
    assert!(chosen.verdict.is_valid, "only its bytes tell");
    let error = fetch::fetch(&chosen, &to, &fetch::Options::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("manifest"), "{error}");
    assert_eq!(names(&to), Vec::<String>::new());
    assert!(!verify::deep(&chosen.candidate).unwrap().is_empty());
}
