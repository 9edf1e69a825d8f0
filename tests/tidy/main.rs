//! Rules about the workspace itself: layers, budgets, and that documents tell the truth.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file of the crates.
fn sources() -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join("crates"), &mut found);
    found
}

#[test]
fn arrows_between_crates_point_down_only() {
    // A crate may depend on those after it in its row, and on nothing else of ours.
    const LAYERS: &[(&str, &[&str])] = &[
        ("ckpt-core", &[]),
        ("ckpt-store", &["ckpt-core"]),
        ("ckpt-dist", &["ckpt-core", "ckpt-store"]),
        ("ckpt-hpo", &["ckpt-core", "ckpt-store"]),
        ("ckpt-run", &["ckpt-core", "ckpt-store", "ckpt-dist", "ckpt-hpo"]),
        ("ckpt-cli", &["ckpt-core", "ckpt-store", "ckpt-dist", "ckpt-hpo", "ckpt-run"]),
    ];
    let mut seen = 0;
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let (_, allowed) =
            LAYERS.iter().find(|(layer, _)| *layer == name).unwrap_or_else(|| panic!("{name} has no layer"));
        let manifest = read(&format!("crates/{name}/Cargo.toml"));
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
        for line in dependencies.lines().filter(|line| line.starts_with("ckpt-")) {
            let dependency = line.split(['.', ' ']).next().unwrap();
            assert!(allowed.contains(&dependency), "{name} must not depend on {dependency}");
        }
        seen += 1;
    }
    assert!(seen >= 3);
}

#[test]
fn no_file_passes_its_budget_of_lines() {
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let lines = code.lines().count();
        let is_test = path.components().any(|part| part.as_os_str() == "tests");
        assert!(
            is_test || lines <= 800,
            "{}: {lines} lines; what does it decide? would it read better as two?",
            path.display()
        );
    }
}

#[test]
fn no_test_is_ignored_and_no_stub_is_left() {
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for mark in ["#[ignore", "todo!(", "unimplemented!(", "FIXME", "XXX:"] {
            assert!(!text.contains(mark), "{}: {mark}", path.display());
        }
    }
}

#[test]
fn every_error_kind_has_an_exit_code_that_is_documented() {
    let help = ckpt_cli::exit::TABLE;
    let mut codes = BTreeSet::new();
    for kind in ckpt_core::ErrorKind::ALL {
        let code = ckpt_cli::exit::of(kind);
        assert!(code != ckpt_cli::exit::DONE, "{kind:?}");
        assert!(help.contains(&format!("{code} ")), "{kind:?} gives {code}, which the help does not list");
        codes.insert(code);
    }
    assert!(codes.len() >= 6, "{codes:?}");
}

#[test]
fn the_manual_lists_every_command_and_every_option() {
    let manual = read("docs/cli.md");
    let mut pending = vec![(String::from("ckpt"), ckpt_cli::Cli::command())];
    while let Some((name, command)) = pending.pop() {
        for inner in command.get_subcommands() {
            pending.push((format!("{name} {}", inner.get_name()), inner.clone()));
        }
        if name != "ckpt" {
            assert!(manual.contains(&format!("`{name}")), "docs/cli.md does not tell about `{name}`");
        }
        for option in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(manual.contains(&format!("--{option}")), "docs/cli.md does not tell about --{option} of `{name}`");
        }
    }
}

#[test]
fn the_map_of_the_code_names_every_crate_and_module() {
    let map = read("ARCHITECTURE.md");
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(map.contains(&format!("`{name}`")), "ARCHITECTURE.md does not name {name}");
        for module in
            read(&format!("crates/{name}/src/lib.rs")).lines().filter_map(|line| line.strip_prefix("pub mod "))
        {
            let module = module.trim_end_matches(';');
            assert!(map.contains(&format!("`{module}`")), "ARCHITECTURE.md does not name {name}::{module}");
        }
    }
}

#[test]
fn the_readme_has_exactly_two_set_up_commands() {
    let readme = read("README.md");
    let block = readme.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let commands: Vec<&str> = block.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    let ci = read(".ci/run");
    assert!(
        ci.contains(commands[0]) && ci.contains(commands[1]),
        ".ci/run does not call the README's commands {commands:?}"
    );
}

#[test]
fn nothing_carries_the_path_of_a_machine() {
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for mark in [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")] {
            assert!(!text.contains(mark), "{}: {mark}", path.display());
        }
    }
}
