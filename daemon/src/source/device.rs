//! Pixels that lie in a device's memory and cannot be mapped, as a Jetson's decoder leaves them
//! (NVMM): the device's own converter cuts and scales, and only the result is copied out.
//!
//! One small pipeline does it: `appsrc ! crop and scale ! appsink`. Whole frames at a detector's size
//! keep theirs from frame to frame; a person's crop builds one, because not every converter takes a
//! new rectangle while it runs, and a rectangle that is silently ignored would embed the wrong person.
//!
//! The Jetson's converter (`nvvidconv`) has not run on a board yet: only the generic one, which uses the
//! same code with elements that are everywhere, is tested.

use std::sync::{Arc, Mutex, PoisonError};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;
use spotter_models::Rgb;

use crate::{
    error::{Error, Result},
    frame::Pixels,
    geometry::PixelRect,
};

/// How long one conversion may take: a device that needs more hangs.
const LONGEST: gst::ClockTime = gst::ClockTime::from_seconds(2);

/// Which elements cut and scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Converter {
    /// `nvvidconv`, for NVMM on a Jetson. Not run on a board yet.
    Jetson,
    /// `videocrop` and `videoconvertscale`, for memory that any processor reads.
    Generic,
}

impl Converter {
    /// The elements that cut `rect` out of a frame of `frame` pixels (width, height).
    fn description(self, rect: PixelRect, frame: (u32, u32)) -> String {
        let (right, bottom) = (rect.x + rect.width, rect.y + rect.height);
        match self {
            // Edges of the rectangle, in pixels from the left and from the top.
            Converter::Jetson => {
                format!("nvvidconv left={} right={right} top={} bottom={bottom}", rect.x, rect.y)
            }
            // Pixels to remove at each side.
            Converter::Generic => format!(
                "videocrop left={} right={} top={} bottom={} ! videoconvertscale method=bilinear \
                 add-borders=false",
                rect.x,
                frame.0.saturating_sub(right),
                rect.y,
                frame.1.saturating_sub(bottom)
            ),
        }
    }
}

/// A running conversion of one kind of frame, cut and size.
struct Running {
    key: (gst::Caps, PixelRect, u32, u32),
    pipeline: gst::Element,
    source: gst_app::AppSrc,
    sink: gst_app::AppSink,
}

impl Running {
    fn start(
        converter: Converter,
        caps: &gst::Caps,
        frame: (u32, u32),
        (rect, width, height): (PixelRect, u32, u32),
    ) -> Result<Self> {
        let fail = |error: gst::glib::Error| Error::internal("device converter", error);
        let description = format!(
            "appsrc name=in is-live=false format=time max-buffers=1 ! {} ! \
             video/x-raw,format=BGRx,width={width},height={height},pixel-aspect-ratio=1/1 ! \
             appsink name=out sync=false max-buffers=1",
            converter.description(rect, frame)
        );
        let pipeline = gst::parse::launch(&description).map_err(fail)?;
        let part =
            |name: &str| pipeline.downcast_ref::<gst::Bin>().and_then(|bin| bin.by_name(name));
        let source = part("in").and_then(|element| element.downcast::<gst_app::AppSrc>().ok());
        let sink = part("out").and_then(|element| element.downcast::<gst_app::AppSink>().ok());
        let (Some(source), Some(sink)) = (source, sink) else {
            return Err(Error::internal("device converter", "its ends are missing"));
        };
        source.set_caps(Some(caps));
        let running = Self { key: (caps.clone(), rect, width, height), pipeline, source, sink };
        running
            .pipeline
            .set_state(gst::State::Playing)
            .map_err(|error| Error::internal("device converter", error))?;
        Ok(running)
    }

    /// Converts one frame to tightly packed RGB.
    fn convert(&self, buffer: &gst::Buffer) -> Result<Rgb> {
        let fail = |what: String| Error::internal("device converter", what);
        self.source.push_buffer(buffer.clone()).map_err(|error| fail(error.to_string()))?;
        let sample = self.sink.try_pull_sample(LONGEST).ok_or_else(|| fail(self.complaint()))?;
        let (Some(buffer), Some(caps)) = (sample.buffer(), sample.caps()) else {
            return Err(fail("gave an empty sample".into()));
        };
        let info = gstreamer_video::VideoInfo::from_caps(caps).map_err(|e| fail(e.to_string()))?;
        let (_, _, width, height) = self.key;
        if (info.width(), info.height()) != (width, height) {
            return Err(fail(format!("gave {}x{}", info.width(), info.height())));
        }
        let frame = gstreamer_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)
            .map_err(|error| fail(error.to_string()))?;
        super::pixels::pack_padded(&frame)
    }

    /// What the pipeline says about a frame that did not come out.
    fn complaint(&self) -> String {
        let error =
            self.pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
        match error.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(error)) => error.error().to_string(),
            _ => format!("gave nothing for {} s", LONGEST.seconds()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.pipeline.set_state(gst::State::Null).is_err() {
            tracing::debug!("Device converter did not stop cleanly.");
        }
    }
}

/// Shared by the frames of one pipeline: holds the running conversion of whole frames.
pub struct DeviceConverter {
    converter: Converter,
    whole: Mutex<Option<Running>>,
}

impl DeviceConverter {
    /// Builds nothing yet: the first frame does.
    pub fn new(converter: Converter) -> Arc<Self> {
        Arc::new(Self { converter, whole: Mutex::new(None) })
    }
}

/// One frame in a device's memory.
pub struct DevicePixels {
    caps: gst::Caps,
    buffer: gst::Buffer,
    size: (u32, u32),
    shared: Arc<DeviceConverter>,
}

impl DevicePixels {
    /// `size` is the frame's width and height in pixels, as in `caps`.
    pub fn new(
        caps: gst::Caps,
        buffer: gst::Buffer,
        size: (u32, u32),
        shared: Arc<DeviceConverter>,
    ) -> Self {
        Self { caps, buffer, size, shared }
    }
}

impl Pixels for DevicePixels {
    fn scaled(&self, width: u32, height: u32) -> Result<Rgb> {
        let rect = PixelRect { x: 0, y: 0, width: self.size.0, height: self.size.1 };
        let mut whole = self.shared.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self.caps.clone(), rect, width, height);
        // Taken out and put back only where it worked: a broken conversion is built anew.
        let running = match whole.take() {
            Some(running) if running.key == key => running,
            _ => {
                Running::start(self.shared.converter, &self.caps, self.size, (rect, width, height))?
            }
        };
        let picture = running.convert(&self.buffer)?;
        *whole = Some(running);
        Ok(picture)
    }

    fn region(&self, rect: PixelRect) -> Result<Rgb> {
        super::pixels::check_region(rect, self.size)?;
        Running::start(
            self.shared.converter,
            &self.caps,
            self.size,
            (rect, rect.width, rect.height),
        )?
        .convert(&self.buffer)
    }
}
