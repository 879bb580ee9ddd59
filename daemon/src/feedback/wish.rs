//! A message of the feedback topic.

use spotter_models::feedback::Judgement;

use crate::{
    alert::{
        Refusal,
        fields::{self, Fields, missing},
    },
    sighting::SightingId,
};

/// Longest name of who speaks, in characters.
const MAX_BY: usize = 200;
/// Longest description and note, in characters.
const MAX_TEXT: usize = 2000;

/// What is said of a sighting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The person fits the text, or does not.
    Judged(Judgement),
    /// Somebody is on the way.
    Taken,
}

impl Said {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Said::Judged(Judgement::Confirmed) => "confirmed",
            Said::Judged(Judgement::Rejected) => "rejected",
            Said::Taken => "taken",
        }
    }
}

/// What staff say of one sighting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Which one.
    pub sighting: SightingId,
    /// What.
    pub said: Said,
    /// Who.
    pub by: String,
    /// What the person looks like in truth.
    pub text: Option<String>,
    /// What else there is to say.
    pub note: Option<String>,
}

impl Wish {
    /// Reads a payload of at most 8 KiB; fields that are not known are passed over.
    ///
    /// # Errors
    /// A [`Refusal`] that says what would be right.
    pub fn parse(payload: &[u8]) -> Result<Self, Refusal> {
        let bad = |reason: String| Refusal::new(crate::alert::Code::BadField, reason);
        let mut fields = Fields::parse(fields::utf8(payload)?)?;
        fields.schema()?;
        let sighting = fields
            .text("sighting", 64)?
            .ok_or_else(|| missing("sighting", "say which one, by its id"))?;
        let sighting = sighting.parse().map_err(|error| bad(format!("sighting: {error}")))?;
        let said = fields
            .text("verdict", 32)?
            .ok_or_else(|| missing("verdict", "say \"confirmed\", \"rejected\" or \"taken\""))?;
        let said = match said.as_str() {
            "confirmed" => Said::Judged(Judgement::Confirmed),
            "rejected" => Said::Judged(Judgement::Rejected),
            "taken" => Said::Taken,
            other => {
                let other = fields::quoted(other);
                let reason = format!("verdict is {other} but must be confirmed, rejected or taken");
                return Err(bad(reason));
            }
        };
        let by = fields.text("by", MAX_BY)?.ok_or_else(|| missing("by", "say who says so"))?;
        let text = fields.text("text", MAX_TEXT)?;
        let note = fields.text("note", MAX_TEXT)?;
        Ok(Self { sighting, said, by, text, note })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01KATPTG80QJX4M5Y2V8W3C7ZD";

    #[test]
    fn what_is_said_is_read_and_what_cannot_be_is_refused_with_a_reason() {
        let wish = |rest: &str| Wish::parse(format!("{{\"sighting\":\"{ID}\",{rest}}}").as_bytes());
        let read =
            wish(r#""schema":1,"verdict":"rejected","by":" gate ","text":"blue coat","x":1"#);
        let expected = Wish {
            sighting: ID.parse().unwrap(),
            said: Said::Judged(Judgement::Rejected),
            by: "gate".into(),
            text: Some("blue coat".into()),
            note: None,
        };
        assert_eq!(read, Ok(expected));
        assert_eq!(wish(r#""verdict":"taken","by":"g","note":null"#).unwrap().said.name(), "taken");
        for (wrong, word) in [
            (r#""verdict":"wrong","by":"g""#, "confirmed, rejected or taken"),
            (r#""verdict":"taken""#, "by"),
            (r#""by":"g""#, "verdict"),
            (r#""verdict":"taken","by":"g","schema":2"#, "schema"),
            (r#""verdict":"taken","by":"a\u202eb""#, "U+202E"),
            (r#""verdict":"taken","by":"g","text":" ""#, "text"),
        ] {
            let reason = wish(wrong).unwrap_err().reason;
            assert!(reason.contains(word), "{wrong}: {reason}");
        }
        let none = Wish::parse(br#"{"sighting":"../x","verdict":"taken","by":"g"}"#).unwrap_err();
        assert!(none.reason.contains("26 of"), "{}", none.reason);
        let long =
            format!(r#"{{"sighting":"{ID}","verdict":"taken","by":"{}"}}"#, "x".repeat(9000));
        assert!(Wish::parse(long.as_bytes()).unwrap_err().reason.contains("bytes"));
        assert!(Wish::parse(b"\xff").is_err() && Wish::parse(b"[]").is_err());
    }
}
