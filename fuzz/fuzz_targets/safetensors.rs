//! Any bytes as safetensors: what is called sound lies inside the file, without gaps.
#![no_main]

use ckpt_core::format::safetensors;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let header = safetensors::read(&data).expect("memory can always be read");
    if header.findings.is_empty() {
        assert_eq!(header.expected_bytes, data.len() as u64);
        let total: u64 = header.tensors.values().map(|tensor| tensor.end - tensor.start).sum();
        assert_eq!(header.data_offset + total, data.len() as u64);
    }
});
