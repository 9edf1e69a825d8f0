//! Damage is named, never missed, never a panic; what survives it is still told.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use ckpt_core::finding::Code;
use ckpt_core::format::Format;
use ckpt_core::format::pickle;
use ckpt_core::format::safety::Risk;
use ckpt_core::format::zip;
use ckpt_core::ids::Epoch;
use ckpt_core::inspect::{self, DirectoryKind, Inspection};
use ckpt_core::members::MemoryMembers;

mod common;

/// What each damaged or mistaken fixture is called, and whether its epoch is still told.
const NAMED: &[(&str, &[Code], bool)] = &[
    ("broken/bitflip_in_metric.pth", &[Code::CrcMismatch], true),
    ("broken/crlf_converted.pth", &[Code::OutOfBounds, Code::NotACheckpoint], false),
    ("broken/empty.pth", &[Code::Empty], false),
    ("broken/legacy_tar_trunc.pth", &[Code::Truncated, Code::Truncated], true),
    ("broken/legacy_trunc_in_data.pth", &[Code::Truncated], true),
    ("broken/legacy_trunc_in_pickle.pth", &[Code::Truncated], false),
    ("broken/missing_storage.pth", &[Code::MissingShard], true),
    ("broken/no_data_pkl.pth", &[Code::NotACheckpoint], false),
    ("broken/no_version.pth", &[Code::MissingShard], true),
    ("broken/prefix_newline.pth", &[Code::NotACheckpoint], false),
    ("broken/rootless.pth", &[Code::NotACheckpoint], false),
    ("broken/short_storage.pth", &[Code::Truncated], true),
    ("broken/trunc_4_bytes.pth", &[Code::Truncated], false),
    ("broken/trunc_after_pickle.pth", &[Code::Truncated], true),
    ("broken/trunc_before_directory.pth", &[Code::Truncated], true),
    ("broken/trunc_in_data.pth", &[Code::Truncated], true),
    ("broken/trunc_in_directory.pth", &[Code::Truncated], true),
    ("broken/trunc_in_pickle.pth", &[Code::Truncated, Code::Truncated], false),
    ("broken/trunc_last_byte.pth", &[Code::Truncated], true),
    ("broken/zero_second_half.pth", &[Code::ZeroFilled], true),
    ("other/._appledouble.pth", &[Code::NotACheckpoint], false),
    ("other/.model.pth.tmp", &[Code::Truncated], true),
    ("other/empty.pth", &[Code::Empty], false),
    ("other/gzipped.pth", &[Code::NotACheckpoint], false),
    ("other/html_page.pth", &[Code::NotACheckpoint], false),
    ("other/json.pth", &[Code::NotACheckpoint], false),
    ("other/json_error.pth", &[Code::NotACheckpoint], false),
    ("other/lfs_pointer.pth", &[Code::NotACheckpoint], false),
    ("other/random.pth", &[Code::NotACheckpoint], false),
    ("other/text.pth", &[Code::NotACheckpoint], false),
    ("other/upload.tar", &[Code::NotACheckpoint], false),
    ("other/upload.tar.gz", &[Code::NotACheckpoint], false),
    ("other/upload.zip", &[Code::NotACheckpoint], false),
    ("other/zeros.pth", &[Code::ZeroFilled], false),
    ("safetensors/huge_header.safetensors", &[Code::NotACheckpoint], false),
    ("safetensors/overlap.safetensors", &[Code::OutOfBounds], false),
    ("safetensors/really_a_torch_zip.safetensors", &[Code::Unsupported], true),
    ("safetensors/trailing_bytes.safetensors", &[Code::OutOfBounds], true),
    ("safetensors/trunc_in_data.safetensors", &[Code::Truncated], true),
    ("safetensors/trunc_in_header.safetensors", &[Code::Truncated], false),
];

/// Damage that only reading every byte shows (`deep`), or none to `torch.load` and to us.
const TOLERATED: &[&str] =
    &["broken/bitflip_in_data.pth", "broken/tail_garbage.pth", "broken/twice.pth", "broken/zero_hole_in_data.pth"];

#[test]
fn every_damaged_fixture_is_named() {
    let mut wrong = Vec::new();
    for (path, codes, tells_epoch) in NAMED {
        let inspection = common::inspect_file(path);
        assert!(!inspection.is_valid(), "{path}");
        if common::errors(&inspection) != *codes || inspection.epoch.is_some() != *tells_epoch {
            wrong.push(format!("{path}: {:?} {:?}", inspection.epoch, inspection.findings));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for path in TOLERATED {
        let inspection = common::inspect_file(path);
        assert!(inspection.is_valid(), "{path}: {:?}", inspection.findings);
    }
    let tail = common::inspect_file("broken/tail_garbage.pth");
    assert_eq!(tail.findings[0].code, Code::OutOfBounds, "a warning");
    for name in common::files_below("broken") {
        let path = format!("broken/{name}");
        let is_listed = NAMED.iter().any(|(listed, ..)| *listed == path) || TOLERATED.contains(&path.as_str());
        assert!(is_listed, "{path} is in no list");
    }
}

/// Where `data.pkl` lies in an archive that PyTorch wrote.
fn pickle_range(bytes: &[u8]) -> std::ops::Range<usize> {
    let archive = zip::open(&bytes).unwrap().unwrap();
    let entry = archive.entries.iter().find(|entry| entry.name.ends_with("/data.pkl")).unwrap();
    let start = zip::local_header(&bytes, entry.header_offset).unwrap().unwrap().data_offset;
    let place = |offset: u64| usize::try_from(offset).unwrap();
    place(start)..place(start + entry.size)
}

#[test]
fn a_zip_cut_anywhere_is_never_valid_and_tells_what_is_left() {
    let name = "zip_default.pth";
    let whole = common::bytes(&format!("torch/{name}"));
    let pickle = pickle_range(&whole);
    assert_eq!(pickle.start, 64);
    let mut complete = 0;
    for length in 0..whole.len() {
        let inspection = common::inspect(name, &whole[..length]);
        assert!(!inspection.is_valid(), "{length}");
        if length < pickle.end {
            continue;
        }
        assert_eq!(inspection.epoch, Some(Epoch::from(7)), "{length}");
        assert_eq!(common::metric(&inspection, "accuracy"), Some(0.875), "{length}");
        let salvage = inspection.salvage.unwrap();
        assert_eq!(salvage.expected_bytes, Some(whole.len() as u64), "{length}");
        assert_eq!((salvage.actual_bytes, salvage.tensors_total), (length as u64, 17), "{length}");
        assert!(salvage.tensors_complete >= complete, "{length}: more bytes, fewer tensors");
        complete = salvage.tensors_complete;
    }
    assert_eq!(complete, 17);
}

/// Every archive in the fixtures that PyTorch's present writer made.
fn written_by_torch() -> Vec<String> {
    let folders = ["torch", "lightning", "hf", "accelerate", "ultralytics", "timm", "torchvision"];
    let by_hand = ["rezip_", "layout_", "torchscript", "exported", "numpy1", "unpacked_"];
    let files = folders
        .iter()
        .flat_map(|folder| common::files_below(folder).into_iter().map(move |name| format!("{folder}/{name}")));
    files
        .filter(|path| !by_hand.iter().any(|part| path.contains(part)))
        .filter(|path| common::inspect_file(path).format == Format::TorchZip)
        .collect()
}

#[test]
fn the_size_a_cut_archive_should_have_is_exact() {
    let paths = written_by_torch();
    assert!(paths.len() > 100, "{}", paths.len());
    let mut wrong = Vec::new();
    for path in paths {
        let whole = common::bytes(&path);
        let pickle = pickle_range(&whole);
        let after = whole.len() - pickle.end;
        for length in [pickle.end, pickle.end + after / 4, pickle.end + after / 2, whole.len() - 100, whole.len() - 1] {
            let length = length.max(pickle.end);
            let inspection = common::inspect(common::name(&path), &whole[..length]);
            let expected = inspection.salvage.and_then(|salvage| salvage.expected_bytes);
            if expected != Some(whole.len() as u64) {
                wrong.push(format!("{path} cut at {length}: {expected:?} instead of {}", whole.len()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_stream_cut_anywhere_is_never_valid() {
    let whole = common::bytes("torch/legacy.pth");
    for length in 0..whole.len() {
        let inspection = common::inspect("legacy.pth", &whole[..length]);
        assert!(!inspection.is_valid(), "{length}");
        if inspection.epoch.is_some() {
            let salvage = inspection.salvage.unwrap();
            assert_eq!(salvage.actual_bytes, length as u64);
        }
    }
    let nearly = common::inspect("legacy.pth", &whole[..whole.len() - 1]);
    assert_eq!(nearly.epoch, Some(Epoch::from(7)));
    assert_eq!(nearly.salvage.unwrap().expected_bytes, Some(whole.len() as u64));
}

#[test]
fn safetensors_cut_anywhere_are_never_valid() {
    let whole = common::bytes("safetensors/with_metadata.safetensors");
    for length in 0..whole.len() {
        let inspection = common::inspect("model.safetensors", &whole[..length]);
        assert!(!inspection.is_valid(), "{length}");
    }
}

#[test]
fn a_bare_pickle_cut_anywhere_is_never_valid() {
    // A pickle ends with its only STOP: no proper beginning of it is a pickle.
    for path in ["torch/pickle_floats_protocol0.pkl", "torch/pickle_floats_protocol4.pkl", "torch/pickle_tensors.pkl"] {
        let whole = common::bytes(path);
        for length in 0..whole.len() {
            let inspection = common::inspect(common::name(path), &whole[..length]);
            assert!(!inspection.is_valid(), "{path} {length}");
        }
        assert!(common::inspect(common::name(path), &whole).is_valid(), "{path}");
    }
}

fn distributed(metadata: &[u8], data: &[u8]) -> Inspection {
    let mut members = MemoryMembers::default();
    members.insert(".metadata", metadata.to_vec());
    members.insert("__0_0.distcp", data.to_vec());
    inspect::directory("step-200", DirectoryKind::Dcp, &members).unwrap()
}

#[test]
fn a_distributed_checkpoint_cut_anywhere_is_never_valid() {
    let (metadata, data) = (common::bytes("dcp/step-200/.metadata"), common::bytes("dcp/step-200/__0_0.distcp"));
    assert!(distributed(&metadata, &data).is_valid());
    for length in 0..metadata.len() {
        assert!(!distributed(&metadata[..length], &data).is_valid(), "{length}");
    }
    for length in (0..data.len()).step_by(97) {
        assert!(!distributed(&metadata, &data[..length]).is_valid(), "{length}");
    }
}

#[test]
fn any_flipped_bit_in_the_state_is_found_and_none_panics() {
    let whole = common::bytes("torch/zip_default.pth");
    let pickle = pickle_range(&whole);
    let mut bytes = whole.clone();
    for position in 0..whole.len() {
        bytes[position] ^= 1 << (position % 8);
        let inspection = common::inspect("zip_default.pth", &bytes);
        if pickle.contains(&position) {
            assert!(common::errors(&inspection).contains(&Code::CrcMismatch), "{position}: {:?}", inspection.findings);
        }
        bytes[position] = whole[position];
    }
}

#[test]
fn a_flipped_byte_in_a_metrics_tensor_is_found() {
    let mut bytes = common::bytes("torch/metric_tensor_float32.pth");
    let place = bytes.windows(4).rposition(|window| window == 0.875_f32.to_le_bytes()).unwrap();
    bytes[place + 2] ^= 0x10;
    let inspection = common::inspect("m.pth", &bytes);
    assert_eq!(common::errors(&inspection), [Code::CrcMismatch]);
    assert_eq!(common::metric(&inspection, "accuracy"), None, "a wrong number is not shown as one");
}

#[test]
fn tails_of_zeros_are_named() {
    let whole = common::bytes("torch/zip_default.pth");
    let pickle = pickle_range(&whole);
    for start in (0..whole.len() - 64).step_by(61) {
        let mut bytes = whole.clone();
        bytes[start..].fill(0);
        let inspection = common::inspect("zip_default.pth", &bytes);
        assert_eq!(common::errors(&inspection)[0], Code::ZeroFilled, "{start}: {:?}", inspection.findings);
        assert_eq!(inspection.epoch.is_some(), start >= pickle.end, "{start}");
    }
}

#[test]
fn zeros_of_a_tensor_before_an_early_end_are_no_zero_filled_tail() {
    // All of its storages are zeros.
    let whole = common::bytes("torch/skip_data_zeros.pth");
    let pickle = pickle_range(&whole);
    for length in pickle.end..whole.len() {
        let inspection = common::inspect("skip_data_zeros.pth", &whole[..length]);
        assert_eq!(common::errors(&inspection), [Code::Truncated], "{length}");
    }
}

#[test]
fn a_truncated_archive_of_zeros_from_its_first_byte_is_zero_filled() {
    for length in [1, 4, 512, 4_096] {
        assert_eq!(common::errors(&common::inspect("a.pth", &vec![0; length])), [Code::ZeroFilled], "{length}");
    }
}

/// The dangerous import in each hostile fixture.
const DANGEROUS: &[(&str, &str)] = &[
    ("builtins_eval.pth", "__builtin__.eval"),
    ("builtins_exec.pth", "builtins.exec"),
    ("duplicate_bad_last.pth", "posix.system"),
    ("getattr_chain.pth", "__builtin__.getattr"),
    ("in_optimizer_state.pth", "posix.system"),
    ("in_state_dict_metadata.pth", "posix.system"),
    ("legacy.pth", "posix.system"),
    ("legacy_in_key_list.pth", "posix.system"),
    ("nested_load_from_bytes.pkl", "posix.system"),
    ("nested_load_from_bytes.pth", "posix.system"),
    ("os_system.pth", "os.system"),
    ("plain_pickle.pkl", "posix.system"),
    ("popped_global.pth", "os.system"),
    ("posix_system.pth", "posix.system"),
    ("posix_system_root.pth", "posix.system"),
    ("stack_global_protocol4.pth", "posix.system"),
    // The name that Python 2 had for subprocess, which protocol 2 writes.
    ("subprocess.pth", "commands.check_output"),
];

/// Those that are refused for what they are.
const REFUSED: &[(&str, Code)] = &[
    ("announced_4_gib.pth", Code::Truncated),
    ("deep_200k.pth", Code::NotACheckpoint),
    ("duplicate_bad_first.pth", Code::Unsafe),
    ("endless_memo_index.pth", Code::NotACheckpoint),
    ("extension_opcode.pth", Code::Unsupported),
    ("header_mismatch.pth", Code::Unsafe),
    ("memo_bomb.pth", Code::NotACheckpoint),
    ("stack_underflow.pth", Code::NotACheckpoint),
    ("tensor_out_of_range.pth", Code::OutOfBounds),
];

/// A harmless state beside 32 MiB of deflated zeros that nothing refers to.
const HARMLESS: &[&str] = &["zip_bomb.pth"];

#[test]
fn every_hostile_file_is_refused_at_once_and_nothing_in_it_runs() {
    let mut seen = 0;
    for name in common::files_below("hostile") {
        let bytes = common::bytes(&format!("hostile/{name}"));
        let started = now();
        let inspection = common::inspect(&name, &bytes);
        assert!(started.elapsed() < Duration::from_secs(2), "{name} took {:?}", started.elapsed());
        assert!(inspection.bytes_read < 256 << 10, "{name} read {}", inspection.bytes_read);
        if let Some((_, global)) = DANGEROUS.iter().find(|(listed, _)| *listed == name) {
            assert_eq!(inspection.safety.verdict, Risk::Dangerous, "{name}");
            assert!(inspection.safety.dangerous().any(|found| found == *global), "{name}: {:?}", inspection.safety);
            assert_eq!(common::errors(&inspection)[0], Code::Unsafe, "{name}");
            assert!(inspection.findings[0].message.contains(global), "{name}: {:?}", inspection.findings);
        } else if let Some((_, code)) = REFUSED.iter().find(|(listed, _)| *listed == name) {
            assert_eq!(common::errors(&inspection), [*code], "{name}: {:?}", inspection.findings);
        } else {
            assert!(HARMLESS.contains(&name.as_str()), "{name} is in no list");
            assert!(inspection.is_valid(), "{name}: {:?}", inspection.findings);
        }
        seen += 1;
    }
    assert_eq!(seen, DANGEROUS.len() + REFUSED.len() + HARMLESS.len());
    assert!(!std::path::Path::new("/tmp/ckpt-was-executed").exists());
}

#[test]
fn what_a_nested_loader_would_load_unread_is_dangerous() {
    // `_load_from_bytes` on bytes that are no stream: torch.load would try a tar, which nobody looked into.
    let call = |argument: &[u8]| [b"\x80\x02}X\x01\0\0\0actorch.storage\n_load_from_bytes\n", argument, b"s."].concat();
    for argument in [&b"C\x04abcd\x85R"[..], b"N\x85R", b"\x85", b"}R"] {
        let inspection = common::inspect("a.pkl", &call(argument));
        assert_eq!(inspection.safety.verdict, Risk::Dangerous, "{argument:?}: {:?}", inspection.safety);
    }
    assert!(common::inspect_file("torch/pickle_tensors.pkl").is_valid());
}

#[test]
fn a_flood_of_names_hides_no_dangerous_one() {
    let mut bytes = b"\x80\x02}".to_vec();
    for index in 0..ckpt_core::limits::GLOBALS + 10 {
        bytes.extend(format!("caaa\nf{index}\n0").bytes());
    }
    bytes.extend(b"cos\nsystem\n0X\x05\0\0\0epochK\x07s.");
    let inspection = common::inspect("a.pkl", &bytes);
    assert_eq!(inspection.safety.dangerous().collect::<Vec<_>>(), ["os.system"]);
}

#[test]
fn a_tar_that_starts_like_a_stream_is_judged_as_the_tar_it_is_to_torch() {
    // The name of a tar's first member may be anything, the magic number of a stream too.
    let harmless = common::bytes("torch/legacy.pth");
    let mut tar = vec![0; 512];
    tar[..90].copy_from_slice(&harmless[..90]);
    tar[124..135].copy_from_slice(b"00000000000");
    let sum: u32 = tar.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
    tar[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    tar[155] = b' ';
    tar.extend(common::bytes("torch/legacy_tar.pth"));
    assert_eq!(common::inspect("a.pth", &tar).format, Format::TorchTar);
}

#[test]
fn pickles_of_every_length_of_garbage_are_read_in_bounded_memory() {
    // 4 GiB announced, eight bytes there.
    for opcode in [b"X", b"B", b"T", b"\x8b"] {
        let bytes = [b"\x80\x02".as_slice(), opcode, b"\xff\xff\xff\xff", b"12345678"].concat();
        assert_eq!(pickle::read(bytes).unwrap_err().problem, pickle::PickleProblem::Truncated);
    }
}

#[expect(clippy::disallowed_methods, reason = "the test watches how long the parsers take")]
fn now() -> Instant {
    Instant::now()
}
