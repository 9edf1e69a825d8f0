//! Retention in a saver's own root, after a commit.

use std::path::Path;

use ckpt_core::ErrorKind;
use ckpt_core::manifest::Manifest;
use ckpt_core::metric::Metric;
use ckpt_core::prune::{self, Item, Retention, Soundness};

use super::commit::now_ns;
use super::root::Root;
use crate::error::Result;
use crate::load::Checkpoint;
use crate::prune::named_in;
use crate::{atomic, pins};

/// Deletes what the retention lets go; gives the names.
///
/// What a pointer or a pin names stays, and so does the latest whole one, whatever the rules say.
pub(super) fn retain(root: &Root, retention: &Retention) -> Result<Vec<String>> {
    if *retention == Retention::default() {
        return Ok(Vec::new());
    }
    let lock = root.lock()?;
    let pointers = root.heal()?;
    let pinned = pins::pinned(&root.path)?;
    let named = pointers.named();
    // Links of others count as well as ours.
    let linked = named_in(&root.path)?;
    let mut items = Vec::new();
    for (step, name) in root.list()?.steps {
        let (checkpoint, soundness) = judged(&root.path.join(&name))?;
        let manifest = checkpoint.as_ref().map(Checkpoint::manifest);
        let pointers = named.iter().filter(|(_, pointer)| pointer.checkpoint == name).map(|(pointer, _)| pointer);
        let mut pointers: Vec<String> = pointers.chain(linked.get(&name).into_iter().flatten()).cloned().collect();
        pointers.sort();
        pointers.dedup();
        items.push(Item {
            step: Some(step),
            epoch: manifest.and_then(|manifest| manifest.epoch),
            sequence: manifest.map(|manifest| manifest.sequence),
            saved_ns: manifest.map_or(i64::MAX, |manifest| manifest.created_ns),
            bytes: manifest.map_or(0, Manifest::bytes),
            metrics: manifest.map(metrics).unwrap_or_default(),
            soundness,
            is_pinned: pinned.contains(&name) || !pins::pinned(&root.path.join(&name))?.is_empty(),
            pointers,
            name,
        });
    }
    let plan = prune::plan(items, retention, now_ns())?;
    let mut dropped = Vec::new();
    let mut nameless = Vec::new();
    for item in plan.dropped() {
        nameless.push(atomic::take_name(&root.path.join(&item.name))?);
        dropped.push(item.name.clone());
    }
    // Deleting gigabytes takes long, and the next commit need not wait for it.
    drop(lock);
    nameless.iter().for_each(|path| atomic::delete(path));
    Ok(dropped)
}

/// What has no manifest, or one of a later version, is not ours to judge.
fn judged(path: &Path) -> Result<(Option<Checkpoint>, Soundness)> {
    match Checkpoint::open(path) {
        Ok(checkpoint) => Ok((Some(checkpoint), Soundness::Valid)),
        Err(error) => match error.kind() {
            ErrorKind::Corrupt | ErrorKind::Incomplete => Ok((None, Soundness::Damaged)),
            ErrorKind::NotFound | ErrorKind::Unsupported | ErrorKind::Invalid => Ok((None, Soundness::Unjudged)),
            _ => Err(error),
        },
    }
}

fn metrics(manifest: &Manifest) -> Vec<Metric> {
    let metric = |(name, recorded): (&String, &ckpt_core::manifest::Recorded)| Metric {
        name: name.clone(),
        value: recorded.value,
        provenance: ckpt_core::manifest::FILE_NAME.to_owned(),
        direction: recorded.direction,
    };
    manifest.metrics.iter().map(metric).collect()
}
