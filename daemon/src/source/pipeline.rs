//! One GStreamer pipeline of one source: opened, pulled from, dropped, never mended.
//!
//! `source ! (depay and parse | parsebin) ! decoder ! appsink`, without the decoder where frames are kept as they come. Its owner pulls frames and reads the
//! bus in one place ([`Pipeline::pull`]); GStreamer's threads call us only to link what a stream turns
//! out to hold ([`super::link`]). A pipeline that failed is thrown away and built anew, because an
//! element's state after an error is nobody's promise.

use std::{sync::Arc, time::Duration};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;
use gstreamer_video::VideoInfo;

use super::{
    decoder::{Codec, DecoderChoice},
    device::{Converter, DeviceConverter, DevicePixels},
    elements, fault,
    group::Unit,
    link::Linker,
    pixels::{Converters, SystemPixels},
    reason::Reason,
    recording::{self, Gaps},
    spec::SourceSpec,
    timeline::Timeline,
};
use crate::{
    clock::Clock,
    frame::{CameraId, Frame, Pixels},
};

/// After an error of a file, how long the decoder may take for each frame that it still holds.
const DRAIN: Duration = Duration::from_millis(500);

/// How often the bus is looked at while no frame comes.
const LOOK: Duration = Duration::from_millis(50);

/// Looks in a row that must find a file without a stream given up: its error comes a moment later.
const GIVEN_UP_LOOKS: u32 = 4;

/// What [`Pipeline::pull`] found.
pub enum Pulled {
    /// The next frame.
    Frame(Frame),
    /// The next frame as it came, its format and its width and height.
    Unit(Unit, gst::Caps, (u32, u32)),
    /// The stream is over; nothing comes any more.
    Ended,
    /// The pipeline failed; nothing comes any more.
    Failed(Reason),
    /// Nothing came in the time given.
    Nothing,
}

/// What a stream turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its codec, `None` where frames come undecoded from a device or the test source.
    pub codec: Option<Codec>,
    /// The element that decodes it, by GStreamer's name.
    pub decoder: Option<String>,
}

/// How a pipeline is opened.
pub struct Opening<'a> {
    /// Whose frames these are.
    pub camera: &'a CameraId,
    /// Where they come from.
    pub spec: &'a SourceSpec,
    /// What decodes them.
    pub decoder: &'a DecoderChoice,
    /// Whether frames are decoded, or kept as they come.
    pub decodes: bool,
    /// Whether an RTSP stream with transport `auto` comes by UDP this time.
    pub lower: Lower,
    /// How long connecting may take.
    pub connect_timeout: Duration,
}

/// The transport of one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lower {
    /// Inside the RTSP connection.
    #[default]
    Tcp,
    /// In datagrams.
    Udp,
}

/// What happened in a pipeline besides frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that left the decoder.
    pub decoded: u64,
    /// Warnings: data that could not be decoded, packets that were lost, frames that the decoder
    /// marks as damaged; of a recording also holes in its times and, at its end, frames that the
    /// decoder took and did not give.
    pub warnings: u64,
}

/// A running pipeline. Dropping it stops it.
pub struct Pipeline {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    sink: gst_app::AppSink,
    linker: Arc<Linker>,
    camera: CameraId,
    spec: SourceSpec,
    decodes: bool,
    lower: Lower,
    connect_timeout: Duration,
    clock: Arc<dyn Clock>,
    converters: Arc<Converters>,
    device: Arc<DeviceConverter>,
    format: Option<(gst::Caps, VideoInfo)>,
    pulled: u64,
    warnings: u64,
    /// Frames of a recording that ended, which the decoder did not give.
    lost: u64,
    gaps: Gaps,
    given_up: u32,
    outcome: Option<Outcome>,
}

/// Why nothing more will come.
enum Outcome {
    Ended,
    Failed(Reason),
}

impl Pipeline {
    /// Builds the pipeline and sets it going; connecting happens in its own threads.
    ///
    /// # Errors
    /// What is wrong before any connection: a file that is not there, a decoder that does not start,
    /// credentials that cannot be read.
    pub fn open(opening: &Opening<'_>, clock: Arc<dyn Clock>) -> Result<Self, Reason> {
        gst::init().map_err(|error| Reason::Internal {
            place: "GStreamer".into(),
            problem: error.to_string(),
        })?;
        opening.decoder.check()?;
        let pipeline = gst::Pipeline::new();
        let internal = |problem: String| Reason::Internal { place: opening.spec.place(), problem };
        let bus = pipeline.bus().ok_or_else(|| internal("a pipeline without a bus".into()))?;
        let sink = elements::sink(opening.spec);
        pipeline.add(&sink).map_err(|error| internal(error.to_string()))?;
        let linker = Linker::new(&pipeline, &sink, opening)?;
        elements::source(&pipeline, &linker, opening)?;
        let opened = Self {
            bus,
            sink,
            linker,
            camera: opening.camera.clone(),
            spec: opening.spec.clone(),
            decodes: opening.decodes,
            lower: opening.lower,
            connect_timeout: opening.connect_timeout,
            clock,
            converters: Converters::new(),
            device: DeviceConverter::new(Converter::Jetson),
            format: None,
            pulled: 0,
            warnings: 0,
            lost: 0,
            gaps: Gaps::default(),
            given_up: 0,
            outcome: None,
            pipeline,
        };
        if opened.pipeline.set_state(gst::State::Playing).is_err() {
            let said = opened.bus.pop_filtered(&[gst::MessageType::Error]);
            return Err(match said.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Error(error)) => opened.reason_of(error),
                _ => internal("the pipeline does not start".into()),
            });
        }
        Ok(opened)
    }

    /// The next frame, or what else happened within `timeout`. After [`Pulled::Ended`] or
    /// [`Pulled::Failed`], which come behind the last good frame, only those come again.
    pub fn pull(&mut self, timeline: &mut Timeline, timeout: Duration) -> Pulled {
        let mut left = timeout;
        loop {
            self.read_bus();
            let wait = match (&self.outcome, self.spec.is_live()) {
                (None, _) => left.min(LOOK),
                // What a camera's decoder still holds is old; what a file's holds are its frames.
                (Some(_), true) => Duration::ZERO,
                (Some(_), false) => DRAIN,
            };
            if let Some(sample) = self.sink.try_pull_sample(span(wait)) {
                let pulled = match self.decodes {
                    true => self.frame(&sample, timeline).map(Pulled::Frame),
                    false => self.unit(&sample),
                };
                return pulled.unwrap_or_else(|reason| self.fail(reason));
            }
            if self.sink.is_eos() && self.outcome.is_none() {
                // The end reaches the sink a moment before the bus: an error may stand between.
                self.read_bus();
                self.outcome.get_or_insert(Outcome::Ended);
            }
            self.notice_given_up();
            match &self.outcome {
                None if left.is_zero() => return Pulled::Nothing,
                None => left = left.saturating_sub(LOOK),
                Some(Outcome::Failed(reason)) => return Pulled::Failed(reason.clone()),
                Some(Outcome::Ended) => return self.ended(),
            }
        }
    }

    /// What the stream turned out to be, once that is known.
    pub fn stream(&self) -> Option<Stream> {
        self.linker.stream()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        Counts { decoded: self.pulled, warnings: self.warnings + self.lost }
    }

    /// The end of something that never gave a frame is no end but a source without video.
    fn ended(&mut self) -> Pulled {
        let place = self.spec.place();
        if self.pulled > 0 {
            if self.spec.is_live() {
                return Pulled::Ended;
            }
            self.lost = self.linker.fed().saturating_sub(self.pulled);
            let length = recording::length(&self.pipeline);
            let broke_off =
                length.and_then(|length| Some((self.linker.progress().broke_off(length)?, length)));
            return match broke_off {
                Some((at, length)) => self.fail(Reason::BrokenOff { place, at, length }),
                None => Pulled::Ended,
            };
        }
        Pulled::Failed(match (self.linker.stream(), self.spec.is_live()) {
            (_, true) => Reason::Ended { place },
            (Some(_), false) => {
                Reason::Broken { place, problem: "no frame of it can be decoded".into() }
            }
            (None, false) => Reason::NotAVideo { place, problem: "no video in it".into() },
        })
    }

    /// Ends the wait for a file whose demuxer stopped without a stream and without an error.
    fn notice_given_up(&mut self) {
        let waiting = self.outcome.is_none() && self.pulled == 0 && !self.spec.is_live();
        if waiting && !self.linker.claimed() && recording::gave_up(&self.pipeline) {
            self.given_up += 1;
        } else {
            self.given_up = 0;
        }
        if self.given_up >= GIVEN_UP_LOOKS {
            let problem = "no stream is found in it; it may be cut off".to_string();
            let reason = Reason::Broken { place: self.spec.place(), problem };
            self.outcome = Some(Outcome::Failed(reason));
        }
    }

    /// Counts what shows that data is missing before this frame or in it.
    fn count_damage(&mut self, buffer: &gst::BufferRef, time: Option<Duration>) {
        let hole = !self.spec.is_live() && time.is_some_and(|time| self.gaps.before(time));
        let damaged = buffer.flags().contains(gst::BufferFlags::CORRUPTED);
        self.warnings += u64::from(hole) + u64::from(damaged);
    }

    fn fail(&mut self, reason: Reason) -> Pulled {
        self.outcome = Some(Outcome::Failed(reason.clone()));
        Pulled::Failed(reason)
    }

    /// Empties the bus. The first error decides the outcome: what follows is its echo.
    fn read_bus(&mut self) {
        while let Some(message) = self.bus.pop() {
            match message.view() {
                gst::MessageView::Eos(_) => {
                    self.outcome.get_or_insert(Outcome::Ended);
                }
                gst::MessageView::Error(error) if self.outcome.is_none() => {
                    self.outcome = Some(Outcome::Failed(self.reason_of(error)));
                }
                gst::MessageView::StreamCollection(found)
                    if self.outcome.is_none() && !holds_video(&found.stream_collection()) =>
                {
                    let problem = "it holds no video stream".to_string();
                    let reason = Reason::NotAVideo { place: self.spec.place(), problem };
                    self.outcome = Some(Outcome::Failed(reason));
                }
                gst::MessageView::Warning(warning) => {
                    self.warnings += 1;
                    tracing::trace!(camera = %self.camera, "{}", warning.error());
                }
                _ => {}
            }
        }
    }

    /// Our own reason where the linker found one, else what GStreamer's error means.
    fn reason_of(&self, error: &gst::message::Error) -> Reason {
        self.linker.take_fault().unwrap_or_else(|| {
            let attempt = fault::Attempt {
                lower: self.lower,
                waited: self.connect_timeout,
                video_offered: self.linker.offered(),
            };
            fault::translate(&fault::Failure::of(error), &self.spec, &attempt)
        })
    }

    /// A frame as it came.
    fn unit(&mut self, sample: &gst::Sample) -> Result<Pulled, Reason> {
        let internal = |problem: &str| Reason::Internal {
            place: self.spec.place(),
            problem: problem.to_string(),
        };
        let buffer = sample.buffer_owned().ok_or_else(|| internal("a sample without a buffer"))?;
        let caps = sample.caps_owned().ok_or_else(|| internal("a sample without a format"))?;
        let side = |name| {
            let side = caps.structure(0).and_then(|media| media.get::<i32>(name).ok());
            side.and_then(|side| u32::try_from(side).ok()).filter(|side| *side > 0)
        };
        let size = side("width").zip(side("height"));
        let size = size.ok_or_else(|| internal("a stream that does not say how large it is"))?;
        self.pulled += 1;
        let is_key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        Ok(Pulled::Unit(Unit { buffer, is_key, at: self.clock.now() }, caps, size))
    }

    fn frame(&mut self, sample: &gst::Sample, timeline: &mut Timeline) -> Result<Frame, Reason> {
        let internal = |problem: &str| Reason::Internal {
            place: self.spec.place(),
            problem: problem.to_string(),
        };
        let buffer = sample.buffer_owned().ok_or_else(|| internal("a sample without a buffer"))?;
        let caps = sample.caps().ok_or_else(|| internal("a sample without a format"))?;
        let info = match &self.format {
            Some((known, info)) if known.as_ptr() == caps.as_ptr() => info.clone(),
            _ => {
                let info = VideoInfo::from_caps(caps)
                    .map_err(|_| internal(&format!("frames of an unknown format {caps}")))?;
                self.format = Some((caps.to_owned(), info.clone()));
                info
            }
        };
        self.pulled += 1;
        let decoded_at = self.clock.now();
        let time = stream_time(sample, &buffer);
        self.count_damage(&buffer, time);
        let (seq, pts) = timeline.stamp(time, decoded_at);
        let (width, height) = (info.width(), info.height());
        let pixels: Box<dyn Pixels> = if elements::is_mappable(caps) {
            Box::new(SystemPixels::new(info, buffer, self.converters.clone()))
        } else {
            let device = self.device.clone();
            Box::new(DevicePixels::new(caps.to_owned(), buffer, (width, height), device))
        };
        Ok(Frame { camera: self.camera.clone(), seq, pts, decoded_at, width, height, pixels })
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if self.pipeline.set_state(gst::State::Null).is_err() {
            tracing::debug!(camera = %self.camera, "Pipeline did not stop cleanly.");
        }
        // Messages hold references to elements; nobody reads them any more.
        self.bus.set_flushing(true);
    }
}

/// Whether a file that was looked through holds any video; one of unknown content may.
fn holds_video(streams: &gst::StreamCollection) -> bool {
    let known = gst::StreamType::AUDIO | gst::StreamType::TEXT | gst::StreamType::CONTAINER;
    streams.is_empty()
        || streams.iter().any(|stream| {
            let kind = stream.stream_type();
            kind.contains(gst::StreamType::VIDEO) || !kind.intersects(known)
        })
}

/// A frame's time in its stream: running time, which edit lists and start offsets do not disturb.
fn stream_time(sample: &gst::Sample, buffer: &gst::BufferRef) -> Option<Duration> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let time = segment.to_running_time(buffer.pts()?)?;
    Some(Duration::from_nanos(time.nseconds()))
}

/// A span as GStreamer counts it.
fn span(span: Duration) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX - 1))
}
