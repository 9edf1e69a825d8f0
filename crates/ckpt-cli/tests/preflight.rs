//! What a launch script sees before a run.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and prepares its own files"
)]

mod common;

use common::{Place, Ran};
use insta::assert_snapshot;

/// Outcome and name of every check, without what differs between machines.
fn shown(ran: &Ran) -> String {
    let columns = |line: &str| line.split('\t').take(2).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = ran.stdout.lines().filter(|line| !line.contains("\tfile_system\t")).map(columns).collect();
    format!("exit code: {}\n--- stdout\n{}\n--- stderr\n{}", ran.code, lines.join("\n"), ran.stderr)
}

#[test]
fn a_good_place_is_told_check_by_check() {
    let place = Place::new();
    std::fs::create_dir(place.join("c")).unwrap();
    assert_snapshot!(shown(&place.run(&["preflight", "[TMP]/c", "--bytes", "1kB"])));
    assert_eq!(std::fs::read_dir(place.join("c")).unwrap().count(), 0);
}

#[test]
fn each_obstacle_has_its_exit_code() {
    let place = Place::new();
    std::fs::write(place.join("file"), "").unwrap();
    assert_snapshot!("not_there", shown(&place.run(&["preflight", "[TMP]/c"])));
    assert_eq!(place.run(&["preflight", "[TMP]/c", "--create"]).code, 0);
    assert!(place.join("c").is_dir());
    assert_eq!(place.run(&["preflight", "[TMP]/c", "--bytes", "9000PB"]).code, 8);
    assert_eq!(place.run(&["preflight", "[TMP]/file"]).code, 1);
    assert_eq!(place.run(&["preflight", "[TMP]/c", "--bytes", "twenty"]).code, 2);
}

#[test]
fn a_failure_is_a_document_too() {
    let place = Place::new();
    let document = place.json(&["preflight", "--json", "[TMP]/c"]);
    assert_eq!((document["ok"].as_bool(), document["failure"].as_str()), (Some(false), Some("not_found")));
    assert_eq!(document["checks"][0]["outcome"], "fail");
}

#[test]
fn without_a_directory_it_is_where_training_writes() {
    let place = Place::new();
    std::fs::create_dir(place.join("w")).unwrap();
    let mut command = place.command(&["preflight", "--json"]);
    let ran = place.finish(command.env("CKPT_TO", place.join("w")));
    let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, document["path"].as_str()), (0, Some("[TMP]/w")));
}
