//! Wall time together with what is known of its truth.

use std::time::SystemTime;

use jiff::Timestamp;

/// 2026-01-01: no box that runs this program is older, so an earlier clock has not been set.
const FLOOR_S: i64 = 1_767_225_600;

/// A reading of the wall clock. A box without a battery starts in 1970 or at its last shutdown, so
/// no reading is taken at its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wall {
    /// What the clock shows.
    pub at: Timestamp,
    /// Whether it is disciplined by a time server or GPS; `None` where nobody can say.
    pub synced: Option<bool>,
}

impl Wall {
    /// A reading of [`crate::clock::Clock::wall`]; times beyond the calendar become its ends.
    pub fn new(at: SystemTime, synced: Option<bool>) -> Self {
        let at = Timestamp::try_from(at).unwrap_or(if at < SystemTime::UNIX_EPOCH {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        });
        Self { at, synced }
    }

    /// Whether the box believes its clock: what messages carry as `clock_synced`. Where nobody can
    /// say, as in a container, any time that is not plainly wrong is believed.
    pub fn believed(&self) -> bool {
        self.synced.unwrap_or(self.at.as_second() >= FLOOR_S)
    }
}

/// A moment as messages carry it: RFC 3339 in UTC, in milliseconds.
pub fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_not_believed() {
        let epoch = SystemTime::UNIX_EPOCH;
        let now = epoch + Duration::from_secs(1_795_000_000);
        assert!(!Wall::new(epoch, None).believed());
        assert!(Wall::new(now, None).believed());
        assert!(!Wall::new(now, Some(false)).believed());
        assert!(Wall::new(epoch, Some(true)).believed());
    }

    #[test]
    fn messages_carry_milliseconds() {
        assert_eq!(rfc3339(Timestamp::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn times_beyond_the_calendar_do_not_panic() {
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 50);
        assert_eq!(Wall::new(far, None).at, Timestamp::MAX);
    }
}
