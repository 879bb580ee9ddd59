//! Which element decodes a codec on this machine.
//!
//! `Auto` takes the first of a list that starts, hardware before software. A decoder that was named is
//! that one or an error, never a silent fall-back: an operator who bought a board for its decoder must
//! learn that it stands idle.

use std::fmt;

use gstreamer::{self as gst, prelude::*};
use serde::{Deserialize, Serialize};

use super::reason::Reason;

/// A codec that cameras send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// H.264 (AVC).
    H264,
    /// H.265 (HEVC).
    H265,
    /// Motion JPEG.
    Mjpeg,
}

/// A decoder that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// GStreamer's name of the element.
    pub element: &'static str,
    /// Whether it decodes outside the processor.
    pub hardware: bool,
}

const fn hardware(element: &'static str) -> Known {
    Known { element, hardware: true }
}

const fn software(element: &'static str) -> Known {
    Known { element, hardware: false }
}

impl Codec {
    /// All of them.
    pub const ALL: [Codec; 3] = [Codec::H264, Codec::H265, Codec::Mjpeg];

    /// Known decoders in the order in which `Auto` tries them. `avdec_h264` stands before
    /// `openh264dec` because it is 2.3 times faster.
    pub fn decoders(self) -> &'static [Known] {
        const H264: [Known; 6] = [
            hardware("nvv4l2decoder"),
            hardware("nvh264dec"),
            hardware("vah264dec"),
            hardware("v4l2h264dec"),
            software("avdec_h264"),
            software("openh264dec"),
        ];
        const H265: [Known; 6] = [
            hardware("nvv4l2decoder"),
            hardware("nvh265dec"),
            hardware("vah265dec"),
            hardware("v4l2h265dec"),
            software("avdec_h265"),
            software("libde265dec"),
        ];
        const MJPEG: [Known; 4] = [
            hardware("nvjpegdec"),
            hardware("vajpegdec"),
            software("avdec_mjpeg"),
            software("jpegdec"),
        ];
        match self {
            Codec::H264 => &H264,
            Codec::H265 => &H265,
            Codec::Mjpeg => &MJPEG,
        }
    }

    /// What GStreamer calls it.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Codec::H264 => "video/x-h264",
            Codec::H265 => "video/x-h265",
            Codec::Mjpeg => "image/jpeg",
        }
    }

    /// The element that cuts its stream into frames.
    pub(super) fn parser(self) -> &'static str {
        match self {
            Codec::H264 => "h264parse",
            Codec::H265 => "h265parse",
            Codec::Mjpeg => "jpegparse",
        }
    }

    /// The codec of an encoded stream, `None` where it is another or none.
    pub(super) fn of(media_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.media_type() == media_type)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::H264 => "H.264",
            Codec::H265 => "H.265",
            Codec::Mjpeg => "MJPEG",
        })
    }
}

/// Which decoder was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum DecoderChoice {
    /// The best that starts here.
    #[default]
    Auto,
    /// On the processor.
    Software,
    /// This element and no other, by GStreamer's name.
    Named(String),
}

impl From<String> for DecoderChoice {
    fn from(name: String) -> Self {
        match name.as_str() {
            "auto" => DecoderChoice::Auto,
            "software" => DecoderChoice::Software,
            _ => DecoderChoice::Named(name),
        }
    }
}

impl From<DecoderChoice> for String {
    fn from(choice: DecoderChoice) -> String {
        choice.to_string()
    }
}

impl fmt::Display for DecoderChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecoderChoice::Auto => "auto",
            DecoderChoice::Software => "software",
            DecoderChoice::Named(name) => name,
        })
    }
}

impl DecoderChoice {
    /// Whether a named decoder exists and starts: known before any camera is asked for a stream.
    ///
    /// # Errors
    /// [`Reason::Decoder`] with what is wrong.
    pub fn check(&self) -> Result<(), Reason> {
        let DecoderChoice::Named(name) = self else { return Ok(()) };
        let decoder = ready(name).map_err(|problem| self.fault(problem))?;
        let decodes = decoder.factory().is_some_and(|factory| {
            // Those of Motion JPEG call themselves decoders of images.
            let media = gst::ElementFactoryType::MEDIA_VIDEO | gst::ElementFactoryType::MEDIA_IMAGE;
            factory.has_type(gst::ElementFactoryType::DECODER) && factory.has_type(media)
        });
        release(&decoder);
        if decodes { Ok(()) } else { Err(self.fault("is an element that decodes no video".into())) }
    }

    /// The element for a stream, in state READY and in no pipeline yet.
    pub(super) fn open(&self, codec: Codec) -> Result<gst::Element, Reason> {
        if let DecoderChoice::Named(name) = self {
            let decoder = ready(name).map_err(|problem| self.fault(problem))?;
            let caps = gst::Caps::new_empty_simple(codec.media_type());
            if decoder.factory().is_some_and(|factory| factory.can_sink_any_caps(&caps)) {
                return Ok(decoder);
            }
            release(&decoder);
            return Err(self.fault(format!("does not decode {codec}, which this source sends")));
        }
        let mut problems = Vec::new();
        for known in codec.decoders() {
            if known.hardware && *self == DecoderChoice::Software {
                continue;
            }
            match ready(known.element) {
                Ok(decoder) => return Ok(decoder),
                Err(problem) => problems.push(format!("{} {problem}", known.element)),
            }
        }
        Err(self.fault(format!("none decodes {codec} here: {}", problems.join("; "))))
    }

    fn fault(&self, problem: String) -> Reason {
        Reason::Decoder { name: self.to_string(), problem }
    }
}

/// Makes an element and brings it to READY, where it opens its hardware.
///
/// # Errors
/// Why it cannot be used, to follow the element's name in a sentence.
pub(crate) fn ready(name: &str) -> Result<gst::Element, String> {
    gst::init()
        .map_err(|error| format!("cannot be asked for: GStreamer does not start ({error})"))?;
    let factory = gst::ElementFactory::find(name).ok_or("is not installed")?;
    let element = factory.create().build().map_err(|error| format!("cannot be made ({error})"))?;
    // Its own bus carries the sentence in which it says what it lacks.
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    let started = element.set_state(gst::State::Ready);
    let said = bus.pop_filtered(&[gst::MessageType::Error]);
    element.set_bus(None);
    if started.is_ok() {
        return Ok(element);
    }
    release(&element);
    Err(match said.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => format!("does not start ({})", error.error()),
        _ => "does not start (its device or driver is missing)".into(),
    })
}

/// Lets go of an element that is in no pipeline. It runs no thread yet, so this cannot block.
pub(crate) fn release(element: &gst::Element) {
    if element.set_state(gst::State::Null).is_err() {
        tracing::debug!(element = %element.name(), "Element did not stop cleanly.");
    }
}
