//! A decoder that is fed frame by frame, in the thread of whoever wants a frame.
//!
//! No pipeline and no queue: what is pushed into a software decoder's pad comes out before the call returns. One that
//! works beside it, as hardware does, is waited for a little.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use gstreamer::{self as gst, prelude::*};
use gstreamer_video::VideoInfo;

use super::{
    decoder::{Codec, DecoderChoice, release},
    elements,
    pixels::{Converters, SystemPixels},
};
use crate::{
    clock::Mono,
    error::{Error, Result},
};

/// How long a decoder that works beside us may take for a frame.
const PATIENCE: Duration = Duration::from_millis(250);

/// A decoder, once somebody wanted a frame.
pub(super) struct Decoding {
    choice: DecoderChoice,
    running: Option<Running>,
    converters: Arc<Converters>,
    used: Option<Mono>,
}

struct Running {
    element: gst::Element,
    entry: gst::Pad,
    exit: gst::Pad,
    caps: gst::Caps,
    out: Arc<Out>,
    /// Number of the last frame that it took.
    last: u64,
    /// The newest frame that it gave.
    given: Option<SystemPixels>,
}

/// What came out.
#[derive(Default)]
struct Out {
    state: Mutex<OutState>,
    came: Condvar,
}

#[derive(Default)]
struct OutState {
    format: Option<VideoInfo>,
    newest: Option<gst::Buffer>,
}

impl Decoding {
    pub(super) fn new(choice: DecoderChoice) -> Self {
        Self { choice, running: None, converters: Converters::new(), used: None }
    }

    /// The number of the last frame that was decoded, where another goes on from there.
    pub(super) fn last(&self) -> Option<u64> {
        Some(self.running.as_ref()?.last)
    }

    /// When it was used last, where it holds anything.
    pub(super) fn used(&self) -> Option<Mono> {
        self.running.as_ref().and(self.used)
    }

    /// Lets go of the decoder and its frames.
    pub(super) fn stop(&mut self) {
        self.running = None;
    }

    /// The last of these frames, which are numbered from `first` on, decoded; without any, the one that was decoded
    /// last. Where a stream's frames are not sent in the order in which they are shown, one that is shown a few earlier.
    /// Nothing where the decoder gives none.
    ///
    /// # Errors
    /// Where it fails; it is begun anew from the next key frame then.
    pub(super) fn frame(
        &mut self,
        caps: &gst::Caps,
        (first, units): (u64, &[gst::Buffer]),
        now: Mono,
    ) -> Result<Option<&SystemPixels>> {
        self.used = Some(now);
        let decoded = self.try_frame(caps, (first, units));
        if decoded.is_err() {
            self.running = None;
        }
        decoded?;
        Ok(self.running.as_ref().and_then(|running| running.given.as_ref()))
    }

    fn try_frame(&mut self, caps: &gst::Caps, (first, units): (u64, &[gst::Buffer])) -> Result<()> {
        let goes_on = |running: &Running| {
            running.caps == *caps && (units.is_empty() || first == running.last + 1)
        };
        // From a key frame on a running decoder needs no new beginning either, but what it still holds would come out.
        if !self.running.as_ref().is_some_and(goes_on) {
            self.running = None;
            self.running = Some(Running::begin(&self.choice, caps)?);
        }
        let Some(running) = &mut self.running else { return Ok(()) };
        running.out.forget();
        for (offset, unit) in units.iter().enumerate() {
            let pushed = running.entry.push(unit.clone());
            pushed.map_err(|error| fail(format!("takes no frame ({error})")))?;
            running.last = first + offset as u64;
        }
        if !units.is_empty() {
            let pixels = |(info, buffer)| SystemPixels::new(info, buffer, self.converters.clone());
            running.given = running.out.take().map(pixels);
        }
        Ok(())
    }
}

impl Running {
    fn begin(choice: &DecoderChoice, caps: &gst::Caps) -> Result<Self> {
        let name = caps.structure(0).map(|media| media.name().to_string()).unwrap_or_default();
        let codec = Codec::of(&name).ok_or_else(|| fail(format!("is not there for {name}")))?;
        let element = choice.open(codec).map_err(fail)?;
        let out = Arc::<Out>::default();
        let (entry, exit) = (gst::Pad::builder(gst::PadDirection::Src).build(), out.clone().pad());
        let running = Self { element, entry, exit, caps: caps.clone(), out, last: 0, given: None };
        running.link()?;
        Ok(running)
    }

    fn link(&self) -> Result<()> {
        if self.element.has_property("max-errors") {
            self.element.set_property("max-errors", -1_i32);
        }
        if self.element.has_property("max-threads") {
            self.element.set_property("max-threads", 1_i32);
        }
        let pad =
            |name| self.element.static_pad(name).ok_or_else(|| fail(format!("has no {name}")));
        self.entry.link(&pad("sink")?).map_err(fail)?;
        pad("src")?.link(&self.exit).map_err(fail)?;
        self.exit.set_active(true).map_err(fail)?;
        self.entry.set_active(true).map_err(fail)?;
        self.element.set_state(gst::State::Playing).map_err(fail)?;
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        for event in [
            gst::event::StreamStart::new("large"),
            gst::event::Caps::new(&self.caps),
            gst::event::Segment::new(&segment),
        ] {
            if !self.entry.push_event(event) {
                return Err(fail(format!("does not take {}", self.caps)));
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        release(&self.element);
        for pad in [&self.entry, &self.exit] {
            if pad.set_active(false).is_err() {
                tracing::debug!("A decoder's pad did not stop cleanly.");
            }
        }
    }
}

impl Out {
    /// A pad that takes what a decoder gives.
    fn pad(self: Arc<Self>) -> gst::Pad {
        let formats = self.clone();
        gst::Pad::builder(gst::PadDirection::Sink)
            .chain_function(move |_, _, buffer| {
                self.state().newest = Some(buffer);
                self.came.notify_all();
                Ok(gst::FlowSuccess::Ok)
            })
            .event_function(move |_, _, event| {
                if let gst::EventView::Caps(caps) = event.view() {
                    let format = VideoInfo::from_caps(caps.caps()).ok();
                    formats.state().format = format.filter(|_| elements::is_mappable(caps.caps()));
                }
                true
            })
            .build()
    }

    /// Forgets what came out before.
    fn forget(&self) {
        self.state().newest = None;
    }

    /// The newest frame that came out, and its format; waits for it a little.
    fn take(&self) -> Option<(VideoInfo, gst::Buffer)> {
        let mut state = self
            .came
            .wait_timeout_while(self.state(), PATIENCE, |state| state.newest.is_none())
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let buffer = state.newest.take()?;
        Some((state.format.clone()?, buffer))
    }

    fn state(&self) -> MutexGuard<'_, OutState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fail(why: impl std::fmt::Display) -> Error {
    Error::internal("decoder of a large stream", why)
}
