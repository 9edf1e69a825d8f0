//! What the names of top-level keys mean, across trainers.

/// What a key holds, by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Epoch,
    Step,
    Optimizer,
    Scheduler,
    Scaler,
    Rng,
    Loader,
    History,
    /// A mapping of metrics.
    Metrics,
    /// A mapping that may hold epoch and step.
    Progress,
    Other,
}

const EPOCH: &[&str] = &[
    "epoch",
    "current_epoch",
    "cur_epoch",
    "epoch_idx",
    "epoch_num",
    "epochs_trained",
    "last_epoch",
    "epochs_done",
    "ep",
    "epochs",
    "start_epoch",
];
const STEP: &[&str] = &[
    "global_step",
    "step",
    "iteration",
    "iter",
    "current_step",
    "train_step",
    "training_step",
    "global_steps",
    "steps",
    "iterations",
    "n_iter",
    "num_updates",
    "cur_iter",
    "total_steps",
    "num_steps",
    "it",
    "train_steps",
];
const METRICS: &[&str] = &[
    "metrics",
    "metric",
    "val_metrics",
    "valid_metrics",
    "validation_metrics",
    "test_metrics",
    "train_metrics",
    "eval_metrics",
    "best_metrics",
    "results",
    "scores",
    "stats",
    "logs",
    "performance",
    "validation",
    "evaluation",
    "eval",
    "val",
    "test",
    "train",
    "losses",
    "best",
];
const PROGRESS: &[&str] =
    &["meta", "trainer", "trainer_state", "training_state", "train_state", "state", "progress", "info", "extra_state"];

pub(crate) fn role(key: &str) -> Role {
    let lower = key.to_ascii_lowercase();
    let word = |wanted: &str| lower.split(|char: char| !char.is_ascii_alphanumeric()).any(|word| word == wanted);
    if EPOCH.contains(&lower.as_str()) {
        Role::Epoch
    } else if STEP.contains(&lower.as_str()) {
        Role::Step
    } else if lower.contains("sched") {
        Role::Scheduler
    } else if lower.contains("optim") || word("opt") || word("opts") {
        Role::Optimizer
    } else if lower.contains("scaler") || lower == "amp" {
        Role::Scaler
    } else if lower.contains("rng") || lower.contains("random_state") || lower.contains("random_states") {
        Role::Rng
    } else if lower.contains("sampler")
        || lower.contains("loader")
        || lower == "loops"
        || lower.contains("data_state")
        || lower.contains("dataset_state")
    {
        Role::Loader
    } else if lower.contains("history")
        || lower == "train_results"
        || lower.ends_with("_losses")
        || lower.ends_with("_log")
    {
        Role::History
    } else if METRICS.contains(&lower.as_str()) {
        Role::Metrics
    } else if PROGRESS.contains(&lower.as_str()) {
        Role::Progress
    } else {
        Role::Other
    }
}

/// Where a key stands among those that mean the epoch or the step: the plainest name wins.
pub(crate) fn precedence(key: &str) -> usize {
    let lower = key.to_ascii_lowercase();
    let position = |list: &[&str]| list.iter().position(|known| *known == lower);
    position(EPOCH).or_else(|| position(STEP)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_common_trainers() {
        for (key, expected) in [
            ("epoch", Role::Epoch),
            ("global_step", Role::Step),
            ("optimizer_state_dict", Role::Optimizer),
            ("lr_schedulers", Role::Scheduler),
            ("optimizer_states", Role::Optimizer),
            ("scaler", Role::Scaler),
            ("grad_scaler_state", Role::Scaler),
            ("torch_rng_state", Role::Rng),
            ("cuda_rng", Role::Rng),
            ("sampler", Role::Loader),
            ("loops", Role::Loader),
            ("history", Role::History),
            ("metrics", Role::Metrics),
            ("model_state_dict", Role::Other),
            ("options", Role::Other),
            ("accuracy", Role::Other),
            ("meta", Role::Progress),
            ("opt", Role::Optimizer),
            ("catalog", Role::Other),
        ] {
            assert_eq!(role(key), expected, "{key}");
        }
    }
}
