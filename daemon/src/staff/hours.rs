//! The hours of an alert as a person types them: `fri,sat 22:00-06:00`.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::error::{Error, Result};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The window of the contract that `[DAYS] FROM-TO` means in `zone`. Days are names and ranges of
/// them, with commas: `mon-fri,sun`; none are all. What else can be wrong with a window the alert's
/// own check finds.
///
/// # Errors
/// [`Error::Config`] for another form, or where the zone has no name that devices could look up.
pub fn window(text: &str, zone: &TimeZone) -> Result<Value> {
    let place = format!("--schedule {:?}", super::shown(text, 40));
    let form = || {
        Error::config(&place, "write days and times as \"mon-fri 22:00-06:00\" or \"08:00-18:00\"")
    };
    let name = zone.iana_name().filter(|_| !zone.is_unknown()).ok_or_else(|| {
        let reason = "needs a time zone and this machine does not know its own: add --time-zone, \
                      such as --time-zone Europe/Berlin";
        Error::config(&place, reason)
    })?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let (days, times) = match words.as_slice() {
        [times] => (None, times),
        [days, times] => (Some(named(days).ok_or_else(form)?), times),
        _ => return Err(form()),
    };
    let (from, to) = times.split_once('-').ok_or_else(form)?;
    Ok(json!({"days": days, "from": from, "to": to, "time_zone": name}))
}

/// The days of `mon-fri,sun`, in the order of the week and each once.
fn named(text: &str) -> Option<Vec<&'static str>> {
    let place = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let mut meant = [false; DAYS.len()];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (place(first)?, place(last)?);
        // From friday to monday goes over the end of the week.
        let count = (last + DAYS.len() - first) % DAYS.len() + 1;
        let days = (0..DAYS.len()).cycle().skip(first).take(count);
        days.for_each(|day| meant.iter_mut().skip(day).take(1).for_each(|is| *is = true));
    }
    Some(DAYS.into_iter().zip(meant).filter_map(|(day, is)| is.then_some(day)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::schedule::Schedule;

    fn read(text: &str) -> Result<Value> {
        window(text, &TimeZone::get("Europe/Berlin").unwrap())
    }

    #[test]
    fn windows_as_devices_read_them() {
        for (text, days) in [
            ("22:00-06:00", Value::Null),
            ("fri,sat 22:00-06:00", json!(["fri", "sat"])),
            ("Mon-Wed,sun 08:00-24:00", json!(["mon", "tue", "wed", "sun"])),
            ("fri-mon 08:00-18:00", json!(["mon", "fri", "sat", "sun"])),
        ] {
            let window = read(text).unwrap();
            assert_eq!(window["days"], days, "{text}");
            assert_eq!(window["time_zone"], "Europe/Berlin");
            Schedule::parse(&json!([window])).unwrap();
        }
    }

    #[test]
    fn other_forms_are_refused_with_the_right_one() {
        for text in ["", "night", "22:00", "monday 08:00-18:00", "mon, tue 08:00-18:00", "- 1-2"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("mon-fri 22:00-06:00"), "{text}: {error}");
        }
        for zone in [TimeZone::unknown(), TimeZone::fixed(jiff::tz::offset(2))] {
            let error = window("08:00-18:00", &zone).unwrap_err().to_string();
            assert!(error.contains("--time-zone"), "{error}");
        }
    }
}
