//! Any bytes as a pickle: every node can be looked at, and nothing goes in circles.
#![no_main]

use std::hint::black_box;

use ckpt_core::format::pickle::{self, Value};
use ckpt_core::format::torch::{legacy, scalar, tensor};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(pickle) = pickle::read(data.to_vec()) else { return };
    assert!(pickle.length() <= data.len());
    for (id, _) in pickle.nodes() {
        let value = Value::Node(id);
        black_box((pickle.fields(value), pickle.sequence(value), pickle.call(value), pickle.bytes(value)));
        black_box((scalar::scalar(&pickle, value), tensor::tensor(&pickle, value)));
    }
    black_box((pickle.globals(), tensor::collect(&pickle), legacy::nested(&pickle)));
});
