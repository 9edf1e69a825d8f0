//! Numbers and texts of protocol 0, which are written in characters.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub(super) fn decimal<T: std::str::FromStr>(line: &[u8]) -> Option<T> {
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

/// Python's `raw-unicode-escape`: `\uXXXX` and `\UXXXXXXXX`, the other bytes Latin-1.
pub(super) fn unescape_unicode(line: &[u8]) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        let width = match (byte, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => 0,
        };
        let escaped = (width > 0).then(|| hexadecimal(after.get(1..)?, width)).flatten();
        if let Some(char) = escaped {
            text.push(char::from_u32(char).unwrap_or(char::REPLACEMENT_CHARACTER));
            rest = after.get(width.saturating_add(1)..).unwrap_or_default();
        } else {
            text.push(char::from(byte));
            rest = after;
        }
    }
    text
}

fn hexadecimal(bytes: &[u8], width: usize) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(bytes.get(..width)?).ok()?, 16).ok()
}

/// Up to three octal digits, the first of which is `first`; as in Python, what is more than a byte is cut.
fn octal(first: u8, rest: &[u8]) -> (u8, &[u8]) {
    let more = rest.iter().take(2).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    let (digits, after) = rest.split_at_checked(more).unwrap_or((&[], rest));
    let digit = |byte: u8| u16::from(byte.wrapping_sub(b'0'));
    let value = digits.iter().fold(digit(first), |sum, byte| sum.wrapping_mul(8).wrapping_add(digit(*byte)));
    (value.to_le_bytes()[0], after)
}

/// A quoted Python 2 string literal.
pub(super) fn unescape_string(line: &[u8]) -> Option<Vec<u8>> {
    let quote = *line.first()?;
    let inner = line.strip_prefix(&[quote])?.strip_suffix(&[quote])?;
    if quote != b'\'' && quote != b'"' {
        return None;
    }
    let mut text = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            text.push(byte);
            continue;
        }
        let (&escape, after) = rest.split_first()?;
        rest = after;
        match escape {
            b'n' => text.push(b'\n'),
            b't' => text.push(b'\t'),
            b'r' => text.push(b'\r'),
            b'a' => text.push(7),
            b'b' => text.push(8),
            b'f' => text.push(12),
            b'v' => text.push(11),
            b'\n' => {}
            b'0'..=b'7' => {
                let (value, after) = octal(escape, rest);
                text.push(value);
                rest = after;
            }
            b'x' => {
                text.push(u8::try_from(hexadecimal(rest, 2)?).ok()?);
                rest = rest.get(2..)?;
            }
            b'\\' | b'\'' | b'"' => text.push(escape),
            other => text.extend([b'\\', other]),
        }
    }
    Some(text)
}
