//! A JSON object whose last field is the digest of everything before it.

use serde_json::{Map, Value};

use crate::digest::Digest;

const BEFORE: &str = ",\n  \"digest\": \"";
const AFTER: &str = "\"\n}\n";
const TAIL: usize = BEFORE.len() + 64 + AFTER.len();

/// The document, indented, with its digest.
pub(super) fn seal(fields: Map<String, Value>) -> Vec<u8> {
    let mut text = format!("{:#}", Value::Object(fields));
    // The closing brace and the line break before it make room for the last field.
    text.truncate(text.len().saturating_sub(2));
    let digest = Digest::of(text.as_bytes());
    text.push_str(&format!("{BEFORE}{digest}{AFTER}"));
    text.into_bytes()
}

/// What stands before the digest, and the digest.
fn parts(bytes: &[u8]) -> Option<(&[u8], Digest)> {
    let (body, tail) = bytes.split_at_checked(bytes.len().checked_sub(TAIL)?)?;
    let digest = std::str::from_utf8(tail).ok()?.strip_prefix(BEFORE)?.strip_suffix(AFTER)?;
    Some((body, digest.parse().ok()?))
}

/// Whether a document ends with a digest, right or wrong.
pub(super) fn is_sealed(bytes: &[u8]) -> bool {
    parts(bytes).is_some()
}

/// The fields of a sealed document, or what is wrong with it.
pub(super) fn open(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    let Some((body, digest)) = parts(bytes) else {
        return Err("it is cut off, or was not written by ckpt: it does not end with its digest".to_owned());
    };
    if Digest::of(body) != digest {
        return Err("it was changed after it was written: its digest does not match".to_owned());
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("it is no JSON object".to_owned()),
        Err(error) => Err(format!("it is malformed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let fields = Map::from_iter([("schema".to_owned(), Value::from("x/1")), ("n".to_owned(), Value::from(1))]);
        let bytes = seal(fields);
        assert_eq!(open(&bytes).unwrap()["n"], 1);
        for end in 0..bytes.len() {
            assert!(open(&bytes[..end]).is_err(), "cut at {end}");
        }
        for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert!(open(&changed).is_err(), "bit {bit} of byte {at}");
        }
    }
}
