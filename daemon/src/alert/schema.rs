//! One message of the alerts topic, from bytes to what it asks for. A pure function: what the site
//! allows and what was said before is decided elsewhere, so the same bytes always mean the same.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Code, Like, Refusal, ZoneName,
    fields::{self, Fields, MAX_INTEGER, clean, missing, quoted, wrong},
    place::CameraGlob,
    schedule::Schedule,
};

/// Longest description, in characters. A model reads 67 words; what is cut off is reported.
pub const MAX_TEXT: usize = 2000;
/// Longest remark (purpose, author), in characters.
const MAX_REMARK: usize = 200;
/// Longest signature, in characters: a hundred bytes in base64 with room to spare.
const MAX_SIGNATURE: usize = 1024;
/// Most items of a list.
const MAX_ITEMS: usize = 64;
/// Longest cooldown, in seconds: a day.
const MAX_COOLDOWN_S: f64 = 86_400.0;
/// Largest budget; above it an alert is of no use to anyone.
pub const MAX_BUDGET: f64 = 10_000.0;
/// Cooldown of an alert that does not say.
pub const DEFAULT_COOLDOWN: Duration = Duration::from_secs(60);

/// What an alert asks for, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// What the person should look like: NFC, clean, 1 to [`MAX_TEXT`] characters; empty where `like`
    /// says it.
    pub text: String,
    /// Whom the person should be like, in place of a text.
    pub like: Option<Like>,
    /// What the person should not have.
    pub without: Vec<String>,
    /// Whether it is to be watched for.
    pub enabled: bool,
    /// Why.
    pub purpose: Option<String>,
    /// Who asked for it.
    pub created_by: Option<String>,
    /// When it ends. `None` for plain text, which lives as long as the site's default.
    pub expires_at: Option<Timestamp>,
    /// On which cameras; `None` is all.
    pub cameras: Option<Vec<CameraGlob>>,
    /// In which zones; `None` is anywhere.
    pub zones: Option<Vec<ZoneName>>,
    /// When; `None` is always.
    pub schedule: Option<Schedule>,
    /// False alarms a day that the site can bear, over all its devices, above 0.
    pub budget_per_day: Option<f64>,
    /// Shortest time between two new sightings, over all cameras.
    pub cooldown: Duration,
    /// The author's signature, as sent; not verified here.
    pub signature: Option<String>,
}

impl Spec {
    /// An alert that says nothing but what to look for.
    pub fn of_text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            like: None,
            without: Vec::new(),
            enabled: true,
            purpose: None,
            created_by: None,
            expires_at: None,
            cameras: None,
            zones: None,
            schedule: None,
            budget_per_day: None,
            cooldown: DEFAULT_COOLDOWN,
            signature: None,
        }
    }

    /// What is looked for, for a person to read.
    pub fn wanted(&self) -> String {
        match &self.like {
            Some(like) => format!("somebody like {like}"),
            None => self.text.clone(),
        }
    }
}

/// What a message means.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// An alert.
    Alert {
        /// Its place among the messages of this alert.
        revision: u64,
        /// What it asks for.
        spec: Box<Spec>,
        /// What was tolerated.
        warnings: Vec<String>,
    },
    /// The alert is not wanted any more.
    Withdrawn {
        /// Its place among the messages of this alert.
        revision: u64,
        /// What was tolerated.
        warnings: Vec<String>,
    },
    /// Not JSON: perhaps the text itself, where the site allows that.
    Plain(Box<Spec>),
    /// No bytes: withdraws everything seen so far.
    Empty,
    /// Cannot be read.
    Unreadable {
        /// Its place among the messages of this alert, where at least that can be read.
        revision: Option<u64>,
        /// Why.
        refusal: Refusal,
    },
}

impl Message {
    /// Reads a payload. Never fails: what cannot be read is a message as well, and has to be
    /// answered.
    pub fn parse(payload: &[u8]) -> Self {
        if payload.is_empty() {
            return Self::Empty;
        }
        let unreadable = |revision| move |refusal| Self::Unreadable { revision, refusal };
        let text = match fields::utf8(payload) {
            Ok(text) => text,
            Err(refusal) => return unreadable(None)(refusal),
        };
        if !is_meant_as_json(text) {
            return clean("text", text, MAX_TEXT)
                .map(|text| Self::Plain(Box::new(Spec::of_text(text))))
                .unwrap_or_else(unreadable(None));
        }
        match Fields::parse(text) {
            Ok(fields) => {
                let revision = fields.peek_revision();
                read(fields).unwrap_or_else(unreadable(revision))
            }
            Err(refusal) => unreadable(None)(refusal),
        }
    }
}

/// An object with a syntax error must not become a description of a person.
fn is_meant_as_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[', '"'])
        || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn read(mut fields: Fields) -> Result<Message, Refusal> {
    let mut warnings = Vec::new();
    if !fields.schema()? {
        warnings.push("schema is missing; taken as 1".to_owned());
    }
    let revision = fields.integer("revision")?.ok_or_else(|| {
        let what_for = format!(
            "each change of an alert carries a higher whole number, up to {MAX_INTEGER}, so that \
             late messages change nothing"
        );
        missing("revision", &what_for)
    })?;
    if fields.switch("withdrawn")? == Some(true) {
        // What else stands there, as in the alert itself with one field added, means nothing now.
        return Ok(Message::Withdrawn { revision, warnings });
    }
    let spec = Box::new(spec(&mut fields)?);
    if spec.signature.is_some() {
        warnings.push("the signature is not verified by this version".to_owned());
    }
    warnings.extend(fields.unknown());
    Ok(Message::Alert { revision, spec, warnings })
}

fn spec(fields: &mut Fields) -> Result<Spec, Refusal> {
    let like = fields.take("like").map(Like::parse).transpose()?;
    let text = fields.text("text", MAX_TEXT)?;
    let without = fields.texts("without", 0, MAX_ITEMS)?.unwrap_or_default();
    let text = match (text, &like) {
        (Some(text), None) => text,
        (None, Some(_)) if without.is_empty() => String::new(),
        (None, Some(_)) => {
            let reason = "without goes with a text only: how well words fit a person and how well two \
                          pictures do are numbers on two scales";
            return Err(Refusal::new(Code::BadField, reason));
        }
        (Some(_), Some(_)) => {
            let reason = "text and like are both given: give one of them, since the scores of words and \
                          of pictures have two scales and cannot be weighed against each other";
            return Err(Refusal::new(Code::BadField, reason));
        }
        (None, None) => {
            let what_for = "describe the person, for example \"woman in a red coat\", or name somebody \
                            who was seen in like";
            return Err(missing("text", what_for));
        }
    };
    Ok(Spec {
        text,
        like,
        without: each(&without, |item| clean("without", item, MAX_REMARK))?,
        enabled: fields.switch("enabled")?.unwrap_or(true),
        purpose: fields.text("purpose", MAX_REMARK)?,
        created_by: fields.text("created_by", MAX_REMARK)?,
        expires_at: Some(expires_at(fields)?),
        cameras: list(fields, "cameras", CameraGlob::new)?,
        zones: list(fields, "zones", |name| {
            ZoneName::new(name).map_err(|error| Refusal::new(Code::BadField, error.to_string()))
        })?,
        schedule: fields.take("schedule").map(|value| Schedule::parse(&value)).transpose()?,
        budget_per_day: budget(fields)?,
        cooldown: fields
            .number("cooldown_s", (0.0, MAX_COOLDOWN_S))?
            .map_or(DEFAULT_COOLDOWN, Duration::from_secs_f64),
        signature: fields.text("signature", MAX_SIGNATURE)?,
    })
}

fn each<T>(items: &[String], read: impl Fn(&str) -> Result<T, Refusal>) -> Result<Vec<T>, Refusal> {
    items.iter().map(|item| read(item)).collect()
}

fn list<T>(
    fields: &mut Fields,
    name: &str,
    read: impl Fn(&str) -> Result<T, Refusal>,
) -> Result<Option<Vec<T>>, Refusal> {
    fields.texts(name, 1, MAX_ITEMS)?.map(|items| each(&items, read)).transpose()
}

fn budget(fields: &mut Fields) -> Result<Option<f64>, Refusal> {
    match fields.number("budget_per_day", (0.0, MAX_BUDGET))? {
        Some(0.0) => {
            let right = "above 0: no threshold promises that there is never a false alarm";
            Err(wrong("budget_per_day", &Value::from(0), right))
        }
        budget => Ok(budget),
    }
}

fn expires_at(fields: &mut Fields) -> Result<Timestamp, Refusal> {
    let form = "write the moment in UTC, such as \"2026-11-25T06:00:00Z\"";
    let text = fields
        .text("expires_at", MAX_REMARK)?
        .ok_or_else(|| missing("expires_at", &format!("no alert lives for ever; {form}")))?;
    text.parse().map_err(|_| {
        let reason = format!("expires_at is {} which is no moment; {form}", quoted(&text));
        Refusal::new(Code::BadField, reason)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Message {
        Message::parse(value.to_string().as_bytes())
    }

    fn refusal(message: Message) -> Refusal {
        match message {
            Message::Unreadable { refusal, .. } => refusal,
            other => panic!("{other:?}"),
        }
    }

    fn example() -> Value {
        json!({"schema": 1, "text": "woman in a red coat", "revision": 3,
            "expires_at": "2026-11-25T06:00:00Z"})
    }

    #[test]
    fn the_contract_s_example_is_understood() {
        let payload = br#"{"schema": 1, "text": "woman in a red coat with a black backpack",
            "without": ["hat"], "revision": 3, "enabled": true, "purpose": "missing person, case 2031",
            "created_by": "control-room", "expires_at": "2026-11-25T06:00:00Z",
            "cameras": ["entrance", "dock-*"], "zones": null, "schedule": null,
            "budget_per_day": 2, "cooldown_s": 60, "signature": null}"#;
        let Message::Alert { revision: 3, spec, warnings } = Message::parse(payload) else {
            panic!("not understood")
        };
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(spec.text, "woman in a red coat with a black backpack");
        assert_eq!(spec.without, ["hat"]);
        assert_eq!(spec.expires_at.unwrap().to_string(), "2026-11-25T06:00:00Z");
        assert_eq!(spec.cameras.unwrap().len(), 2);
        assert_eq!((spec.zones, spec.schedule, spec.signature), (None, None, None));
        assert_eq!((spec.budget_per_day, spec.cooldown.as_secs()), (Some(2.0), 60));
    }

    #[test]
    fn the_three_required_fields() {
        assert!(matches!(parse(example()), Message::Alert { .. }));
        for field in ["text", "revision", "expires_at"] {
            for absent in [None, Some(Value::Null)] {
                let mut message = example();
                match absent {
                    None => drop(message.as_object_mut().unwrap().remove(field)),
                    Some(null) => message[field] = null,
                }
                let refusal = refusal(parse(message));
                assert_eq!(refusal.code, Code::MissingField);
                assert!(refusal.reason.starts_with(field), "{refusal}");
            }
        }
    }

    #[test]
    fn wrong_types_and_ranges_are_refused_by_name() {
        for (field, value) in [
            ("schema", json!("1")),
            ("schema", json!(2)),
            ("text", json!(["red"])),
            ("text", json!("")),
            ("text", json!("x".repeat(2001))),
            ("text", json!("red\u{202e}taoc")),
            ("revision", json!("3")),
            ("revision", json!(3.5)),
            ("revision", json!(-1)),
            ("revision", json!(1u64 << 53)),
            ("enabled", json!("yes")),
            ("withdrawn", json!(1)),
            ("without", json!("hat")),
            ("without", json!([7])),
            ("expires_at", json!("tomorrow")),
            ("expires_at", json!("2026-11-25")),
            ("expires_at", json!(1_795_000_000)),
            ("cameras", json!([])),
            ("cameras", json!(["Dock"])),
            ("cameras", json!(vec!["a"; 65])),
            ("zones", json!(["../x"])),
            ("zones", json!({"door": true})),
            ("schedule", json!("night")),
            ("budget_per_day", json!(0)),
            ("budget_per_day", json!("2")),
            ("cooldown_s", json!(-1)),
            ("cooldown_s", json!(1e9)),
            ("purpose", json!(1)),
            ("signature", json!({"key": "x"})),
            ("like", json!({"id": 4711})),
            ("like", json!("box-1/4711")),
        ] {
            let mut message = example();
            message[field] = value.clone();
            let refusal = refusal(parse(message));
            let name = field.trim_end_matches('s');
            assert!(refusal.reason.contains(name), "{field} = {value}: {refusal}");
            assert!(refusal.reason.len() < 400 && !refusal.reason.contains('\u{202e}'));
        }
    }

    #[test]
    fn a_text_or_somebody_who_was_seen_and_not_both() {
        let like = json!({"device": "box-1", "id": 4711});
        let mut message = example();
        message["like"] = like.clone();
        assert!(refusal(parse(message.clone())).reason.contains("give one of them"));
        message.as_object_mut().unwrap().remove("text");
        let Message::Alert { spec, warnings, .. } = parse(message.clone()) else {
            panic!("refused")
        };
        assert_eq!((spec.wanted(), warnings), ("somebody like box-1/4711".into(), Vec::new()));
        assert!(spec.text.is_empty());
        message["without"] = json!(["hat"]);
        assert!(refusal(parse(message)).reason.starts_with("without"));
    }

    #[test]
    fn what_cannot_be_read_keeps_its_revision_where_it_has_one() {
        let future = json!({"schema": 2, "revision": 9, "text": {"de": "roter Mantel"}});
        let Message::Unreadable { revision: Some(9), refusal } = parse(future) else {
            panic!("no revision")
        };
        assert_eq!(refusal.code, Code::UnknownSchema);
        assert!(matches!(parse(json!([1])), Message::Unreadable { revision: None, .. }));
    }

    #[test]
    fn unknown_fields_are_tolerated_and_named() {
        let mut message = example();
        message["colour"] = json!("red");
        message.as_object_mut().unwrap().remove("schema");
        let Message::Alert { warnings, .. } = parse(message) else { panic!("refused") };
        assert!(warnings[0].contains("schema") && warnings[1].contains("colour"), "{warnings:?}");
    }

    #[test]
    fn withdrawn_with_or_without_the_alert() {
        for message in [
            json!({"schema": 1, "revision": 4, "withdrawn": true}),
            json!({"schema": 1, "revision": 4, "withdrawn": true, "text": "red coat"}),
        ] {
            assert!(matches!(parse(message), Message::Withdrawn { revision: 4, .. }));
        }
        let mut message = example();
        message["withdrawn"] = json!(false);
        assert!(matches!(parse(message), Message::Alert { .. }));
    }

    #[test]
    fn text_that_is_meant_as_json_is_no_description() {
        for payload in [r#"{"text": "red coat""#, "[", "42", "null", "\"red coat\"", " {}"] {
            let message = Message::parse(payload.as_bytes());
            assert!(matches!(message, Message::Unreadable { .. }), "{payload}: {message:?}");
        }
        let Message::Plain(spec) = Message::parse("  man in a blue café apron\n".as_bytes())
        else {
            panic!("not taken")
        };
        assert_eq!(spec.text, "man in a blue café apron");
    }

    #[test]
    fn limits_apply_before_parsing() {
        assert_eq!(Message::parse(b""), Message::Empty);
        let large = vec![b'a'; 8 * 1024 + 1];
        assert_eq!(refusal(Message::parse(&large)).code, Code::TooLarge);
        assert_eq!(refusal(Message::parse(b"red \xff coat")).code, Code::NotUtf8);
        let echo = format!("\"{}\"", "x\\u0007".repeat(1000));
        let refused = refusal(Message::parse(echo.as_bytes()));
        assert!(refused.reason.len() < 300 && !refused.reason.contains('\u{7}'), "{refused}");
        let deep = format!(r#"{{"text": {}1{}}}"#, "[".repeat(4000), "]".repeat(4000));
        assert_eq!(refusal(Message::parse(deep.as_bytes())).code, Code::TooDeep);
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            Message::parse(&payload);
        }

        #[test]
        fn no_damaged_alert_panics(at in 0usize..160, byte: u8, cut in 0usize..160) {
            let mut payload = example().to_string().into_bytes();
            let length = payload.len();
            payload[at % length] = byte;
            payload.truncate(length - cut % length);
            if let Message::Unreadable { refusal, .. } = Message::parse(&payload) {
                prop_assert!(!refusal.reason.chars().any(char::is_control));
            }
        }
    }
}
