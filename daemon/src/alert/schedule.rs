//! When an alert counts: windows of the week in a time zone.
//!
//! A schedule reads wall time, the only thing it can mean. Where the box does not believe its clock
//! every window counts as open: a guard who is told too much can act, one who is told nothing
//! cannot.

use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time, Weekday},
    tz::TimeZone,
};
use serde_json::Value;

use super::{
    Code, Refusal, Wall,
    fields::{Fields, missing, quoted, wrong},
};

/// Most windows of one schedule.
const MAX_WINDOWS: usize = 32;

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// The windows in which an alert counts; it counts where any of them is open.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    windows: Vec<Window>,
}

/// From a time of day to another, on some days of the week, in one place's time.
#[derive(Clone, Debug, PartialEq)]
struct Window {
    days: Vec<Weekday>,
    from: Time,
    /// `None` is the end of the day, which the calendar's clock cannot write.
    to: Option<Time>,
    zone: TimeZone,
}

impl Schedule {
    /// Reads `[{"days": ["mon", "tue"], "from": "22:00", "to": "06:00", "time_zone":
    /// "Europe/Berlin"}]`. Without `days` a window is open on all; one that ends at or before its
    /// start ends on the next day and belongs to the day on which it starts.
    ///
    /// # Errors
    /// A [`Refusal`] that names the window, the field and what would be right.
    pub fn parse(value: &Value) -> Result<Self, Refusal> {
        let form = format!("a list of 1 to {MAX_WINDOWS} windows, or null");
        match value {
            Value::Array(windows) if (1..=MAX_WINDOWS).contains(&windows.len()) => {
                let windows = windows.iter().enumerate().map(|(n, w)| Window::parse(n, w));
                Ok(Self { windows: windows.collect::<Result<_, _>>()? })
            }
            other => Err(wrong("schedule", other, &form)),
        }
    }

    /// Whether the alert counts at this moment.
    pub fn is_open(&self, now: Wall) -> bool {
        !now.believed() || self.windows.iter().any(|window| window.is_open(now.at))
    }
}

impl Window {
    fn parse(index: usize, value: &Value) -> Result<Self, Refusal> {
        let name = format!("schedule[{index}]");
        let in_window = |refusal: Refusal| Refusal {
            code: refusal.code,
            reason: format!("{name}: {}", refusal.reason),
        };
        let mut fields = Fields::nested(&name, value.clone())?;
        let days = fields.texts("days", 1, DAYS.len()).map_err(in_window)?;
        let from = time(&mut fields, "from").map_err(in_window)?;
        let to = time(&mut fields, "to").map_err(in_window)?;
        let zone = zone(&mut fields).map_err(in_window)?;
        // A misspelt "days" would open the window on every day, so nothing is ignored here.
        if let Some(unknown) = fields.unknown() {
            return Err(in_window(Refusal::new(Code::BadField, unknown)));
        }
        let Some(from) = from else {
            let reason = "from is \"24:00\" but must be a time at which a day can begin, \"00:00\"";
            return Err(in_window(Refusal::new(Code::BadField, reason)));
        };
        if to == Some(from) {
            let reason = "from and to are equal; for the whole day use \"00:00\" and \"24:00\"";
            return Err(in_window(Refusal::new(Code::BadField, reason)));
        }
        let days = match days {
            None => DAYS.iter().map(|(_, day)| *day).collect(),
            Some(days) => {
                days.iter().map(|d| day(d)).collect::<Result<_, _>>().map_err(in_window)?
            }
        };
        Ok(Self { days, from, to, zone })
    }

    fn is_open(&self, now: Timestamp) -> bool {
        let today = self.zone.to_datetime(now).date();
        // A window that began yesterday may still be open.
        let begins = [Some(today), today.yesterday().ok()];
        begins.into_iter().flatten().any(|date| self.opened_on(date, now))
    }

    /// Whether the window that begins on `date` holds `now`.
    fn opened_on(&self, date: Date, now: Timestamp) -> bool {
        if !self.days.contains(&date.weekday()) {
            return false;
        }
        let end = match self.to {
            Some(to) if to > self.from => Some(DateTime::from_parts(date, to)),
            to => date
                .tomorrow()
                .ok()
                .map(|next| DateTime::from_parts(next, to.unwrap_or(Time::midnight()))),
        };
        let start = DateTime::from_parts(date, self.from);
        // When clocks go back a time of day comes twice: a window opens at the first and closes at
        // the second, so it is one span and never too short. Times that clocks skip move forward.
        let opens = self.zone.to_ambiguous_timestamp(start).compatible();
        let closes = end.map(|end| self.zone.to_ambiguous_timestamp(end).later());
        match (opens, closes) {
            (Ok(opens), Some(Ok(closes))) => opens <= now && now < closes,
            // Beyond the calendar's last day.
            _ => false,
        }
    }
}

/// `HH:MM`; the inner `None` is "24:00".
fn time(fields: &mut Fields, name: &str) -> Result<Option<Time>, Refusal> {
    let form = "write the time as \"22:00\"";
    let text = fields.text(name, 16)?.ok_or_else(|| missing(name, form))?;
    let refuse = || {
        let reason = format!("{name} is {} but must be a time of day; {form}", quoted(&text));
        Refusal::new(Code::BadField, reason)
    };
    if text == "24:00" {
        return Ok(None);
    }
    let digits = |part: &str| {
        let two = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        two.then(|| part.parse::<i8>().ok()).flatten()
    };
    let (hour, minute) = text.split_once(':').ok_or_else(refuse)?;
    let (hour, minute) = digits(hour).zip(digits(minute)).ok_or_else(refuse)?;
    Time::new(hour, minute, 0, 0).map(Some).map_err(|_| refuse())
}

fn zone(fields: &mut Fields) -> Result<TimeZone, Refusal> {
    let form =
        "write the place's name in the time zone database, such as \"Europe/Berlin\" or \"UTC\"";
    let name = fields.text("time_zone", 64)?.ok_or_else(|| missing("time_zone", form))?;
    TimeZone::get(&name).map_err(|_| {
        let reason = format!("time_zone {} is not known; {form}", quoted(&name));
        Refusal::new(Code::BadField, reason)
    })
}

fn day(name: &str) -> Result<Weekday, Refusal> {
    DAYS.iter().find(|(known, _)| *known == name).map(|(_, day)| *day).ok_or_else(|| {
        let known = DAYS.map(|(name, _)| name).join(", ");
        Refusal::new(Code::BadField, format!("the day {} is none of {known}", quoted(name)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schedule(from: &str, to: &str, days: Value) -> Schedule {
        let window = json!({"days": days, "from": from, "to": to, "time_zone": "Europe/Berlin"});
        Schedule::parse(&json!([window])).unwrap()
    }

    fn open(schedule: &Schedule, at: &str) -> bool {
        schedule.is_open(Wall { at: at.parse().unwrap(), synced: Some(true) })
    }

    #[test]
    fn a_window_holds_its_start_and_not_its_end() {
        // 2026-11-25 is a Wednesday; Berlin is an hour ahead of UTC.
        let office = schedule("08:00", "17:30", json!(["wed"]));
        for (at, expected) in [
            ("2026-11-25T06:59:59Z", false),
            ("2026-11-25T07:00:00Z", true),
            ("2026-11-25T16:29:59Z", true),
            ("2026-11-25T16:30:00Z", false),
            ("2026-11-26T10:00:00Z", false),
        ] {
            assert_eq!(open(&office, at), expected, "{at}");
        }
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        let night = schedule("22:00", "06:00", json!(["fri"]));
        for (at, expected) in [
            ("2026-11-27T20:59:00Z", false),
            ("2026-11-27T21:00:00Z", true),
            ("2026-11-28T04:59:00Z", true),
            ("2026-11-28T05:00:00Z", false),
            ("2026-11-28T21:00:00Z", false),
            // The night from Thursday to Friday.
            ("2026-11-27T01:00:00Z", false),
        ] {
            assert_eq!(open(&night, at), expected, "{at}");
        }
        let all_day = schedule("00:00", "24:00", json!(["sun"]));
        assert!(open(&all_day, "2026-11-29T22:59:59Z") && !open(&all_day, "2026-11-29T23:00:00Z"));
    }

    #[test]
    fn the_hour_that_comes_twice_is_one_span() {
        // Berlin, 2026-10-25: 03:00 summer time (01:00Z) becomes 02:00 again.
        let early = schedule("02:00", "02:45", Value::Null);
        for (at, expected) in [
            ("2026-10-24T23:59:00Z", false),
            ("2026-10-25T00:00:00Z", true),
            ("2026-10-25T00:50:00Z", true),
            ("2026-10-25T01:44:00Z", true),
            ("2026-10-25T01:45:00Z", false),
        ] {
            assert_eq!(open(&early, at), expected, "{at}");
        }
    }

    #[test]
    fn the_hour_that_is_skipped_moves_forward() {
        // Berlin, 2026-03-29: 02:00 (01:00Z) becomes 03:00.
        let early = schedule("02:00", "02:45", Value::Null);
        assert!(!open(&early, "2026-03-29T00:59:00Z"));
        assert!(open(&early, "2026-03-29T01:00:00Z"));
        assert!(open(&early, "2026-03-29T01:44:00Z"));
        assert!(!open(&early, "2026-03-29T01:45:00Z"));
        // A night over the change is an hour shorter and has no hole.
        let night = schedule("22:00", "06:00", Value::Null);
        for minute in 0..(7 * 60) {
            let at: Timestamp = "2026-03-28T21:00:00Z".parse().unwrap();
            let at = at.checked_add(jiff::SignedDuration::from_mins(minute)).unwrap();
            assert!(night.is_open(Wall { at, synced: Some(true) }), "{at}");
        }
    }

    #[test]
    fn a_clock_that_is_not_believed_closes_no_window() {
        let never_now = schedule("08:00", "08:01", json!(["mon"]));
        assert!(never_now.is_open(Wall { at: Timestamp::UNIX_EPOCH, synced: None }));
        for at in [Timestamp::MIN, Timestamp::MAX] {
            never_now.is_open(Wall { at, synced: Some(true) });
        }
    }

    #[test]
    fn faulty_windows_are_refused_with_their_place() {
        let good = json!({"days": ["mon"], "from": "08:00", "to": "09:00", "time_zone": "UTC"});
        assert!(Schedule::parse(&json!([good])).is_ok());
        for (field, value, word) in [
            ("days", json!(["monday"]), "mon, tue"),
            ("days", json!([]), "list"),
            ("from", json!("8:00"), "22:00"),
            ("from", json!("+8:00"), "22:00"),
            ("from", json!("24:00"), "00:00"),
            ("to", json!("25:00"), "22:00"),
            ("to", json!("08:00"), "24:00"),
            ("to", json!(9), "text"),
            ("time_zone", json!("Berlin"), "Europe/Berlin"),
            ("time_zone", json!("../../etc/passwd"), "Europe/Berlin"),
            ("day", json!(["mon"]), "day"),
        ] {
            let mut window = good.clone();
            window[field] = value;
            let refusal = Schedule::parse(&json!([window])).unwrap_err();
            assert!(
                refusal.reason.contains("schedule[0]") && refusal.reason.contains(word),
                "{refusal}"
            );
        }
        for value in [json!([]), json!({}), json!("always"), json!([1])] {
            assert!(Schedule::parse(&value).is_err(), "{value}");
        }
    }
}
