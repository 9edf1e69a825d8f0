//! What `safe` means: no way of loading the file runs anything. Each file here does, or is written like one that does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ckpt_core::finding::{Code, Severity};
use ckpt_core::format::pickle::{self, PickleProblem, Value};
use ckpt_core::format::safety::{Risk, classify};
use ckpt_core::inspect::{self, DirectoryKind, Inspection};
use ckpt_core::limits;
use ckpt_core::members::MemoryMembers;

mod common;

const EVIL: &[u8] = b"cposix\nsystem\nX\x01\0\0\0x\x85R";

/// `{"epoch": 7, "bad": value}`
fn state(value: &[u8]) -> Vec<u8> {
    [b"\x80\x04}(X\x05\0\0\0epochK\x07X\x03\0\0\0bad", value, b"u."].concat()
}

fn text(text: &str) -> Vec<u8> {
    [b"X", u32::try_from(text.len()).unwrap().to_le_bytes().as_slice(), text.as_bytes()].concat()
}

fn judged(value: &[u8]) -> Inspection {
    common::inspect("a.pkl", &state(value))
}

fn verdict(value: &[u8]) -> Risk {
    judged(value).safety.verdict
}

/// A zip of stored members without checksums.
fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let offset = u32::try_from(bytes.len()).unwrap();
        let size = u32::try_from(content.len()).unwrap().to_le_bytes();
        let length = u16::try_from(name.len()).unwrap().to_le_bytes();
        let fields = [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0; 4], &size, &size, &length, &[0; 2]].concat();
        bytes.extend([b"PK\x03\x04", fields.as_slice(), name.as_bytes(), content].concat());
        let place = offset.to_le_bytes();
        directory.extend([b"PK\x01\x02\x14\0", fields.as_slice(), &[0; 10], &place, name.as_bytes()].concat());
    }
    let count = u16::try_from(members.len()).unwrap().to_le_bytes();
    let start = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    let size = u32::try_from(directory.len()).unwrap().to_le_bytes();
    [&bytes[..], &directory, b"PK\x05\x06\0\0\0\0", &count, &count, &size, &start, &[0; 2]].concat()
}

#[test]
fn memoize_fills_the_slot_that_python_fills() {
    // PUT 1 out of order, then MEMOIZE: one slot is filled, so Python's next is 1 as well.
    let read = |bytes: &[u8]| {
        let pickle = pickle::read(bytes.to_vec()).unwrap();
        pickle.root()
    };
    assert_eq!(read(b"\x80\x04K\x05q\x010K\x06\x940h\x01."), Value::Int(6));
    assert_eq!(read(b"\x80\x04K\x05q\x010K\x06q\x000K\x07\x940h\x02."), Value::Int(7), "0 and 1 are filled");
    let name = |name: &str, slot: &[u8]| [text(name), slot.to_vec(), b"0".to_vec()].concat();
    let desync = [
        name("collections", b"q\x01"),
        name("posix", b"\x94"),
        b"h\x01".to_vec(),
        name("OrderedDict", b"q\x05"),
        name("x", b"\x94"),
        name("x", b"\x94"),
        name("x", b"\x94"),
        name("system", b"\x94"),
        b"h\x05\x93".to_vec(),
        text("x"),
        b"\x85R".to_vec(),
    ];
    assert!(judged(&desync.concat()).safety.dangerous().any(|name| name == "posix.system"));
}

#[test]
fn escapes_of_python_2_strings_are_pythons() {
    let global = b"S'posi\\170'\nS's\\171stem'\n\x93X\x01\0\0\0x\x85R";
    assert!(judged(global).safety.dangerous().any(|name| name == "posix.system"));
    let pickle = pickle::read(b"S'\\a\\b\\f\\v\\0\\18\\1234\\q'\n.".to_vec()).unwrap();
    assert_eq!(pickle.text(pickle.root()).unwrap(), "\x07\x08\x0c\x0b\0\x018S4\\q");
}

/// A whole stream that `_load_from_bytes` may load.
fn stream() -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    [magic.as_slice(), b"\x80\x02M\xe9\x03.", b"\x80\x02}.", b"\x80\x02}.", b"\x80\x02]."].concat()
}

fn loads(argument: &[u8]) -> Risk {
    verdict(&[b"ctorch.storage\n_load_from_bytes\n", argument, b"\x85R"].concat())
}

#[test]
fn bytes_that_loading_makes_otherwise_are_unread() {
    let inner = stream();
    let bytes = [b"C", [u8::try_from(inner.len()).unwrap()].as_slice(), &inner].concat();
    let as_text = text(&inner.iter().map(|byte| char::from(*byte)).collect::<String>());
    let encode = |codec: &[u8]| [b"c_codecs\nencode\n", as_text.as_slice(), codec].concat();
    assert_eq!(loads(&bytes), Risk::Safe);
    assert_eq!(loads(&encode(&[text("latin1"), b"\x86R".to_vec()].concat())), Risk::Safe);
    for codec in ["ascii", "utf-8", "rot13", "latin_1 "] {
        assert_eq!(loads(&encode(&[text(codec), b"\x86R".to_vec()].concat())), Risk::Dangerous, "{codec}");
    }
    let with_errors = [text("latin1"), text("ignore"), b"\x87R".to_vec()].concat();
    assert_eq!(loads(&encode(&with_errors)), Risk::Dangerous);
    assert_eq!(loads(&encode(b"\x85R")), Risk::Dangerous, "the default codec is UTF-8");
    let array = [b"cbuiltins\nbytearray\n", bytes.as_slice(), b"\x85R"].concat();
    assert_eq!(loads(&array), Risk::Safe);
    assert_eq!(loads(&[array.as_slice(), b"(K\0K\x01u"].concat()), Risk::Dangerous, "items set later");
    assert_eq!(loads(&[array.as_slice(), b"(K\0e"].concat()), Risk::Dangerous, "elements added later");
    // The same text encoded twice: once as it is shown, once otherwise.
    let honest = [b"ctorch.storage\n_load_from_bytes\nc_codecs\nencode\n", as_text.as_slice(), b"q\x09"].concat();
    let both =
        [honest, text("latin1"), b"\x86R\x85R0ctorch.storage\n_load_from_bytes\nc_codecs\nencode\nh\x09".to_vec()];
    let both = [both.concat(), text("ascii"), b"\x86R\x85R".to_vec()].concat();
    assert_eq!(verdict(&both), Risk::Dangerous);
}

#[test]
fn calls_and_attributes_that_no_import_shows_are_dangerous() {
    let layout = b"ctorch.serialization\n_get_layout\n".as_slice();
    assert_eq!(verdict(&[layout, b"X\x01\0\0\0x\x85R"].concat()), Risk::Safe);
    assert_eq!(verdict(&[layout, b"}X\x05\0\0\0cacheNsb"].concat()), Risk::Dangerous, "BUILD on a function");
    assert_eq!(verdict(&[layout, b"X\x01\0\0\0x\x85R)R"].concat()), Risk::Dangerous, "a call of a result");
    assert_eq!(verdict(&[layout, b"X\x01\0\0\0x\x85R)\x81"].concat()), Risk::Dangerous, "an instance of a result");
    assert_eq!(verdict(&[b"((", layout, b"X\x01\0\0\0x\x85Ro0N"].concat()), Risk::Dangerous, "OBJ of a result");
    // These call their first argument.
    let through = |indirect: &[u8]| [indirect, layout, b"X\x01\0\0\0x\x85R\x85R"].concat();
    assert_eq!(verdict(&through(b"ccollections\ndefaultdict\n")), Risk::Dangerous);
    assert_eq!(verdict(&through(b"ctorch._tensor\n_rebuild_from_type_v2\n")), Risk::Dangerous);
    assert_eq!(verdict(&through(b"Vtorch._tensor\nV_rebuild_from_type_v2\n\x93")), Risk::Dangerous, "a spelt name");
    assert_eq!(verdict(b"ccollections\ndefaultdict\ncbuiltins\nint\n\x85R"), Risk::Safe);
}

#[test]
fn what_was_imported_before_a_pickle_breaks_off_is_told() {
    for end in [b"\x97".as_slice(), b"I0x10\n0", b"\x82\x01", b"", b"h\x63"] {
        let bytes = [&state(b"N")[..2], EVIL, end].concat();
        let inspection = common::inspect("a.pkl", &bytes);
        assert!(!inspection.is_valid());
        assert_eq!(inspection.safety.verdict, Risk::Dangerous, "{end:?}");
        let zipped = common::inspect("a.pth", &zip(&[("a/data.pkl", &bytes), ("a/version", b"3\n")]));
        assert_eq!(zipped.safety.verdict, Risk::Dangerous, "{end:?}");
    }
}

#[test]
fn a_stream_whose_magic_number_is_written_otherwise_is_read_as_one() {
    let evil = [b"\x80\x02", EVIL, b"."].concat();
    let rest = [b"\x80\x02M\xe9\x03.\x80\x02}.".as_slice(), &evil, b"\x80\x02]."].concat();
    let padded = [b"\x80\x02".as_slice(), &b"N0".repeat(20), &stream()[2..15]].concat();
    for magic in [b"\x80\x02L119547037146038801333356L\n.".as_slice(), &padded] {
        let inspection = common::inspect("a.pth", &[magic, rest.as_slice()].concat());
        assert_eq!(inspection.safety.verdict, Risk::Dangerous, "{:?}", inspection.findings);
    }
}

#[test]
fn a_class_that_old_pytorch_names_in_a_persistent_id_is_no_other_calls_result() {
    let id = |value: &[u8]| [b"(X\x06\0\0\0module", value, b"NNtQ"].concat();
    let class = b"ctorch.nn.modules.linear\nLinear\n".as_slice();
    assert_eq!(verdict(&[id(class), b")\x81".to_vec()].concat()), Risk::Safe);
    assert_eq!(verdict(&[id(class), b"}b".to_vec()].concat()), Risk::Dangerous, "BUILD on a class");
    assert_eq!(verdict(&[id(&[class, b")\x81"].concat()), b")R".to_vec()].concat()), Risk::Dangerous);
}

#[test]
fn what_was_not_read_is_not_safe() {
    let evil = [b"\x80\x02", EVIL, b"."].concat();
    for (name, bytes) in [
        ("a.pth", [b"GGUF0", EVIL, b"."].concat()),
        ("a.onnx", evil.clone()),
        ("a.msgpack", evil),
        ("a.pth", [b"N0", EVIL, b"."].concat()),
        ("a.pth", Vec::new()),
        ("a.pth", b"\x80\x02}\xff".to_vec()),
        ("a.pth", zip(&[("a/x", b"")])),
    ] {
        assert!(common::inspect(name, &bytes).safety.verdict > Risk::Safe, "{name} {bytes:?}");
    }
}

#[test]
fn twins_of_the_pickle_are_dangerous_and_its_case_does_not_matter() {
    let (good, evil) = (state(b"N"), state(EVIL));
    let version: (&str, &[u8]) = ("a/version", b"3\n");
    for twins in [["a/data.pkl", "a/DATA.pkl"], ["A/DATA.PKL", "a/data.pkl"], ["a/data.pkl", "a/data.pkl"]] {
        let bytes = zip(&[("a/byteorder", b"little"), (twins[0], &good), (twins[1], &good), version]);
        let inspection = common::inspect("a.pth", &bytes);
        assert_eq!(inspection.safety.dangerous().collect::<Vec<_>>(), ["<two members named data.pkl>"], "{twins:?}");
        assert_eq!(common::errors(&inspection), [Code::Unsafe], "{twins:?}");
    }
    let inspection =
        common::inspect("a.pth", &zip(&[("a\0b/data.pkl", &good), ("a\0b/version", b"3\n"), ("a", &evil)]));
    assert_eq!(inspection.safety.verdict, Risk::Dangerous, "a name that ends early");
    let inspection = common::inspect("a.pth", &zip(&[("a/Data.pkl", &evil), version]));
    assert!(inspection.safety.dangerous().any(|name| name == "posix.system"));
    assert!(common::inspect("a.pth", &zip(&[("a/data.pkl", &good), version])).is_valid());
}

#[test]
fn a_script_is_not_safe_to_load() {
    assert_eq!(common::inspect_file("torch/torchscript.pt").safety.verdict, Risk::Unknown);
}

#[test]
fn every_file_of_a_directory_is_judged() {
    let evil = state(EVIL);
    let zipped = zip(&[("a/data.pkl", &evil), ("a/version", b"3\n")]);
    for kind in [DirectoryKind::HfTrainer, DirectoryKind::Accelerate, DirectoryKind::Dcp, DirectoryKind::Orbax] {
        for (name, bytes) in [
            ("global_step5/x.pt", &zipped),
            ("OPTIMIZER.PT", &zipped),
            ("extra.ckpt", &evil),
            ("notes", &zipped),
            ("a/b/c.dat", &evil),
        ] {
            let mut members = MemoryMembers::default();
            members.insert(name, bytes.clone());
            let inspection = inspect::directory("checkpoint-5", kind, &members).unwrap();
            assert_eq!(inspection.safety.verdict, Risk::Dangerous, "{kind:?} {name}");
            assert!(!inspection.is_valid());
        }
    }
}

#[test]
fn a_row_of_archives_that_the_metadata_does_not_name_is_not_safe() {
    let files = ["__0_0.distcp", ".metadata"].map(|name| (name, common::bytes(&format!("dcp/step-200/{name}"))));
    let mut members = MemoryMembers::default();
    for (name, bytes) in files {
        members.insert(name, bytes);
    }
    let verdict =
        |members: &MemoryMembers| inspect::directory("step-200", DirectoryKind::Dcp, members).unwrap().safety.verdict;
    assert_eq!(verdict(&members), Risk::Safe);
    members.insert("__9_9.distcp", state(EVIL));
    assert!(verdict(&members) > Risk::Safe);
}

#[test]
fn a_pickle_that_its_own_header_names_otherwise_is_dangerous() {
    let inspection = common::inspect_file("hostile/header_mismatch.pth");
    assert_eq!(inspection.safety.verdict, Risk::Dangerous);
}

#[test]
fn a_flood_of_files_is_not_safe() {
    let mut members = MemoryMembers::default();
    for index in 0..=limits::JUDGED_FILES {
        members.insert(format!("{index}.txt"), b"x".to_vec());
    }
    let inspection = inspect::directory("checkpoint-5", DirectoryKind::HfTrainer, &members).unwrap();
    assert_eq!(inspection.safety.verdict, Risk::Unknown);
}

#[test]
fn bombs_stop_at_a_bound() {
    let too_large = |bytes: Vec<u8>| pickle::read(bytes).unwrap_err().problem == PickleProblem::TooLarge;
    let body = |part: &[u8], count: usize| [b"\x80\x04".to_vec(), part.repeat(count)].concat();
    assert!(too_large(body(b"N", 3 << 20)));
    assert!(too_large(body(b"N\x94", 3 << 20)));
    assert!(too_large(body(b"N\x940", 7 << 20)));
    assert!(too_large(body(b"ccollections\nOrderedDict\n)R", 1 << 21)));
    let mut line = vec![b'a'; 40 << 20];
    line[0] = b'V';
    line.extend(b"\n.");
    assert!(too_large(line));
    // Each of these copies the items of one dict.
    let dict = [b"\x80\x04ccollections\nOrderedDict\nq\x000}(".as_slice(), &b"NN".repeat(250), b"u\x85q\x010"].concat();
    assert!(too_large([dict, b"h\0h\x01R0".repeat(90_000)].concat()));
}

#[test]
fn a_shape_of_a_million_sides_and_a_flood_of_shards_are_refused_shortly() {
    let sides = "1,".repeat(100) + "1";
    let header = format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":[{sides}],\"data_offsets\":[0,4]}}}}");
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 4]].concat();
    assert_eq!(common::errors(&common::inspect("a.safetensors", &bytes)), [Code::NotACheckpoint]);
    let entries: Vec<String> = (0..1_000).map(|index| format!("\"t{index}\":\"s{index}\"")).collect();
    let index = format!("{{\"weight_map\":{{{}}}}}", entries.join(","));
    let mut members = MemoryMembers::default();
    members.insert("model.safetensors.index.json", index.into_bytes());
    let inspection = inspect::index("model.safetensors.index.json", &members).unwrap();
    let mut errors = inspection.findings.iter().filter(|finding| finding.severity == Severity::Error);
    assert_eq!(errors.clone().count(), 17);
    assert!(errors.next_back().unwrap().message.contains("1000"));
}

#[test]
fn capitals_in_torchs_modules_are_classes_or_unknown() {
    assert_eq!(classify("torch.nn.modules.loss", "F"), Risk::Unknown);
    assert_eq!(classify("torch.nn.modules.rnn", "LSTM"), Risk::Safe);
}
