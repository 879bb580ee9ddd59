//! A JSON object read field by field: strict about types, tolerant of fields it does not know.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;

use super::{Code, Refusal};

/// Largest payload that is looked at, in bytes.
pub(crate) const MAX_BYTES: usize = 8 * 1024;
/// Deepest nesting; an alert's schedule needs four.
const MAX_DEPTH: usize = 8;
/// Largest whole number that every JSON reader keeps exactly.
pub(crate) const MAX_INTEGER: u64 = (1 << 53) - 1;
/// Unknown fields that are named in a warning.
const MAX_NAMED: usize = 5;
/// Characters of a foreign name or value that are repeated in a reason.
const MAX_QUOTED: usize = 40;

/// The version of the contract that this program speaks.
pub(crate) const SCHEMA: u64 = 1;

/// Checks size and encoding, before anything is parsed.
pub(crate) fn utf8(payload: &[u8]) -> Result<&str, Refusal> {
    if payload.len() > MAX_BYTES {
        let reason = format!(
            "the message has {} bytes; at most {MAX_BYTES} are read, an alert needs a few hundred",
            payload.len()
        );
        return Err(Refusal::new(Code::TooLarge, reason));
    }
    std::str::from_utf8(payload).map_err(|error| {
        let reason =
            format!("byte {} is no UTF-8; send the text in UTF-8", error.valid_up_to() + 1);
        Refusal::new(Code::NotUtf8, reason)
    })
}

/// Cuts what somebody else wrote to a length that fits a reason, escaped.
pub(crate) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTED).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// The fields of an object that are not read yet.
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads an object.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        if depth(text) > MAX_DEPTH {
            let reason = format!("the JSON is nested more than {MAX_DEPTH} levels deep");
            return Err(Refusal::new(Code::TooDeep, reason));
        }
        let Unique(map) = serde_json::from_str(text).map_err(|error| {
            // The library repeats what it found instead of an object, at any length.
            let error: String = error.to_string().chars().take(4 * MAX_QUOTED).collect();
            let reason = format!("not a JSON object that can be read: {error}");
            Refusal::new(Code::NotJson, reason)
        })?;
        Ok(Self(map))
    }

    /// The fields of an object inside a message.
    pub(crate) fn nested(name: &str, value: Value) -> Result<Self, Refusal> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            other => Err(wrong(name, &other, "an object")),
        }
    }

    /// The revision, where the object has a valid one; it stays to be read.
    pub(crate) fn peek_revision(&self) -> Option<u64> {
        self.0.get("revision").and_then(whole)
    }

    /// Checks `schema`; says whether it was there.
    pub(crate) fn schema(&mut self) -> Result<bool, Refusal> {
        match self.0.remove("schema") {
            None => Ok(false),
            Some(number) if whole(&number) == Some(SCHEMA) => Ok(true),
            Some(other) => Err(Refusal::new(
                Code::UnknownSchema,
                format!(
                    "schema {} is not known to this version, which reads schema {SCHEMA}: publish \
                     that, or update the device",
                    quoted(&other.to_string())
                ),
            )),
        }
    }

    /// A field that is there and not null.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// A text: NFC, trimmed, clean, not empty, of at most `max` characters.
    pub(crate) fn text(&mut self, name: &str, max: usize) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => clean(name, &text, max).map(Some),
            Some(other) => Err(wrong(name, &other, "a text in quotes")),
        }
    }

    /// A list of `min` to `max` texts.
    pub(crate) fn texts(
        &mut self,
        name: &str,
        min: usize,
        max: usize,
    ) -> Result<Option<Vec<String>>, Refusal> {
        let form = || format!("a list of {min} to {max} texts, or null");
        let items = match self.take(name) {
            None => return Ok(None),
            Some(Value::Array(items)) if (min..=max).contains(&items.len()) => items,
            Some(other) => return Err(wrong(name, &other, &form())),
        };
        let text = |item| match item {
            Value::String(text) => Ok(text),
            other => Err(wrong(name, &other, &form())),
        };
        items.into_iter().map(text).collect::<Result<_, _>>().map(Some)
    }

    /// A whole number that every JSON reader keeps exactly.
    pub(crate) fn integer(&mut self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match whole(&value) {
            Some(number) => Ok(Some(number)),
            None => Err(wrong(name, &value, &format!("a whole number from 0 to {MAX_INTEGER}"))),
        }
    }

    /// A number within bounds, both included.
    pub(crate) fn number(
        &mut self,
        name: &str,
        (low, high): (f64, f64),
    ) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if (low..=high).contains(&number) => Ok(Some(number)),
            _ => Err(wrong(name, &value, &format!("a number from {low} to {high}"))),
        }
    }

    /// `true` or `false`.
    pub(crate) fn switch(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(on)) => Ok(Some(on)),
            Some(other) => Err(wrong(name, &other, "true or false")),
        }
    }

    /// What is left over, as a warning: a misspelt field must not be lost in silence.
    pub(crate) fn unknown(self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let named: Vec<String> = self.0.keys().take(MAX_NAMED).map(|name| quoted(name)).collect();
        let more = self.0.len().saturating_sub(MAX_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Some(format!("fields that are not known were ignored: {}{more}", named.join(", ")))
    }
}

/// A whole number from 0 to [`MAX_INTEGER`], however it is written: to JSON 3, 3.0 and 3e0 are one.
fn whole(value: &Value) -> Option<u64> {
    let number = value.as_u64().or_else(|| {
        let number = value.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0)?;
        // Exact: below 2^53 each whole number has its own f64, and larger ones are refused below.
        Some(number as u64)
    });
    number.filter(|&number| number <= MAX_INTEGER)
}

/// A field that is not there.
pub(crate) fn missing(name: &str, what_for: &str) -> Refusal {
    Refusal::new(Code::MissingField, format!("{name} is missing; {what_for}"))
}

/// A field that has another type or range.
pub(crate) fn wrong(name: &str, found: &Value, right: &str) -> Refusal {
    let found = quoted(&found.to_string());
    Refusal::new(Code::BadField, format!("{name} is {found} but must be {right}"))
}

/// A text as it is kept: NFC, without white space around it; refused where a character could make
/// it look like something else, on a screen, in a log or in a topic.
pub(crate) fn clean(name: &str, text: &str, max: usize) -> Result<String, Refusal> {
    let text: String = text.trim().nfc().collect();
    if let Some(bad) = text.chars().find(|&c| is_deceptive(c)) {
        let reason = format!(
            "{name} holds U+{:04X}, a control, invisible or text-direction character; type the \
             text again without it",
            u32::from(bad)
        );
        return Err(Refusal::new(Code::BadCharacter, reason));
    }
    let length = text.chars().count();
    if length == 0 || length > max {
        let reason = format!("{name} has {length} characters but must have 1 to {max}");
        return Err(Refusal::new(Code::BadField, reason));
    }
    Ok(text)
}

/// Controls, bidirectional marks and invisible characters. The two joiners (U+200C, U+200D) are
/// needed to write several languages and stay.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// How deep brackets nest outside of strings, without building anything.
fn depth(text: &str) -> usize {
    let (mut open, mut deepest) = (0usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                open += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' if !quoted => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// An object whose names differ: of two equal ones each reader takes another.
struct Unique(Map<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object such as {\"schema\": 1, …}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique, A::Error> {
                let mut map = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if map.contains_key(&name) {
                        let reason = format!("the field {} stands there twice", quoted(&name));
                        return Err(A::Error::custom(reason));
                    }
                    map.insert(name, value);
                }
                Ok(Unique(map))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_but_not_in_strings() {
        for (text, levels) in [("{}", 1), (r#"{"a": [[1], "[[[["]}"#, 3), (r#"{"a\"[": 1}"#, 1)] {
            assert_eq!(depth(text), levels, "{text}");
        }
        let bomb = format!("{{\"a\": {}{}}}", "[".repeat(3000), "]".repeat(3000));
        assert_eq!(Fields::parse(&bomb).err().unwrap().code, Code::TooDeep);
    }

    #[test]
    fn a_name_that_stands_twice_is_refused() {
        let refusal = Fields::parse(r#"{"a": 1, "a": 2}"#).err().unwrap();
        assert!(refusal.reason.contains("twice"), "{refusal}");
    }

    #[test]
    fn texts_are_normalised_and_deceptive_characters_refused() {
        assert_eq!(clean("text", " cafe\u{301} ", 9).unwrap(), "caf\u{e9}");
        for bad in ['\0', '\n', '\u{7f}', '\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}'] {
            let refusal = clean("text", &format!("red{bad}coat"), 99).unwrap_err();
            assert_eq!(refusal.code, Code::BadCharacter, "{bad:?}");
        }
        assert!(clean("text", "   ", 9).is_err());
        assert!(clean("text", "0123456789", 9).is_err());
    }

    #[test]
    fn foreign_text_is_escaped_and_short_in_reasons() {
        let fields = Fields::parse(r#"{"\u001b[2J": 1}"#).unwrap();
        assert!(!fields.unknown().unwrap().contains('\u{1b}'));
        assert!(quoted(&"x".repeat(5000)).len() < 60);
    }
}
