//! Any bytes as a manifest and as a pointer, as they are and under their right digest: what is read is written as it was
//! read; then as the manifest of a directory.
#![no_main]

use ckpt_core::digest::Digest;
use ckpt_core::format::deep;
use ckpt_core::inspect::{self, DirectoryKind};
use ckpt_core::manifest::{Manifest, Pointer};
use ckpt_core::members::MemoryMembers;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    documents(data);
    // Without this, next to nothing would get past the digest.
    let mut sealed = data.to_vec();
    sealed.extend(format!(",\n  \"digest\": \"{}\"\n}}\n", Digest::of(data)).into_bytes());
    documents(&sealed);
});

fn documents(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data) {
        assert_eq!(Manifest::parse(&manifest.to_bytes()), Ok(manifest));
    }
    if let Ok(pointer) = Pointer::parse(data) {
        assert_eq!(Pointer::parse(&pointer.to_bytes()), Ok(pointer));
    }
    let mut members = MemoryMembers::default();
    members.insert("manifest.json", data.to_vec());
    members.insert("trainer_state.json", data.to_vec());
    members.insert("model.safetensors", b"\x02\0\0\0\0\0\0\0{}".to_vec());
    for name in ["step-00000001", "renamed"] {
        inspect::directory(name, DirectoryKind::Ckpt, &members).expect("memory can always be read");
    }
    let findings = deep::directory(DirectoryKind::Ckpt, &members).expect("memory can always be read");
    assert!(findings.len() <= 16);
}
