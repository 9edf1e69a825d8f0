use super::*;
use proptest::prelude::*;

fn problem(bytes: &[u8]) -> PickleProblem {
    read(bytes.to_vec()).unwrap_err().problem
}

#[test]
fn a_call_is_recorded_and_not_made() {
    let pickle = read(b"cos\nsystem\n(S'touch /tmp/never'\ntR.".to_vec()).unwrap();
    let (module, name, object) = pickle.call(pickle.root()).unwrap();
    assert_eq!((&*module, &*name), ("os", "system"));
    let command = *pickle.sequence(object.arguments()).unwrap().first().unwrap();
    assert_eq!(pickle.text(command).unwrap(), "touch /tmp/never");
}

#[test]
fn items_keep_the_order_of_the_file() {
    let pickle = read(b"\x80\x02}q\x00(X\x01\x00\x00\x00bK\x01X\x01\x00\x00\x00aK\x02u.".to_vec()).unwrap();
    let items = pickle.items(pickle.root()).unwrap();
    let keys: Vec<_> = items.iter().map(|(key, _)| pickle.text(*key).unwrap().into_owned()).collect();
    assert_eq!(keys, ["b", "a"]);
    assert_eq!(pickle.get(pickle.root(), "a"), Some(Value::Int(2)));
}

#[test]
fn long_integers_keep_their_sign() {
    let value = |bytes: &[u8]| read(bytes.to_vec()).unwrap().root();
    assert_eq!(value(b"\x80\x02\x8a\x00."), Value::Int(0));
    assert_eq!(value(b"\x80\x02\x8a\x01\xff."), Value::Int(-1));
    assert_eq!(value(b"\x80\x02\x8a\x02\xff\x00."), Value::Int(255));
    assert_eq!(value(b"L-12L\n."), Value::Int(-12));
}

#[test]
fn integers_beyond_64_bits_become_the_nearest_float() {
    let value = |bytes: &[u8]| {
        let pickle = read(bytes.to_vec()).unwrap();
        match pickle.node(pickle.root()) {
            Some(Node::BigInt(number)) => *number,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(value(b"\x80\x02\x8a\x09\0\0\0\0\0\0\0\0\xc0."), -(2.0_f64.powi(70)));
    assert_eq!(value(b"L1180591620717411303424L\n."), 2.0_f64.powi(70));
    assert_eq!(value(&[b"\x80\x02\x8a\x14".as_slice(), &[0; 19], b"\x01."].concat()), 2.0_f64.powi(152));
}

#[test]
fn a_list_inside_itself_is_read() {
    let pickle = read(b"\x80\x02]q\x00h\x00a.".to_vec()).unwrap();
    assert_eq!(pickle.sequence(pickle.root()).unwrap(), &[pickle.root()]);
}

#[test]
fn doubling_by_reference_costs_nothing() {
    // [] then 60 × (DUP, APPEND): would be 2^60 elements if references were copies.
    let mut bytes = b"\x80\x02]q\x00".to_vec();
    for _ in 0..60 {
        bytes.extend(b"]h\x00ah\x00aq\x00");
    }
    bytes.push(b'.');
    assert!(read(bytes).is_ok());
}

#[test]
fn malformed_input_is_named() {
    assert_eq!(problem(b""), PickleProblem::Truncated);
    assert_eq!(problem(b"\x80\x02}q"), PickleProblem::Truncated);
    assert_eq!(problem(b"\x80\x02X\xff\xff\xff\x7fab"), PickleProblem::Truncated);
    assert_eq!(problem(b"\xff"), PickleProblem::UnknownOpcode(0xff));
    assert_eq!(problem(b"R."), PickleProblem::BadStack);
    assert_eq!(problem(b"(R."), PickleProblem::BadStack);
    assert_eq!(problem(b"h\x05."), PickleProblem::BadMemo);
    assert_eq!(problem(b"\x82\x01."), PickleProblem::Refused(0x82));
}

#[test]
fn a_computed_import_is_noticed() {
    // STACK_GLOBAL over two Nones.
    assert!(read(b"\x80\x04NN\x93.".to_vec()).unwrap().tricks().computed_global);
}

#[test]
fn text_of_old_protocols_is_unescaped() {
    let text = |bytes: &[u8]| {
        let pickle = read(bytes.to_vec()).unwrap();
        pickle.text(pickle.root()).unwrap().into_owned()
    };
    assert_eq!(text(b"Vcaf\\u00e9\n."), "café");
    assert_eq!(text(b"S'a\\x41\\n'\n."), "aA\n");
}

proptest! {
    #[test]
    fn any_bytes_end_in_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _either = read(bytes);
    }

    #[test]
    fn any_opcodes_end_in_a_value_or_an_error(
        ops in proptest::collection::vec(proptest::sample::select(
            b"().0123]}lte adsuNRbqhKMJ\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94\x81\x92Q".to_vec()), 0..256)
    ) {
        if let Ok(pickle) = read(ops) {
            for (_, node) in pickle.nodes() {
                std::hint::black_box(node);
            }
            std::hint::black_box((pickle.fields(pickle.root()), pickle.sequence(pickle.root())));
        }
    }
}
