//! Which of a root's checkpoints are the latest and the best, as far as pure reasoning goes.

use std::collections::BTreeMap;

use ckpt_core::digest::Digest;
use ckpt_core::manifest::{LATEST, Manifest, Pointer, Recorded, best_name};
use ckpt_core::metric::{self, Direction};

/// By which metrics a pointer to the best checkpoint is kept. Pointers that are there already are kept up in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tracked {
    /// By every recorded metric whose direction is told or known by its name.
    #[default]
    Every,
    /// By these alone.
    Only(Vec<String>),
}

impl Tracked {
    pub(super) fn contains(&self, metric: &str) -> bool {
        match self {
            Self::Every => true,
            Self::Only(metrics) => metrics.iter().any(|tracked| tracked == metric),
        }
    }
}

/// The pointers of a root.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pointers {
    pub latest: Option<Pointer>,
    pub best: BTreeMap<String, Pointer>,
}

/// The direction of a recorded metric, where it has one and the pointer a name.
pub(super) fn direction(name: &str, recorded: &Recorded) -> Option<Direction> {
    best_name(name).and(recorded.direction.or_else(|| metric::usual_direction(name)))
}

fn is_better(direction: Direction, new: f64, old: f64) -> bool {
    match direction {
        Direction::Max => new > old,
        Direction::Min => new < old,
    }
}

impl Pointers {
    /// Takes account of a checkpoint. It is the best by a metric when it is strictly better than the best before it: of
    /// equals the first stays, and a value that is not finite is never the best.
    pub(super) fn advance(&mut self, name: &str, manifest: &Manifest, digest: Digest, tracked: impl Fn(&str) -> bool) {
        let pointer = |metric| Pointer {
            checkpoint: name.to_owned(),
            step: manifest.step,
            sequence: manifest.sequence,
            manifest: digest,
            metric,
        };
        if self.latest.as_ref().is_none_or(|latest| manifest.sequence > latest.sequence) {
            self.latest = Some(pointer(None));
        }
        for (metric, recorded) in &manifest.metrics {
            let Some(direction) = direction(metric, recorded).filter(|_| recorded.value.is_finite()) else { continue };
            let before = self.best.get(metric).and_then(|pointer| pointer.metric.as_ref());
            let is_best = before.is_none_or(|(_, best)| is_better(direction, recorded.value, best.value));
            if is_best && tracked(metric) {
                let recorded = Recorded { direction: Some(direction), ..*recorded };
                self.best.insert(metric.clone(), pointer(Some((metric.clone(), recorded))));
            }
        }
    }

    /// Every pointer with the name it has in the root.
    pub(super) fn named(&self) -> BTreeMap<String, &Pointer> {
        let best = self.best.iter().filter_map(|(metric, pointer)| Some((best_name(metric)?, pointer)));
        self.latest.iter().map(|pointer| (LATEST.to_owned(), pointer)).chain(best).collect()
    }
}
