//! Any bytes as a stream, as a tar, as the rest of an archive that was cut off.
#![no_main]

use ckpt_core::format::torch::{legacy, salvage, tar};
use ckpt_core::layout::state;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let read = [legacy::open(&data), legacy::open_pickle(&data), tar::open(&data), salvage::open(&data, None)];
    for opened in read {
        let opened = opened.expect("memory can always be read");
        state::read(&opened).expect("memory can always be read");
    }
});
