//! Marking an event as late without touching any other byte of it.
//!
//! The payload is not parsed and written again: that could change how its numbers are written, and
//! the copies of an event must be equal to the byte.

/// The JSON object `payload` with its own `"late"` set to true, added where it has none. `None` where
/// it is no JSON object, which cannot be marked.
pub(super) fn marked_late(payload: &[u8]) -> Option<Vec<u8>> {
    if serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_err() {
        return None;
    }
    let start = skip_space(payload, 0);
    if payload.get(start) != Some(&b'{') {
        return None;
    }
    let mut at = skip_space(payload, start + 1);
    let is_empty = payload.get(at) == Some(&b'}');
    while payload.get(at) == Some(&b'"') {
        let key_end = string_end(payload, at)?;
        let value = skip_space(payload, skip_space(payload, key_end) + 1);
        let value_end = value_end(payload, value)?;
        if payload.get(at..key_end) == Some(br#""late""#) {
            return Some([payload.get(..value)?, b"true", payload.get(value_end..)?].concat());
        }
        at = skip_space(payload, value_end);
        if payload.get(at) == Some(&b',') {
            at = skip_space(payload, at + 1);
        }
    }
    let mark: &[u8] = if is_empty { br#""late":true"# } else { br#","late":true"# };
    Some([payload.get(..at)?, mark, payload.get(at..)?].concat())
}

fn skip_space(text: &[u8], from: usize) -> usize {
    let space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    from + text.iter().skip(from).take_while(space).count()
}

/// One past the closing quote of the string that opens at `from`.
fn string_end(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from + 1;
    loop {
        match text.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// One past the value that begins at `from`, in a text that is known to be valid.
fn value_end(text: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = from;
    loop {
        match text.get(at)? {
            b'"' => {
                at = string_end(text, at)?;
                if depth == 0 {
                    return Some(at);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return Some(at),
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn marked(text: &str) -> Option<String> {
        marked_late(text.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn only_the_mark_changes() {
        for (before, after) in [
            (r#"{"a":0.41200000,"late":false,"b":1e5}"#, r#"{"a":0.41200000,"late":true,"b":1e5}"#),
            (r#"{ "late" : false }"#, r#"{ "late" : true }"#),
            (r#"{"late":true}"#, r#"{"late":true}"#),
            (r#"{"late":{"late":[false]},"x":[]}"#, r#"{"late":true,"x":[]}"#),
            (r#"{"a":{"late":false}}"#, r#"{"a":{"late":false},"late":true}"#),
            (r#"{"a":"\"late\":false"}"#, r#"{"a":"\"late\":false","late":true}"#),
            (r#"{"a":"}{\\"}"#, r#"{"a":"}{\\","late":true}"#),
            ("{}", r#"{"late":true}"#),
            ("{ \n}", "{ \n\"late\":true}"),
        ] {
            assert_eq!(marked(before).as_deref(), Some(after), "{before}");
        }
    }

    #[test]
    fn what_is_no_object_is_left_alone() {
        for text in ["", "1", "[]", "\"late\"", "{", "{\"a\"", "{\"late\":fal", "\u{feff}{}", "nul"]
        {
            assert_eq!(marked(text), None, "{text}");
        }
        assert_eq!(marked_late(&[0xff, 0xd8, 0xff]), None);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let key = prop_oneof![Just("late".to_owned()), ".{0,4}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_object_differs_in_the_mark_alone(value in json(), pretty in any::<bool>()) {
            let text = if pretty {
                serde_json::to_vec_pretty(&value).unwrap()
            } else {
                serde_json::to_vec(&value).unwrap()
            };
            let Value::Object(mut expected) = value else {
                prop_assert_eq!(marked_late(&text), None);
                return Ok(());
            };
            expected.insert("late".to_owned(), Value::Bool(true));
            let got: Value = serde_json::from_slice(&marked_late(&text).unwrap()).unwrap();
            prop_assert_eq!(got, Value::Object(expected));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            marked_late(&bytes);
        }
    }
}
