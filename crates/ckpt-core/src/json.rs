//! JSON as Python writes it: `NaN`, `Infinity` and `-Infinity` stand bare where the standard allows no such thing.

use serde_json::Value;

/// Parses a document; the three bare words become texts of the same spelling.
///
/// # Errors
/// The bytes are no JSON even so.
pub fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    // A document without them, which is nearly every one, is parsed as it is.
    serde_json::from_slice(bytes).or_else(|error| match quote_words(bytes) {
        Some(quoted) => serde_json::from_slice(&quoted),
        None => Err(error),
    })
}

/// Puts the bare words into quotes; `None` when there are none.
fn quote_words(bytes: &[u8]) -> Option<Vec<u8>> {
    const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let mut quoted = Vec::with_capacity(bytes.len() + 64);
    let mut found = false;
    let mut in_text = false;
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        if in_text {
            quoted.push(byte);
            rest = after;
            if byte == b'\\' {
                if let Some((&escaped, after)) = rest.split_first() {
                    quoted.push(escaped);
                    rest = after;
                }
            } else if byte == b'"' {
                in_text = false;
            }
        } else if let Some(word) = WORDS.iter().find(|word| rest.starts_with(word)) {
            quoted.push(b'"');
            quoted.extend_from_slice(word);
            quoted.push(b'"');
            rest = rest.get(word.len()..).unwrap_or_default();
            found = true;
        } else {
            in_text = byte == b'"';
            quoted.push(byte);
            rest = after;
        }
    }
    found.then_some(quoted)
}

/// The number of a value, the three words included.
#[must_use]
pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" | "nan" => Some(f64::NAN),
            "Infinity" | "inf" => Some(f64::INFINITY),
            "-Infinity" | "-inf" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pythons_words_are_read_and_texts_are_left_alone() {
        let value = parse(br#"{"a": NaN, "b": -Infinity, "c": "a \" NaN"}"#).unwrap();
        assert!(number(&value["a"]).unwrap().is_nan());
        assert_eq!(number(&value["b"]), Some(f64::NEG_INFINITY));
        assert_eq!(value["c"], "a \" NaN");
        assert!(parse(b"{NaN").is_err());
    }
}
