//! Whether a recording gave what it promised: demuxers end a file that was cut off, or lost its middle,
//! as if it were whole.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use gstreamer::{self as gst, prelude::*};

/// How much less than its container says a recording may hold: the longer of a span and a share.
const SLACK: Duration = Duration::from_secs(2);
const SLACK_SHARE: f64 = 0.05;

/// A step between two frames counts as a gap where it is this many times the step before, and longer
/// than [`LEAST_GAP`].
const GAP_STEPS: u32 = 10;
const LEAST_GAP: Duration = Duration::from_millis(500);

/// How far the tracks of a recording came. Sound counts too: it may go on behind the last picture.
#[derive(Default)]
pub(super) struct Progress {
    nanos: AtomicU64,
}

impl Progress {
    /// Follows a demuxed track.
    pub(super) fn follow(self: &Arc<Self>, pad: &gst::Pad) {
        let progress = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, probe| {
            if let Some(buffer) = probe.buffer()
                && let Some(end) = end_of(pad, buffer)
            {
                progress.nanos.fetch_max(end.nseconds(), Ordering::Relaxed);
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Where a recording of `length` broke off, `None` where it came to its end.
    pub(super) fn broke_off(&self, length: Duration) -> Option<Duration> {
        let reached = Duration::from_nanos(self.nanos.load(Ordering::Relaxed));
        let slack = SLACK.max(length.mul_f64(SLACK_SHARE));
        (reached + slack < length).then_some(reached)
    }
}

/// Where a buffer ends in the recording.
fn end_of(pad: &gst::Pad, buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
    let segment = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = segment.segment().downcast_ref::<gst::ClockTime>()?.clone();
    let end = buffer.pts()? + buffer.duration().unwrap_or_default();
    segment.to_stream_time(end).or_else(|| segment.to_stream_time(buffer.pts()?))
}

/// How long the container says that it is. Parsers of bare streams only guess: they are not asked.
pub(super) fn length(pipeline: &gst::Pipeline) -> Option<Duration> {
    demuxers(pipeline)
        .into_iter()
        .filter_map(|demuxer| demuxer.query_duration::<gst::ClockTime>())
        .map(|length| Duration::from_nanos(length.nseconds()))
        .max()
}

/// Whether a demuxer stopped reading. Before the first stream that means that it found none; its error
/// is lost where `parsebin` has just begun to use it.
pub(super) fn gave_up(pipeline: &gst::Pipeline) -> bool {
    demuxers(pipeline)
        .iter()
        .flat_map(|demuxer| demuxer.sink_pads())
        .any(|pad| pad.task_state() == gst::TaskState::Paused)
}

fn demuxers(pipeline: &gst::Pipeline) -> Vec<gst::Element> {
    let is_demuxer = |element: &gst::Element| {
        element.factory().is_some_and(|factory| factory.has_type(gst::ElementFactoryType::DEMUXER))
    };
    pipeline.iterate_recurse().into_iter().flatten().filter(is_demuxer).collect()
}

/// Finds holes in the times of a recording's frames.
#[derive(Default)]
pub(super) struct Gaps {
    last: Option<Duration>,
    step: Option<Duration>,
}

impl Gaps {
    /// Whether there is a hole before the frame with this time.
    pub(super) fn before(&mut self, time: Duration) -> bool {
        let Some(last) = self.last.replace(time) else { return false };
        let Some(step) = time.checked_sub(last).filter(|step| !step.is_zero()) else {
            return false;
        };
        let usual = self.step.replace(step);
        let gap = usual.is_some_and(|usual| step > LEAST_GAP.max(usual * GAP_STEPS));
        if gap {
            self.step = usual;
        }
        gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_a_gap_and_a_time_lapse_or_a_slow_rate_is_none() {
        let gaps = |millis: &[u64]| {
            let mut gaps = Gaps::default();
            millis.iter().filter(|time| gaps.before(Duration::from_millis(**time))).count()
        };
        assert_eq!(gaps(&[0, 40, 80, 1500, 1540, 1580, 3000, 3040]), 2);
        assert_eq!(gaps(&[0, 60_000, 120_000, 180_000]), 0);
        assert_eq!(gaps(&[0, 40, 440, 480, 440, 480]), 0);
    }

    #[test]
    fn a_recording_may_lack_a_little() {
        let progress = Progress { nanos: AtomicU64::new(9_000_000_000) };
        let broke_off = |seconds| progress.broke_off(Duration::from_secs(seconds));
        assert_eq!((broke_off(8), broke_off(11)), (None, None));
        assert_eq!(broke_off(12), Some(Duration::from_secs(9)));
        let long = Progress { nanos: AtomicU64::new(96_000_000_000) };
        assert_eq!(long.broke_off(Duration::from_secs(100)), None);
    }
}
