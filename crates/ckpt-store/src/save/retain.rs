//! Retention in a saver's own root, after a commit.

use ckpt_core::manifest::Manifest;
use ckpt_core::metric::Metric;
use ckpt_core::prune::{self, Item, Retention, Soundness};

use super::commit::now_ns;
use super::root::Root;
use crate::error::Result;
use crate::load::Checkpoint;
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
    let mut items = Vec::new();
    for (step, name) in root.list()?.steps {
        let checkpoint = root.whole(&name)?;
        let manifest = checkpoint.as_ref().map(Checkpoint::manifest);
        let pointers = named.iter().filter(|(_, pointer)| pointer.checkpoint == name);
        items.push(Item {
            step: Some(step),
            epoch: manifest.and_then(|manifest| manifest.epoch),
            sequence: manifest.map(|manifest| manifest.sequence),
            saved_ns: manifest.map_or(i64::MAX, |manifest| manifest.created_ns),
            bytes: manifest.map_or(0, Manifest::bytes),
            metrics: manifest.map(metrics).unwrap_or_default(),
            soundness: if manifest.is_some() { Soundness::Valid } else { Soundness::Damaged },
            is_pinned: pinned.contains(&name),
            pointers: pointers.map(|(name, _)| name.clone()).collect(),
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

fn metrics(manifest: &Manifest) -> Vec<Metric> {
    let metric = |(name, recorded): (&String, &ckpt_core::manifest::Recorded)| Metric {
        name: name.clone(),
        value: recorded.value,
        provenance: ckpt_core::manifest::FILE_NAME.to_owned(),
        direction: recorded.direction,
    };
    manifest.metrics.iter().map(metric).collect()
}
