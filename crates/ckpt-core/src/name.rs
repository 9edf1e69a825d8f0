//! What the name of a file claims: whether it may be a checkpoint, and which epoch, step and metrics it tells.
//!
//! A name is a claim and never proof. It is used where the content is silent.

use crate::ids::{Epoch, Step};

/// How sure a name is to be a checkpoint's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// The extension is used for checkpoints and nothing else.
    Strong,
    /// The extension is used for much else too; the content decides.
    Weak,
}

/// The extensions of checkpoints, by how much they say.
const STRONG: &[&str] = &["pth", "pt", "ckpt", "safetensors", "pt2", "keras", "gguf", "onnx"];
const WEAK: &[&str] =
    &["bin", "tar", "pkl", "pickle", "h5", "hdf5", "npz", "msgpack", "model", "pyt", "th", "t7", "weights"];

/// What names without an extension begin with, when they are checkpoints.
const BARE: &[&str] = &["checkpoint", "ckpt", "latest", "last", "best", "model", "epoch", "step", "iter", "state"];

/// What a file's name claims; `None` for names that no checkpoint has, hidden and temporary files among them.
#[must_use]
pub fn claim(name: &str) -> Option<Claim> {
    let lower = name.to_ascii_lowercase();
    if lower.starts_with('.') {
        return None;
    }
    let Some((stem, extension)) = lower.rsplit_once('.') else {
        return BARE.iter().any(|word| lower.starts_with(word)).then_some(Claim::Weak);
    };
    if extension == "tar" && (stem.ends_with(".pth") || stem.ends_with(".pt") || stem.ends_with(".ckpt")) {
        return Some(Claim::Strong);
    }
    if is_index(&lower) {
        return Some(Claim::Strong);
    }
    if STRONG.contains(&extension) {
        Some(Claim::Strong)
    } else if WEAK.contains(&extension) {
        Some(Claim::Weak)
    } else {
        None
    }
}

/// Whether the name is that of the index of a sharded checkpoint.
#[must_use]
pub fn is_index(name: &str) -> bool {
    name.ends_with(".safetensors.index.json") || name.ends_with(".bin.index.json")
}

/// Whether the name is that of one shard of several: `model-00001-of-00004.safetensors`.
#[must_use]
pub fn is_shard(name: &str) -> bool {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let Some((head, total)) = stem.rsplit_once("-of-") else { return false };
    let Some((_, index)) = head.rsplit_once('-') else { return false };
    let digits = |text: &str| text.len() >= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(total) && digits(index)
}

/// Epoch, step and metrics that a name tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NameFacts {
    /// `epoch=03`, `epoch_0050`, `ep12`
    pub epoch: Option<Epoch>,
    /// `step=1200`, `checkpoint-500`, `iter_20000`
    pub step: Option<Step>,
    /// `val_loss=0.25`, `best_acc0.93`
    pub metrics: Vec<(String, f64)>,
}

/// Reads epoch, step and metrics out of the last component of a path.
///
/// ```
/// use ckpt_core::{ids::{Epoch, Step}, name::facts};
/// let told = facts("model-epoch=03-step=120-val_loss=0.25.ckpt");
/// assert_eq!((told.epoch, told.step), (Some(Epoch::from(3)), Some(Step(120))));
/// assert_eq!(told.metrics, [("val_loss".to_owned(), 0.25)]);
/// ```
#[must_use]
pub fn facts(name: &str) -> NameFacts {
    let mut told = NameFacts::default();
    let stem = strip_extension(name);
    for part in stem.split(['-', ' ', ',']) {
        if let Some((key, value)) = part.split_once('=')
            && let Ok(number) = value.parse::<f64>()
            && number.is_finite()
        {
            note(&mut told, key, number);
        }
    }
    let tokens = tokens(stem);
    for (index, pair) in tokens.windows(2).enumerate() {
        let [word, number] = pair else { continue };
        let (Token::Word(word), Token::Number(number)) = (word, number) else { continue };
        // `e` after a number is part of something else: a hash, a float.
        let is_first = index.checked_sub(1).is_none_or(|before| matches!(tokens.get(before), Some(Token::Word(_))));
        let is_epoch = matches!(*word, "epoch" | "ep" | "epochs") || (*word == "e" && is_first);
        if told.epoch.is_none() && is_epoch && !number.contains('.') {
            told.epoch = number.parse().ok().and_then(Epoch::new);
        }
        if told.step.is_none()
            && matches!(*word, "step" | "steps" | "iter" | "iters" | "iteration" | "global_step" | "it")
        {
            told.step = number.parse().ok().map(Step);
        }
        if number.contains('.')
            && told.metrics.is_empty()
            && crate::metric::usual_direction(word).is_some()
            && let Ok(value) = number.parse()
        {
            told.metrics.push(((*word).to_owned(), value));
        }
    }
    // `checkpoint-500` is the step in Hugging Face's layout; `checkpoint_0050` is the epoch nearly everywhere else.
    let bare = |prefix: &str| {
        stem.strip_prefix(prefix).filter(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if told.step.is_none() && told.epoch.is_none() {
        if let Some(number) = bare("checkpoint-") {
            told.step = number.parse().ok().map(Step);
        } else if let Some(number) = bare("checkpoint_").or_else(|| bare("ckpt_")).or_else(|| bare("model_")) {
            told.epoch = number.parse().ok().and_then(Epoch::new);
        }
    }
    told
}

fn note(told: &mut NameFacts, key: &str, number: f64) {
    let plain = key.rsplit(['_', '.']).next().unwrap_or(key);
    match plain {
        "epoch" => told.epoch = told.epoch.or(Epoch::new(number)),
        "step" | "iter" | "iteration" if number >= 0.0 && number.fract() == 0.0 => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a whole number, not negative; saturates"
            )]
            let step = Step(number as u64);
            told.step = told.step.or(Some(step));
        }
        _ => told.metrics.push((key.to_owned(), number)),
    }
}

enum Token<'a> {
    Word(&'a str),
    Number(&'a str),
}

/// Runs of letters and runs of digits; a dot between digits belongs to the number.
fn tokens(stem: &str) -> Vec<Token<'_>> {
    let bytes = stem.as_bytes();
    let mut tokens = Vec::new();
    let mut position = 0;
    while let Some(byte) = bytes.get(position) {
        let run = |accept: &dyn Fn(usize, u8) -> bool| {
            bytes[position..].iter().enumerate().take_while(|(offset, byte)| accept(*offset, **byte)).count()
        };
        let length = if byte.is_ascii_digit() {
            let length = run(&|offset, byte| {
                byte.is_ascii_digit()
                    || (byte == b'.' && bytes.get(position + offset + 1).is_some_and(u8::is_ascii_digit))
            });
            tokens.push(Token::Number(&stem[position..position + length]));
            length
        } else if byte.is_ascii_alphabetic() {
            let length = run(&|_, byte| byte.is_ascii_alphabetic());
            tokens.push(Token::Word(&stem[position..position + length]));
            length
        } else {
            1
        };
        position += length;
    }
    tokens
}

fn strip_extension(name: &str) -> &str {
    let mut stem = name;
    while let Some((head, extension)) = stem.rsplit_once('.') {
        let known = STRONG.contains(&extension) || WEAK.contains(&extension) || extension == "gz";
        if !known || head.is_empty() {
            break;
        }
        stem = head;
    }
    stem
}

/// What the names of a series have in common: `model_epoch_3_rank0.pth` gives `model_epoch_#_rank0.pth`. A number counts as
/// the series' own when another number in its place would tell another step, epoch or metric.
///
/// ```
/// use ckpt_core::name::series;
/// assert_eq!(series("netG_epoch_3.pth"), series("netG_epoch_12.pth"));
/// assert_ne!(series("netG_epoch_3.pth"), series("netD_epoch_3.pth"));
/// assert_ne!(series("step200_rank0.pt"), series("step200_rank1.pt"));
/// ```
#[must_use]
pub fn series(name: &str) -> String {
    let told = facts(name);
    let mut series = String::new();
    let mut rest = name;
    while let Some(start) = rest.find(|char: char| char.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let length = from.find(|char: char| !char.is_ascii_digit()).unwrap_or(from.len());
        let (digits, after) = from.split_at(length);
        let head = name.len().saturating_sub(from.len());
        // One more digit keeps a step a step and a fraction a fraction.
        let other = format!("{}{digits}7{after}", name.get(..head).unwrap_or_default());
        series.push_str(before);
        series.push_str(if facts(&other) == told { digits } else { "#" });
        rest = after;
    }
    series.push_str(rest);
    series
}

/// Compares names the way people count: `epoch_9` before `epoch_10`.
#[must_use]
pub fn natural_cmp(left: &str, right: &str) -> std::cmp::Ordering {
    let key = |token: &Token<'_>| match token {
        Token::Number(number) => {
            let digits = number.trim_start_matches('0');
            (0, digits.len(), digits.to_owned())
        }
        Token::Word(word) => (1, 0, word.to_ascii_lowercase()),
    };
    let (left_key, right_key): (Vec<_>, Vec<_>) =
        (tokens(left).iter().map(key).collect(), tokens(right).iter().map(key).collect());
    left_key.cmp(&right_key).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn epoch(name: &str) -> Option<i64> {
        facts(name).epoch.and_then(Epoch::whole)
    }

    #[test]
    fn epochs_in_the_names_trainers_give() {
        assert_eq!(epoch("checkpoint_epoch_0050.pth"), Some(50));
        assert_eq!(epoch("epoch=2-step=300.ckpt"), Some(2));
        assert_eq!(epoch("epoch12.pt"), Some(12));
        assert_eq!(epoch("checkpoint_0050.pth"), Some(50));
        assert_eq!(epoch("model_ep7.pth.tar"), Some(7));
        assert_eq!(epoch("resnet50.pth"), None);
        assert_eq!(epoch("best.pth"), None);
        assert_eq!(epoch("e12.pth"), Some(12));
        assert_eq!(epoch("shufflenet-5a1e9b.pth"), None);
    }

    #[test]
    fn steps_in_the_names_trainers_give() {
        assert_eq!(facts("checkpoint-500").step, Some(Step(500)));
        assert_eq!(facts("iter_20000.pth").step, Some(Step(20_000)));
        assert_eq!(facts("epoch=2-step=300.ckpt").step, Some(Step(300)));
        assert_eq!(facts("checkpoint-500").epoch, None);
    }

    #[test]
    fn metrics_in_the_names_trainers_give() {
        assert_eq!(facts("best_acc0.93.pth").metrics, [("acc".to_owned(), 0.93)]);
        assert_eq!(facts("m-val_loss=0.5.ckpt").metrics, [("val_loss".to_owned(), 0.5)]);
        assert!(facts("yolov8.pt").metrics.is_empty());
    }

    #[test]
    fn hidden_and_temporary_files_claim_nothing() {
        for name in [".best.pth", "._x.pth", "best.pth.tmp", "notes.txt", "train.py", "data.csv"] {
            assert_eq!(claim(name), None, "{name}");
        }
        assert_eq!(claim("a.pth"), Some(Claim::Strong));
        assert_eq!(claim("a.PTH"), Some(Claim::Strong));
        assert_eq!(claim("a.pth.tar"), Some(Claim::Strong));
        assert_eq!(claim("a.bin"), Some(Claim::Weak));
        assert_eq!(claim("checkpoint_5"), Some(Claim::Weak));
        assert_eq!(claim("Makefile"), None);
        assert_eq!(claim("model.safetensors.index.json"), Some(Claim::Strong));
    }

    #[test]
    fn shards_are_told_from_whole_files() {
        assert!(is_shard("model-00001-of-00004.safetensors"));
        assert!(!is_shard("model.safetensors"));
        assert!(!is_shard("best-of-breed.pth"));
    }

    #[test]
    fn numbers_in_names_sort_as_numbers() {
        let mut names = ["epoch_10.pth", "epoch_9.pth", "epoch_100.pth"];
        names.sort_by(|left, right| natural_cmp(left, right));
        assert_eq!(names, ["epoch_9.pth", "epoch_10.pth", "epoch_100.pth"]);
    }

    proptest! {
        #[test]
        fn any_name_is_read_without_panic(name in "\\PC{0,40}") {
            let _told = (facts(&name), claim(&name), is_shard(&name), natural_cmp(&name, "a1"));
        }
    }

    #[test]
    fn series_are_told_apart_by_everything_but_their_numbers() {
        for (one, other) in [
            ("checkpoint_0005.pth", "checkpoint_0123.pth"),
            ("checkpoint-8", "checkpoint-500"),
            ("step-00001200", "step-00000007"),
            ("epoch=3-step=1200-val_loss=0.25.ckpt", "epoch=12-step=40-val_loss=0.3.ckpt"),
            ("step200_rank3.pt", "step100_rank3.pt"),
            ("model_epoch_1.pth", "model_epoch_20.pth"),
        ] {
            assert_eq!(series(one), series(other), "{one} and {other}");
        }
        for (one, other) in [
            ("step200_rank0.pt", "step200_rank1.pt"),
            ("netG_epoch_3.pth", "netD_epoch_3.pth"),
            ("fold1_epoch_3.pth", "fold2_epoch_3.pth"),
            ("best_model_epoch_3.pth", "model_epoch_3.pth"),
            ("best.pt", "last.pt"),
        ] {
            assert_ne!(series(one), series(other), "{one} and {other}");
        }
    }
}
