//! An alert as staff ask for it, on its way to become a message.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{
    alert::{Like, schema::Message},
    error::{Error, Result},
};

/// The version of the contract that is written.
const SCHEMA: u32 = 1;

/// What an alert asks for; left out of the message is what is not said, so that the devices'
/// defaults hold.
#[derive(Clone, Debug, Serialize)]
pub struct Draft {
    /// What the person looks like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Whom the person is like, in place of a text.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "like")]
    pub like: Option<Like>,
    /// What the person does not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
    /// When it ends; written in whole seconds.
    #[serde(serialize_with = "seconds")]
    pub expires_at: Timestamp,
    /// On which cameras, with `*` for any characters; none are all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cameras: Vec<String>,
    /// In which zones; none is anywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
    /// In which windows of the week, as the contract writes them; none is always.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<Value>,
    /// False alarms a day that the site can bear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_per_day: Option<f64>,
    /// Seconds between two new sightings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown_s: Option<f64>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

#[derive(Serialize)]
struct Numbered<'a> {
    schema: u32,
    revision: u64,
    #[serde(flatten)]
    draft: &'a Draft,
}

#[derive(Serialize)]
struct Withdrawn {
    schema: u32,
    revision: u64,
    withdrawn: bool,
}

impl Draft {
    /// The message with its revision, read as a device reads it: nothing is published that every
    /// device would refuse.
    ///
    /// # Errors
    /// [`Error::Config`] with the reason that a device would give.
    pub fn message(&self, revision: u64) -> Result<Vec<u8>> {
        let numbered = Numbered { schema: SCHEMA, revision, draft: self };
        let payload =
            serde_json::to_vec(&numbered).map_err(|error| Error::internal("alert", error))?;
        match Message::parse(&payload) {
            Message::Alert { .. } => Ok(payload),
            Message::Unreadable { refusal, .. } => Err(Error::config("alert", refusal.reason)),
            other => Err(Error::internal("alert", format!("reads back as {other:?}"))),
        }
    }
}

/// The message that withdraws an alert.
///
/// # Errors
/// [`Error::Internal`], by a bug only.
pub fn withdrawn(revision: u64) -> Result<Vec<u8>> {
    let message = Withdrawn { schema: SCHEMA, revision, withdrawn: true };
    serde_json::to_vec(&message).map_err(|error| Error::internal("alert", error))
}

fn like<S: serde::Serializer>(like: &Option<Like>, serializer: S) -> Result<S::Ok, S::Error> {
    like.as_ref().map(Like::to_json).serialize(serializer)
}

fn seconds<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{at:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(text: &str) -> Draft {
        Draft {
            text: Some(text.into()),
            like: None,
            without: Vec::new(),
            expires_at: "2026-11-25T06:00:00.75Z".parse().unwrap(),
            cameras: Vec::new(),
            zones: Vec::new(),
            schedule: Vec::new(),
            budget_per_day: None,
            cooldown_s: None,
            purpose: None,
            created_by: None,
        }
    }

    #[test]
    fn what_is_not_said_is_left_out() {
        let message = draft("red coat").message(3).unwrap();
        let expected =
            r#"{"schema":1,"revision":3,"text":"red coat","expires_at":"2026-11-25T06:00:00Z"}"#;
        assert_eq!(String::from_utf8(message).unwrap(), expected);
    }

    #[test]
    fn somebody_who_was_seen_is_named_in_place_of_a_text() {
        let like = Some("box-1/4711".parse().unwrap());
        let message = Draft { text: None, like: like.clone(), ..draft("") }.message(3).unwrap();
        let expected = r#"{"schema":1,"revision":3,"like":{"device":"box-1","id":4711},"expires_at":"2026-11-25T06:00:00Z"}"#;
        assert_eq!(String::from_utf8(message).unwrap(), expected);
        let both = Draft { like, ..draft("red coat") };
        assert!(both.message(3).unwrap_err().to_string().contains("give one of them"));
    }

    #[test]
    fn what_every_device_would_refuse_is_not_published() {
        let wrong = [
            (draft(""), "text"),
            (draft("red \u{202e}taoc"), "text"),
            (draft(&"x".repeat(2001)), "text"),
            (Draft { cameras: vec!["Dock 3".into()], ..draft("x") }, "Dock 3"),
            (Draft { zones: vec!["../x".into()], ..draft("x") }, "zone"),
            (Draft { budget_per_day: Some(0.0), ..draft("x") }, "budget_per_day"),
            (Draft { budget_per_day: Some(f64::NAN), ..draft("x") }, ""),
            (Draft { cooldown_s: Some(1e9), ..draft("x") }, "cooldown_s"),
            (Draft { without: vec!["x".repeat(199); 64], ..draft("x") }, "bytes"),
        ];
        for (draft, word) in wrong {
            match draft.message(1) {
                Err(error) => assert!(error.to_string().contains(word), "{error}"),
                // JSON has no NaN: it is written as null, which means "not said".
                Ok(_) => assert!(draft.budget_per_day.is_some_and(f64::is_nan)),
            }
        }
        assert!(draft("x").message(u64::MAX).is_err());
    }

    #[test]
    fn a_withdrawal_is_read_as_one() {
        let message = Message::parse(&withdrawn(4).unwrap());
        assert!(matches!(message, Message::Withdrawn { revision: 4, .. }));
    }
}
