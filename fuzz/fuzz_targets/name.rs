//! Any text as the name of a file.
#![no_main]

use std::cmp::Ordering;

use ckpt_core::{metric, name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let told = name::facts(text);
    assert!(told.metrics.iter().all(|(_, value)| value.is_finite()));
    let (left, right) = text.split_once('\n').unwrap_or((text, ""));
    assert_eq!(name::natural_cmp(left, right), name::natural_cmp(right, left).reverse());
    assert_eq!(name::natural_cmp(left, left), Ordering::Equal);
    std::hint::black_box((name::claim(text), name::is_shard(text), name::is_index(text)));
    std::hint::black_box((metric::usual_direction(text), metric::is_metric_name(text)));
    std::hint::black_box(metric::resolve(left, [right, text]).is_ok());
});
