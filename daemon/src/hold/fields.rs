//! What is to be held or released, as staff say it.

use serde::{Deserialize, Serialize};

use crate::{
    erase::{Whom, check_schema},
    error::{Error, Result},
    frame::CameraId,
    gallery::{MAX_NAME, MAX_REASON, Selection, Why},
};

/// Who is to be held, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Who is meant.
    pub selection: Selection,
    /// Who asks, and why.
    pub why: Why,
    /// An id by which it is known that the same is said twice.
    pub request: Option<String>,
    /// Only say who would be held.
    pub dry_run: bool,
}

/// The same as it travels: the payload of the command `hold`. A field that is not known is an error, as for
/// an erasure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// The version of the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<u32>,
    /// `hold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// With `to`: everybody in view between two times (RFC 3339), all over or at `camera`. They may lie ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// With `from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Alone: everybody at this camera.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera: Option<CameraId>,
    /// One track, by the number that a search gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Whoever this sighting told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sighting: Option<String>,
    /// Why, in the words of who asks.
    #[serde(default)]
    pub reason: String,
    /// Who asks.
    #[serde(default)]
    pub by: String,
    /// An id of who asks: what comes twice with it is held once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Only say who would be held.
    #[serde(default)]
    pub dry_run: bool,
}

impl Fields {
    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::Config`] where it is none.
    pub fn parse(payload: &[u8]) -> Result<Self> {
        serde_json::from_slice(payload).map_err(|error| Error::config("hold", error.to_string()))
    }

    /// What is meant by them.
    ///
    /// # Errors
    /// [`Error::Config`] where they name nobody or two things, or not who asks and why.
    pub fn wish(&self) -> Result<Wish> {
        check_schema("hold", self.schema)?;
        let whom = Whom {
            from: self.from.as_deref(),
            to: self.to.as_deref(),
            camera: self.camera.as_ref(),
            id: self.id,
            sighting: self.sighting.as_deref(),
        };
        let selection = whom.selection("hold")?;
        if let Some(request) = &self.request {
            let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if request.is_empty() || request.len() > MAX_NAME || !request.chars().all(is_word) {
                let reason = format!("request is not 1 to {MAX_NAME} of A-Z a-z 0-9 - _ .");
                return Err(Error::config("hold", reason));
            }
        }
        Ok(Wish {
            selection,
            why: why("hold", &self.reason, &self.by)?,
            request: self.request.clone(),
            dry_run: self.dry_run,
        })
    }
}

/// Which hold is to end, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseWish {
    /// Its number.
    pub hold: u64,
    /// Who asks, and why.
    pub why: Why,
    /// Only say what that would free.
    pub dry_run: bool,
}

/// The same as it travels: the payload of the command `release`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseFields {
    /// The version of the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<u32>,
    /// `release`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The hold's number.
    pub hold: u64,
    /// Why, in the words of who asks.
    #[serde(default)]
    pub reason: String,
    /// Who asks.
    #[serde(default)]
    pub by: String,
    /// Only say what that would free.
    #[serde(default)]
    pub dry_run: bool,
}

impl ReleaseFields {
    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::Config`] where it is none.
    pub fn parse(payload: &[u8]) -> Result<Self> {
        serde_json::from_slice(payload).map_err(|error| Error::config("release", error.to_string()))
    }

    /// What is meant by them.
    ///
    /// # Errors
    /// [`Error::Config`] where they name not who asks and why.
    pub fn wish(&self) -> Result<ReleaseWish> {
        check_schema("release", self.schema)?;
        let why = why("release", &self.reason, &self.by)?;
        Ok(ReleaseWish { hold: self.hold, why, dry_run: self.dry_run })
    }
}

/// Who asks and why: said, short, and in one line that a log and a terminal can bear.
fn why(command: &str, reason: &str, by: &str) -> Result<Why> {
    for (name, text, most) in [("reason", reason, MAX_REASON), ("by", by, MAX_NAME)] {
        let refuse = |why: String| Err(Error::config(command, format!("{name} {why}")));
        if text.trim().is_empty() {
            return refuse(
                "is missing: a hold is kept with who asked for it or ended it, and why".into(),
            );
        }
        if text.chars().count() > most {
            return refuse(format!("has more than {most} characters: name the file, not the case"));
        }
        if text.chars().any(char::is_control) {
            return refuse("has a line break or another control character".into());
        }
    }
    Ok(Why { reason: reason.trim().to_owned(), by: Some(by.trim().to_owned()), at: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::RecordId;

    const WHY: &str = r#""reason": "case 2031", "by": "desk""#;

    fn wish(fields: &str) -> Result<Wish> {
        Fields::parse(format!("{{{fields}}}").as_bytes())?.wish()
    }

    #[test]
    fn a_hold_says_whom_why_and_who_asks() {
        let held =
            wish(&format!(r#""command": "hold", "id": 7, "request": "r-1", {WHY}"#)).unwrap();
        let why = Why { reason: "case 2031".into(), by: Some("desk".into()), at: None };
        let (selection, request) = (Selection::Record(RecordId(7)), Some("r-1".to_owned()));
        assert_eq!(held, Wish { selection, why, request, dry_run: false });
        let long = format!(r#""id": 7, "reason": "{}", "by": "desk""#, "ä".repeat(MAX_REASON + 1));
        let longest = format!(r#""id": 7, "reason": "{}", "by": "desk""#, "ä".repeat(MAX_REASON));
        assert!(wish(&longest).is_ok());
        for (wrong, words) in [
            (r#""id": 7, "by": "desk""#.to_owned(), "reason is missing"),
            (r#""id": 7, "reason": " ", "by": "desk""#.to_owned(), "reason is missing"),
            (r#""id": 7, "reason": "case 2031""#.to_owned(), "by is missing"),
            (long, "more than 500 characters"),
            (r#""id": 7, "reason": "a\nb", "by": "desk""#.to_owned(), "line break"),
            (WHY.to_owned(), "says not whom"),
            (format!(r#""id": 7, "camera": "gate", {WHY}"#), "too much"),
            (format!(r#""id": 7, "request": "a b", {WHY}"#), "request is not"),
            (format!(r#""id": 7, "track": 3, {WHY}"#), "unknown field"),
            (format!(r#""id": 7, "schema": 2, {WHY}"#), "newer contract"),
        ] {
            let error = wish(&wrong).unwrap_err().to_string();
            assert!(error.contains(words) && error.starts_with("hold"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_release_says_which_why_and_who_asks() {
        let release = |fields: &str| -> Result<ReleaseWish> {
            ReleaseFields::parse(format!("{{{fields}}}").as_bytes())?.wish()
        };
        assert_eq!(release(&format!(r#""hold": 3, {WHY}"#)).unwrap().hold, 3);
        for (wrong, words) in [
            (WHY, "missing field `hold`"),
            (r#""hold": 3, "by": "desk""#, "reason is missing"),
            (r#""hold": 3, "reason": "over""#, "by is missing"),
            (r#""hold": 3, "camera": "gate""#, "unknown field"),
        ] {
            let error = release(wrong).unwrap_err().to_string();
            assert!(error.contains(words) && error.starts_with("release"), "{wrong}: {error}");
        }
    }
}
