//! What the broker told about alerts and devices, as one picture.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Heard, Said};
use crate::alert::{AlertId, schema::Message};

/// The desired state of an alert, as it is retained.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The bytes.
    pub payload: Vec<u8>,
    /// What they mean.
    pub message: Message,
}

impl Wanted {
    /// The revision, where the message has one.
    pub fn revision(&self) -> Option<u64> {
        match self.message {
            Message::Alert { revision, .. } | Message::Withdrawn { revision, .. } => Some(revision),
            Message::Unreadable { revision, .. } => revision,
            Message::Plain(_) | Message::Empty => None,
        }
    }

    /// Whether it may be watched for at this moment: it is not withdrawn, and its end is not past.
    pub fn is_live(&self, now: Timestamp) -> bool {
        match &self.message {
            Message::Withdrawn { .. } | Message::Empty => false,
            Message::Alert { spec, .. } => spec.expires_at.is_none_or(|end| end > now),
            Message::Plain(_) | Message::Unreadable { .. } => true,
        }
    }

    /// The text, cleaned for a terminal.
    pub fn text(&self) -> String {
        match &self.message {
            Message::Alert { spec, .. } | Message::Plain(spec) => super::shown(&spec.wanted(), 200),
            Message::Withdrawn { .. } | Message::Empty => "(withdrawn)".to_owned(),
            Message::Unreadable { .. } => "(cannot be read)".to_owned(),
        }
    }
}

/// What a device made of an alert. Read leniently: a device may be newer than this program.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Answer {
    /// `armed`, `rejected`, … as the contract names them.
    pub state: String,
    /// Which revision it is about; `None` for what has none.
    pub revision: Option<u64>,
    /// Why it is not armed.
    pub reason: Option<String>,
    /// Words beyond the model's limit.
    pub lost: Option<String>,
    /// False alarms a day to expect on this device.
    pub expected_per_day: Option<f64>,
    /// Tracks of the last 24 hours that would have fitted.
    pub matched_24h: Option<u64>,
    /// What a person should know although it is taken.
    pub warnings: Vec<String>,
    /// When it ends.
    pub expires_at: Option<String>,
    /// The state as it was published.
    #[serde(skip)]
    pub whole: Value,
    /// Whether it was published while this program listened.
    #[serde(skip)]
    pub is_fresh: bool,
}

impl Answer {
    fn read(payload: &[u8], is_fresh: bool) -> Self {
        // A list would be read field by field, the first for the first.
        let whole = serde_json::from_slice(payload).unwrap_or(Value::Null);
        let whole = if whole.is_object() { whole } else { Value::Null };
        // `Option` and not an error: a field of another type than we know is a state all the same.
        let known = serde_json::from_value(whole.clone()).unwrap_or_else(|_| Self {
            state: "not understood by this program".to_owned(),
            ..Self::default()
        });
        Self { whole, is_fresh, ..known }
    }

    /// Whether the alert is like somebody whom another device keeps: this one has nothing to do with it.
    pub fn is_elsewhere(&self) -> bool {
        self.state == "rejected" && self.whole["code"] == "elsewhere"
    }

    /// Whether it is rejected only since the person whom the alert is like is another device's, or not kept.
    pub fn knows_nobody(&self) -> bool {
        self.state == "rejected"
            && ["elsewhere", "no-person"].contains(&self.whole["code"].as_str().unwrap_or_default())
    }

    /// Whether the alert is watched for.
    pub fn is_armed(&self) -> bool {
        self.state == "armed"
    }
}

/// Whether a device is there, as its status says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Device {
    /// `online`, `stopped` or `offline`; empty where nothing was said.
    pub state: String,
}

impl Device {
    /// Whether it is connected now.
    pub fn is_online(&self) -> bool {
        self.state == "online"
    }
}

/// What the broker told.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// The desired states.
    pub alerts: BTreeMap<AlertId, Wanted>,
    /// What the devices, by name, made of each alert.
    pub answers: BTreeMap<AlertId, BTreeMap<String, Answer>>,
    /// The devices.
    pub devices: BTreeMap<String, Device>,
}

impl Board {
    /// Takes what was heard. An empty payload takes back what the topic held.
    pub fn take(&mut self, heard: &Heard) {
        let payload = heard.payload.as_slice();
        match &heard.said {
            Said::Alert(alert) if payload.is_empty() => drop(self.alerts.remove(alert)),
            Said::Alert(alert) => {
                let message = Message::parse(payload);
                let wanted = Wanted { payload: payload.to_vec(), message };
                self.alerts.insert(alert.clone(), wanted);
            }
            Said::State { device, alert } if payload.is_empty() => {
                if let Some(answers) = self.answers.get_mut(alert) {
                    answers.remove(device);
                }
            }
            Said::State { device, alert } => {
                let answer = Answer::read(payload, !heard.retained);
                self.answers.entry(alert.clone()).or_default().insert(device.clone(), answer);
            }
            Said::Status(device) if payload.is_empty() => drop(self.devices.remove(device)),
            Said::Status(device) => {
                let status = serde_json::from_slice(payload).unwrap_or_default();
                self.devices.insert(device.clone(), status);
            }
            Said::Sighting(_) | Said::Snapshot(_) => {}
        }
    }

    /// What a device made of an alert.
    pub fn answer(&self, alert: &AlertId, device: &str) -> Option<&Answer> {
        self.answers.get(alert)?.get(device)
    }

    /// The devices that are online or have said something about this alert, by name.
    pub fn concerned(&self, alert: &AlertId) -> Vec<&str> {
        let answered = self.answers.get(alert).into_iter().flat_map(BTreeMap::keys);
        let online = self.devices.iter().filter(|(_, d)| d.is_online()).map(|(name, _)| name);
        let mut names: Vec<&str> = answered.chain(online).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The same and the devices that are away, by name.
    pub fn concerned_or_known(&self, alert: &AlertId) -> Vec<&str> {
        let mut names = self.concerned(alert);
        names.extend(self.devices.keys().map(String::as_str));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The revision for a change of this alert: one above all that is known. Devices remember
    /// revisions that the broker has lost, so their states count as well. Where a revision may be
    /// hidden behind a message without one, the seconds since 1970 are above any that was counted.
    pub fn next_revision(&self, alert: &AlertId, now: Timestamp) -> u64 {
        let wanted = self.alerts.get(alert);
        let answers = || self.answers.get(alert).into_iter().flat_map(BTreeMap::values);
        let known = wanted.and_then(Wanted::revision).into_iter();
        let known = known.chain(answers().filter_map(|answer| answer.revision)).max();
        let next = known.map_or(1, |known| known.saturating_add(1));
        let is_hidden = wanted.is_some_and(|wanted| wanted.revision().is_none())
            || answers().any(|answer| answer.revision.is_none());
        if is_hidden { next.max(u64::try_from(now.as_second()).unwrap_or(0)) } else { next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(said: Said, payload: &str) -> Heard {
        Heard { said, payload: payload.as_bytes().to_vec(), retained: true, properties: Vec::new() }
    }

    fn red() -> AlertId {
        AlertId::new("red").unwrap()
    }

    fn state(payload: &str) -> Heard {
        heard(Said::State { device: "gate-1".into(), alert: red() }, payload)
    }

    fn next(heard: &[Heard]) -> u64 {
        let mut board = Board::default();
        heard.iter().for_each(|heard| board.take(heard));
        board.next_revision(&red(), Timestamp::from_second(1_795_000_000).unwrap())
    }

    #[test]
    fn a_change_comes_above_all_that_is_known() {
        let alert = |payload: &str| heard(Said::Alert(red()), payload);
        assert_eq!(next(&[]), 1);
        assert_eq!(next(&[alert(r#"{"schema":1,"revision":4,"withdrawn":true}"#)]), 5);
        assert_eq!(next(&[alert(r#"{"schema":9,"revision":6}"#)]), 7);
        // The broker lost the alert, a device did not.
        assert_eq!(next(&[state(r#"{"state":"withdrawn","revision":7}"#)]), 8);
        assert_eq!(next(&[alert(r#"{"revision":4}"#), state(r#"{"revision":2}"#)]), 5);
        // A plain text hides the revision before it.
        assert_eq!(next(&[alert("red coat"), state(r#"{"state":"armed"}"#)]), 1_795_000_000);
        assert_eq!(next(&[state(r#"{"state":"armed"}"#)]), 1_795_000_000);
    }

    #[test]
    fn an_empty_payload_takes_back_and_rubbish_is_said_to_be() {
        let mut board = Board::default();
        for (said, payload) in [
            (Said::Alert(red()), "x"),
            (Said::Alert(red()), ""),
            (Said::Status("gate-1".into()), r#"{"state":"online"}"#),
            (Said::Status("gate-2".into()), "{"),
        ] {
            board.take(&heard(said, payload));
        }
        assert!(board.alerts.is_empty());
        assert!(board.devices["gate-1"].is_online() && !board.devices["gate-2"].is_online());
        for rubbish in ["{", "[]", r#"{"state": 7}"#] {
            board.take(&state(rubbish));
            let answer = board.answer(&red(), "gate-1").unwrap();
            assert!(!answer.is_armed() && answer.state.contains("not understood"), "{rubbish}");
        }
        assert_eq!(board.concerned(&red()), ["gate-1"]);
        board.take(&state(""));
        assert_eq!(board.answer(&red(), "gate-1"), None);
    }
}
