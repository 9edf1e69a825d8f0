//! Facts of a safetensors file: its header, and the texts that its writer left in `__metadata__`.

use std::io;

use super::Inspection;
use crate::format::Format;
use crate::format::safetensors::{self, Header};
use crate::format::safety::Risk;
use crate::format::torch::UNREAD;
use crate::ids::{Epoch, Step};
use crate::json;
use crate::layout::{Facts, Layout};
use crate::limits;
use crate::metric::is_metric_name;
use crate::read::ReadAt;
use crate::shrink;

pub(super) fn inspect(source: &dyn ReadAt) -> io::Result<Inspection> {
    let header = safetensors::read(source)?;
    let mut inspection = Inspection::new(Format::Safetensors, source.size());
    if header.data_offset == 0 {
        inspection.safety.add_as(UNREAD.to_owned(), Risk::Unknown);
    }
    inspection.apply(facts(&header));
    inspection.findings.extend(header.findings);
    Ok(inspection)
}

/// What a header says.
pub(super) fn facts(header: &Header) -> Facts {
    let mut facts = Facts { layout: Layout::StateDict, ..Facts::default() };
    for (name, tensor) in &header.tensors {
        let elements = tensor.elements().unwrap_or(u64::MAX);
        facts.tensors.add(tensor.dtype.name(), elements, tensor.end.saturating_sub(tensor.start));
        if facts.keys.len() < limits::KEYS {
            facts.keys.push(name.clone());
        }
    }
    facts.parts.model = header.tensors.keys().any(|name| !safetensors::is_optimizer(name));
    facts.parts.optimizer = header.tensors.keys().any(|name| safetensors::is_optimizer(name));
    facts.prefixes = crate::layout::wrapper_prefixes(&header.tensors.keys().map(String::as_str));
    facts.declared = header.metadata.get(shrink::CLASS_FIELD).and_then(|class| shrink::declared(class));
    for (key, text) in &header.metadata {
        texts(&mut facts, key, text);
    }
    facts
}

/// One field of `__metadata__`: a number, or a JSON object of numbers.
fn texts(facts: &mut Facts, key: &str, text: &str) {
    if let Ok(number) = text.trim().parse::<f64>() {
        value(facts, key, key, number);
    } else if text.trim_start().starts_with('{')
        && let Ok(serde_json::Value::Object(fields)) = json::parse(text.as_bytes())
    {
        for (name, field) in &fields {
            if let Some(number) = json::number(field) {
                value(facts, name, &format!("{key}.{name}"), number);
            }
        }
    }
}

fn value(facts: &mut Facts, name: &str, provenance: &str, number: f64) {
    let provenance = format!("__metadata__.{provenance}");
    match name {
        "epoch" => facts.epoch = facts.epoch.or(Epoch::new(number)),
        "step" | "global_step" | "iteration" | "steps" if number >= 0.0 && number.fract() == 0.0 => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a whole number, not negative; saturates"
            )]
            let step = number as u64;
            facts.step = facts.step.or(Some(Step(step)));
        }
        _ if is_metric_name(name) => facts.add_metric(name, number, &provenance, None),
        _ => {}
    }
}
