//! Texts in a file, for replays and comparisons; a site's alerts come by MQTT.

use std::path::Path;

use super::AlertId;
use crate::{
    bounded,
    error::{Error, Result},
};
use serde::Deserialize;

/// Largest alert file that is read.
const MAX_BYTES: u64 = 8 << 20;
/// Most texts one file may hold.
const MAX_TEXTS: usize = 10_000;

/// A text as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The publisher's name for it, or its place in the file.
    pub id: AlertId,
    /// What a person should look like.
    pub text: String,
}

/// Reads texts from a JSON file: a list of texts, a list of objects with `text` (and `id`), or an
/// object whose `alerts` is such a list, as truth files have it.
///
/// # Errors
/// [`Error::Config`] that says what the file should look like.
pub fn read(path: &Path) -> Result<Vec<Wanted>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Text(String),
        Object { id: Option<String>, text: String },
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum File {
        List(Vec<Entry>),
        Object { alerts: Vec<Entry> },
    }
    let place = || path.display().to_string();
    let text = bounded::text(path, MAX_BYTES)?;
    let file: File = serde_json::from_str(&text).map_err(|error| {
        let form = r#"must be a JSON list such as ["woman in a red coat"] or [{"id": "red-coat", "text": "woman in a red coat"}]"#;
        // serde's word for an untagged enum says nothing; a syntax error has a line.
        if error.is_data() {
            Error::config(place(), form)
        } else {
            Error::config(place(), format!("{form}; {error}"))
        }
    })?;
    let (File::List(entries) | File::Object { alerts: entries }) = file;
    if entries.len() > MAX_TEXTS {
        return Err(Error::config(
            place(),
            format!("{} texts are more than {MAX_TEXTS}", entries.len()),
        ));
    }
    let named = |(index, entry): (usize, Entry)| {
        let (id, text) = match entry {
            Entry::Text(text) => (None, text),
            Entry::Object { id, text } => (id, text),
        };
        let id = id.unwrap_or_else(|| (index + 1).to_string());
        let id = AlertId::new(&id).map_err(|error| Error::config(place(), error.to_string()))?;
        Ok(Wanted { id, text })
    };
    let wanted = entries.into_iter().enumerate().map(named).collect::<Result<Vec<_>>>()?;
    let mut seen = std::collections::BTreeSet::new();
    match wanted.iter().find(|wanted| !seen.insert(&wanted.id)) {
        Some(twice) => Err(Error::config(place(), format!("two texts are called {}", twice.id))),
        None => Ok(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Wanted>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.json");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn three_forms_of_the_file() {
        let expected = [("1", "red coat"), ("hat", "a hat")]
            .map(|(id, text)| Wanted { id: AlertId::new(id).unwrap(), text: text.into() });
        let list = r#"["red coat", {"id": "hat", "text": "a hat"}]"#;
        assert_eq!(parse(list).unwrap(), expected);
        assert_eq!(parse(&format!(r#"{{"video": "x", "alerts": {list}}}"#)).unwrap(), expected);
    }

    #[test]
    fn another_form_is_refused_with_an_example() {
        for text in [r#"{"text": "x"}"#, "[1]", "[", ""] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("red coat") && error.contains("alerts.json"), "{error}");
        }
    }
}
