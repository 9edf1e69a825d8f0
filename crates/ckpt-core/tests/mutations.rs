//! Fixtures with random edits: nothing panics, and nothing takes long.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ckpt_core::format::deep;
use ckpt_core::inspect::{self, DirectoryKind};
use ckpt_core::members::MemoryMembers;
use proptest::prelude::*;

mod common;

/// Longest that one small file may take, unoptimised and on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Every fixture that is a file, small enough to edit thousands of times.
static FILES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let all = common::files_below("").into_iter().filter(|path| !path.ends_with(".py") && !path.ends_with(".jsonl"));
    all.map(|path| (common::name(&path).to_owned(), common::bytes(&path)))
        .filter(|(_, bytes)| bytes.len() < 64 << 10)
        .collect()
});

/// What a byte becomes, and where: anywhere, or near the end, where archives keep their directories.
fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, bool, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<u8>()), 1..12)
}

fn apply(bytes: &mut [u8], edits: &[(prop::sample::Index, bool, u8)]) {
    for (place, is_near_end, value) in edits {
        let length = bytes.len();
        let reach = if *is_near_end { length.min(1_700) } else { length };
        if reach > 0 {
            bytes[length - 1 - place.index(reach)] = *value;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the test watches how long the parsers take")]
fn now() -> Instant {
    Instant::now()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn edited_files_are_read_without_panic(
        file in any::<prop::sample::Index>(),
        edits in edits(),
        keep in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let (name, bytes) = file.get(&FILES);
        let mut bytes = bytes.clone();
        apply(&mut bytes, &edits);
        if let Some(keep) = keep {
            bytes.truncate(keep.index(bytes.len() + 1));
        }
        let started = now();
        let inspection = inspect::file(name, &bytes.as_slice()).unwrap();
        let findings = deep::file(name, &bytes.as_slice()).unwrap();
        prop_assert!(findings.len() <= 16);
        prop_assert!(started.elapsed() < PATIENCE, "{name} took {:?}", started.elapsed());
        prop_assert_eq!(inspection.bytes, bytes.len() as u64);
    }

    #[test]
    fn edited_directories_are_read_without_panic(edits in edits(), in_metadata in any::<bool>()) {
        let mut metadata = common::bytes("dcp/step-200/.metadata");
        let mut data = common::bytes("dcp/step-200/__0_0.distcp");
        apply(if in_metadata { &mut metadata } else { &mut data }, &edits);
        let mut members = MemoryMembers::default();
        members.insert(".metadata", metadata);
        members.insert("__0_0.distcp", data);
        let started = now();
        inspect::directory("step-200", DirectoryKind::Dcp, &members).unwrap();
        deep::directory(DirectoryKind::Dcp, &members).unwrap();
        prop_assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    }

    #[test]
    fn edited_indices_are_read_without_panic(edits in edits()) {
        let name = "model.safetensors.index.json";
        let mut members = MemoryMembers::default();
        for file in common::files_below("safetensors/sharded") {
            let mut bytes = common::bytes(&format!("safetensors/sharded/{file}"));
            if file == name {
                apply(&mut bytes, &edits);
            }
            members.insert(file, bytes);
        }
        inspect::index(name, &members).unwrap();
        deep::index(name, &members).unwrap();
    }
}
