//! What is to be erased, as staff say it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    frame::CameraId,
    gallery::{RecordId, Selection},
};

/// A selection and whether anything is done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Who is meant.
    pub selection: Selection,
    /// Only say what would go.
    pub dry_run: bool,
}

/// The same as it travels: the payload of the command `erase`. A field that is not known is an error: a
/// slip of the pen in `from` must not erase a whole camera.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// The version of the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<u32>,
    /// `erase`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// With `to`: everybody in view between two times (RFC 3339), all over or at `camera`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// With `from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Alone: everybody at this camera.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera: Option<CameraId>,
    /// One track, by the number that a search gives it. Not a sighting's `track`, whose numbers begin again
    /// with every start: that one would mean somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Whoever this sighting told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sighting: Option<String>,
    /// Only say what would go.
    #[serde(default)]
    pub dry_run: bool,
}

impl Fields {
    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::Config`] where it is none.
    pub fn parse(payload: &[u8]) -> Result<Self> {
        serde_json::from_slice(payload).map_err(|error| Error::config("erase", error.to_string()))
    }

    /// What is meant by them.
    ///
    /// # Errors
    /// [`Error::Config`] where they name nobody, or two things that may contradict each other.
    pub fn wish(&self) -> Result<Wish> {
        check_schema("erase", self.schema)?;
        let whom = Whom {
            from: self.from.as_deref(),
            to: self.to.as_deref(),
            camera: self.camera.as_ref(),
            id: self.id,
            sighting: self.sighting.as_deref(),
        };
        Ok(Wish { selection: whom.selection("erase")?, dry_run: self.dry_run })
    }
}

/// A contract that is not known may mean something else by the same fields.
pub(crate) fn check_schema(command: &str, schema: Option<u32>) -> Result<()> {
    match schema {
        None | Some(1) => Ok(()),
        Some(_) => {
            let reason = "schema is not 1: a newer contract is not known here";
            Err(Error::config(command, reason))
        }
    }
}

/// The fields of a command that say who is meant; one thing is said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Whom<'a> {
    /// With `to`: everybody in view between two times (RFC 3339), all over or at `camera`.
    pub from: Option<&'a str>,
    /// With `from`.
    pub to: Option<&'a str>,
    /// Alone: everybody at this camera.
    pub camera: Option<&'a CameraId>,
    /// One track, by the number that a search gives it.
    pub id: Option<u64>,
    /// Whoever this sighting told of.
    pub sighting: Option<&'a str>,
}

impl Whom<'_> {
    /// Who is meant; `command` is named in what is wrong.
    ///
    /// # Errors
    /// [`Error::Config`] where it names nobody, or two things that may contradict each other.
    pub fn selection(&self, command: &str) -> Result<Selection> {
        let refuse = |reason: &str| Err(Error::config(command, reason));
        let span = self.from.zip(self.to);
        Ok(match (span, self.camera, self.id, self.sighting) {
            (Some((from, to)), camera, None, None) => {
                let (from, to) = (time("from", from)?, time("to", to)?);
                if from >= to {
                    return refuse("from is not before to");
                }
                Selection::Span { from, to, camera: camera.cloned() }
            }
            (None, ..) if self.from.is_some() || self.to.is_some() => {
                return refuse("from and to belong together");
            }
            (None, Some(camera), None, None) => Selection::Camera(camera.clone()),
            (None, None, Some(id), None) => Selection::Record(RecordId(id)),
            (None, None, None, Some(id)) => {
                Selection::Sighting(id.parse().map_err(|error| {
                    Error::config(format!("sighting {id:?}"), format!("{error}"))
                })?)
            }
            (None, None, None, None) => {
                return refuse("says not whom: give from and to, or camera, id or sighting");
            }
            _ => {
                return refuse(
                    "says too much: give from and to (with or without camera), or camera, or id, \
                     or sighting",
                );
            }
        })
    }
}

fn time(name: &str, text: &str) -> Result<Timestamp> {
    text.parse().map_err(|_| Error::config(name, "is no time: write it as 2026-11-25T06:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(text: &str) -> Result<Wish> {
        Fields::parse(text.as_bytes())?.wish()
    }

    #[test]
    fn one_thing_is_meant_and_said_in_full() {
        let (from, to) = ("2026-11-25T06:00:00Z", "2026-11-25T07:00:00Z");
        let span = format!(r#""from":"{from}","to":"{to}""#);
        let selection = |text: &str| wish(text).unwrap().selection;
        let camera = CameraId::new("gate").unwrap();
        let times = (from.parse().unwrap(), to.parse().unwrap());
        for (text, at) in [
            (format!("{{{span}}}"), None),
            (format!("{{{span},\"camera\":\"gate\"}}"), Some(camera.clone())),
        ] {
            let expected = Selection::Span { from: times.0, to: times.1, camera: at };
            assert_eq!(selection(&text), expected);
        }
        assert_eq!(selection(r#"{"camera":"gate"}"#), Selection::Camera(camera));
        assert_eq!(selection(r#"{"id":7}"#), Selection::Record(RecordId(7)));
        let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let sighting = selection(&format!(r#"{{"sighting":"{id}"}}"#));
        assert_eq!(sighting, Selection::Sighting(id.parse().unwrap()));
        assert!(wish(r#"{"command":"erase","schema":1,"id":7,"dry_run":true}"#).unwrap().dry_run);
        for (wrong, word) in [
            ("{}", "says not whom"),
            (r#"{"camera":"gate","form":"2026-11-25T06:00:00Z"}"#, "form"),
            (r#"{"camera":"gate","from":"2026-11-25T06:00:00Z"}"#, "belong together"),
            (r#"{"from":"yesterday","to":"today"}"#, "is no time"),
            (r#"{"from":"2026-11-25T06:00:00Z","to":"2026-11-25T06:00:00Z"}"#, "not before"),
            (r#"{"camera":"gate","id":7}"#, "too much"),
            (r#"{"sighting":"none"}"#, "26 of"),
            (r#"{"camera":"Gate"}"#, "a-z"),
            (r#"{"schema":2,"id":7}"#, "newer contract"),
            ("[]", "erase"),
        ] {
            let error = wish(wrong).unwrap_err().to_string();
            assert!(error.contains(word), "{wrong}: {error}");
        }
    }
}
