//! Processes that are killed and disks that are full.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout, reason = "tests prepare files")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ckpt_core::ErrorKind;
use ckpt_core::progress::Silent;
use ckpt_store::fetch::{Options, fetch};
use common::{Mounted, fixture, names, put, read_only, tree};

const HERE: &str = "CKPT_TEST_KILLED";
const KILLS: u32 = 50;

/// A checkpoint of some megabytes: a safetensors file with one tensor.
fn large(path: &Path, bytes: usize) {
    let header = format!(r#"{{"weight":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}}}}"#);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend((0_u64..bytes as u64).map(|index| index.wrapping_mul(0x9e37_79b9).to_le_bytes()[2]));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, file).unwrap();
}

/// Runs a fetch in another process and kills it after `delay`, if it still runs then.
fn killed(root: &Path, delay: Duration) {
    let ready = root.join("ready");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_fetch_leaves_the_old_or_the_new_and_the_next_one_cleans_up"])
        .env(HERE, root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !ready.exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let start = Instant::now();
    while start.elapsed() < delay && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    // Fails when it has ended by itself, which is one of the moments.
    let _ = child.kill();
    child.wait().unwrap();
    std::fs::remove_file(ready).unwrap();
}

#[test]
fn a_killed_fetch_leaves_the_old_or_the_new_and_the_next_one_cleans_up() {
    if let Some((_, root)) = std::env::vars().find(|(name, _)| name == HERE) {
        let root = PathBuf::from(root);
        let chosen = read_only(&root.join("input/x.safetensors"));
        std::fs::write(root.join("ready"), "").unwrap();
        fetch(&chosen, &root.join("to"), &Options::default(), &Silent).unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (source, to) = (root.join("input/x.safetensors"), root.join("to"));
    let target = to.join("x.safetensors");
    large(&source, 4 << 20);
    let chosen = read_only(&source);
    let (new, old) = (tree(&source), tree(&fixture("safetensors/trunc_in_data.safetensors")));
    let start = Instant::now();
    fetch(&chosen, &to, &Options::default(), &Silent).unwrap();
    let whole_run = start.elapsed();

    let (mut seed, mut before, mut left) = (0x2545_f491_u64, 0, 0);
    for _ in 0..KILLS {
        std::fs::remove_dir_all(&to).unwrap();
        put(&fixture("safetensors/trunc_in_data.safetensors"), &target);
        // No two kills at the same moment of the fetch, and each run the same ones.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        killed(root, whole_run.mul_f64((seed >> 33) as f64 / f64::from(u32::MAX >> 1) * 1.3));

        let there = tree(&target);
        assert!(there == old || there == new, "a torn target");
        before += u32::from(there == old);
        left += u32::from(names(&to).iter().any(|name| name.contains(".ckpt-tmp-")));
        assert!(names(&to).iter().any(|name| tree(&to.join(name)) == old), "what was there is lost");

        fetch(&chosen, &to, &Options::default(), &Silent).unwrap();
        assert_eq!(tree(&target), new);
        let names = names(&to);
        assert!(!names.iter().any(|name| name.contains(".ckpt-tmp-")), "{names:?}");
        assert_eq!(tree(&source), new);
    }
    println!("{KILLS} kills: {before} before the commit, {left} with a temporary left behind");
    assert!(before > 0 && left > 0, "no kill came while it copied");
}

#[test]
fn too_little_space_is_told_before_anything_is_copied() {
    let directory = tempfile::tempdir().unwrap();
    let Some(small) = Mounted::new(directory.path().join("small"), "size=2m") else { return };
    let source = directory.path().join("input/x.safetensors");
    large(&source, 3 << 20);
    let error = fetch(&read_only(&source), &small.0, &Options::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.to_string().contains("nothing was copied"), "{error}");
    assert!(names(&small.0).is_empty());

    // Each file of the directory would fit, and all together do not.
    let whole = put(&fixture("hf/run/checkpoint-8"), &directory.path().join("input/checkpoint-8"));
    for name in ["a.bin", "b.bin"] {
        std::fs::write(whole.join(name), vec![0; 3 << 19]).unwrap();
    }
    let mut chosen = read_only(&whole);
    chosen.verdict.findings.clear();
    let error = fetch(&chosen, &small.0, &Options::default(), &Silent).unwrap_err();
    assert!(error.to_string().contains("nothing was copied"), "{error}");
    assert!(names(&small.0).is_empty());
}

#[test]
fn a_disk_that_fills_up_on_the_way_is_told_and_left_clean() {
    let directory = tempfile::tempdir().unwrap();
    // Room for four names: the directory's own, the temporary's, and two of its files.
    let Some(small) = Mounted::new(directory.path().join("small"), "size=16m,nr_inodes=4") else { return };
    let source = put(&fixture("hf/run/checkpoint-8"), &directory.path().join("input/checkpoint-8"));
    let error = fetch(&read_only(&source), &small.0, &Options::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(names(&small.0).is_empty());
}
