//! Words and columns for people.

use std::fmt::Write as _;

use ckpt_core::finding::Severity;
use ckpt_core::inspect::Inspection;
pub(crate) use ckpt_core::quantity::size;
use ckpt_core::verify::Verified;

/// `epoch 45, step 1200, accuracy=0.875, loss=0.31`; zeros are shown like any other number.
pub(crate) fn facts(inspection: &Inspection) -> String {
    let mut parts = Vec::new();
    if let Some(epoch) = inspection.epoch {
        parts.push(format!("epoch {epoch}"));
    }
    if let Some(step) = inspection.step {
        parts.push(format!("step {step}"));
    }
    parts.extend(
        inspection.metrics.iter().take(6).map(|metric| format!("{}={}", one_line(&metric.name), number(metric.value))),
    );
    if parts.is_empty() { "no epoch or metric told".to_owned() } else { parts.join(", ") }
}

/// A metric with at most six significant digits.
pub(crate) fn number(value: f64) -> String {
    let plain = format!("{value}");
    if plain.len() <= 8 { plain } else { format!("{value:.6}").trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// `ok`, `invalid` or `unread`.
pub(crate) fn verdict(verified: &Verified) -> &'static str {
    match (verified.verdict.is_valid, verified.inspection.format.is_inspected()) {
        (true, _) => "ok",
        (false, false) if verified.verdict.findings.iter().all(|finding| finding.severity < Severity::Error) => {
            "unread"
        }
        _ => "invalid",
    }
}

/// Text from a file, on one line and without what a terminal obeys: control characters are shown as escapes.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, char| {
        if char.is_control() {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
        shown
    })
}

/// Several lines without what a terminal obeys.
pub(crate) fn harmless(text: &str) -> String {
    text.split('\n').map(one_line).collect::<Vec<_>>().join("\n")
}

/// Rows of columns as tab-separated text.
pub(crate) fn tab_separated(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| one_line(cell)).collect();
        // Writing to a string cannot fail.
        writeln!(text, "{}", cells.join("\t")).ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_a_file_forges_no_line_and_moves_no_cursor() {
        assert_eq!(one_line("x\nverdict ok\u{1b}[2J"), "x\\nverdict ok\\u{1b}[2J");
        assert_eq!(harmless("a\n\u{7}b"), "a\n\\u{7}b");
        assert_eq!(one_line("modèle é.pth"), "modèle é.pth");
    }

    #[test]
    fn numbers_keep_what_they_say() {
        for (value, text) in
            [(0.0, "0"), (0.875, "0.875"), (0.690_226_316_452, "0.690226"), (87.5, "87.5"), (f64::NAN, "NaN")]
        {
            assert_eq!(number(value), text);
        }
    }
}
