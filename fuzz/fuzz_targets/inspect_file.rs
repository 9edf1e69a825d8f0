//! Any bytes under any name: inspect, then read every byte.
#![no_main]

use ckpt_core::format::deep;
use ckpt_core::inspect;
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 6] = ["a.pth", "a.safetensors", "a.ckpt", "a.bin", "checkpoint_epoch_0050.pth", "a.onnx"];

fuzz_target!(|data: &[u8]| {
    // The name hangs on the length, so that seeds need no prefix.
    let name = NAMES[data.len() % NAMES.len()];
    let inspection = inspect::file(name, &data).expect("memory can always be read");
    let findings = deep::file(name, &data).expect("memory can always be read");
    assert_eq!(inspection.bytes, data.len() as u64);
    assert!(findings.len() <= 16);
});
