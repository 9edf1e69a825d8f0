//! What a checkpoint directory says about itself: the manifest that is written last, and the pointers beside it.
//!
//! `docs/format.md` is the normative description.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::ids::{Epoch, Step};
use crate::layout::Class;
use crate::metric::Direction;
use crate::{json as python, limits};

mod origin;
mod pointer;
mod seal;

pub(crate) use origin::{Origin, fault, origin};
pub use pointer::{LATEST, Pointer, best_name, metric_of};

/// The name of the manifest in a checkpoint's directory.
pub const FILE_NAME: &str = "manifest.json";
/// The version of the manifest that this program writes.
pub const SCHEMA: &str = "ckpt.manifest/1";
/// What follows the name of a step while another save of it takes its place: whichever has the bare name counts.
pub const REPLACED: &str = ".replaced";
/// The most metrics that one checkpoint records.
pub const METRICS: usize = limits::METRICS;

const PREFIX: &str = "step-";

/// The name of the directory of a step: `step-00001200`.
#[must_use]
pub fn directory_name(step: Step) -> String {
    format!("{PREFIX}{:08}", step.0)
}

/// The step that a directory's name tells.
///
/// ```
/// use ckpt_core::{ids::Step, manifest::step_of};
/// assert_eq!(step_of("step-00001200"), Some(Step(1200)));
/// assert_eq!(step_of("step-1200"), None);
/// ```
#[must_use]
pub fn step_of(directory_name: &str) -> Option<Step> {
    let digits = directory_name.strip_prefix(PREFIX)?;
    let step = Step(digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)?.parse().ok()?);
    (self::directory_name(step) == directory_name).then_some(step)
}

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// Its size.
    pub bytes: u64,
    /// The BLAKE3 digest of its content.
    pub blake3: Digest,
}

/// One recorded metric.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// Its value; may be NaN or infinite, which never ranks.
    pub value: f64,
    /// Which way is better, where that is known.
    pub direction: Option<Direction>,
}

impl PartialEq for Recorded {
    fn eq(&self, other: &Self) -> bool {
        (self.value.to_bits(), self.direction) == (other.value.to_bits(), other.direction)
    }
}

/// What a checkpoint says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The run, over all its sessions.
    pub run_id: String,
    /// The session: from one start of the trainer to its end.
    pub session_id: String,
    /// The number of this commit in its root, from 1. The largest is the latest, whatever the step and the clock say.
    pub sequence: u64,
    /// How many optimizer steps were made.
    pub step: Step,
    /// The last finished epoch.
    pub epoch: Option<Epoch>,
    /// Whether training can go on from it, as the saver declares.
    pub class: Class,
    /// How many ranks wrote it.
    pub world_size: u32,
    /// The metrics by name.
    pub metrics: BTreeMap<String, Recorded>,
    /// The name of the checkpoint that was the latest when this one was saved.
    pub parent: Option<String>,
    /// When it was saved, in nanoseconds since 1970.
    pub created_ns: i64,
    /// Its files by relative name, the manifest aside.
    pub files: BTreeMap<String, File>,
}

impl Manifest {
    /// The document. The same manifest always gives the same bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let metrics = self.metrics.iter().map(|(name, metric)| (name.clone(), number(metric.value)));
        let directions = self.metrics.iter().filter_map(|(name, metric)| {
            metric.direction.map(|direction| (name.clone(), Value::from(direction.name())))
        });
        let created = jiff::Timestamp::from_nanosecond(i128::from(self.created_ns)).unwrap_or_default();
        let fields = json!({
            "schema": SCHEMA,
            "run_id": self.run_id,
            "session_id": self.session_id,
            "sequence": self.sequence,
            "step": self.step,
            "epoch": self.epoch.map(|epoch| epoch.whole().map_or_else(|| Value::from(epoch.get()), Value::from)),
            "class": self.class.name(),
            "world_size": self.world_size,
            "metrics": Map::from_iter(metrics),
            "directions": Map::from_iter(directions),
            "parent": self.parent,
            "created": created.to_string(),
            "files": self.files,
        });
        match fields {
            Value::Object(fields) => seal::seal(fields),
            _ => Vec::new(),
        }
    }

    /// Reads the document.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence about it: it is cut off, was changed, is of another version, or names files
    /// outside its directory.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let fields = opened(bytes, SCHEMA)?;
        let files =
            object(&fields, "files")?.iter().map(|(name, file)| Ok((file_name(name)?, parse_file(name, file)?)));
        let directions = object(&fields, "directions")?;
        let metrics = object(&fields, "metrics")?.iter().map(|(name, value)| {
            let value = python::number(value).ok_or_else(|| format!("its metric `{name}` is no number"))?;
            let direction = directions.get(name).and_then(Value::as_str).and_then(direction);
            Ok::<_, String>((name.clone(), Recorded { value, direction }))
        });
        let created: jiff::Timestamp = text(&fields, "created")?.parse().map_err(|_| wrong("created"))?;
        let manifest = Self {
            run_id: text(&fields, "run_id")?.to_owned(),
            session_id: text(&fields, "session_id")?.to_owned(),
            sequence: whole(&fields, "sequence")?,
            step: Step(whole(&fields, "step")?),
            epoch: fields.get("epoch").and_then(Value::as_f64).and_then(Epoch::new),
            class: class(text(&fields, "class")?).ok_or_else(|| wrong("class"))?,
            world_size: whole(&fields, "world_size")?.try_into().map_err(|_| wrong("world_size"))?,
            metrics: metrics.collect::<Result<_, _>>()?,
            parent: fields.get("parent").and_then(Value::as_str).map(str::to_owned),
            created_ns: i64::try_from(created.as_nanosecond()).map_err(|_| wrong("created"))?,
            files: files.collect::<Result<_, String>>()?,
        };
        if manifest.files.len() > limits::MEMBERS || manifest.metrics.len() > METRICS {
            return Err("it names more files or metrics than any checkpoint has".to_owned());
        }
        Ok(manifest)
    }

    /// The size of all files together, without the manifest.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.values().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }
}

/// JSON has no NaN and no infinities: they are texts, in Python's spelling.
fn number(value: f64) -> Value {
    match value {
        _ if value.is_nan() => Value::from("NaN"),
        f64::INFINITY => Value::from("Infinity"),
        f64::NEG_INFINITY => Value::from("-Infinity"),
        _ => Value::from(value),
    }
}

fn direction(name: &str) -> Option<Direction> {
    [Direction::Max, Direction::Min].into_iter().find(|direction| direction.name() == name)
}

fn class(name: &str) -> Option<Class> {
    [Class::Resumable, Class::InferenceOnly].into_iter().find(|class| class.name() == name)
}

/// The fields of a sealed document of one of our schemas.
fn opened(bytes: &[u8], schema: &str) -> Result<Map<String, Value>, String> {
    let fields = seal::open(bytes)?;
    match fields.get("schema").and_then(Value::as_str) {
        Some(known) if known == schema => Ok(fields),
        Some(other) => Err(format!("it is a `{other}`; this program reads `{schema}`: use a newer ckpt")),
        None => Err(wrong("schema")),
    }
}

fn wrong(field: &str) -> String {
    format!("its field `{field}` is missing or of the wrong type")
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    fields.get(name).and_then(Value::as_str).filter(|text| text.len() <= limits::NAME_BYTES).ok_or_else(|| wrong(name))
}

fn whole(fields: &Map<String, Value>, name: &str) -> Result<u64, String> {
    fields.get(name).and_then(Value::as_u64).ok_or_else(|| wrong(name))
}

fn object<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a Map<String, Value>, String> {
    fields.get(name).and_then(Value::as_object).ok_or_else(|| wrong(name))
}

/// A relative name that stays inside the directory and is not the manifest's.
///
/// # Errors
/// It is none, as a sentence.
pub fn file_name(name: &str) -> Result<String, String> {
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    let is_inside = name.split('/').all(is_part) && !name.contains(['\0', '\\']) && name.len() <= limits::NAME_BYTES;
    if is_inside && name != FILE_NAME {
        Ok(name.to_owned())
    } else {
        Err(format!("`{}` cannot be a file of a checkpoint", name.escape_debug()))
    }
}

fn parse_file(name: &str, file: &Value) -> Result<File, String> {
    let field = |field: &str| file.get(field).ok_or_else(|| wrong(&format!("files.{name}.{field}")));
    Ok(File {
        bytes: field("bytes")?.as_u64().ok_or_else(|| wrong("bytes"))?,
        blake3: field("blake3")?.as_str().unwrap_or_default().parse()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn manifest() -> Manifest {
        Manifest {
            run_id: "r".to_owned(),
            session_id: "s".to_owned(),
            sequence: 7,
            step: Step(1200),
            epoch: Epoch::new(2.5),
            class: Class::Resumable,
            world_size: 1,
            metrics: BTreeMap::from([
                ("accuracy".to_owned(), Recorded { value: 0.1 + 0.2, direction: Some(Direction::Max) }),
                ("loss".to_owned(), Recorded { value: f64::NAN, direction: None }),
                ("worst".to_owned(), Recorded { value: f64::NEG_INFINITY, direction: None }),
            ]),
            parent: Some(directory_name(Step(1100))),
            created_ns: 1_700_000_000_123_456_789,
            files: BTreeMap::from([(
                "model.safetensors".to_owned(),
                File { bytes: u64::MAX, blake3: Digest::of(b"x") },
            )]),
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_is_written() {
        let manifest = manifest();
        assert_eq!(Manifest::parse(&manifest.to_bytes()), Ok(manifest.clone()));
        let strict: Value = serde_json::from_slice(&manifest.to_bytes()).unwrap();
        assert_eq!(strict["metrics"]["loss"], "NaN");
        assert_eq!(strict["created"], "2023-11-14T22:13:20.123456789Z");
    }

    #[test]
    fn another_version_is_named_in_the_error() {
        let newer = seal::seal(Map::from_iter([("schema".to_owned(), Value::from("ckpt.manifest/2"))]));
        assert!(Manifest::parse(&newer).unwrap_err().contains("ckpt.manifest/2"));
    }

    #[test]
    fn no_file_lies_outside_the_directory() {
        for name in ["../x", "/x", "a//b", "a/./b", "", "manifest.json", "a\\b", "a\0b"] {
            assert!(file_name(name).is_err(), "{name:?}");
            let mut manifest = manifest();
            manifest.files.insert(name.to_owned(), File { bytes: 1, blake3: Digest::of(b"") });
            assert!(Manifest::parse(&manifest.to_bytes()).is_err(), "{name:?}");
        }
        assert_eq!(file_name("sub/model.safetensors").as_deref(), Ok("sub/model.safetensors"));
    }

    #[test]
    fn names_of_directories_tell_the_step_and_sort_by_it() {
        for step in [0, 7, 99_999_999, 123_456_789_012] {
            assert_eq!(step_of(&directory_name(Step(step))), Some(Step(step)));
        }
        for name in ["step-7", "step-+0000007", "step-000000007", "step-", "xstep-00000007"] {
            assert_eq!(step_of(name), None, "{name}");
        }
    }
}
