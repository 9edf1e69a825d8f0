//! Saving, choosing by one word, pinning, pruning: what launch scripts call between and after trainings.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and prepares its own files"
)]

mod common;

use std::path::Path;

use common::{Place, root};
use insta::assert_snapshot;

/// A real file that PyTorch wrote: epoch 7, accuracy 0.875.
const REAL: &str = "tests/fixtures/torch/zip_default.pth";
/// Weights alone.
const WEIGHTS: &str = "tests/fixtures/torch/state_dict.pth";

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn code(place: &Place, arguments: &[&str]) -> i32 {
    place.run(arguments).code
}

#[test]
fn a_file_of_torch_becomes_a_checkpoint_that_is_found_byte_for_byte() {
    let place = Place::new();
    let ran = place.run(&["save", "--root", "[TMP]/run", "--step", "1200", "--metric", "loss=0.25", REAL]);
    assert_snapshot!(ran.shown());
    let saved = place.join("run/step-00001200/zip_default.pth");
    assert_eq!(std::fs::read(saved).unwrap(), std::fs::read(root().join(REAL)).unwrap());
    assert_snapshot!(
        "inspected",
        place
            .run(&["inspect", "[TMP]/run/best-accuracy"])
            .stdout
            .lines()
            .filter(|line| !["saved", "run", "bytes read"].iter().any(|varies| line.starts_with(varies)))
            .collect::<Vec<_>>()
            .join("\n")
    );
    assert_eq!(place.run(&["verify", "--deep", "[TMP]/run/latest"]).code, 0);
}

#[test]
fn the_path_is_all_of_stdout_and_latest_and_best_give_it_again() {
    let place = Place::new();
    for (step, accuracy) in [("1", "0.5"), ("2", "0.9"), ("3", "0.7")] {
        let metric = format!("accuracy={accuracy}");
        let ran = place.run(&["save", "--root", "[TMP]/run", "--step", step, "--metric", &metric, WEIGHTS]);
        assert_eq!((ran.code, ran.stdout), (0, format!("[TMP]/run/step-0000000{step}\n")), "{}", ran.stderr);
    }
    assert_snapshot!("latest", place.run(&["latest", "[TMP]/run"]).shown());
    assert_snapshot!("best", place.run(&["best", "accuracy", "[TMP]/run"]).shown());
    assert_eq!(place.run(&["best", "accuracy:min", "-q", "[TMP]/run"]).stdout, "[TMP]/run/step-00000001\n");
    assert_eq!(place.json(&["latest", "--json", "[TMP]/run"])["schema"], "ckpt.select/1");
    assert_eq!(place.run(&["latest", "--min", "accuracy>=0.8", "-q", "[TMP]/run"]).stdout, "[TMP]/run/step-00000002\n");
    assert_eq!(code(&place, &["latest", "[TMP]/nowhere"]), 3);
    assert_eq!(code(&place, &["best", "no_such_metric", "[TMP]/run"]), 2);
}

#[test]
fn a_directory_of_hugging_face_tells_everything_itself() {
    let place = Place::new();
    let document = place.json(&["save", "--json", "--root", "[TMP]/run", "tests/fixtures/hf/run/checkpoint-8"]);
    assert_eq!((document["step"].as_u64(), document["class"].as_str()), (Some(8), Some("resumable")));
    assert!(document["taken"].as_array().unwrap().contains(&"step 8".into()), "{document}");
    let adopted = names(&place.join("run/step-00000008"));
    let before = names(&root().join("tests/fixtures/hf/run/checkpoint-8"));
    assert!(before.iter().all(|name| adopted.contains(name)) && adopted.len() == before.len() + 1, "{adopted:?}");
    // A committed one is adopted again, and gets a manifest of its own.
    assert_eq!(code(&place, &["save", "--root", "[TMP]/other", "[TMP]/run/step-00000008"]), 0);
    assert_eq!(code(&place, &["save", "--root", "[TMP]/third", "--move", "[TMP]/run/step-00000008"]), 2);
    assert_eq!(code(&place, &["verify", "--deep", "[TMP]/run/latest", "[TMP]/other/latest"]), 0);
}

#[test]
fn what_is_damaged_dangerous_or_unclear_is_not_saved() {
    let place = Place::new();
    let save = |arguments: &[&str]| place.run(&[&["save", "--root", "[TMP]/run"], arguments].concat());
    let damaged = "tests/fixtures/broken/trunc_in_data.pth";
    let dangerous = "tests/fixtures/hostile/os_system.pth";
    assert_snapshot!("save_damaged", save(&["--step", "1", damaged]).shown());
    assert_snapshot!("save_dangerous", save(&["--step", "1", REAL, dangerous]).shown());
    assert_snapshot!("save_without_a_step", save(&[REAL]).shown());
    assert_eq!(save(&["--step", "1", "tests/fixtures/other/html_page.pth"]).code, 4);
    place.copy(REAL, "again/zip_default.pth");
    assert_eq!(save(&["--step", "1", REAL, "[TMP]/again/zip_default.pth"]).code, 2);
    assert_eq!(save(&["--step", "1", "--metric", "a=1", "--metric", "a=2", REAL]).code, 2);
    assert_eq!(save(&["--step", "1", "--keep-last", "0", REAL]).code, 2);
    assert_eq!(save(&["--step", "1", "tests/fixtures/safetensors/sharded/model.safetensors.index.json"]).code, 4);
    assert_eq!(save(&["tests/fixtures/hf/run/checkpoint-4", WEIGHTS]).code, 0);
    std::fs::remove_dir_all(place.join("run")).unwrap();
    place.copy(WEIGHTS, "s/step_3.pth");
    place.copy(WEIGHTS, "s/step_4.pth");
    let unclear = save(&["[TMP]/s/step_3.pth", "[TMP]/s/step_4.pth"]);
    assert!(unclear.code == 2 && unclear.stderr.contains("--step"), "{}", unclear.stderr);
    assert!(!place.join("run").exists(), "the root was made for nothing");
    assert_eq!(save(&["--step", "1", "--allow-unsafe", dangerous]).code, 0);
    assert_eq!(code(&place, &["verify", "[TMP]/run/latest"]), 7);
}

#[test]
fn a_step_is_saved_once_unless_it_is_replaced() {
    let place = Place::new();
    let save = |arguments: &[&str]| place.run(&[&["save", "--root", "[TMP]/run", "--step", "5"], arguments].concat());
    assert_eq!(save(&[REAL]).code, 0);
    assert_snapshot!("save_again", save(&[WEIGHTS]).shown());
    assert_eq!(save(&["--replace", WEIGHTS]).code, 0);
    assert_eq!(names(&place.join("run/step-00000005")), ["manifest.json", "state_dict.pth"]);
}

#[test]
fn a_moved_file_is_gone_only_after_the_commit() {
    let place = Place::new();
    let file = place.copy(REAL, "tmp.pth");
    let save = ["save", "--root", "[TMP]/run", "--step", "5", "--move", "[TMP]/tmp.pth"];
    assert_eq!(code(&place, &save), 0);
    assert!(!file.exists() && place.join("run/step-00000005/tmp.pth").exists());
    place.copy(REAL, "tmp.pth");
    assert_eq!(code(&place, &save), 6);
    assert!(file.exists(), "a refused save moved its file");
}

#[test]
fn retention_after_a_save_keeps_the_best_and_tells_what_went() {
    let place = Place::new();
    let mut document = serde_json::Value::Null;
    for (step, accuracy) in [("1", "0.9"), ("2", "0.5"), ("3", "0.6")] {
        let metric = format!("accuracy={accuracy}");
        let arguments = ["save", "--json", "--root", "[TMP]/run", "--step", step, "--metric", &metric, WEIGHTS];
        document = place.json(&[&arguments[..], &["--keep-last", "1"]].concat());
    }
    assert_eq!(document["removed"], serde_json::json!(["step-00000002"]));
    assert!(place.join("run/step-00000001").exists());
    // The save is done, whatever becomes of the rest.
    let late = ["save", "--root", "[TMP]/run", "--step", "4", "--keep-best", "typo=1", WEIGHTS];
    assert_snapshot!("save_with_a_wrong_rule", place.run(&late).shown());
    assert!(place.join("run/step-00000004").exists());
}

fn series(place: &Place) {
    for epoch in 1..=4 {
        place.copy(WEIGHTS, &format!("old/checkpoint_{epoch:04}.pth"));
    }
    place.copy(WEIGHTS, "old/best.pt");
    place.copy("tests/fixtures/broken/empty.pth", "old/checkpoint_0005.pth");
}

#[test]
fn a_plan_is_shown_and_only_then_applied() {
    let place = Place::new();
    series(&place);
    let before = names(&place.join("old"));
    let plan = ["prune", "[TMP]/old", "--keep-last", "2", "--keep-every", "1000"];
    assert_snapshot!("prune_plan", place.run(&plan).shown());
    assert_eq!(names(&place.join("old")), before);
    let document = place.json(&[&plan[..], &["--json"]].concat());
    assert_eq!((document["applied"].as_bool(), document["removed"].as_array().map(Vec::len)), (Some(false), Some(0)));
    assert_snapshot!("prune_applied", place.run(&[&plan[..], &["--apply"]].concat()).shown());
    assert_eq!(
        names(&place.join("old")),
        ["best.pt", "checkpoint_0003.pth", "checkpoint_0004.pth", "checkpoint_0005.pth"]
    );
    assert_eq!(
        place.run(&[&plan[..], &["-y"]].concat()).stderr,
        "deleted 0 of 0, 0 B; 4 stay, 5.6 kB\n".replace("5.6 kB", &kept(&place))
    );
}

fn kept(place: &Place) -> String {
    let bytes = std::fs::metadata(place.join("old/best.pt")).unwrap().len() * 3;
    ckpt_core::quantity::size(bytes)
}

#[test]
fn a_prune_without_a_rule_or_with_a_wrong_one_deletes_nothing() {
    let place = Place::new();
    series(&place);
    assert_snapshot!("prune_without_a_rule", place.run(&["prune", "[TMP]/old", "--apply"]).shown());
    for rules in
        [&["--keep-last", "0"][..], &["--keep-best", "typo=1"], &["--max-bytes", "much"], &["--keep-within", "3"]]
    {
        assert_eq!(code(&place, &[&["prune", "[TMP]/old", "--apply"], rules].concat()), 2, "{rules:?}");
    }
    assert_eq!(code(&place, &["prune", "--keep-last", "1", "--apply"]), 2);
    assert_eq!(names(&place.join("old")).len(), 6);
}

#[test]
fn read_only_inputs_are_left_out_aloud() {
    let place = Place::new();
    place.kaggle();
    let ran = place.run(&["prune", "kaggle:[TMP]/kaggle", "--keep-last", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("/kaggle/input/") && ran.stderr.contains("left out"), "{}", ran.stderr);
    assert!(!ran.stdout.contains("/kaggle/input/"), "{}", ran.stdout);
}

#[test]
fn what_is_pinned_stays_until_it_is_unpinned() {
    let place = Place::new();
    series(&place);
    assert_snapshot!("pin", place.run(&["pin", "[TMP]/old/checkpoint_0001.pth", "--reason", "the paper"]).shown());
    let drops = || place.run(&["prune", "[TMP]/old", "--keep-last", "1"]).stdout.matches("drop\t").count();
    assert_eq!(drops(), 2);
    assert_snapshot!("pin_nothing", place.run(&["pin", "[TMP]/old"]).shown());
    assert_eq!(code(&place, &["pin", "[TMP]/old/nothing.pth"]), 3);
    assert_eq!(code(&place, &["pin", "[TMP]/old/nothing.pth", "[TMP]/old/checkpoint_0002.pth"]), 5);
    assert_eq!(drops(), 1);
    assert_eq!(code(&place, &["unpin", "[TMP]/old/checkpoint_0001.pth", "[TMP]/old/checkpoint_0002.pth"]), 0);
    assert_snapshot!("unpin_again", place.run(&["unpin", "[TMP]/old/checkpoint_0002.pth"]).shown());
    assert_eq!(drops(), 3);
}

#[test]
fn a_target_that_is_met_is_zero_and_one_that_is_not_is_three() {
    let place = Place::new();
    place.copy(REAL, "run/last.pth");
    assert_snapshot!("done", place.run(&["done", "--if", "accuracy>=0.85", "[TMP]/run"]).shown());
    assert_snapshot!("not_done", place.run(&["done", "--if", "accuracy>=0.9", "[TMP]/run"]).shown());
    assert_eq!(code(&place, &["done", "--if", "accuracy>=0.85", "--if", "accuracy>=0.9", "[TMP]/run"]), 3);
    assert_eq!(code(&place, &["done", "--if", "accuracy>=0.85", "[TMP]/nowhere"]), 3);
    assert_eq!(code(&place, &["done", "--if", "typo>=0.85", "[TMP]/run"]), 2);
    assert_eq!(code(&place, &["done", "[TMP]/run"]), 2);
    let document = place.json(&["done", "--json", "--if", "accuracy>=0.9", "[TMP]/run"]);
    assert_eq!((document["done"].as_bool(), document["path"].is_null()), (Some(false), true));
    // A checkpoint that is damaged meets nothing.
    place.copy("tests/fixtures/broken/trunc_in_data.pth", "torn/last.pth");
    assert_ne!(code(&place, &["done", "--if", "accuracy>=0.5", "[TMP]/torn"]), 0);
}

#[test]
fn neither_a_root_nor_a_file_of_a_checkpoint_is_adopted_into_a_root() {
    let place = Place::new();
    let save = |arguments: &[&str]| code(&place, &[&["save", "--root", "[TMP]/d/run"], arguments].concat());
    assert_eq!(save(&["--step", "1", REAL]), 0);
    for arguments in [["--step", "2", "[TMP]/d/run"], ["--step", "2", "[TMP]/d"]] {
        assert_eq!(save(&arguments), 2, "{arguments:?}");
        assert_eq!(save(&[&["--move"], &arguments[..]].concat()), 2, "{arguments:?}");
    }
    // A directory of checkpoints is none, wherever the root is.
    assert_eq!(code(&place, &["save", "--root", "[TMP]/other", "--step", "2", "[TMP]/d"]), 2);
    let inside = "[TMP]/d/run/step-00000001/zip_default.pth";
    assert_eq!(save(&["--step", "2", "--move", inside]), 2);
    std::os::unix::fs::symlink(place.join("d/run/step-00000001/zip_default.pth"), place.join("link.pth")).unwrap();
    assert_eq!(save(&["--step", "2", "--move", "[TMP]/link.pth"]), 2);
    assert_eq!(code(&place, &["verify", "--deep", "[TMP]/d/run/latest"]), 0);
    assert_eq!(save(&["--step", "2", inside]), 0);
}

#[test]
fn a_checkpoint_with_a_damaged_tensor_is_not_saved() {
    let place = Place::new();
    let file = place.copy(REAL, "damaged.pth");
    let mut bytes = std::fs::read(&file).unwrap();
    let archive = String::from_utf8_lossy(&bytes).into_owned();
    assert!(archive.contains("/data/0"));
    let name = bytes.windows(7).position(|window| window == b"/data/0").unwrap();
    let start = (name + 7).next_multiple_of(64);
    bytes[start] ^= 0xff;
    std::fs::write(&file, bytes).unwrap();
    let deep = code(&place, &["verify", "--deep", "[TMP]/damaged.pth"]);
    assert_eq!((code(&place, &["verify", "[TMP]/damaged.pth"]), deep), (0, 4));
    assert_eq!(code(&place, &["save", "--root", "[TMP]/run", "--step", "1", "[TMP]/damaged.pth"]), 4);
    std::fs::create_dir(place.join("d")).unwrap();
    std::fs::rename(&file, place.join("d/damaged.pth")).unwrap();
    assert_eq!(code(&place, &["save", "--root", "[TMP]/run", "--step", "1", "[TMP]/d"]), 4);
}

#[test]
fn what_is_no_checkpoint_is_saved_only_when_its_class_is_given() {
    let place = Place::new();
    let save = |arguments: &[&str]| place.run(&[&["save", "--root", "[TMP]/run", "--step", "1"], arguments].concat());
    std::fs::create_dir(place.join("empty")).unwrap();
    std::fs::write(place.join("notes.txt"), "notes").unwrap();
    assert_eq!(save(&["[TMP]/empty"]).code, 2);
    let ran = save(&["[TMP]/notes.txt"]);
    assert!(ran.code == 2 && ran.stderr.contains("--class"), "{}", ran.stderr);
    assert!(!place.join("run").exists());
    assert_eq!(save(&["--class", "inference-only", "[TMP]/notes.txt"]).code, 0);
}

#[test]
fn a_named_file_is_looked_into_whatever_its_extension() {
    let place = Place::new();
    let save = |file: &str| code(&place, &["save", "--root", "[TMP]/run", "--step", "1", "--class", "resumable", file]);
    place.copy("tests/fixtures/broken/trunc_in_data.pth", "ck_5.pth.tmp");
    place.copy("tests/fixtures/hostile/os_system.pth", "evil.dat");
    std::fs::write(place.join("pytorch_model.bin"), "").unwrap();
    assert_eq!(save("[TMP]/ck_5.pth.tmp"), 4);
    assert_eq!(save("[TMP]/evil.dat"), 7);
    assert_eq!(save("[TMP]/pytorch_model.bin"), 4);
    place.copy(REAL, "w.dat");
    assert_eq!(save("[TMP]/w.dat"), 0);
}

#[test]
fn a_directory_is_adopted_whole_or_not_at_all() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    let save = |step: &str| place.run(&["save", "--root", "[TMP]/run", "--step", step, "[TMP]/d"]);
    place.copy(REAL, "d/sub/model.pth");
    symlink("sub", place.join("d/a")).unwrap();
    symlink("/nowhere/log.txt", place.join("d/log.txt")).unwrap();
    let ran = save("1");
    assert!(ran.code == 0 && ran.stderr.contains("log.txt"), "{}", ran.stderr);
    assert!(place.join("run/step-00000001/sub/model.pth").exists());
    symlink("/nowhere/optimizer.pt", place.join("d/optimizer.pt")).unwrap();
    assert_eq!(save("2").code, 4);
    std::fs::remove_file(place.join("d/optimizer.pt")).unwrap();
    std::fs::write(place.join("d/manifest.json"), "{\"name\": \"app\"}").unwrap();
    let ran = save("2");
    assert!(ran.code == 2 && ran.stderr.contains("rename it"), "{}", ran.stderr);
}

#[test]
fn a_mistyped_best_and_a_root_that_is_none_are_told() {
    let place = Place::new();
    let save = |root: &str, best: &str| {
        place.run(&["save", "--root", root, "--step", "1", "--metric", "acc=0.5", "--best", best, WEIGHTS])
    };
    let ran = save("[TMP]/run", "accuracy");
    assert!(ran.code == 2 && ran.stderr.contains("`acc`") && !place.join("run").exists(), "{}", ran.stderr);
    std::os::unix::fs::symlink("/nowhere", place.join("dead")).unwrap();
    std::fs::write(place.join("file"), "").unwrap();
    for root in ["[TMP]/dead", "[TMP]/file"] {
        let ran = save(root, "acc");
        assert!(ran.code == 2 && !ran.stderr.contains("--replace"), "{}", ran.stderr);
    }
    assert_eq!(save("[TMP]/run", "acc").code, 0);
}

#[test]
fn a_hint_says_what_helps_here() {
    let place = Place::new();
    let told = |arguments: &[&str], code: i32, hint: &str| {
        let ran = place.run(arguments);
        assert!(ran.code == code && ran.stderr.contains(hint), "{arguments:?}: {}", ran.shown());
        ran.stderr
    };
    std::fs::create_dir(place.join("empty")).unwrap();
    place.copy(REAL, "a.pth");
    assert!(!told(&["latest", "[TMP]/empty"], 3, "ckpt scan").contains("--or-fresh"));
    told(&["resume", "[TMP]/empty", "--to", "[TMP]/w"], 3, "--or-fresh");
    told(&["best", "[TMP]/empty"], 2, "METRIC comes first");
    told(&["save", "--root", "[TMP]/run", "--step", "1", "[TMP]/missing.pth"], 3, "check the path");
    told(&["compact", "[TMP]/a.pth", "[TMP]/none/x.pth"], 2, "make the directory");
    assert!(!told(&["compact", "[TMP]/a.pth", "[TMP]/a.pth"], 2, "another file").contains("ckpt inspect"));
    told(&["compact", "[TMP]/a.pth", "[TMP]/x.txt"], 2, "ends in .safetensors");
    told(&["convert", "[TMP]/a.pth", "[TMP]/x.pth"], 2, "`ckpt compact`");
    told(&["prune", "[TMP]/empty", "--keep-last", "0"], 2, "`--keep-last`");
    told(&["prune", "[TMP]/nowhere", "--keep-last", "2"], 3, "ckpt scan");
    told(&["prune", "[TMP]", "--keep-best", "acuracy=2"], 2, "hint: `ckpt scan LOCATION`");
}

#[test]
fn what_was_saved_as_one_file_is_compacted_by_its_directory() {
    let place = Place::new();
    let save = ["save", "--root", "[TMP]/run", "--step", "1"];
    assert_eq!(code(&place, &[&save[..], &["tests/fixtures/torch/full_resumable.pth"]].concat()), 0);
    assert_eq!(code(&place, &["compact", "[TMP]/run/latest", "[TMP]/x.pth"]), 0);
    assert_eq!(code(&place, &["convert", "[TMP]/run/latest", "[TMP]/x.safetensors"]), 0);
    assert_eq!(code(&place, &["save", "--root", "[TMP]/run", "--step", "2", REAL, WEIGHTS]), 0);
    let ran = place.run(&["compact", "[TMP]/run/latest", "[TMP]/y.pth"]);
    assert!(ran.code != 0 && ran.stderr.contains("state_dict.pth"), "{}", ran.stderr);
}
