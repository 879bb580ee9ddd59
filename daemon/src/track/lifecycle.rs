//! From the first box to the last: when a track is believed, and when it is over.
//!
//! Every span is a time, never a number of frames, so that 3 and 15 detections a second behave
//! alike.

use std::time::Duration;

use serde::Serialize;

use crate::frame::Pts;

/// A track that is not believed yet ends when it is unseen for longer.
const TENTATIVE_SILENCE: Duration = Duration::from_millis(300);
/// Even at the slowest rate that makes sense, the second box comes within this.
const TENTATIVE_GAP: Duration = Duration::from_secs(1);
/// Who walked out of the picture is given up after this, before somebody else comes in there.
const GONE_SILENCE: Duration = Duration::from_millis(50);

/// How far a track is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Seen once or twice: may be the detector's mistake.
    Tentative,
    /// A person.
    Confirmed,
}

/// Why a track is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// Walked out of the picture.
    Left,
    /// Not seen for too long.
    Lost,
    /// Was never believed.
    Unconfirmed,
    /// The stream began anew: another picture shape, or time went back.
    Restarted,
}

/// When a track was seen.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub state: State,
    pub first: Pts,
    pub last: Pts,
    hits: u32,
}

impl Life {
    /// A track's first box.
    pub(super) fn new(pts: Pts) -> Self {
        Self { state: State::Tentative, first: pts, last: pts, hits: 1 }
    }

    /// Another box, believed after `confirm_after`; says whether the track is confirmed by it.
    pub(super) fn seen(&mut self, pts: Pts, confirm_after: Duration) -> bool {
        self.last = self.last.max(pts);
        self.hits = self.hits.saturating_add(1);
        // Two boxes at least: at a slow rate any second box is late enough.
        let confirmed =
            self.state == State::Tentative && self.last.0 - self.first.0 >= confirm_after;
        if confirmed {
            self.state = State::Confirmed;
        }
        confirmed
    }

    /// Whether it is too late for a box of this frame, seen or not.
    pub(super) fn too_late(&self, pts: Pts, lost_for: Duration) -> bool {
        let silent = pts.0.saturating_sub(self.last.0);
        match self.state {
            State::Tentative => silent > TENTATIVE_GAP.min(lost_for),
            State::Confirmed => silent > lost_for,
        }
    }

    /// Whether a track that has no box now is over. `gone` says that it is expected
    /// outside the picture.
    pub(super) fn ended(&self, pts: Pts, lost_for: Duration, gone: bool) -> Option<EndCause> {
        let silent = pts.0.saturating_sub(self.last.0);
        match self.state {
            State::Tentative => (silent > TENTATIVE_SILENCE).then_some(EndCause::Unconfirmed),
            State::Confirmed if silent > lost_for => Some(EndCause::Lost),
            State::Confirmed => (gone && silent > GONE_SILENCE).then_some(EndCause::Left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIRM: Duration = Duration::from_millis(120);
    const LOST: Duration = Duration::from_secs(3);

    fn ms(ms: u64) -> Pts {
        Pts(Duration::from_millis(ms))
    }

    #[test]
    fn one_box_is_never_believed_and_two_only_apart() {
        let mut fast = Life::new(ms(1000));
        assert!(!fast.seen(ms(1066), CONFIRM) && !fast.seen(ms(1066), CONFIRM));
        assert!(fast.seen(ms(1133), CONFIRM));
        assert!(!fast.seen(ms(1200), CONFIRM), "confirmed only once");
        assert!(Life::new(ms(1000)).seen(ms(1333), CONFIRM), "at 3 a second the second box");
    }

    #[test]
    fn silence_ends_by_time() {
        let mut life = Life::new(ms(1000));
        assert_eq!(life.ended(ms(1300), LOST, false), None);
        assert_eq!(life.ended(ms(1301), LOST, false), Some(EndCause::Unconfirmed));
        life.seen(ms(1200), CONFIRM);
        assert_eq!(life.ended(ms(4200), LOST, false), None);
        assert_eq!(life.ended(ms(4201), LOST, false), Some(EndCause::Lost));
        assert_eq!(life.ended(ms(1251), LOST, true), Some(EndCause::Left));
        assert_eq!(life.ended(ms(0), LOST, true), None, "time that goes back ends nothing here");
    }
}
