//! Facts of a PyTorch distributed checkpoint: names and shapes from `.metadata`, scalars from their own small archives.

use std::collections::BTreeSet;

use super::{Inspection, add_imports, add_risks};
use crate::error::{Error, Result};
use crate::finding::{Code, Finding, Severity};
use crate::format::Format;
use crate::format::dcp::{self, Item, Place};
use crate::format::safety::Risk;
use crate::format::torch::scalar::{Scalar, scalar};
use crate::format::torch::storages::Element;
use crate::format::torch::{Opened, UNREAD, archive};
use crate::ids::{Epoch, Step};
use crate::layout::{Facts, Layout};
use crate::limits;
use crate::members::Members;
use crate::metric::is_metric_name;
use crate::read::Window;

/// Most damaged items that are listed.
const FINDINGS: usize = 16;

pub(super) fn inspect(members: &dyn Members) -> Result<Inspection> {
    let metadata = dcp::read(members).map_err(|error| Error::read(".metadata", error))?;
    let mut inspection = Inspection::new(Format::TorchDcp, members.list().values().sum());
    for pickle in metadata.pickle.iter().chain(metadata.broken.as_deref()) {
        add_imports(&mut inspection.safety, pickle, 0);
    }
    if metadata.pickle.is_none() || has_stray_rows(members, &metadata.places) {
        inspection.safety.add_as(UNREAD.to_owned(), Risk::Unknown);
    }
    let mut facts = Facts { layout: Layout::TrainingDict, ..Facts::default() };
    let mut small: Vec<(&str, &Place)> = Vec::new();
    for (name, item) in &metadata.items {
        let top = name.split('.').next().unwrap_or(name);
        if facts.keys.last().is_none_or(|last| last != top) && facts.keys.len() < limits::KEYS {
            facts.keys.push(top.to_owned());
        }
        let lower = top.to_ascii_lowercase();
        let is_optimizer = lower.contains("optim");
        facts.parts.optimizer |= is_optimizer;
        facts.parts.scheduler |= lower.contains("sched");
        facts.parts.rng |= lower.contains("rng");
        match item {
            Item::Tensor { dtype, shape, place } => {
                let elements =
                    shape.iter().try_fold(1_u64, |product, side| product.checked_mul(*side)).unwrap_or(u64::MAX);
                let bytes = dtype.as_ref().and_then(|dtype| dtype.bytes(elements)).unwrap_or(0);
                facts.tensors.add(dtype.as_ref().map_or("unknown", |dtype| dtype.name()), elements, bytes);
                let is_scalar = elements == 1 && shape.is_empty() && !name.contains('.');
                facts.parts.model |= !is_optimizer && !is_scalar;
                if let Some(place) = place.as_ref().filter(|_| is_scalar) {
                    small.push((name, place));
                }
            }
            Item::Bytes(Some(place)) => small.push((name, place)),
            Item::Bytes(None) => {}
        }
    }
    for (index, (name, place)) in small.into_iter().enumerate() {
        if index >= limits::DCP_ITEMS {
            let message = format!("more than {} pickled items: not all were looked at", limits::DCP_ITEMS);
            inspection.findings.push(Finding::error(Code::Unsupported, message));
            break;
        }
        item(members, &mut inspection, &mut facts, (name, place))?;
    }
    facts.keys.dedup();
    inspection.apply(facts);
    inspection.findings.extend(metadata.findings);
    Ok(inspection)
}

/// Whether a row of archives is there whose parts nobody names: they are not looked at.
fn has_stray_rows(members: &dyn Members, places: &[(String, Place)]) -> bool {
    let known: BTreeSet<&str> = places.iter().map(|(_, place)| place.file.as_str()).collect();
    let mut rows = members.list().keys().filter(|name| name.ends_with(".distcp") && !name.contains('/'));
    rows.any(|name| !known.contains(name.as_str()))
}

/// Reads one pickled item. A loader unpickles every one of them without protection, so what it imports is judged; what
/// it says is taken when its name means an epoch, a step or a metric.
fn item(
    members: &dyn Members,
    inspection: &mut Inspection,
    facts: &mut Facts,
    (name, place): (&str, &Place),
) -> Result<()> {
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_position = matches!(last, "epoch" | "step" | "global_step" | "iteration");
    if !members.list().contains_key(&place.file) {
        return Ok(());
    }
    let read_error = |error| Error::read(place.file.clone(), error);
    let file = members.open(&place.file).map_err(read_error)?;
    let window = Window::new(&*file, place.offset, place.length);
    let opened = archive::open(&window).map_err(read_error)?;
    add_risks(&mut inspection.safety, &opened);
    if let Some(damage) = opened.findings.iter().find(|finding| finding.severity == Severity::Error) {
        let message = format!("`{name}` in `{}` at {}: {}", place.file, place.offset, damage.message);
        // One damaged region may hold thousands of items.
        if inspection.findings.len() < FINDINGS {
            inspection.findings.push(Finding::error(damage.code, message));
        }
        return Ok(());
    }
    if name.to_ascii_lowercase().contains("optim") || !(is_position || is_metric_name(last)) {
        return Ok(());
    }
    let Some(number) = number(&opened).map_err(read_error)? else { return Ok(()) };
    match last {
        "epoch" => facts.epoch = facts.epoch.or(Epoch::new(number)),
        _ if is_position => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "saturates; negative steps become 0"
            )]
            let step = number as u64;
            facts.step = facts.step.or(Some(Step(step)));
        }
        _ => facts.add_metric(last, number, name, None),
    }
    Ok(())
}

fn number(opened: &Opened<'_>) -> std::io::Result<Option<f64>> {
    let Some(pickle) = &opened.pickle else { return Ok(None) };
    Ok(match scalar(pickle, pickle.root()) {
        Some(Scalar::Number(number)) => Some(number),
        Some(Scalar::Tensor(tensor)) => match opened.storages.element(&tensor)? {
            Element::Number(number) => Some(number),
            _ => None,
        },
        None => None,
    })
}
