//! Any bytes as an index of shards, as `trainer_state.json` and as JSON of Python's dialect.
#![no_main]

use ckpt_core::inspect::{self, DirectoryKind};
use ckpt_core::json;
use ckpt_core::members::MemoryMembers;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let index = "model.safetensors.index.json";
    let mut members = MemoryMembers::default();
    members.insert(index, data.to_vec());
    members.insert("trainer_state.json", data.to_vec());
    members.insert("model-00001-of-00001.safetensors", b"\x02\0\0\0\0\0\0\0{}".to_vec());
    inspect::index(index, &members).expect("memory can always be read");
    inspect::directory("checkpoint-1", DirectoryKind::HfTrainer, &members).expect("memory can always be read");
    if let Ok(value) = json::parse(data) {
        std::hint::black_box(json::number(&value));
    }
});
