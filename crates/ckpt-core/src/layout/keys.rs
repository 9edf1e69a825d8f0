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

const SCALER: &[&str] = &["scaler", "scalers", "gradscaler", "gradscalers", "lossscaler", "ampscaler"];
const RNG: &[&str] = &["rng", "rngs", "rngstate", "rngstates"];
const LOADER: &[&str] = &[
    "sampler",
    "samplers",
    "batchsampler",
    "trainsampler",
    "loader",
    "loaders",
    "dataloader",
    "dataloaders",
    "trainloader",
    "valloader",
    "testloader",
];

/// The words of a key in small letters, without the number at their end.
fn words(lower: &str) -> impl Iterator<Item = &str> + Clone {
    lower
        .split(|char: char| !char.is_ascii_alphanumeric())
        .map(|word| word.trim_end_matches(|char: char| char.is_ascii_digit()))
}

/// Whether a word says scheduler. Only whole words count: `upsampler`, `upscaler` and `schedulenet` are models.
fn is_scheduler(word: &str) -> bool {
    matches!(word, "sched" | "scheds" | "schedule" | "schedules" | "lrsched")
        || word.ends_with("scheduler")
        || word.ends_with("schedulers")
}

fn is_optimizer(word: &str) -> bool {
    matches!(word, "opt" | "opts") || word.contains("optim") && !matches!(word, "optimal" | "optimum")
}

pub(crate) fn role(key: &str) -> Role {
    let lower = key.to_ascii_lowercase();
    let words = words(&lower);
    let has = |wanted: &[&str]| words.clone().any(|word| wanted.contains(&word));
    // `random_state`, `dataset_states`
    let is_state_of = |wanted: &[&str]| {
        let follows = words.clone().skip(1);
        words.clone().zip(follows).any(|(word, next)| wanted.contains(&word) && matches!(next, "state" | "states"))
    };
    if EPOCH.contains(&lower.as_str()) {
        Role::Epoch
    } else if STEP.contains(&lower.as_str()) {
        Role::Step
    } else if words.clone().any(is_scheduler) {
        Role::Scheduler
    } else if words.clone().any(is_optimizer) {
        Role::Optimizer
    } else if has(SCALER) || lower == "amp" {
        Role::Scaler
    } else if has(RNG) || is_state_of(&["random"]) {
        Role::Rng
    } else if has(LOADER) || lower == "loops" || is_state_of(&["data", "dataset"]) {
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
            ("lrScheduler", Role::Scheduler),
            ("scheduler1", Role::Scheduler),
            ("optimizerG", Role::Optimizer),
            ("GradScaler", Role::Scaler),
            ("numpy_random_state", Role::Rng),
            ("train_dataloader", Role::Loader),
            ("dataset_state", Role::Loader),
            ("upsampler", Role::Other),
            ("upscaler", Role::Other),
            ("downloader", Role::Other),
            ("schedulenet", Role::Other),
            ("strngth", Role::Other),
            ("optimal_net", Role::Other),
        ] {
            assert_eq!(role(key), expected, "{key}");
        }
    }
}
