//! What scripts rely on: documents, schemas, settings, exit codes.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and prepares its own files"
)]

mod common;

use ckpt_cli::report;
use common::Place;
use insta::assert_snapshot;
use serde_json::Value;

/// Each document with its schema, as it is checked in under `docs/schema/`.
fn schemas() -> Vec<(&'static str, Value)> {
    fn of<T: schemars::JsonSchema>() -> Value {
        serde_json::to_value(schemars::schema_for!(T)).unwrap()
    }
    vec![
        ("inspect", of::<report::InspectReport>()),
        ("scan", of::<report::ScanReport>()),
        ("verify", of::<report::VerifyReport>()),
        ("select", of::<report::SelectReport>()),
        ("fetch", of::<report::FetchReport>()),
        ("history", of::<report::HistoryReport>()),
        ("doctor", of::<report::DoctorReport>()),
        ("preflight", of::<report::PreflightReport>()),
        ("save", of::<report::SaveReport>()),
        ("prune", of::<report::PruneReport>()),
        ("pin", of::<report::PinReport>()),
        ("done", of::<report::DoneReport>()),
        ("shrink", of::<report::ShrinkReport>()),
    ]
}

/// Rewrite the files with `CKPT_UPDATE_SCHEMAS=1 cargo test -p ckpt-cli --test contract`.
#[test]
fn the_schemas_checked_in_are_those_of_the_reports() {
    for (name, schema) in schemas() {
        let path = common::root().join("docs/schema").join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("CKPT_UPDATE_SCHEMAS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "docs/schema/{name}.json");
    }
}

#[test]
fn every_document_is_of_its_schema() {
    let place = Place::new();
    let tree = "kaggle:examples/data/kaggle";
    let file = "tests/fixtures/torch/full_resumable.pth";
    let commands: [(&str, &[&str]); 17] = [
        ("inspect", &["inspect", "--json", file]),
        ("scan", &["scan", "--json", tree]),
        ("verify", &["verify", "--json", "--deep", file, "tests/fixtures/broken/empty.pth"]),
        ("select", &["select", "--json", tree, "--latest"]),
        ("select", &["resume", "--json", tree, "--best", "accuracy", "--to", "[TMP]/w"]),
        ("fetch", &["fetch", "--json", file, "--to", "[TMP]/w"]),
        ("history", &["history", "merge", "--json", tree]),
        ("doctor", &["doctor", "--json", tree]),
        ("preflight", &["preflight", "--json", "[TMP]"]),
        ("save", &["save", "--json", "--root", "[TMP]/r", "--step", "3", file]),
        ("pin", &["pin", "--json", "[TMP]/r/latest"]),
        ("pin", &["unpin", "--json", "[TMP]/r/latest"]),
        ("prune", &["prune", "--json", "[TMP]/r", "--keep-last", "1", "--apply"]),
        ("done", &["done", "--json", "[TMP]/r", "--if", "accuracy>=0"]),
        ("shrink", &["compact", "--json", file, "[TMP]/x.pth"]),
        ("shrink", &["compact", "--json", "tests/fixtures/torch/state_dict.pth", "[TMP]/y.pth"]),
        ("shrink", &["convert", "--json", file, "[TMP]/x.safetensors"]),
    ];
    for (name, arguments) in commands {
        let document = place.json(arguments);
        let (_, schema) = schemas().into_iter().find(|(known, _)| *known == name).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
        assert!(document["schema"].as_str().unwrap().starts_with("ckpt."), "{name}");
    }
}

#[test]
fn an_inspect_document_has_the_promised_fields() {
    let place = Place::new();
    let document = place.json(&["inspect", "--json", "tests/fixtures/torch/full_resumable.pth"]);
    for field in [
        "schema",
        "path",
        "format",
        "layout",
        "bytes",
        "modified",
        "epoch",
        "step",
        "metrics",
        "keys",
        "tensors",
        "state",
        "class",
        "safety",
        "valid",
        "findings",
        "bytes_read",
    ] {
        assert!(document.get(field).is_some(), "{field}");
    }
    let mut shown = document;
    shown["modified"] = Value::from("[TIME]");
    assert_snapshot!(serde_json::to_string_pretty(&shown).unwrap());
}

#[test]
fn errors_are_one_object_on_stderr_with_json() {
    let place = Place::new();
    let ran = place.run(&["inspect", "--json", "[TMP]/nothing.pth"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    let error: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!((error["kind"].as_str(), error["exit_code"].as_i64()), (Some("not_found"), Some(3)));
    assert!(!error["hints"].as_array().unwrap().is_empty());
}

#[test]
fn the_help_names_every_command_and_exit_code() {
    let place = Place::new();
    assert_snapshot!(place.run(&["--help"]).shown());
    assert_snapshot!("resume_help", place.run(&["resume", "--help"]).shown());
}

#[test]
fn settings_come_from_flag_environment_and_file_in_this_order() {
    let place = Place::new();
    place.copy("tests/fixtures/torch/epoch_zero.pth", "here/checkpoints/a.pth");
    std::fs::write(place.join("here/ckpt.toml"), "depth = 3\nlocations = [\"checkpoints\"]\nnames = [\"*.pth\"]\n")
        .unwrap();
    let doctor = |variables: &[(&str, &str)], flags: &[&str]| {
        let mut command = place.command(&[&["doctor", "--json"], flags].concat());
        command.current_dir(place.join("here")).envs(variables.iter().copied());
        serde_json::from_str::<Value>(&place.finish(&mut command).stdout).unwrap()
    };
    let setting = |document: &Value, name: &str| {
        let all = document["settings"].as_array().unwrap().clone();
        let found = all.into_iter().find(|setting| setting["name"] == name).unwrap();
        (found["value"].clone(), found["origin"].as_str().unwrap().to_owned())
    };
    let document = doctor(&[], &[]);
    let (value, origin) = setting(&document, "depth");
    assert_eq!(value, 3);
    assert!(origin.ends_with("ckpt.toml"), "{origin}");
    assert_eq!(document["checkpoints"], 1);
    assert_eq!(setting(&document, "index"), (Value::Bool(true), "default".to_owned()));
    assert_eq!(setting(&doctor(&[("CKPT_DEPTH", "5")], &[]), "depth"), (Value::from(5), "CKPT_DEPTH".to_owned()));
    assert_eq!(
        setting(&doctor(&[("CKPT_DEPTH", "5")], &["--depth", "7"]), "depth"),
        (Value::from(7), "--depth".to_owned())
    );
    let named = doctor(&[("CKPT_NAMES", "a*,b*")], &[]);
    assert_eq!(setting(&named, "names"), (serde_json::json!(["a*", "b*"]), "CKPT_NAMES".to_owned()));
}

#[test]
fn a_wrong_setting_is_named_with_its_file() {
    let place = Place::new();
    std::fs::create_dir(place.join("here")).unwrap();
    std::fs::write(place.join("here/ckpt.toml"), "dept = 3\n").unwrap();
    let ran = place.finish(place.command(&["scan"]).current_dir(place.join("here")));
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("dept") && ran.stderr.contains("ckpt.toml") && ran.stderr.contains("locations"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_platform_is_detected_told_and_overridden() {
    let place = Place::new();
    let doctor = |variables: &[(&str, &str)], flags: &[&str]| {
        let mut command = place.command(&[&["doctor", "--json"], flags].concat());
        command.current_dir(place.path()).envs(variables.iter().copied());
        serde_json::from_str::<Value>(&place.finish(&mut command).stdout).unwrap()
    };
    let isc = doctor(&[("CHECKPOINT_ARTIFACT_PATH", "/shared/artifacts")], &[]);
    assert_eq!((isc["platform"].as_str(), isc["working"].as_str()), (Some("isc"), Some("/shared/artifacts")));
    assert!(isc["platform_reason"].as_str().unwrap().contains("CHECKPOINT_ARTIFACT_PATH"));
    let local = doctor(&[("CHECKPOINT_ARTIFACT_PATH", "/shared/artifacts")], &["--platform", "local"]);
    assert_eq!(local["platform"], "local");
    assert_eq!(doctor(&[("CKPT_PLATFORM", "kaggle")], &[])["platform"], "kaggle");
}

#[test]
fn a_closed_pipe_is_quiet() {
    let place = Place::new();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "\"$CKPT\" scan --json kaggle:examples/data/kaggle | head -n 1; exit 0"]);
    let binary = env!("CARGO_BIN_EXE_ckpt");
    let ran = place.finish(command.current_dir(common::root()).env("CKPT", binary).env("HOME", place.join("home")));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[test]
fn completions_and_manual_pages_are_written() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.run(&["completions", shell]).stdout.contains("ckpt"), "{shell}");
    }
    let ran = place.run(&["man", "[TMP]/man"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let page = std::fs::read_to_string(place.join("man/ckpt-resume.1")).unwrap();
    assert!(page.contains("or\\-fresh"), "{page}");
}

#[test]
fn the_index_makes_the_second_scan_say_the_same() {
    let place = Place::new();
    let first = place.run(&["scan", "--json", "kaggle:examples/data/kaggle"]);
    let second = place.run(&["scan", "--json", "kaggle:examples/data/kaggle"]);
    assert_eq!(first.stdout, second.stdout);
    assert!(place.join("home/.cache/ckpt/index").is_dir());
    let without = Place::new();
    without.run(&["scan", "--no-index", "kaggle:examples/data/kaggle"]);
    assert!(!without.join("home/.cache").exists());
}
