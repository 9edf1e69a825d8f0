//! Which checkpoint is the latest, and which the best by a metric.

use serde_json::{Map, Value, json};

use super::{Recorded, direction, number, opened, text, whole, wrong};
use crate::digest::Digest;
use crate::ids::Step;
use crate::json as python;
use crate::metric::Direction;

/// The name of the pointer to the latest checkpoint: a symbolic link, and beside it this name with `.json`.
pub const LATEST: &str = "latest";

const SCHEMA: &str = "ckpt.pointer/1";
const BEST: &str = "best-";
/// Longest name of a pointer, in bytes: a file's name has 255, of which the temporary takes a part.
const NAME_BYTES: usize = 150;

/// What a pointer file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Pointer {
    /// The name of the checkpoint's directory, beside the pointer.
    pub checkpoint: String,
    /// The checkpoint's step.
    pub step: Step,
    /// The number of the checkpoint's commit.
    pub sequence: u64,
    /// The digest of the checkpoint's manifest.
    pub manifest: Digest,
    /// The metric by which it is the best, and its value; none for the latest.
    pub metric: Option<(String, Recorded)>,
}

impl Pointer {
    /// The document.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let metric = self.metric.as_ref();
        let fields = json!({
            "schema": SCHEMA,
            "checkpoint": self.checkpoint,
            "step": self.step,
            "sequence": self.sequence,
            "manifest": self.manifest,
            "metric": metric.map(|(name, _)| name),
            "value": metric.map(|(_, recorded)| number(recorded.value)),
            "direction": metric.and_then(|(_, recorded)| recorded.direction).map(Direction::name),
        });
        match fields {
            Value::Object(fields) => super::seal::seal(fields),
            _ => Vec::new(),
        }
    }

    /// Whether bytes are at least meant as a pointer, though they may be damaged.
    #[must_use]
    pub fn is_meant(bytes: &[u8]) -> bool {
        let mark = b"\"ckpt.pointer/";
        bytes.windows(mark.len()).any(|window| window == mark)
    }

    /// Reads the document.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence about it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let fields = opened(bytes, SCHEMA)?;
        let checkpoint = text(&fields, "checkpoint")?;
        if checkpoint.contains(['/', '\\', '\0']) || checkpoint.starts_with('.') || checkpoint.is_empty() {
            return Err(wrong("checkpoint"));
        }
        Ok(Self {
            checkpoint: checkpoint.to_owned(),
            step: Step(whole(&fields, "step")?),
            sequence: whole(&fields, "sequence")?,
            manifest: text(&fields, "manifest")?.parse()?,
            metric: metric(&fields)?,
        })
    }
}

fn metric(fields: &Map<String, Value>) -> Result<Option<(String, Recorded)>, String> {
    if fields.get("metric").is_none_or(Value::is_null) {
        return Ok(None);
    }
    let value = fields.get("value").and_then(python::number).ok_or_else(|| wrong("value"))?;
    let direction = fields.get("direction").and_then(Value::as_str).and_then(direction);
    Ok(Some((text(fields, "metric")?.to_owned(), Recorded { value, direction })))
}

/// The name of the pointer to the best checkpoint by a metric. Bytes that a file's name or a shell might mistake are
/// written as `%` and two hexadecimal digits, so that different metrics never share a name.
///
/// ```
/// use ckpt_core::manifest::{best_name, metric_of};
/// assert_eq!(best_name("val/acc").as_deref(), Some("best-val%2Facc"));
/// assert_eq!(metric_of("best-val%2Facc").as_deref(), Some("val/acc"));
/// ```
///
/// None for a name that is empty or too long for a file's name.
#[must_use]
pub fn best_name(metric: &str) -> Option<String> {
    let mut name = BEST.to_owned();
    for byte in metric.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-+=@,".contains(&byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    (!metric.is_empty() && name.len() <= NAME_BYTES).then_some(name)
}

/// The metric that a pointer's name tells.
#[must_use]
pub fn metric_of(pointer_name: &str) -> Option<String> {
    let mut parts = pointer_name.strip_prefix(BEST)?.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    let metric = String::from_utf8(bytes).ok()?;
    (best_name(&metric).as_deref() == Some(pointer_name)).then_some(metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_read_as_it_is_written() {
        let recorded = Recorded { value: 0.3, direction: Some(Direction::Min) };
        for metric in [None, Some(("val/loss".to_owned(), recorded))] {
            let manifest = Digest::of(b"m");
            let checkpoint = "step-00000003".to_owned();
            let pointer = Pointer { checkpoint, step: Step(3), sequence: 9, manifest, metric };
            assert_eq!(Pointer::parse(&pointer.to_bytes()), Ok(pointer));
        }
    }

    #[test]
    fn a_pointer_never_leads_out_of_its_directory() {
        for checkpoint in ["../x", "/x", "a/b", "..", ".hidden", ""] {
            let checkpoint = checkpoint.to_owned();
            let pointer = Pointer { checkpoint, step: Step(3), sequence: 9, manifest: Digest::of(b"m"), metric: None };
            assert!(Pointer::parse(&pointer.to_bytes()).is_err());
        }
    }

    #[test]
    fn different_metrics_have_different_names() {
        let metrics = ["a/b", "a_b", "a%2Fb", "mAP50-95(B)", "größe", "a b", "A/b"];
        let names: std::collections::BTreeSet<_> = metrics.iter().map(|metric| best_name(metric).unwrap()).collect();
        assert_eq!(names.len(), metrics.len());
        for metric in metrics {
            let name = best_name(metric).unwrap();
            assert_eq!(metric_of(&name).as_deref(), Some(metric));
            assert!(!name.contains('/'));
        }
        assert_eq!(best_name(""), None);
        assert_eq!(best_name(&"x".repeat(200)), None);
        assert_eq!(metric_of("best-%zz"), None);
    }
}
