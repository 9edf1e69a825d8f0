//! Saves are whole, told right, and never interleaved; whoever saves asynchronously is told what went wrong.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests prepare files and look at them")]

mod common;

use std::path::Path;

use ckpt_core::ErrorKind;
use ckpt_core::format::dtype::Dtype;
use ckpt_core::ids::{Epoch, Step};
use ckpt_core::layout::Class;
use ckpt_core::manifest::Pointer;
use ckpt_core::metric::Direction;
use ckpt_core::prune::Retention;
use ckpt_store::Result;
use ckpt_store::load::{Checkpoint, Tensors};
use ckpt_store::save::{Committed, Existing, Overlap, PendingSave, Policy, Saver, Tensor, Tracked};
use common::{Mounted, names, tree};

fn bytes(value: u8) -> Vec<u8> {
    vec![value; 1 << 20]
}

fn weights(bytes: &[u8]) -> Tensor<'_> {
    Tensor::new("w", Dtype::of_torch("uint8"), [bytes.len() as u64], bytes)
}

fn pending<'s, 'a>(saver: &'s Saver, step: u64, accuracy: f64, state: &'a [u8]) -> PendingSave<'s, 'a> {
    let mut pending = saver.begin(Step(step)).unwrap();
    pending.metric("accuracy", accuracy, None).unwrap();
    pending.tensors("model", [weights(state)]).unwrap();
    pending
}

fn save(saver: &Saver, step: u64, accuracy: f64) -> Result<Committed> {
    pending(saver, step, accuracy, &[7; 16]).commit()
}

fn linked(root: &Path, name: &str) -> String {
    std::fs::read_link(root.join(name)).unwrap().to_str().unwrap().to_owned()
}

fn step(checkpoint: Option<Checkpoint>) -> Option<u64> {
    Some(checkpoint?.manifest().step.0)
}

#[test]
fn what_is_saved_is_read_back_and_the_manifest_tells_it_all() {
    let directory = tempfile::tempdir().unwrap();
    let extra = directory.path().join("config.yaml");
    std::fs::write(&extra, "lr: 0.1\n").unwrap();
    let root = directory.path().join("new/root");
    let saver = Saver::open(&root, Policy { run_id: Some("r1".to_owned()), ..Policy::default() }).unwrap();
    let (one, other) = (bytes(1), [0_u8; 8]);
    let mut pending = saver.begin(Step(1200)).unwrap();
    pending.epoch(Epoch::from(3)).metric("loss", f64::NAN, Some(Direction::Min)).unwrap();
    pending.tensors("model", [weights(&one), Tensor::new("b", Dtype::of_torch("bfloat16"), [2, 2], &other)]).unwrap();
    pending.tensors("optimizer", [Tensor::new("m", Dtype::of_torch("int64"), [], &other)]).unwrap();
    pending.json("trainer_state", &serde_json::json!({"epoch": 3})).unwrap();
    pending.file("code/config.yaml", &extra).unwrap();
    let committed = pending.commit().unwrap();
    assert_eq!((committed.step, committed.path.as_path()), (Step(1200), root.join("step-00001200").as_path()));

    let found = Checkpoint::open(&root.join("latest")).unwrap();
    found.verify().unwrap();
    let manifest = found.manifest();
    assert_eq!((manifest.run_id.as_str(), manifest.sequence, manifest.step), ("r1", 1, Step(1200)));
    assert_eq!((manifest.epoch, manifest.class, &manifest.parent), (Some(Epoch::from(3)), Class::Resumable, &None));
    let files: Vec<&String> = manifest.files.keys().collect();
    assert_eq!(files, ["code/config.yaml", "model.safetensors", "optimizer.safetensors", "trainer_state.json"]);
    let model = found.tensors("model").unwrap();
    assert_eq!(model.get("w").unwrap(), weights(&one));
    assert_eq!(model.get("b").unwrap().shape, [2, 2]);
    assert_eq!(found.tensors("optimizer").unwrap().get("m").unwrap().shape, [0; 0]);
    assert_eq!(found.json::<serde_json::Value>("trainer_state").unwrap()["epoch"], 3);
    assert_eq!(found.bytes("code/config.yaml").unwrap(), b"lr: 0.1\n");
    assert_eq!(found.bytes("nothing").unwrap_err().kind(), ErrorKind::NotFound);
    // A metric that is not finite is never the best.
    assert_eq!(names(&root), [".ckpt-lock", "latest", "latest.json", "step-00001200"]);
}

#[test]
fn the_best_pointer_moves_only_to_what_is_better_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for (step, accuracy) in [(1, 0.5), (2, 0.9), (3, 0.7), (4, f64::INFINITY), (5, 0.9)] {
        let saver = Saver::open(root, Policy::default()).unwrap();
        let committed = save(&saver, step, accuracy).unwrap();
        assert_eq!(committed.best_by, if step <= 2 { vec!["accuracy".to_owned()] } else { vec![] });
    }
    assert_eq!(linked(root, "best-accuracy"), "step-00000002");
    assert_eq!(linked(root, "latest"), "step-00000005");
    let saver = Saver::open(root, Policy::default()).unwrap();
    assert_eq!(step(saver.best("accuracy").unwrap()), Some(2));
    assert_eq!(saver.best("loss").unwrap().map(|_| ()), None);
    let manifest = saver.latest().unwrap().unwrap().manifest().clone();
    assert_eq!((manifest.sequence, manifest.parent.as_deref()), (5, Some("step-00000004")));
    assert_eq!(manifest.run_id, Checkpoint::open(&root.join("step-00000001")).unwrap().manifest().run_id);
}

#[test]
fn after_going_back_the_latest_is_the_last_one_saved() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let saver = Saver::open(root, Policy::default()).unwrap();
    for step in [100, 200, 150] {
        save(&saver, step, 0.1).unwrap();
    }
    assert_eq!(step(saver.latest().unwrap()), Some(150));
    // Also when the pointers are lost.
    for name in ["latest", "latest.json"] {
        std::fs::remove_file(root.join(name)).unwrap();
    }
    assert_eq!(step(Saver::open(root, Policy::default()).unwrap().latest().unwrap()), Some(150));
    assert_eq!(linked(root, "latest"), "step-00000150");
}

#[test]
fn a_commit_after_going_back_whose_saver_died_before_the_pointers_is_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let saver = Saver::open(root, Policy::default()).unwrap();
    for step in [100, 200] {
        save(&saver, step, 0.5).unwrap();
    }
    // The pointer file as it was, with its time.
    std::fs::hard_link(root.join("latest.json"), root.join("kept")).unwrap();
    save(&saver, 150, 0.1).unwrap();
    std::fs::rename(root.join("kept"), root.join("latest.json")).unwrap();
    let saver = Saver::open(root, Policy::default()).unwrap();
    assert_eq!(step(saver.latest().unwrap()), Some(150));
    assert_eq!(linked(root, "latest"), "step-00000150");
    save(&saver, 160, 0.1).unwrap();
    assert_eq!(saver.latest().unwrap().unwrap().manifest().sequence, 4, "no number is given twice");
}

#[test]
fn lost_broken_and_lying_pointers_are_found_anew() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let saver = Saver::open(root, Policy::default()).unwrap();
    for (step, accuracy) in [(1, 0.5), (2, 0.9), (3, 0.7)] {
        save(&saver, step, accuracy).unwrap();
    }
    let whole = tree(root);
    let remove = |name: &str| std::fs::remove_file(root.join(name)).unwrap();
    let damages: [&dyn Fn(); 6] = [
        &|| ["latest", "latest.json", "best-accuracy", "best-accuracy.json"].into_iter().for_each(remove),
        &|| remove("best-accuracy.json"),
        &|| remove("latest"),
        &|| {
            let text = std::fs::read_to_string(root.join("latest.json")).unwrap();
            std::fs::write(root.join("latest.json"), &text[..text.len() / 2]).unwrap();
        },
        &|| {
            // A link that another program turned to an older one.
            remove("latest");
            std::os::unix::fs::symlink("step-00000001", root.join("latest")).unwrap();
        },
        &|| {
            // What a zip archive without links leaves.
            remove("latest");
            std::fs::write(root.join("latest"), "step-00000003").unwrap();
        },
    ];
    for (index, damage) in damages.iter().enumerate() {
        damage();
        drop(Saver::open(root, Policy::default()).unwrap());
        assert_eq!(tree(root), whole, "damage {index}");
        assert_eq!(linked(root, "latest"), "step-00000003", "damage {index}");
        assert_eq!(linked(root, "best-accuracy"), "step-00000002", "damage {index}");
    }
    // What the best pointer named is deleted by hand.
    std::fs::remove_dir_all(root.join("step-00000002")).unwrap();
    drop(Saver::open(root, Policy::default()).unwrap());
    assert_eq!(linked(root, "best-accuracy"), "step-00000003");
    for name in ["step-00000001", "step-00000003"] {
        std::fs::remove_dir_all(root.join(name)).unwrap();
    }
    drop(Saver::open(root, Policy::default()).unwrap());
    assert_eq!(names(root), [".ckpt-lock"], "nothing points to nowhere");
}

#[test]
fn files_of_others_under_a_pointers_name_stay() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    std::fs::write(root.join("best-accuracy.json"), r#"{"mine": 1}"#).unwrap();
    std::fs::create_dir(root.join("latest")).unwrap();
    std::fs::write(root.join("latest/x"), "mine").unwrap();
    for step in [1, 2] {
        save(&Saver::open(root, Policy::default()).unwrap(), step, 0.5).unwrap();
    }
    assert_eq!(std::fs::read(root.join("best-accuracy.json")).unwrap(), br#"{"mine": 1}"#);
    assert_eq!(std::fs::read(root.join("latest/x")).unwrap(), b"mine");
    let pointer = Pointer::parse(&std::fs::read(root.join("latest.json")).unwrap()).unwrap();
    assert_eq!(pointer.checkpoint, "step-00000002");
}

#[test]
fn a_step_that_is_there_is_refused_or_replaced_as_the_policy_says() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let saver = Saver::open(root, Policy::default()).unwrap();
    save(&saver, 1, 0.9).unwrap();
    let before = tree(root);
    assert_eq!(save(&saver, 1, 0.1).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(tree(root), before);
    let saver = Saver::open(root, Policy { existing: Existing::Replace, ..Policy::default() }).unwrap();
    save(&saver, 2, 0.5).unwrap();
    save(&saver, 1, 0.1).unwrap();
    assert_eq!(linked(root, "latest"), "step-00000001");
    assert_eq!(linked(root, "best-accuracy"), "step-00000002", "what was the best is gone");
    assert_eq!(names(root).len(), 7, "{:?}", names(root));
}

#[test]
fn dropping_a_save_leaves_no_trace_and_bad_requests_name_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let saver = Saver::open(root, Policy::default()).unwrap();
    drop(pending(&saver, 1, 0.5, &[0; 8]));
    assert_eq!(names(root), [".ckpt-lock"]);
    let mut pending = saver.begin(Step(1)).unwrap();
    let float = Dtype::of_torch("float32");
    let error = pending.tensors("model", [Tensor::new("w", float, [3], &[0_u8; 8][..])]).unwrap_err();
    assert!(error.to_string().contains("`w`") && error.to_string().contains("12 bytes and has 8"), "{error}");
    for name in ["../x", "/x", "manifest.json", ""] {
        assert_eq!(pending.file(name, Path::new("/dev/null")).unwrap_err().kind(), ErrorKind::Invalid, "{name}");
    }
    assert_eq!(pending.metric("", 1.0, None).unwrap_err().kind(), ErrorKind::Invalid);
    pending.json("x", &1).unwrap();
    assert_eq!(pending.json("x", &2).unwrap_err().kind(), ErrorKind::Invalid);
    drop(pending);
    assert_eq!(names(root), [".ckpt-lock"]);
}

#[test]
fn tensors_may_change_as_soon_as_an_asynchronous_save_returns() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let saver = Saver::open(root, Policy::default()).unwrap();
    let mut tickets = Vec::new();
    let mut state = bytes(0);
    for step in 1..=6_u8 {
        state.fill(step);
        let save = pending(&saver, u64::from(step), 0.5, &state);
        tickets.push(save.commit_async().unwrap());
        state.fill(255);
    }
    for (ticket, step) in tickets.iter().zip(1..) {
        let committed = ticket.wait().unwrap();
        assert!(ticket.is_done());
        let saved = Checkpoint::open(&committed.path).unwrap();
        assert_eq!(saved.tensors("model").unwrap().get("w").unwrap(), weights(&bytes(step)));
        assert_eq!(saved.manifest().sequence, u64::from(step), "in order");
    }
    saver.finish().unwrap();
    assert_eq!(linked(root, "latest"), "step-00000006");
}

#[test]
fn dropping_the_saver_waits_for_what_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let saver = Saver::open(root, Policy::default()).unwrap();
    drop(pending(&saver, 1, 0.5, &bytes(1)).commit_async().unwrap());
    drop(saver);
    Checkpoint::open(&root.join("latest")).unwrap().verify().unwrap();
}

#[test]
fn a_failed_asynchronous_save_is_told_once_by_the_ticket_or_by_the_next_call() {
    let directory = tempfile::tempdir().unwrap();
    let saver = Saver::open(directory.path(), Policy::default()).unwrap();
    save(&saver, 1, 0.5).unwrap();
    let asked = pending(&saver, 1, 0.5, &[0; 8]).commit_async().unwrap();
    assert_eq!(asked.wait().unwrap_err().kind(), ErrorKind::AlreadyExists);
    let unasked = pending(&saver, 1, 0.5, &[0; 8]).commit_async().unwrap();
    while !unasked.is_done() {
        std::thread::yield_now();
    }
    assert_eq!(saver.begin(Step(3)).unwrap_err().kind(), ErrorKind::AlreadyExists);
    drop(saver.begin(Step(3)).unwrap());
    let kept = pending(&saver, 1, 0.5, &[0; 8]).commit_async().unwrap();
    assert_eq!(saver.finish().unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(kept.wait().is_err(), "a ticket tells even when somebody else was told");
}

#[test]
fn a_policy_may_refuse_what_overlaps() {
    let directory = tempfile::tempdir().unwrap();
    let saver = Saver::open(directory.path(), Policy { overlap: Overlap::Refuse, ..Policy::default() }).unwrap();
    let state = vec![1; 64 << 20];
    let ticket = pending(&saver, 1, 0.5, &state).commit_async().unwrap();
    let refused = pending(&saver, 2, 0.5, &state).commit_async().map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    ticket.wait().unwrap();
    saver.finish().unwrap();
    assert!(!directory.path().join("step-00000002").exists());
}

#[test]
fn a_full_disk_is_found_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mounted) = Mounted::new(directory.path().join("disk"), "size=2m") else { return };
    let root = mounted.0.join("root");
    let saver = Saver::open(&root, Policy::default()).unwrap();
    save(&saver, 1, 0.5).unwrap();
    let before = tree(&root);
    let state = vec![0; 4 << 20];
    let error = pending(&saver, 2, 0.9, &state).commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.to_string().contains("bytes are needed"), "{error}");
    assert_eq!(tree(&root), before);
}

#[test]
fn a_single_file_takes_the_place_of_the_older_one_and_tells_its_facts() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let saver = Saver::open(root, Policy::default()).unwrap();
    for step in [1, 2] {
        let state = bytes(step);
        let mut save = pending(&saver, u64::from(step), 0.5, &state);
        save.epoch(Epoch::from(4));
        save.commit_file("best.safetensors").unwrap();
    }
    let state = bytes(3);
    assert_eq!(pending(&saver, 3, 0.5, &state).commit_file("x.pth").unwrap_err().kind(), ErrorKind::Invalid);
    saver.finish().unwrap();
    assert_eq!(names(root), [".ckpt-lock", "best.safetensors"]);
    let inspection =
        ckpt_store::inspect::inspect(&ckpt_store::inspect::candidate(&root.join("best.safetensors")).unwrap());
    let inspection = inspection.unwrap();
    assert_eq!((inspection.step, inspection.epoch), (Some(Step(2)), Some(Epoch::from(4))));
    assert_eq!(inspection.metrics[0].value, 0.5);
    let read = Tensors::read(&root.join("best.safetensors")).unwrap();
    assert_eq!(read.get("w").unwrap(), weights(&bytes(2)));
    assert_eq!((read.metadata()["step"].as_str(), read.metadata()["accuracy"].as_str()), ("2", "0.5"));
}

#[test]
fn only_the_tracked_metrics_have_pointers() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let best = Tracked::Only(vec!["val/loss".to_owned()]);
    let saver = Saver::open(root, Policy { best, ..Policy::default() }).unwrap();
    for (step, loss) in [(1, 0.3), (2, 0.4)] {
        let mut save = pending(&saver, step, 0.5, &[0; 8]);
        save.metric("val/loss", loss, None).unwrap();
        save.commit().unwrap();
    }
    assert_eq!(linked(root, "best-val%2Floss"), "step-00000001");
    assert!(!root.join("best-accuracy").exists());
}

#[test]
fn a_moved_file_is_never_without_a_name_and_one_with_several_is_copied() {
    let directory = tempfile::tempdir().unwrap();
    let (root, from, other) =
        (directory.path().join("root"), directory.path().join("a.bin"), directory.path().join("b.bin"));
    let saver = Saver::open(&root, Policy::default()).unwrap();
    std::fs::write(&from, "alone").unwrap();
    let identity = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let inode = identity(&from);
    let mut save = saver.begin(Step(1)).unwrap();
    save.moved_file("x.bin", &from).unwrap();
    let committed = save.commit().unwrap();
    assert!(!from.exists());
    assert_eq!(identity(&committed.path.join("x.bin")), inode, "not copied");

    std::fs::write(&from, "shared").unwrap();
    std::fs::hard_link(&from, &other).unwrap();
    let mut save = saver.begin(Step(2)).unwrap();
    save.moved_file("x.bin", &from).unwrap();
    let committed = save.commit().unwrap();
    assert!(!from.exists());
    std::fs::write(&other, "changed afterwards").unwrap();
    Checkpoint::open(&committed.path).unwrap().verify().unwrap();

    std::fs::write(&from, "refused").unwrap();
    let mut save = saver.begin(Step(2)).unwrap();
    save.moved_file("x.bin", &from).unwrap();
    assert!(save.commit().is_err());
    assert_eq!(std::fs::read(&from).unwrap(), b"refused", "what was not saved stays where it was");
}

#[test]
fn reserved_buffers_are_those_that_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let saver = Saver::open(directory.path(), Policy::default()).unwrap();
    saver.reserve(1 << 20);
    let tickets: Vec<_> =
        (1..=4_u8).map(|step| pending(&saver, u64::from(step), 0.5, &bytes(step)).commit_async().unwrap()).collect();
    for (ticket, step) in tickets.iter().zip(1_u8..) {
        let saved = Checkpoint::open(&ticket.wait().unwrap().path).unwrap();
        assert_eq!(saved.tensors("model").unwrap().get("w").unwrap(), weights(&bytes(step)));
    }
}

#[test]
fn retention_keeps_what_the_rules_the_pointers_and_the_pins_name() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let retention = Retention { keep_last: Some(2), keep_every: Some(10), ..Retention::default() };
    let saver = Saver::open(root, Policy { retention, ..Policy::default() }).unwrap();
    for step in 1..=14 {
        let accuracy = if step == 3 { 0.9 } else { 0.5 };
        save(&saver, step, accuracy).unwrap();
        if step == 5 {
            ckpt_store::pins::pin(&root.join("latest"), "the one of the paper").unwrap();
        }
    }
    saver.finish().unwrap();
    let steps: Vec<String> = names(root).into_iter().filter(|name| name.starts_with("step-")).collect();
    assert_eq!(steps, ["step-00000003", "step-00000005", "step-00000010", "step-00000013", "step-00000014"]);
    assert_eq!(linked(root, "best-accuracy"), "step-00000003");
    let (_, was_pinned) = ckpt_store::pins::unpin(&root.join("step-00000005")).unwrap();
    assert!(was_pinned);
    let contradiction = Retention { keep_last: Some(0), ..Retention::default() };
    assert_eq!(
        Saver::open(root, Policy { retention: contradiction, ..Policy::default() }).unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn a_latest_one_that_is_better_than_the_best_becomes_the_best() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let saver = Saver::open(root, Policy::default()).unwrap();
    save(&saver, 1, 0.1).unwrap();
    let (link, file) = (root.join("best-accuracy"), root.join("best-accuracy.json"));
    let old = std::fs::read(&file).unwrap();
    save(&saver, 2, 0.9).unwrap();
    drop(saver);
    // As if of the two pointers only the one to the latest had reached the disk.
    std::fs::write(&file, old).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("step-00000001", &link).unwrap();
    let saver = Saver::open(root, Policy::default()).unwrap();
    assert_eq!(step(saver.best("accuracy").unwrap()), Some(2));
    assert_eq!(linked(root, "best-accuracy"), "step-00000002");
}

#[test]
fn retention_leaves_links_and_directories_of_others_alone() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let best = Tracked::Only(Vec::new());
    save(&Saver::open(root, Policy { best: best.clone(), ..Policy::default() }).unwrap(), 10, 0.1).unwrap();
    std::os::unix::fs::symlink("step-00000010", root.join("production")).unwrap();
    std::fs::create_dir(root.join("step-00000002")).unwrap();
    std::fs::write(root.join("step-00000002/data.txt"), "precious").unwrap();
    std::fs::write(root.join("step-00000003"), "notes").unwrap();
    let retention = Retention { keep_last: Some(1), drop_damaged: true, ..Retention::default() };
    let saver = Saver::open(root, Policy { retention, best, ..Policy::default() }).unwrap();
    for step in [11, 12] {
        save(&saver, step, 0.2).unwrap();
    }
    saver.finish().unwrap();
    let steps: Vec<String> = names(root).into_iter().filter(|name| name.starts_with("step-")).collect();
    assert_eq!(steps, ["step-00000002", "step-00000003", "step-00000010", "step-00000012"]);
    assert!(root.join("production/manifest.json").exists());
}

#[test]
fn a_pinned_step_is_not_replaced_and_a_link_of_others_is_not_turned() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    std::fs::create_dir(root.join("checkpoint-300")).unwrap();
    std::os::unix::fs::symlink("checkpoint-300", root.join("latest")).unwrap();
    let saver = Saver::open(root, Policy { existing: Existing::Replace, ..Policy::default() }).unwrap();
    let committed = save(&saver, 1, 0.5).unwrap();
    assert_eq!(linked(root, "latest"), "checkpoint-300");
    ckpt_store::pins::pin(&committed.path, "").unwrap();
    assert_eq!(save(&saver, 1, 0.9).unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(saver.latest().unwrap().unwrap().manifest().sequence, 1);
    std::fs::remove_dir_all(&committed.path).unwrap();
    assert!(ckpt_store::pins::unpin(&committed.path).unwrap().1, "also when what was pinned is gone");
}
