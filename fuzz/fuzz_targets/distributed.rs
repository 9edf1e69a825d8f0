//! Any bytes as the `.metadata` of a distributed checkpoint, and behind it as its data.
#![no_main]

use ckpt_core::format::deep;
use ckpt_core::inspect::{self, DirectoryKind};
use ckpt_core::members::MemoryMembers;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut members = MemoryMembers::default();
    members.insert(".metadata", data.to_vec());
    members.insert("__0_0.distcp", data.to_vec());
    inspect::directory("step-1", DirectoryKind::Dcp, &members).expect("memory can always be read");
    deep::directory(DirectoryKind::Dcp, &members).expect("memory can always be read");
});
