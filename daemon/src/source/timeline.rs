//! Numbers and times of a source's frames that never go back: across reconnects, repeats of a file,
//! and streams whose own time jumps.

use std::time::Duration;

use crate::{clock::Mono, frame::Pts};

/// The smallest step between two frames: two never share a time.
const STEP: Duration = Duration::from_micros(1);

/// A stream's time may run this much apart from ours between two frames before it is believed to have
/// jumped: more than a network's hiccup, less than what would fool a tracker's gates for long.
const JUMP: Duration = Duration::from_secs(10);

/// The same for a file, where the recording's own time is all there is: a time lapse is believed.
const FILE_JUMP: Duration = Duration::from_secs(3600);

/// How far apart frames are taken to be where a stream has not shown it yet: 25 a second.
const ASSUMED_INTERVAL: Duration = Duration::from_millis(40);

/// What the gap between two pipelines of one source means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Time passed: a camera was away for as long as our clock says.
    Clock,
    /// None: a file went on with its first frame.
    Frame,
}

/// The last frame that was given out.
#[derive(Clone, Copy)]
struct Last {
    /// By the stream's own time; `None` at the start of a pipeline.
    stream: Option<Duration>,
    /// As given out.
    pts: Duration,
    /// By our clock.
    at: Mono,
}

/// Gives a source's frames their numbers and times.
pub struct Timeline {
    gap: Gap,
    next_seq: u64,
    last: Option<Last>,
    interval: Duration,
}

impl Timeline {
    /// Starts at frame 0 and time 0.
    pub fn new(gap: Gap) -> Self {
        Self { gap, next_seq: 0, last: None, interval: ASSUMED_INTERVAL }
    }

    /// A new pipeline begins: its own time has nothing to do with that of the one before.
    pub fn restart(&mut self) {
        if let Some(last) = &mut self.last {
            last.stream = None;
        }
    }

    /// Number and time of the next frame.
    ///
    /// `stream` is the frame's time by the stream, where it has one.
    pub fn stamp(&mut self, stream: Option<Duration>, now: Mono) -> (u64, Pts) {
        let seq = self.next_seq;
        self.next_seq = seq.saturating_add(1);
        let pts = match self.last {
            None => Duration::ZERO,
            Some(last) => last.pts.saturating_add(self.span(&last, stream, now).max(STEP)),
        };
        self.last = Some(Last { stream, pts, at: now });
        (seq, Pts(pts))
    }

    /// Span between the last frame and the next.
    fn span(&mut self, last: &Last, stream: Option<Duration>, now: Mono) -> Duration {
        let (ours, believable) = match self.gap {
            Gap::Clock => (now.since(last.at), now.since(last.at).saturating_add(JUMP)),
            Gap::Frame => (self.interval, FILE_JUMP),
        };
        let (Some(before), Some(stream)) = (last.stream, stream) else { return ours };
        match stream.checked_sub(before) {
            Some(span) if span <= believable => {
                if span >= STEP {
                    self.interval = span;
                }
                span
            }
            // A broken stream gives a time twice or steps back a little; a jump far back is a new
            // beginning of the stream's time.
            None if before - stream <= self.interval * 2 => STEP,
            _ => ours,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(millis: u64) -> Mono {
        Mono(ms(millis))
    }

    #[test]
    fn a_camera_that_was_away_has_a_gap_as_long_as_our_clock_says() {
        let mut line = Timeline::new(Gap::Clock);
        assert_eq!(line.stamp(Some(ms(500)), at(0)), (0, Pts(ms(0))));
        assert_eq!(line.stamp(Some(ms(600)), at(130)), (1, Pts(ms(100))));
        line.restart();
        assert_eq!(line.stamp(Some(ms(7)), at(4130)), (2, Pts(ms(4100))));
        assert_eq!(line.stamp(Some(ms(107)), at(4200)), (3, Pts(ms(4200))));
    }

    #[test]
    fn a_file_that_repeats_goes_on_one_frame_later() {
        let mut line = Timeline::new(Gap::Frame);
        for round in 0..3_u64 {
            line.restart();
            for frame in 0..10 {
                let (seq, pts) = line.stamp(Some(ms(frame * 100)), at(0));
                assert_eq!(seq, round * 10 + frame);
                let first_gap = if round == 0 { 0 } else { 100 };
                assert_eq!(pts, Pts(ms(round * 900 + frame * 100 + first_gap * round)));
            }
        }
    }

    #[test]
    fn a_stream_whose_time_jumps_never_goes_back_and_never_runs_away() {
        let mut line = Timeline::new(Gap::Clock);
        let mut last = Pts(Duration::ZERO);
        line.stamp(Some(ms(1000)), at(0));
        let hour = 3_600_000;
        let stream =
            [Some(1040), Some(1040), Some(1020), None, Some(hour), Some(hour + 40), Some(5)];
        for (step, time) in stream.into_iter().enumerate() {
            let (_, pts) = line.stamp(time.map(ms), at(40 * (step as u64 + 1)));
            assert!(pts > last, "step {step}: {pts:?} after {last:?}");
            last = pts;
        }
        assert!(last.0 < ms(400), "{last:?}");
    }
}
