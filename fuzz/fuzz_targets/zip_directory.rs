//! Any bytes as a zip: no member reaches outside the file.
#![no_main]

use ckpt_core::format::zip;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(archive) = zip::open(&data).expect("memory can always be read") else { return };
    for entry in &archive.entries {
        match zip::member(&data, entry, 1 << 20).expect("memory can always be read") {
            zip::Member::Whole { bytes, .. } => assert_eq!(bytes.len() as u64, entry.size),
            zip::Member::Damaged(_) | zip::Member::TooLarge | zip::Member::Unsupported(_) => {}
        }
    }
});
