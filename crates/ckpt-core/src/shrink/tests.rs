//! What is kept of states that no fixture holds, written by our own writer.

use super::*;
use crate::format::Format;
use crate::format::pickle::write::Writer;
use crate::format::torch::legacy;
use crate::inspect;

/// A tensor of `side` elements at the start of the storage `key`, which has four.
fn tensor(writer: &mut Writer, key: &str, (offset, side): (u64, u64)) {
    writer.global("torch._utils", "_rebuild_tensor_v2");
    writer.begin_tuple();
    writer.begin_tuple();
    writer.text("storage");
    writer.global("torch", "FloatStorage");
    writer.text(key);
    writer.text("cpu");
    writer.int(4_000);
    writer.end_tuple();
    writer.persistent();
    writer.unsigned(offset);
    for value in [side, 1] {
        writer.begin_tuple();
        writer.unsigned(value);
        writer.end_tuple();
    }
    writer.bool(false);
    writer.empty_ordered();
    writer.end_tuple();
    writer.call();
}

fn weights(writer: &mut Writer, key: &str, storage: &str) {
    writer.text(key);
    writer.begin_ordered();
    writer.text("weight");
    tensor(writer, storage, (100, 7));
    writer.end_dict();
}

fn state(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.begin_dict();
    writer.text("epoch");
    writer.int(3);
    fill(&mut writer);
    writer.end_dict();
    writer.finish()
}

fn planned(bytes: &[u8]) -> (Result<Pth>, Result<Flat>) {
    let opened = legacy::open_pickle(&bytes).unwrap();
    assert_eq!(opened.format, Format::Pickle);
    let inspection = inspect::file("", &bytes).unwrap();
    (pth(&opened), flat(&opened, &inspection, &Choice::Model))
}

#[test]
fn of_two_models_none_is_guessed_and_an_archive_keeps_both() {
    let bytes = state(|writer| {
        weights(writer, "generator", "0");
        weights(writer, "discriminator", "1");
    });
    let (pth, flat) = planned(&bytes);
    assert_eq!(pth.unwrap().account.kept.len(), 3);
    let error = flat.unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::Invalid, "generator, discriminator"));
}

#[test]
fn a_model_is_told_from_averaged_copies_and_losses_with_weights() {
    let bytes = state(|writer| {
        weights(writer, "model_ema", "0");
        weights(writer, "criterion", "1");
        weights(writer, "model", "2");
    });
    let flat = planned(&bytes).1.unwrap();
    assert_eq!(flat.tensors.len(), 1);
    assert_eq!(flat.tensors.first().unwrap().1.storage.as_ref().unwrap().key, "2");
    let dropped: Vec<&str> = flat.account.dropped.iter().map(|dropped| dropped.key.as_str()).collect();
    assert_eq!(dropped, ["model_ema", "criterion"]);
}

#[test]
fn of_a_large_storage_only_the_span_of_its_tensors_is_kept_and_shared() {
    let bytes = state(|writer| {
        writer.text("model");
        writer.begin_dict();
        writer.text("a");
        tensor(writer, "9", (103, 5));
        writer.text("b");
        tensor(writer, "9", (110, 10));
        writer.end_dict();
    });
    let pth = planned(&bytes).0.unwrap();
    // 103 elements of four bytes, down to a multiple of 16.
    assert_eq!(pth.pieces, [Piece { key: "9".to_owned(), start: 400, end: 480 }]);
    let written = pth.pickle.as_slice();
    let opened = legacy::open_pickle(&written).unwrap();
    let tensors: Vec<(u64, u64)> = opened
        .tensors()
        .tensors
        .iter()
        .map(|(_, tensor)| (tensor.offset, tensor.storage.as_ref().unwrap().count))
        .collect();
    assert_eq!(tensors, [(3, 20), (10, 20)]);
}

#[test]
fn settings_are_kept_and_states_are_not_whatever_their_names_share() {
    let bytes = state(|writer| {
        weights(writer, "model", "0");
        writer.text("optimizer_name");
        writer.text("AdamW");
        writer.text("opt");
        writer.begin_dict();
        writer.text("lr");
        writer.float(0.1);
        writer.end_dict();
        writer.text("lr_scheduler");
        writer.begin_dict();
        writer.text("last_epoch");
        writer.int(3);
        writer.end_dict();
        writer.text("extra");
        writer.begin_dict();
        writer.text("inner");
        writer.begin_dict();
        writer.text("state");
        writer.begin_dict();
        writer.end_dict();
        writer.text("param_groups");
        writer.begin_list();
        writer.end_list();
        writer.end_dict();
        writer.end_dict();
    });
    let account = planned(&bytes).0.unwrap().account;
    let kept: Vec<&str> = account.kept.iter().map(|kept| kept.key.as_str()).collect();
    assert_eq!(kept, ["epoch", "model", "optimizer_name", "opt", "extra"]);
    let dropped: Vec<&str> = account.dropped.iter().map(|dropped| dropped.key.as_str()).collect();
    assert_eq!(dropped, ["lr_scheduler", "extra.inner"]);
    assert!(account.is_smaller);
}

#[test]
fn what_only_code_could_make_goes_alone_and_takes_its_list_along() {
    let object = |writer: &mut Writer| {
        writer.global("trainer", "Config");
        writer.begin_tuple();
        writer.end_tuple();
        writer.call();
    };
    let bytes = state(|writer| {
        weights(writer, "model", "0");
        writer.text("config");
        writer.begin_dict();
        writer.text("object");
        object(writer);
        writer.text("list");
        writer.begin_list();
        writer.int(1);
        object(writer);
        writer.end_list();
        writer.text("size");
        writer.int(5);
        writer.end_dict();
    });
    let pth = planned(&bytes).0.unwrap();
    let dropped: Vec<&str> = pth.account.dropped.iter().map(|dropped| dropped.key.as_str()).collect();
    assert_eq!(dropped, ["config.object", "config.list"]);
    let written = pth.pickle.as_slice();
    let opened = legacy::open_pickle(&written).unwrap();
    let pickle = opened.pickle.as_ref().unwrap();
    let config = pickle.get(pickle.root(), "config").unwrap();
    assert_eq!(pickle.items(config).unwrap().len(), 1);
    assert_eq!(pickle.get(config, "size"), Some(Value::Int(5)));
    assert!(pickle.globals().iter().all(|(module, _)| module != "trainer"));
    let class = pickle.get(pickle.root(), CLASS_KEY).unwrap();
    assert_eq!(pickle.text(class).unwrap(), "inference-only");
}

#[test]
fn values_that_refer_to_each_other_over_and_over_end() {
    // Each tuple holds the one before it twice: 2^40 values to write out.
    let mut bytes = state(|writer| weights(writer, "model", "0"));
    let tail = bytes.split_off(bytes.len().saturating_sub(2));
    bytes.extend(b"X\x03\x00\x00\x00dag)");
    for _ in 0..40 {
        bytes.extend(b"q\x00h\x00\x86");
    }
    bytes.extend(tail);
    let bytes = bytes.as_slice();
    let opened = legacy::open_pickle(&bytes).unwrap();
    assert!(opened.pickle.is_some());
    assert_eq!(pth(&opened).unwrap_err().kind(), ErrorKind::Unsupported);
}
