//! What a file is, by its first bytes. Names lie: `.pth.tar` is hardly ever a tar.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::Format;
use super::torch::{legacy, tar};
use crate::finding::{Code, Finding};

/// How many bytes [`sniff`] wants to see.
pub const HEAD_BYTES: usize = 512;

/// What the first bytes say.
#[derive(Debug, PartialEq)]
pub enum Sniffed {
    /// A zip: what is inside decides.
    Zip,
    /// A format that is read.
    Known(Format),
    /// A format that is only recognised.
    Recognised(Format),
    /// Something that is no checkpoint, or no longer one.
    Other(Finding),
}

/// Tells what a file of `size` bytes named `name` is.
#[must_use]
pub fn sniff(name: &str, head: &[u8], size: u64) -> Sniffed {
    let other = |message: &str| Sniffed::Other(Finding::error(Code::NotACheckpoint, message));
    if size == 0 {
        return Sniffed::Other(Finding::error(
            Code::Empty,
            "the file is empty: the save was killed before its first byte",
        ));
    }
    if head.iter().all(|byte| *byte == 0) {
        return Sniffed::Other(Finding::error(
            Code::ZeroFilled,
            "the file starts with zeros: its blocks were reserved and never written, as after a power cut",
        ));
    }
    let starts = |magic: &[u8]| head.starts_with(magic);
    if starts(b"PK\x03\x04") || starts(b"PK\x05\x06") {
        return Sniffed::Zip;
    }
    if b"PK\x03\x04".starts_with(head) {
        return Sniffed::Other(Finding::error(
            Code::Truncated,
            format!("only {size} bytes of an archive were written"),
        ));
    }
    if tar::is_header(head) {
        return Sniffed::Known(Format::TorchTar);
    }
    if legacy::is_stream(head) {
        return Sniffed::Known(Format::TorchLegacy);
    }
    if starts(b"version https://git-lfs") {
        return other("a git-LFS pointer, not the file itself: run `git lfs pull` where it came from");
    }
    if is_page(head) {
        return other("a web page, not a checkpoint: the download answered with an error or a login page");
    }
    if starts(b"\x00\x05\x16\x07") {
        return other("an AppleDouble file: macOS metadata that travels beside the real file");
    }
    if starts(b"\x1f\x8b") {
        return other("a gzip file: unpack it first");
    }
    let magics: [(&[u8], Format); 3] =
        [(b"\x89HDF\r\n\x1a\n", Format::Hdf5), (b"GGUF", Format::Gguf), (b"\x93NUMPY", Format::Npy)];
    if let Some((_, format)) = magics.iter().find(|(magic, _)| starts(magic)) {
        return Sniffed::Recognised(*format);
    }
    if head.get(257..262) == Some(b"ustar") {
        return Sniffed::Known(Format::TorchTar);
    }
    let lower = name.to_ascii_lowercase();
    if is_safetensors(head, size) || lower.ends_with(".safetensors") {
        return Sniffed::Known(Format::Safetensors);
    }
    if lower.ends_with(".onnx") {
        return Sniffed::Recognised(Format::Onnx);
    }
    if lower.ends_with(".msgpack") {
        return Sniffed::Recognised(Format::Msgpack);
    }
    if is_pickle(head) {
        return Sniffed::Known(Format::Pickle);
    }
    if head.trim_ascii_start().starts_with(b"{") || head.trim_ascii_start().starts_with(b"[") {
        return other("a JSON document, not a checkpoint");
    }
    other("its first bytes belong to no known checkpoint format")
}

fn is_page(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head).trim_start().to_ascii_lowercase();
    ["<!doctype", "<html", "<?xml", "<head", "<body"].iter().any(|tag| text.starts_with(tag))
}

/// A header length that fits, then JSON.
fn is_safetensors(head: &[u8], size: u64) -> bool {
    let Some(length) = head.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)) else { return false };
    head.get(8) == Some(&b'{') && length <= size
}

/// `PROTO` with a version that exists, or one of the first opcodes of the older protocols.
fn is_pickle(head: &[u8]) -> bool {
    match head {
        [0x80, version, ..] => *version <= 5,
        [b'(', second, ..] => matches!(second, b'd' | b'l' | b't' | b'i' | b'c' | b'S' | b'I' | b'V' | b'F' | b'L'),
        [b'c', rest @ ..] => {
            let mut lines = rest.split(|byte| *byte == b'\n');
            let is_name = |line: &[u8]| {
                !line.is_empty() && line.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
            };
            lines.next().is_some_and(is_name) && lines.next().is_some_and(is_name)
        }
        [b'}' | b']', b'q' | b'.' | b'(' | b'p', ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(name: &str, head: &[u8]) -> Code {
        match sniff(name, head, head.len() as u64) {
            Sniffed::Other(finding) => finding.code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn impostors_are_named() {
        assert_eq!(code("a.pth", b""), Code::Empty);
        assert_eq!(code("a.pth", &[0; 100]), Code::ZeroFilled);
        assert_eq!(code("a.pth", b"PK"), Code::Truncated);
        assert_eq!(code("a.pth", b"\n <!DOCTYPE html><html>"), Code::NotACheckpoint);
        assert_eq!(code("a.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:"), Code::NotACheckpoint);
        assert_eq!(code("a.pth", b"{\"a\": 1}"), Code::NotACheckpoint);
    }

    #[test]
    fn formats_are_known_by_their_bytes_and_not_by_their_names() {
        assert_eq!(sniff("a.pth.tar", b"PK\x03\x04rest", 8), Sniffed::Zip);
        assert_eq!(sniff("a.bin", b"\x05\0\0\0\0\0\0\0{\"a\":", 99), Sniffed::Known(Format::Safetensors));
        assert_eq!(sniff("a.bin", b"GGUF\x03\0\0\0", 99), Sniffed::Recognised(Format::Gguf));
        assert_eq!(sniff("a.pth", b"\x80\x02}q\x00.", 6), Sniffed::Known(Format::Pickle));
    }
}
