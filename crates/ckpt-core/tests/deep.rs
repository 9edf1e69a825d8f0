//! Reading every byte finds what reading the metadata cannot.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ckpt_core::finding::{Code, Finding, Severity};
use ckpt_core::format::{dcp, deep, zip};
use ckpt_core::inspect::{self, DirectoryKind};
use ckpt_core::members::{Members, MemoryMembers};

mod common;

fn deep(path: &str) -> Vec<Finding> {
    deep::file(common::name(path), &common::bytes(path).as_slice()).unwrap()
}

fn codes(findings: &[Finding]) -> Vec<(Code, Severity)> {
    findings.iter().map(|finding| (finding.code, finding.severity)).collect()
}

#[test]
fn a_flipped_bit_and_a_hole_in_a_tensor_are_found() {
    for path in ["broken/bitflip_in_data.pth", "broken/zero_hole_in_data.pth"] {
        assert!(common::inspect_file(path).is_valid(), "{path}");
        let findings = deep(path);
        assert_eq!(codes(&findings)[0], (Code::CrcMismatch, Severity::Error), "{path}: {findings:?}");
        assert!(findings[0].message.contains("/data/"), "{path}: {findings:?}");
    }
}

#[test]
fn nan_and_infinity_are_counted_and_their_tensor_is_named() {
    let findings = deep("torch/tensor_nan_inf.pth");
    assert_eq!(codes(&findings), [(Code::NonFinite, Severity::Warning)], "{findings:?}");
    assert_eq!(findings[0].message, "`model_state_dict.w` holds 2 of 16 elements that are NaN or infinite");
}

#[test]
fn nothing_is_found_in_what_the_libraries_wrote() {
    let mut wrong = Vec::new();
    for folder in ["torch", "lightning", "hf", "accelerate", "ultralytics", "timm", "torchvision", "safetensors"] {
        for name in common::files_below(folder) {
            let path = format!("{folder}/{name}");
            let bytes = common::bytes(&path);
            if !common::inspect(common::name(&path), &bytes).is_valid() {
                continue;
            }
            let findings = deep(&path);
            // The fixture `tensor_dtypes` holds every value of the small types.
            if !findings.is_empty() && path != "torch/tensor_nan_inf.pth" {
                wrong.push(format!("{path}: {findings:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn any_flipped_bit_in_a_members_bytes_is_found() {
    for path in ["torch/zip_default.pth", "torch/rezip_deflate.pth"] {
        let whole = common::bytes(path);
        let archive = zip::open(&whole.as_slice()).unwrap().unwrap();
        let mut bytes = whole.clone();
        for entry in archive.entries.iter().filter(|entry| entry.compressed > 0) {
            let header = zip::local_header(&whole.as_slice(), entry.header_offset).unwrap().unwrap();
            for position in [header.data_offset, header.data_offset + entry.compressed / 2] {
                let position = usize::try_from(position).unwrap();
                bytes[position] ^= 0x04;
                let findings = deep::file("a.pth", &bytes.as_slice()).unwrap();
                let is_named = findings
                    .iter()
                    .any(|finding| finding.severity == Severity::Error && finding.message.contains(&*entry.name));
                assert!(is_named, "{path} {} {position}: {findings:?}", entry.name);
                bytes[position] = whole[position];
            }
        }
    }
}

#[test]
fn a_checksum_of_zero_is_not_recorded_for_that_member_alone() {
    assert_eq!(deep("torch/zip_crc32_off.pth"), []);
    assert_eq!(deep("torch/skip_data_zeros.pth"), []);
    // Its other members keep their checksums.
    let mut bytes = common::bytes("torch/skip_data_zeros.pth");
    let place = bytes.windows(6).position(|window| window == b"little").unwrap();
    bytes[place] = b'L';
    let findings = deep::file("a.pth", &bytes.as_slice()).unwrap();
    assert_eq!(codes(&findings), [(Code::CrcMismatch, Severity::Error)], "{findings:?}");
}

#[test]
fn headers_that_disagree_with_the_directory_are_found() {
    let findings = deep("hostile/header_mismatch.pth");
    assert_eq!(codes(&findings)[0], (Code::OutOfBounds, Severity::Error), "{findings:?}");
}

#[test]
fn hostile_archives_are_read_in_bounded_time() {
    for name in common::files_below("hostile") {
        let findings = deep(&format!("hostile/{name}"));
        assert!(findings.len() <= 16, "{name}");
    }
}

/// A copy of a fixture's directory in memory, with one file changed.
fn changed(path: &str, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> MemoryMembers {
    let mut members = MemoryMembers::default();
    for file in common::FsMembers::new(&common::root().join(path)).list().keys() {
        members.insert(file.clone(), common::bytes(&format!("{path}/{file}")));
    }
    let mut bytes = common::bytes(&format!("{path}/{name}"));
    change(&mut bytes);
    members.insert(name, bytes);
    members
}

#[test]
fn every_file_of_a_directory_is_read() {
    let flip_last_storage = |bytes: &mut Vec<u8>| {
        let archive = zip::open(&bytes.as_slice()).unwrap().unwrap();
        let entry = archive.entries.iter().rfind(|entry| entry.name.contains("/data/") && entry.size > 0).unwrap();
        let header = zip::local_header(&bytes.as_slice(), entry.header_offset).unwrap().unwrap();
        bytes[usize::try_from(header.data_offset).unwrap()] ^= 1;
    };
    let set_nan = |bytes: &mut Vec<u8>| {
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    };
    let hf = "hf/run/checkpoint-8";
    assert_eq!(deep::directory(DirectoryKind::HfTrainer, &changed(hf, "optimizer.pt", |_| ())).unwrap(), []);
    let findings = deep::directory(DirectoryKind::HfTrainer, &changed(hf, "optimizer.pt", flip_last_storage)).unwrap();
    assert_eq!(codes(&findings)[0], (Code::CrcMismatch, Severity::Error), "{findings:?}");
    assert!(findings[0].message.starts_with("`optimizer.pt`: "), "{findings:?}");
    let accelerate = "accelerate/checkpoints/checkpoint_1";
    let findings =
        deep::directory(DirectoryKind::Accelerate, &changed(accelerate, "model.safetensors", set_nan)).unwrap();
    assert_eq!(codes(&findings), [(Code::NonFinite, Severity::Warning)], "{findings:?}");

    let sharded = "safetensors/sharded";
    let index = "model.safetensors.index.json";
    let shard = "model-00002-of-00002.safetensors";
    assert_eq!(deep::index(index, &changed(sharded, shard, |_| ())).unwrap(), []);
    let findings = deep::index(index, &changed(sharded, shard, set_nan)).unwrap();
    assert_eq!(codes(&findings), [(Code::NonFinite, Severity::Warning)], "{findings:?}");
    assert!(findings[0].message.contains(shard), "{findings:?}");
}

#[test]
fn every_item_of_a_distributed_checkpoint_is_read() {
    let path = "dcp/step-200";
    assert_eq!(deep::directory(DirectoryKind::Dcp, &changed(path, "__0_0.distcp", |_| ())).unwrap(), []);
    let metadata = dcp::read(&changed(path, "__0_0.distcp", |_| ())).unwrap();
    let (name, place) = metadata.places.iter().find(|(name, _)| name.starts_with("model.")).unwrap();
    let start = usize::try_from(place.offset).unwrap();
    let damaged = changed(path, "__0_0.distcp", |bytes| {
        let item = &bytes[start..];
        let item = &item[..usize::try_from(place.length).unwrap()];
        let archive = zip::open(&item).unwrap().unwrap();
        let storage = archive.entries.iter().find(|entry| entry.name.ends_with("/data/0")).unwrap();
        let header = zip::local_header(&item, storage.header_offset).unwrap().unwrap();
        bytes[start + usize::try_from(header.data_offset).unwrap()] ^= 1;
    });
    let findings = deep::directory(DirectoryKind::Dcp, &damaged).unwrap();
    assert_eq!(codes(&findings), [(Code::CrcMismatch, Severity::Error)], "{findings:?}");
    assert!(findings[0].message.contains(name.as_str()), "{findings:?}");
}

#[test]
fn an_unpacked_archive_is_read_storage_by_storage() {
    let path = "torch/unpacked_dotfiles.pth/zip_default";
    let members = changed(path, "data/0", |bytes| bytes[..4].copy_from_slice(&f32::INFINITY.to_le_bytes()));
    let findings = deep::directory(DirectoryKind::Unpacked, &members).unwrap();
    assert_eq!(codes(&findings), [(Code::NonFinite, Severity::Warning)], "{findings:?}");
    assert!(inspect::directory("zip_default", DirectoryKind::Unpacked, &members).unwrap().is_valid());
}
