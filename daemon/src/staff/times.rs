//! Times as a person types and reads them: local, in words.

use jiff::{
    Span, Timestamp, ZonedDateTime,
    civil::{Date, DateTime, Time},
    fmt::friendly::SpanParser,
    tz::TimeZone,
};

use crate::error::{Error, Result};

/// Longest span from now that is taken for meant, in days; a site allows a week or so.
const MAX_DAYS: i32 = 3650;
/// How long an alert lives that does not say.
pub const DEFAULT_SPAN: &str = "24h";

static SPANS: SpanParser = SpanParser::new();

fn latest(now: &ZonedDateTime) -> Timestamp {
    let end = Span::new().try_days(MAX_DAYS).and_then(|span| now.checked_add(span));
    end.map_or(Timestamp::MAX, |end| end.timestamp())
}

fn in_range(place: &str, at: ZonedDateTime, now: &ZonedDateTime) -> Result<Timestamp> {
    if at <= *now {
        let reason = format!("that is {}, which is not in the future", moment(&at));
        return Err(Error::config(place, reason));
    }
    if at.timestamp() > latest(now) {
        return Err(Error::config(place, "is more than ten years from now"));
    }
    Ok(at.timestamp())
}

/// The moment a span such as `2h`, `90m`, `1d 12h` or `2 weeks` from now. A day is a calendar day:
/// `3d` ends at the same time of day also where clocks change meanwhile.
///
/// # Errors
/// [`Error::Config`] for what is no span, is not positive, or ends more than ten years from now.
pub fn after(text: &str, now: &ZonedDateTime) -> Result<Timestamp> {
    let place = format!("--for {:?}", super::shown(text, 40));
    let form = "is no span of time: write it as 30m, 2h, 3d or \"1d 12h\"";
    let span = SPANS.parse_span(text.trim()).map_err(|_| Error::config(&place, form))?;
    // One letter apart, and a month is hardly ever meant.
    if span.get_months() != 0 || span.get_years() != 0 {
        let reason = "counts months or years: write minutes (m), hours (h), days (d) or weeks (w)";
        return Err(Error::config(place, reason));
    }
    let at = now
        .checked_add(span)
        .map_err(|_| Error::config(&place, "is more than ten years from now"))?;
    in_range(&place, at, now)
}

/// The moment that `18:00` (the next one), `2026-11-25 06:00` (both local) or
/// `2026-11-25T06:00:00Z` means.
///
/// # Errors
/// [`Error::Config`] for what is no moment, is past, does not exist or comes twice as clocks change,
/// or has no zone where this machine has none.
pub fn until(text: &str, now: &ZonedDateTime) -> Result<Timestamp> {
    let text = text.trim();
    let place = format!("--until {:?}", super::shown(text, 40));
    if let Ok(at) = text.parse::<Timestamp>() {
        return in_range(&place, at.to_zoned_datetime(now.time_zone().clone()), now);
    }
    if now.time_zone().is_unknown() {
        let reason = "has no time zone, and this machine does not know its own: write the moment \
                      in UTC, such as 2026-11-25T06:00:00Z, or set TZ";
        return Err(Error::config(place, reason));
    }
    if let Some(time) = time_of_day(text) {
        let today = local(&place, now.date(), time, now)?;
        if today > *now {
            return in_range(&place, today, now);
        }
        let tomorrow = now.date().tomorrow().map_err(|error| Error::internal("calendar", error))?;
        return in_range(&place, local(&place, tomorrow, time, now)?, now);
    }
    let at: DateTime = match text.parse() {
        Ok(at) if text.contains(':') => at,
        _ => {
            let reason = "is no moment: write it as 18:00, \"2026-11-25 06:00\" or \
                          2026-11-25T06:00:00Z";
            return Err(Error::config(place, reason));
        }
    };
    in_range(&place, local(&place, at.date(), at.time(), now)?, now)
}

/// `HH:MM` with two digits each.
fn time_of_day(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two = |part: &str| {
        let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse::<i8>().ok()).flatten()
    };
    Time::new(two(hour)?, two(minute)?, 0, 0).ok()
}

fn local(place: &str, date: Date, time: Time, now: &ZonedDateTime) -> Result<ZonedDateTime> {
    let ambiguous = now.time_zone().to_ambiguous_zoned_datetime(DateTime::from_parts(date, time));
    ambiguous.unambiguous().map_err(|_| {
        let reason = "does not exist or comes twice on that day, as the clocks change: write the \
                      moment in UTC, such as 2026-11-25T06:00:00Z";
        Error::config(place, reason)
    })
}

/// Now, on this machine's wall.
pub fn now(clock: &dyn crate::clock::Clock) -> ZonedDateTime {
    crate::alert::Wall::new(clock.wall(), None).at.to_zoned_datetime(TimeZone::system())
}

/// A moment in full, such as `Wed 2026-11-25 06:00`; with `UTC` where the zone is not known.
pub fn moment(at: &ZonedDateTime) -> String {
    let mark = if at.time_zone().is_unknown() { " UTC" } else { "" };
    format!("{}{mark}", at.strftime("%a %Y-%m-%d %H:%M"))
}

/// A moment as short as it is clear: `18:04:12` today, with the date on other days.
pub fn short(at: Timestamp, now: &ZonedDateTime) -> String {
    let at = at.to_zoned_datetime(now.time_zone().clone());
    let form = if at.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn berlin(at: &str) -> ZonedDateTime {
        at.parse::<Timestamp>().unwrap().to_zoned_datetime(TimeZone::get("Europe/Berlin").unwrap())
    }

    #[test]
    fn spans() {
        let now = berlin("2026-11-24T17:00:00Z");
        for (text, end) in [
            ("30m", "2026-11-24T17:30:00Z"),
            ("2h", "2026-11-24T19:00:00Z"),
            (" 3d ", "2026-11-27T17:00:00Z"),
            ("1d 12h", "2026-11-26T05:00:00Z"),
            ("1d12h", "2026-11-26T05:00:00Z"),
            ("2 hours", "2026-11-24T19:00:00Z"),
            ("1w", "2026-12-01T17:00:00Z"),
        ] {
            assert_eq!(after(text, &now).unwrap().to_string(), end, "{text}");
        }
        for text in [
            "",
            "2",
            "h",
            "0h",
            "-2h",
            "2h ago",
            "two hours",
            "1mo",
            "1y",
            "P1D",
            "9999999w",
            "2h; rm",
            "99999999999999999999h",
            "4000d",
        ] {
            assert!(after(text, &now).is_err(), "{text}");
        }
    }

    #[test]
    fn three_days_end_at_the_same_time_of_day() {
        let now = berlin("2026-10-24T10:00:00Z");
        assert_eq!(after("3d", &now).unwrap().to_string(), "2026-10-27T11:00:00Z");
        assert_eq!(after("72h", &now).unwrap().to_string(), "2026-10-27T10:00:00Z");
    }

    #[test]
    fn moments() {
        let now = berlin("2026-11-24T17:00:00Z");
        for (text, at) in [
            ("18:01", "2026-11-24T17:01:00Z"),
            // It is 18:00: the next 18:00 is tomorrow's.
            ("18:00", "2026-11-25T17:00:00Z"),
            ("06:00", "2026-11-25T05:00:00Z"),
            ("2026-11-25 06:00", "2026-11-25T05:00:00Z"),
            ("2026-11-25T06:00", "2026-11-25T05:00:00Z"),
            ("2026-11-25T06:00:00Z", "2026-11-25T06:00:00Z"),
            ("2026-11-25T06:00:00+02:00", "2026-11-25T04:00:00Z"),
        ] {
            assert_eq!(until(text, &now).unwrap().to_string(), at, "{text}");
        }
        for text in [
            "",
            "6",
            "6:00",
            "25:00",
            "tomorrow",
            "2026-11-25",
            "2026-11-24 17:59",
            "2026-02-30 06:00",
            "2026-11-23T00:00:00Z",
            "2126-11-23T00:00:00Z",
        ] {
            assert!(until(text, &now).is_err(), "{text}");
        }
    }

    #[test]
    fn an_hour_that_comes_twice_or_never_is_not_guessed() {
        assert!(until("2026-10-25 02:30", &berlin("2026-10-24T10:00:00Z")).is_err());
        assert!(until("2026-03-29 02:30", &berlin("2026-03-28T10:00:00Z")).is_err());
    }

    #[test]
    fn without_a_zone_only_moments_that_carry_one() {
        let now = berlin("2026-11-24T17:00:00Z").with_time_zone(TimeZone::unknown());
        assert!(until("18:00", &now).unwrap_err().to_string().contains("TZ"));
        assert!(until("2026-11-25T06:00:00Z", &now).is_ok());
        assert!(moment(&now).ends_with("UTC"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let now = berlin("2026-11-24T17:00:00Z");
            let _ = (after(&text, &now), until(&text, &now));
        }
    }
}
