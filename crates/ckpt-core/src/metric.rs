//! Metrics: their values, where they were found, and which way is better.

use serde::{Deserialize, Serialize};

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Larger is better.
    Max,
    /// Smaller is better.
    Min,
}

impl Direction {
    /// The name in machine-readable output and in criteria.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

/// One metric of one checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Its value; may be NaN or infinite, which never ranks.
    #[serde(with = "float_text")]
    pub value: f64,
    /// Where in the checkpoint it was found: `accuracy`, `metrics.val.f1`, `file name`.
    pub provenance: String,
    /// The direction, where the checkpoint itself tells it.
    pub direction: Option<Direction>,
}

/// JSON has no NaN and no infinities: the index keeps values by their bits.
mod float_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

/// Words of a name, lower case: `val/mAP50-95(B)` gives `val`, `map50`, `95`, `b`.
fn words(name: &str) -> impl Iterator<Item = String> + '_ {
    name.split(|char: char| !char.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_ascii_lowercase)
}

const SMALLER: &str = "loss losses error err mae mse rmse mape nll perplexity ppl wer cer fid kl bpd bpb bpc lpips regret distance \
    divergence brier ece eer elbo_loss crossentropy ce bce hinge msle rmsle";
const LARGER: &str = "psnr bleu rouge rouge1 rouge2 rougel meteor score r2 reward return mcc kappa pearson spearman elo correct is \
    inception throughput pesq stoi snr sisdr";
/// Larger is better too, and they are fractions of one, or percentages.
const RATIOS: &str = "accuracy acc acc1 acc5 top1 top5 f1 f1score fbeta precision recall auc auroc roc auprc ap ap50 map map50 \
    map75 map95 map5095 iou miou dice ssim solvability success winrate ndcg mrr hit sensitivity specificity \
    jaccard exact em fitness";

fn any_word(name: &str, list: &str) -> bool {
    words(name).any(|word| {
        list.split_ascii_whitespace().any(|known| word == known || (known.len() > 3 && word.ends_with(known)))
    })
}

/// The direction that the field's usage gives to a name; `None` for unfamiliar names.
///
/// ```
/// use ckpt_core::metric::{Direction, usual_direction};
/// assert_eq!(usual_direction("val_loss"), Some(Direction::Min));
/// assert_eq!(usual_direction("metrics/mAP50(B)"), Some(Direction::Max));
/// assert_eq!(usual_direction("temperature"), None);
/// ```
#[must_use]
pub fn usual_direction(name: &str) -> Option<Direction> {
    // "loss" first: `accuracy_loss` is a loss.
    if any_word(name, SMALLER) {
        Some(Direction::Min)
    } else if any_word(name, LARGER) || any_word(name, RATIOS) {
        Some(Direction::Max)
    } else {
        None
    }
}

/// Whether the name says a fraction of one, which some write as a percentage.
#[must_use]
pub fn is_ratio(name: &str) -> bool {
    !any_word(name, SMALLER) && any_word(name, RATIOS)
}

/// Words of names that are settings and counters of a run.
const SETTINGS: &str = "epoch epochs step steps iteration iterations iter iters it batch lr seed version time runtime timestamp \
    elapsed duration seconds minutes hours world rank size dim dims num n count samples workers depth width \
    height layers heads hidden dropout momentum decay warmup patience rate beta beta1 beta2 eps gamma \
    temperature tokens updates seen progress max total freq frequency interval id index date year channels \
    classes nc numel parameters params flops memory gpus devices examples length len counter resolution scale \
    generation";

/// Whether a number under this name measures quality, and is not a setting or a counter of the run.
#[must_use]
pub fn is_metric_name(name: &str) -> bool {
    usual_direction(name).is_some()
        || !words(name).any(|word| SETTINGS.split_ascii_whitespace().any(|known| word == known))
}

/// Finds the metric that a request means: the exact name, else the one name that ends with it after `.`, `/` or `_`.
///
/// # Errors
/// The names that match equally well; empty when none does.
pub fn resolve<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Result<&'a str, Vec<&'a str>> {
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(exact) = known.iter().find(|name| **name == wanted) {
        return Ok(exact);
    }
    if let Some(same) = known.iter().find(|name| name.eq_ignore_ascii_case(wanted)) {
        return Ok(same);
    }
    let mut close: Vec<&str> = known
        .into_iter()
        .filter(|name| {
            name.len() > wanted.len()
                && name
                    .to_ascii_lowercase()
                    .strip_suffix(&wanted.to_ascii_lowercase())
                    .is_some_and(|head| head.ends_with(['.', '/', '_']))
        })
        .collect();
    close.sort_unstable();
    close.dedup();
    match close.as_slice() {
        [only] => Ok(only),
        _ => Err(close),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_of_well_known_names() {
        for name in [
            "loss",
            "val_loss",
            "valid/cls_loss",
            "test_error",
            "eval_perplexity",
            "RMSE",
            "accuracy_loss",
            "trainloss",
        ] {
            assert_eq!(usual_direction(name), Some(Direction::Min), "{name}");
        }
        for name in [
            "accuracy",
            "val_acc",
            "best_acc1",
            "mIoU",
            "metrics/mAP50-95(B)",
            "fitness",
            "solvability",
            "eval_f1",
            "R2",
            "best_score",
        ] {
            assert_eq!(usual_direction(name), Some(Direction::Max), "{name}");
        }
        for name in ["foo", "lr", "lossy_artifact", "happiness"] {
            assert_eq!(usual_direction(name), None, "{name}");
        }
    }

    #[test]
    fn settings_and_counters_are_no_metrics() {
        for name in [
            "epoch",
            "lr",
            "batch_size",
            "seed",
            "n_layers",
            "global_step",
            "world_size",
            "learning_rate",
            "elapsed_time",
        ] {
            assert!(!is_metric_name(name), "{name}");
        }
        for name in ["accuracy", "val_loss", "top1", "happiness", "word_error_rate", "success_rate"] {
            assert!(is_metric_name(name), "{name}");
        }
    }

    #[test]
    fn a_request_means_the_exact_name_or_one_clear_suffix() {
        let known = ["metrics/mAP50(B)", "train.accuracy", "val.accuracy", "val.f1", "loss"];
        assert_eq!(resolve("loss", known), Ok("loss"));
        assert_eq!(resolve("f1", known), Ok("val.f1"));
        assert_eq!(resolve("mAP50(B)", known), Ok("metrics/mAP50(B)"));
        assert_eq!(resolve("accuracy", known), Err(vec!["train.accuracy", "val.accuracy"]));
        assert_eq!(resolve("acc", known), Err(vec![]));
        assert_eq!(resolve("accuracy", ["eval_accuracy", "eval_loss"]), Ok("eval_accuracy"));
    }
}
