//! Bytes under the manifest's name that are no manifest to read: somebody else's document, or one of ours that is damaged.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{SCHEMA, seal};
use crate::finding::Code;

/// Whose document a `manifest.json` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// One of ours, of any version, perhaps changed since.
    Ours,
    /// Another program's: a sound JSON document without our schema and without our digest.
    Foreign,
    /// No JSON document: one of ours that is cut off early, or anything else.
    Unclear,
}

/// What stands in our manifests before the digest of each file.
const DIGESTS: &[u8] = b"\"blake3\": \"";

#[derive(Deserialize)]
struct Head {
    schema: String,
}

/// Tells whose document it is. No single changed byte makes one of ours a foreign one: schema and digest stand apart.
pub(crate) fn origin(bytes: &[u8]) -> Origin {
    let family = SCHEMA.split_inclusive('/').next().unwrap_or(SCHEMA);
    // `IgnoredAny` looks over text that is no UTF-8.
    let is_json = std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    if !is_json {
        let has_digests = bytes.windows(DIGESTS.len()).any(|window| window == DIGESTS);
        if has_digests { Origin::Ours } else { Origin::Unclear }
    } else if seal::is_sealed(bytes)
        || serde_json::from_slice::<Head>(bytes).is_ok_and(|head| head.schema.starts_with(family))
    {
        Origin::Ours
    } else {
        Origin::Foreign
    }
}

/// What is wrong with bytes that [`super::Manifest::parse`] refuses.
pub(crate) fn fault(bytes: &[u8]) -> Code {
    match seal::open(bytes) {
        Err(_) if seal::is_sealed(bytes) => Code::CrcMismatch,
        Err(_) => Code::Truncated,
        Ok(fields) if fields.get("schema").and_then(Value::as_str) == Some(SCHEMA) => Code::BadValue,
        Ok(_) => Code::Unsupported,
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn no_changed_byte_makes_a_manifest_somebody_elses() {
        let bytes = super::super::tests::manifest().to_bytes();
        assert_eq!(origin(&bytes), Origin::Ours);
        for at in 0..bytes.len() {
            assert_ne!(origin(&bytes[..at]), Origin::Foreign, "cut at {at}");
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert_ne!(origin(&changed), Origin::Foreign, "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn other_programs_manifests_are_foreign() {
        for document in ["{}", "[]", r#"{"name": "app", "icons": []}"#, r#"{"schema": 3}"#, r#"{"schema": "x/1"}"#] {
            assert_eq!(origin(document.as_bytes()), Origin::Foreign, "{document}");
        }
        assert_eq!(origin(b""), Origin::Unclear);
        assert_eq!(origin(br#"{"schema": "ckpt.manifest/9"}"#), Origin::Ours);
    }

    #[test]
    fn each_fault_has_its_code() {
        let bytes = super::super::tests::manifest().to_bytes();
        let with = |schema: &str| seal::seal(serde_json::Map::from_iter([("schema".to_owned(), Value::from(schema))]));
        assert_eq!(fault(&bytes[..bytes.len() - 1]), Code::Truncated);
        let mut changed = bytes.clone();
        changed[20] ^= 1;
        assert_eq!(fault(&changed), Code::CrcMismatch);
        assert_eq!(fault(&with("ckpt.manifest/2")), Code::Unsupported);
        assert_eq!(fault(&with(SCHEMA)), Code::BadValue);
    }
}
