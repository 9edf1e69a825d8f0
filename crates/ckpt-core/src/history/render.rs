//! Records as text. What is written here is read back by [`parse`](super::parse()).

use std::collections::HashMap;

use serde_json::Value;

use super::Record;

/// One JSON object per line. NaN and the infinities are texts, for JSON has no such numbers.
#[must_use]
pub fn to_json_lines<'a>(records: impl IntoIterator<Item = &'a Record>) -> String {
    records.into_iter().map(|record| object(record) + "\n").collect()
}

/// A JSON list with one object per line. NaN and the infinities are texts, for JSON has no such numbers.
#[must_use]
pub fn to_json<'a>(records: impl IntoIterator<Item = &'a Record>) -> String {
    let objects: Vec<String> = records.into_iter().map(object).collect();
    if objects.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", objects.join(",\n")) }
}

/// A table with a column for each field, in the order in which they first appear; what a record lacks is empty.
///
/// Lists and mappings are written as JSON into their cell. Without any field the text is empty.
#[must_use]
pub fn to_csv<'a>(records: impl IntoIterator<Item = &'a Record>) -> String {
    let records: Vec<&Record> = records.into_iter().collect();
    let mut names = Vec::new();
    let mut columns = HashMap::new();
    for (name, _) in records.iter().flat_map(|record| record.fields()) {
        columns.entry(name).or_insert_with(|| {
            names.push(name);
            names.len().saturating_sub(1)
        });
    }
    if names.is_empty() {
        return String::new();
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let in_memory = "a write into memory cannot fail";
    writer.write_record(&names).expect(in_memory);
    for record in records {
        let mut row = vec![String::new(); names.len()];
        for (name, value) in record.fields() {
            if let Some(place) = columns.get(name).and_then(|column| row.get_mut(*column)) {
                *place = cell(value);
            }
        }
        writer.write_record(&row).expect(in_memory);
    }
    let bytes = writer.into_inner().expect(in_memory);
    String::from_utf8(bytes).expect("made of texts and ASCII separators")
}

fn object(record: &Record) -> String {
    serde_json::to_string(record).expect("texts and JSON values can always be written as JSON")
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
