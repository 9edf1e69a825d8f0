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

#[test]
fn weights_are_kept_whatever_words_their_key_shares_with_training() {
    let names = [
        "upsampler",
        "upscaler",
        "schedule_net",
        "noise_sampler",
        "loader_head",
        "rng_net",
        "scaler",
        "optim_net",
        "sampler",
    ];
    let bytes = state(|writer| {
        for (number, name) in names.iter().enumerate() {
            weights(writer, name, &number.to_string());
        }
        writer.text("lr_scheduler");
        writer.begin_dict();
        writer.text("base_lrs");
        tensor(writer, "90", (0, 2));
        writer.end_dict();
    });
    let (pth, flat) = planned(&bytes);
    let account = pth.unwrap().account;
    let kept: Vec<&str> = account.kept.iter().skip(1).map(|kept| kept.key.as_str()).collect();
    assert_eq!(kept, names);
    let dropped: Vec<&str> = account.dropped.iter().map(|dropped| dropped.key.as_str()).collect();
    assert_eq!(dropped, ["lr_scheduler"]);
    assert_eq!(flat.unwrap_err().subject(), names.join(", "));
}

#[test]
fn what_standardises_data_is_no_gradient_scaler_and_a_scheduler_without_tensors_is_one() {
    let bytes = state(|writer| {
        weights(writer, "model", "0");
        for (key, field) in [("scaler", "mean"), ("grad_scaler", "growth_factor"), ("scheduler", "mine")] {
            writer.text(key);
            writer.begin_dict();
            writer.text(field);
            writer.float(0.5);
            writer.end_dict();
        }
    });
    let account = planned(&bytes).0.unwrap().account;
    let dropped: Vec<&str> = account.dropped.iter().map(|dropped| dropped.key.as_str()).collect();
    assert_eq!(dropped, ["grad_scaler", "scheduler"]);
}

#[test]
fn no_tensor_is_lost_whose_key_is_no_text_or_has_the_text_of_another() {
    let pair = |first: &dyn Fn(&mut Writer), second: &dyn Fn(&mut Writer)| {
        state(|writer| {
            writer.text("model");
            writer.begin_dict();
            for (number, key) in [first, second].iter().enumerate() {
                key(writer);
                tensor(writer, &number.to_string(), (0, 2));
            }
            writer.end_dict();
        })
    };
    let text = |writer: &mut Writer| writer.text("0");
    let float = |writer: &mut Writer| writer.float(1.5);
    let tuple = |writer: &mut Writer| {
        writer.begin_tuple();
        writer.text("l");
        writer.int(0);
        writer.end_tuple();
    };
    for key in [&(|writer: &mut Writer| writer.int(0)) as &dyn Fn(&mut Writer), &float, &tuple] {
        let (pth, flat) = planned(&pair(&text, key));
        assert_eq!(flat.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(pth.unwrap().pieces.len(), 2);
    }
    // In Python `True` is 1, and of the same key the last value counts.
    let one = |writer: &mut Writer| writer.int(1);
    assert_eq!(planned(&pair(&|writer| writer.bool(true), &one)).1.unwrap().tensors.len(), 1);
    assert_eq!(planned(&pair(&text, &text)).1.unwrap().tensors.len(), 1);
}

#[test]
fn at_the_root_a_number_is_another_key_than_its_text() {
    let bytes = state(|writer| {
        weights(writer, "1", "0");
        writer.int(1);
        writer.begin_dict();
        writer.text("bias");
        tensor(writer, "1", (0, 2));
        writer.end_dict();
    });
    let (pth, flat) = planned(&bytes);
    let pth = pth.unwrap();
    assert_eq!(pth.account.kept.len(), 3);
    assert_eq!(pth.pieces.len(), 2);
    assert_eq!(flat.unwrap_err().subject(), "1, 1");
    let all = Choice::All { is_compact: false };
    let bytes = state(|writer| {
        for key in [true, false] {
            if key {
                writer.text("1");
            } else {
                writer.int(1);
            }
            writer.begin_dict();
            writer.text("weight");
            tensor(writer, "0", (0, 2));
            writer.end_dict();
        }
    });
    let bytes = bytes.as_slice();
    let opened = legacy::open_pickle(&bytes).unwrap();
    let error = flat::flat(&opened, &inspect::file("", &bytes).unwrap(), &all).unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::Unsupported, "1.weight"));
    let bytes = state(|writer| {
        weights(writer, "model", "0");
        writer.float(1.5);
        tensor(writer, "1", (0, 2));
    });
    let bytes = bytes.as_slice();
    let opened = legacy::open_pickle(&bytes).unwrap();
    let error = flat::flat(&opened, &inspect::file("", &bytes).unwrap(), &all).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn what_the_declared_class_takes_the_place_of_is_named() {
    let bytes = state(|writer| {
        weights(writer, "model", "0");
        weights(writer, CLASS_KEY, "1");
    });
    let account = planned(&bytes).0.unwrap().account;
    assert_eq!(account.dropped.first().map(|dropped| dropped.key.as_str()), Some(CLASS_KEY));
    let bytes = state(|writer| {
        weights(writer, "model", "0");
        writer.text(CLASS_KEY);
        writer.text("inference-only");
    });
    assert_eq!(planned(&bytes).0.unwrap().account.dropped, []);
}

#[test]
fn the_attributes_of_a_state_dict_are_named_when_they_are_not_written() {
    let bytes = state(|writer| {
        writer.text("model");
        writer.begin_ordered();
        writer.text("weight");
        tensor(writer, "0", (0, 2));
        writer.end_dict();
    });
    // After the last `u` but one: BUILD with the attributes.
    let end = bytes.len().saturating_sub(2);
    let mut built = bytes.get(..end).unwrap().to_vec();
    built.extend(b"}X\x09\x00\x00\x00_metadata}sb");
    built.extend(bytes.get(end..).unwrap());
    let (pth, flat) = planned(&built);
    for (account, key) in [(pth.unwrap().account, "model._metadata"), (flat.unwrap().account, "_metadata")] {
        let dropped: Vec<&str> = account.dropped.iter().map(|dropped| dropped.key.as_str()).collect();
        assert_eq!(dropped, [key]);
    }
}
