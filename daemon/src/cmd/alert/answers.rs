//! What the devices answered, for a person and for a program.

use serde_json::{Value, json};

use super::is_about;
use crate::{
    alert::AlertId,
    staff::{Answer, Board, shown},
};

/// Longest reason or warning that is printed, in characters.
const MAX_REASON: usize = 300;

/// How a device stands to a message.
pub(super) enum Stand<'a> {
    /// It answered.
    Answered(&'a Answer),
    /// It is online and has not answered.
    Silent,
    /// It is not there; the broker tells it when it comes back.
    Away,
}

/// How each device stands to the message with this revision, by name.
pub(super) fn stands<'a>(
    board: &'a Board,
    id: &AlertId,
    revision: u64,
) -> Vec<(&'a str, Stand<'a>)> {
    let online = |name: &str| board.devices.get(name).is_some_and(|device| device.is_online());
    let names = board.concerned_or_known(id);
    let stand = |name| {
        let answer = board.answer(id, name).filter(|answer| is_about(answer, revision));
        let stand = match answer {
            Some(answer) => Stand::Answered(answer),
            None if online(name) => Stand::Silent,
            None => Stand::Away,
        };
        (name, stand)
    };
    names.into_iter().map(stand).collect()
}

/// A device in one line and one more for each warning.
pub(super) fn describe(name: &str, stand: &Stand<'_>, width: usize) -> String {
    let (what, warnings): (String, &[String]) = match stand {
        Stand::Answered(answer) => (state(answer), &answer.warnings),
        Stand::Silent => ("online, but has not answered yet".to_owned(), &[]),
        Stand::Away => ("not connected; is told when it is back".to_owned(), &[]),
    };
    let mut text = format!("  {name:width$}  {what}\n");
    for warning in warnings {
        text += &format!("  {:width$}  note: {}\n", "", shown(warning, MAX_REASON));
    }
    text
}

/// A state in words.
pub(in crate::cmd) fn state(answer: &Answer) -> String {
    let mut text = shown(&answer.state, 40);
    if let Some(reason) = &answer.reason {
        text += &format!(": {}", shown(reason, MAX_REASON));
    }
    if let Some(expected) = answer.expected_per_day {
        text += &format!("; about {expected:.1} false alarms a day");
    }
    if let Some(matched) = answer.matched_24h {
        text += &format!("; {matched} matches in the last 24 hours");
    }
    text
}

/// The same for a program.
pub(super) fn json(stands: &[(&str, Stand<'_>)]) -> Value {
    let device = |(name, stand): &(&str, Stand<'_>)| match stand {
        Stand::Answered(answer) => json!({"device": name, "answered": true, "state": answer.whole}),
        Stand::Silent => json!({"device": name, "answered": false, "online": true}),
        Stand::Away => json!({"device": name, "answered": false, "online": false}),
    };
    stands.iter().map(device).collect()
}

/// Width of the longest name.
pub(super) fn width<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(str::len).max().unwrap_or(0)
}
