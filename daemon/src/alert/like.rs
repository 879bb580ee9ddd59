//! Somebody who was seen, as an alert or a search names them in place of a description.

use std::{fmt, str::FromStr};

use serde_json::{Value, json};

use super::{
    Code, DeviceName, Refusal,
    fields::{Fields, missing, quoted},
};
use crate::sighting::SightingId;

/// Longest name of a device or a sighting that is read, in characters.
const MAX_NAME: usize = 64;

/// The forms in which somebody is named.
const FORMS: &str = "write {\"sighting\": \"01…\"} with the id of a sighting, or {\"device\": \"box-1\", \
                     \"id\": 4711} with what an answer to a search names";

/// Somebody who was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Like {
    /// The device that keeps them; `None` where only the sighting is known.
    pub device: Option<DeviceName>,
    /// Who.
    pub who: Who,
}

/// How somebody is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// By a sighting that told of them.
    Sighting(SightingId),
    /// By the number of their track in the gallery of the device that is named too.
    Track(u64),
}

impl Like {
    /// Reads the field `like`.
    ///
    /// # Errors
    /// A [`Refusal`] that says what the field should be.
    pub fn parse(value: Value) -> Result<Self, Refusal> {
        let bad = |reason: String| Refusal::new(Code::BadField, format!("{reason}; {FORMS}"));
        let mut fields = Fields::nested("like", value)?;
        let device = fields.text("device", MAX_NAME)?;
        let device = device.map(|name| DeviceName::new(&name)).transpose();
        let device = device.map_err(|error| bad(format!("like: {error}")))?;
        let sighting = fields.text("sighting", MAX_NAME)?;
        let id = fields.integer("id")?;
        let who = match (sighting, id) {
            (Some(_), Some(_)) => return Err(bad("like names both a sighting and an id".into())),
            (Some(sighting), None) => Who::Sighting(sighting.parse().map_err(|error| {
                bad(format!("like names the sighting {}: {error}", quoted(&sighting)))
            })?),
            (None, Some(_)) if device.is_none() => {
                return Err(missing("like.device", "the numbers of two devices are not the same"));
            }
            (None, Some(id)) => Who::Track(id),
            (None, None) => return Err(bad("like names nobody".into())),
        };
        match fields.unknown() {
            Some(unknown) => Err(bad(format!("like: {unknown}"))),
            None => Ok(Self { device, who }),
        }
    }

    /// The field as it is written.
    pub fn to_json(&self) -> Value {
        let mut like = json!({});
        if let Some(device) = &self.device {
            like["device"] = json!(device);
        }
        match self.who {
            Who::Sighting(id) => like["sighting"] = json!(id),
            Who::Track(id) => like["id"] = json!(id),
        }
        like
    }

    /// Whether another device is named than this one.
    pub fn is_elsewhere(&self, device: &str) -> bool {
        self.device.as_ref().is_some_and(|named| named.as_str() != device)
    }

    /// The same for the same person, however the message says it: a sighting is one wherever it is.
    pub fn key(&self) -> String {
        match self.who {
            Who::Sighting(id) => format!("sighting {id}"),
            Who::Track(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Like {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(device) = &self.device {
            write!(f, "{device}/")?;
        }
        match self.who {
            Who::Sighting(id) => id.fmt(f),
            Who::Track(id) => id.fmt(f),
        }
    }
}

/// What is no name of somebody who was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write it as a search names somebody, DEVICE/NUMBER such as box-1/4711, or as the id of a sighting, \
     with or without its device: 01JD8Z0V6N8Q2K4M5P7R9T1W3X"
)]
pub struct LikeError;

impl FromStr for Like {
    type Err = LikeError;

    fn from_str(text: &str) -> Result<Self, LikeError> {
        let (device, name) = match text.rsplit_once('/') {
            Some((device, name)) => (Some(DeviceName::new(device).map_err(|_| LikeError)?), name),
            None => (None, text),
        };
        if let Ok(id) = name.to_ascii_uppercase().parse() {
            return Ok(Self { device, who: Who::Sighting(id) });
        }
        let id = name.parse().map_err(|_| LikeError)?;
        device.map(|device| Self { device: Some(device), who: Who::Track(id) }).ok_or(LikeError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGHTING: &str = "01JD8Z0V6N8Q2K4M5P7R9T1W3X";

    #[test]
    fn somebody_is_named_by_a_sighting_or_by_a_track_of_a_device() {
        for (text, value) in [
            (SIGHTING.to_owned(), json!({"sighting": SIGHTING})),
            (format!("box-1/{SIGHTING}"), json!({"device": "box-1", "sighting": SIGHTING})),
            ("box-1/4711".to_owned(), json!({"device": "box-1", "id": 4711})),
        ] {
            let like: Like = text.parse().unwrap();
            assert_eq!(like.to_json(), value);
            assert_eq!((Like::parse(value).unwrap(), like.to_string()), (like, text));
        }
        let of = |text: &str| text.parse::<Like>().unwrap();
        assert_eq!(of(&SIGHTING.to_lowercase()), of(SIGHTING));
        assert_eq!(of(SIGHTING).key(), of(&format!("box/{SIGHTING}")).key(), "the same person");
        assert_ne!(of("box/1").key(), of("dock/1").key());
        assert!(of("box/1").is_elsewhere("dock") && !of("box/1").is_elsewhere("box"));
        assert!(!of(SIGHTING).is_elsewhere("dock"));
    }

    #[test]
    fn what_names_nobody_is_refused_with_the_forms_that_do() {
        for value in [
            json!({}),
            json!("box-1/4711"),
            json!({"id": 4711}),
            json!({"device": "Box 1", "id": 4711}),
            json!({"device": "box-1"}),
            json!({"sighting": "4711"}),
            json!({"sighting": SIGHTING, "device": "box-1", "id": 4711}),
            json!({"sighting": SIGHTING, "camera": "gate"}),
        ] {
            let refusal = Like::parse(value.clone()).unwrap_err();
            assert!(refusal.reason.contains("like"), "{value}: {refusal}");
        }
        for text in ["", "4711", "box-1/", "box-1/x", "Box 1/4711", "/4711", "box-1/-1"] {
            assert_eq!(text.parse::<Like>(), Err(LikeError), "{text}");
        }
    }
}
