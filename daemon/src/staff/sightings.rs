//! Sightings and their pictures, as they come from the devices. Read leniently: a device may be
//! newer than this program, and a sighting that cannot be shown whole is shown in part.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use jiff::{Timestamp, ZonedDateTime};
use serde::Deserialize;

use super::{Heard, shown, times};
use crate::error::{Error, Result};

/// Longest name that is shown, in characters.
const MAX_SHOWN: usize = 64;
/// Length of a sighting's id, a ULID.
const ID_CHARS: usize = 26;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Sighting {
    id: String,
    event: String,
    alert: String,
    camera: String,
    at: Option<String>,
    first_seen: Option<String>,
    score: Option<f64>,
    threshold: Option<f64>,
    suppressed: u64,
    late: bool,
    clock_synced: Option<bool>,
}

/// A sighting in one line: when, what, which alert, where, how well it fits.
pub fn line(device: &str, payload: &[u8], now: &ZonedDateTime) -> String {
    // A list would be read field by field, the first for the first.
    let is_object = payload.trim_ascii_start().starts_with(b"{");
    let Some(sighting) = serde_json::from_slice::<Sighting>(payload).ok().filter(|_| is_object)
    else {
        return format!("{device}: a sighting that this program cannot read");
    };
    let time = |at: &Option<String>| match at.as_deref().map(str::parse::<Timestamp>) {
        Some(Ok(at)) => times::short(at, now),
        _ => "--:--:--".to_owned(),
    };
    let name = |text: &str| shown(text, MAX_SHOWN);
    let what = match sighting.event.as_str() {
        "new" => "SEEN  ".to_owned(),
        "update" => "better".to_owned(),
        "end" => "gone  ".to_owned(),
        other => name(other),
    };
    let mut line = format!(
        "{}  {what}  {}  at {} ({device})",
        time(&sighting.at),
        name(&sighting.alert),
        name(&sighting.camera)
    );
    if let (Some(score), Some(threshold)) = (sighting.score, sighting.threshold) {
        line += &format!("  score {score:.3}, needs {threshold:.3}");
    }
    if sighting.event != "new" && sighting.first_seen.is_some() {
        line += &format!("  since {}", time(&sighting.first_seen));
    }
    if sighting.event == "new" && sighting.id.len() == ID_CHARS {
        // As `--like` takes it.
        line += &format!("  {device}/{}", name(&sighting.id));
    }
    if sighting.suppressed > 0 {
        line += &format!("  {} more held back", sighting.suppressed);
    }
    if sighting.late {
        line += "  LATE";
    }
    if sighting.clock_synced == Some(false) {
        line += "  (the device's clock is not set)";
    }
    line
}

/// Where a picture belongs: the sighting's id, its sequence number, and what it shows. `None` for a
/// message that does not say so in the contract's form; the names become a file's name, so nothing
/// else is let through.
pub fn picture_name(heard: &Heard) -> Option<String> {
    let of = |name: &str| {
        let mut values = heard.properties.iter().filter(|(key, _)| key == name);
        values.next().map(|(_, value)| value.as_str())
    };
    let (id, seq, kind) = (of("sighting")?, of("seq")?, of("kind")?);
    let is_id = id.len() == ID_CHARS && id.bytes().all(|b| b.is_ascii_alphanumeric());
    let seq: u64 = seq.parse().ok()?;
    (is_id && matches!(kind, "crop" | "context")).then(|| format!("{id}-{seq}-{kind}.jpg"))
}

/// Saves a picture whole or not at all. The same picture may come twice.
///
/// # Errors
/// [`Error::Io`] where it cannot be written.
pub fn save(folder: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = folder.join(name);
    let part = folder.join(format!("{name}.part"));
    let written = fs::File::create(&part).and_then(|mut file| file.write_all(bytes));
    written.map_err(Error::io(&part))?;
    fs::rename(&part, &path).map_err(Error::io(&path))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::staff::Said;

    fn now() -> ZonedDateTime {
        "2026-11-24T17:10:00Z".parse::<Timestamp>().unwrap().to_zoned_datetime(TimeZone::UTC)
    }

    fn picture(properties: [(&str, &str); 3]) -> Heard {
        Heard {
            said: Said::Snapshot("gate-1".into()),
            payload: Vec::new(),
            retained: false,
            properties: properties.map(|(key, value)| (key.into(), value.into())).into(),
        }
    }

    #[test]
    fn a_sighting_in_a_line() {
        let new = r#"{"event":"new","alert":"red","camera":"dock-1","at":"2026-11-24T17:04:12.3Z",
            "first_seen":"2026-11-24T17:04:09Z","score":0.412,"threshold":0.377,"late":true,
            "colour":"unknown fields do no harm"}"#;
        let line = line("gate-1", new.as_bytes(), &now());
        assert_eq!(
            line,
            "17:04:12  SEEN    red  at dock-1 (gate-1)  score 0.412, needs 0.377  LATE"
        );
        let id = "01JDZ6V3Q4M5N6P7R8S9T0V1W2";
        let named = format!(r#"{{"event":"new","id":"{id}","alert":"red","camera":"dock-1"}}"#);
        let line = super::line("gate-1", named.as_bytes(), &now());
        assert!(line.ends_with(&format!("  gate-1/{id}")), "{line}");
    }

    #[test]
    fn what_cannot_be_read_is_said_and_repaints_nothing() {
        for payload in ["", "{", "[]", r#"{"event": 7}"#] {
            assert!(
                line("gate-1", payload.as_bytes(), &now()).contains("cannot read"),
                "{payload}"
            );
        }
        let escape = line("gate-1", br#"{"event":"\u001b[2J","alert":"a\nb"}"#, &now());
        assert!(!escape.contains(['\u{1b}', '\n']), "{escape:?}");
    }

    #[test]
    fn a_picture_cannot_leave_its_folder() {
        let id = "01JDZ6V3Q4M5N6P7R8S9T0V1W2";
        let good = picture([("sighting", id), ("seq", "3"), ("kind", "crop")]);
        assert_eq!(picture_name(&good).unwrap(), format!("{id}-3-crop.jpg"));
        for properties in [
            [("sighting", "../../../etc/cron.d/abcdefg"), ("seq", "3"), ("kind", "crop")],
            [("sighting", id), ("seq", "../3"), ("kind", "crop")],
            [("sighting", id), ("seq", "3"), ("kind", "/crop")],
            [("sighting", id), ("seq", "3"), ("colour", "red")],
        ] {
            assert_eq!(picture_name(&picture(properties)), None, "{properties:?}");
        }
    }

    #[test]
    fn a_picture_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let path = save(folder.path(), "a-1-crop.jpg", b"jpeg").unwrap();
            assert_eq!(fs::read(path).unwrap(), b"jpeg");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = save(&folder.path().join("none"), "a.jpg", b"").unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }
}
