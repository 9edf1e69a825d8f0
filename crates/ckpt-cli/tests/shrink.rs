//! `ckpt compact` and `ckpt convert`, as a script and a person see them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and prepares its own files"
)]

mod common;

use common::Place;
use insta::assert_snapshot;

const FULL: &str = "tests/fixtures/torch/full_resumable.pth";

#[test]
fn compact_prints_one_path_and_says_what_it_dropped() {
    let place = Place::new();
    let ran = place.run(&["compact", FULL, "[TMP]/small.pth"]);
    assert_eq!(ran.stdout, "[TMP]/small.pth\n");
    assert_snapshot!(ran.shown());
    let shown = place.json(&["inspect", "--json", "[TMP]/small.pth"]);
    assert_eq!((shown["class"].as_str(), shown["valid"].as_bool()), (Some("inference-only"), Some(true)));
    assert_eq!(shown["safety"]["verdict"], "safe");
}

#[test]
fn convert_has_a_document() {
    let place = Place::new();
    assert_snapshot!(place.run(&["convert", "--json", FULL, "[TMP]/small.safetensors"]).shown());
    let shown = place.json(&["inspect", "--json", "[TMP]/small.safetensors"]);
    assert_eq!(shown["class"], "inference-only");
    assert_eq!(shown["epoch"], place.json(&["inspect", "--json", FULL])["epoch"]);
}

#[test]
fn resume_refuses_what_was_made_for_inference_when_it_must_be_resumable() {
    let place = Place::new();
    for name in ["small.pth", "small.safetensors"] {
        let directory = format!("[TMP]/{}", name.replace('.', "-"));
        std::fs::create_dir(place.join(&name.replace('.', "-"))).unwrap();
        let to = format!("{directory}/{name}");
        assert_eq!(place.run(&["compact", FULL, &to]).code, 0, "{name}");
        for flag in ["--resumable", "--require-resumable"] {
            let ran = place.run(&["resume", &directory, flag, "--explain", "--to", "[TMP]/working"]);
            assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{name}: {}", ran.shown());
            assert!(ran.stderr.contains("inference-only"), "{name}: {}", ran.stderr);
        }
        assert_eq!(place.run(&["resume", &directory, "--to", "[TMP]/working"]).code, 0, "{name}");
    }
    // The file it was made of is resumable.
    place.copy(FULL, "full/a.pth");
    assert_eq!(place.run(&["resume", "[TMP]/full", "--resumable", "--to", "[TMP]/working"]).code, 0);
}

#[test]
fn every_refusal_has_its_exit_code_and_leaves_nothing() {
    let place = Place::new();
    place.copy(FULL, "there.pth");
    let hostile = "tests/fixtures/hostile/posix_system.pth";
    let damaged = "tests/fixtures/broken/bitflip_in_data.pth";
    let cases: [(&[&str], i32, &str); 9] = [
        (&["compact", hostile, "[TMP]/out/x.pth"], 7, "not to be trusted"),
        (&["convert", damaged, "--all", "[TMP]/out/x.safetensors"], 4, "checksum"),
        (&["convert", "tests/fixtures/broken/trunc_in_data.pth", "[TMP]/out/x.safetensors"], 4, "--deep"),
        (&["compact", FULL, "[TMP]/there.pth"], 6, "--force"),
        (&["compact", "[TMP]/there.pth", "--force", "[TMP]/there.pth"], 2, "the old one"),
        (&["compact", "tests/fixtures/torch/state_dict.pth", "[TMP]/out/x.pth"], 10, "already"),
        (&["compact", "tests/fixtures/torch/module.pth", "[TMP]/out/x.pth"], 2, "ckpt convert"),
        (&["convert", FULL, "[TMP]/out/x.pth"], 2, ".safetensors"),
        (&["convert", FULL, "--key", "nosuch", "[TMP]/out/x.safetensors"], 3, "--key"),
    ];
    std::fs::create_dir(place.join("out")).unwrap();
    for (arguments, code, told) in cases {
        let ran = place.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{arguments:?}: {}", ran.shown());
        assert!(ran.stderr.contains(told), "{arguments:?}: {}", ran.stderr);
        assert_eq!(std::fs::read_dir(place.join("out")).unwrap().count(), 0, "{arguments:?}");
    }
}
