//! The first and the last elements of a pipeline, by the kind of source.

use std::{
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use gstreamer::{self as gst, element_factory::ElementBuilder, prelude::*};
use gstreamer_app as gst_app;

use super::{
    link::Linker,
    pipeline::{Lower, Opening},
    reason::Reason,
    spec::{Credentials, Fps, FrameSize, Pace, RtspUrl, SourceSpec, Transport},
};

/// Span over which UDP packets that overtook each other are put in order again, in milliseconds.
/// GStreamer's default of 2 s delays everything behind a lost packet by that much.
const REORDER_MS: u32 = 200;

/// How long a server may take to hear that we leave.
const GOODBYE: Duration = Duration::from_millis(100);

/// The sink that frames are pulled from.
///
/// It never drops: the owner pulls at once and does nothing slow, and what the consumer is too slow for
/// is replaced, and counted, in the slot. A sink that drops for live sources as well loses one of two
/// frames that arrive together, which TCP does to every stream, and does not say how many it lost.
pub(super) fn sink(spec: &SourceSpec) -> gst_app::AppSink {
    let paced = matches!(spec, SourceSpec::File { pace: Pace::RealTime, .. });
    let sink = gst_app::AppSink::builder()
        .max_buffers(1)
        .drop(false)
        .sync(paced)
        .enable_last_sample(false)
        .wait_on_eos(false)
        .build();
    // Never slows or skips in the decoder for a frame that is late: which are used is decided later.
    sink.set_qos(false);
    sink
}

/// Whether frames of this format lie in memory that the processor reads.
pub(super) fn is_mappable(caps: &gst::CapsRef) -> bool {
    caps.features(0).is_none_or(|features| !features.contains("memory:NVMM"))
}

/// Adds the source and what leads to the decoder.
pub(super) fn source(
    pipeline: &gst::Pipeline,
    linker: &Arc<Linker>,
    opening: &Opening<'_>,
) -> Result<(), Reason> {
    let parts = Parts { pipeline, place: opening.spec.place() };
    match opening.spec {
        SourceSpec::Rtsp { url, transport, credentials_file } => {
            let source = rtsp(&parts, opening, url, *transport)?;
            if let Some(path) = credentials_file {
                let credentials = Credentials::read(path)?;
                source.set_property("user-id", credentials.user);
                source.set_property("user-pw", credentials.password);
            }
            linker.watch_rtsp(&source);
            Ok(())
        }
        SourceSpec::File { path, .. } => {
            readable(path)?;
            let source = parts.add("filesrc", |builder| builder.property("location", path))?;
            parse(&parts, linker, &source)
        }
        SourceSpec::V4l2 { device, size, fps } => {
            readable_device(device)?;
            let name = device.display().to_string();
            let source = parts.add("v4l2src", |builder| builder.property("device", name))?;
            let asked = device_caps(*size, *fps);
            let filter = parts.add("capsfilter", |builder| builder.property("caps", asked))?;
            source.link(&filter).map_err(|error| parts.internal(error))?;
            parse(&parts, linker, &filter)
        }
        SourceSpec::Test { pattern, size, fps } => test(&parts, linker, pattern, *size, *fps),
    }
}

/// Where elements are added, and how errors call it.
struct Parts<'a> {
    pipeline: &'a gst::Pipeline,
    place: String,
}

impl Parts<'_> {
    fn add<'b>(
        &self,
        name: &'static str,
        set: impl FnOnce(ElementBuilder<'b>) -> ElementBuilder<'b>,
    ) -> Result<gst::Element, Reason> {
        let element = set(gst::ElementFactory::make(name)).build().map_err(|error| {
            self.internal(format!("GStreamer's element {name} is not installed ({error})"))
        })?;
        self.pipeline.add(&element).map_err(|error| self.internal(error))?;
        Ok(element)
    }

    fn internal(&self, problem: impl std::fmt::Display) -> Reason {
        Reason::Internal { place: self.place.clone(), problem: problem.to_string() }
    }
}

fn rtsp(
    parts: &Parts<'_>,
    opening: &Opening<'_>,
    url: &RtspUrl,
    transport: Transport,
) -> Result<gst::Element, Reason> {
    let timeout = u64::try_from(opening.connect_timeout.as_micros()).unwrap_or(u64::MAX);
    let lower = match (transport, opening.lower) {
        (Transport::Tcp, _) | (Transport::Auto, Lower::Tcp) => "tcp",
        (Transport::Udp, _) | (Transport::Auto, Lower::Udp) => "udp",
    };
    parts.add("rtspsrc", |builder| {
        builder
            .property("location", url.secret())
            .property_from_str("protocols", lower)
            .property("latency", REORDER_MS)
            .property("tcp-timeout", timeout)
            .property("timeout", timeout)
            .property("teardown-timeout", GOODBYE.as_nanos() as u64)
            // A lost control connection ends the pipeline, which is then built anew: quicker and
            // better tested than the element's own attempts.
            .property("udp-reconnect", false)
    })
}

/// Finds out what `source` gives and links the video in it.
fn parse(parts: &Parts<'_>, linker: &Arc<Linker>, source: &gst::Element) -> Result<(), Reason> {
    let parser = parts.add("parsebin", |builder| builder)?;
    source.link(&parser).map_err(|error| parts.internal(error))?;
    linker.watch_parser(&parser);
    Ok(())
}

fn test(
    parts: &Parts<'_>,
    linker: &Arc<Linker>,
    pattern: &str,
    size: FrameSize,
    fps: Fps,
) -> Result<(), Reason> {
    let source = parts.add("videotestsrc", |builder| builder.property("is-live", true))?;
    source
        .set_property_from_value("pattern", &known_pattern(&source, pattern, parts.place.clone())?);
    let caps = raw(Some(size), Some(fps)).field("format", "I420").build();
    let filter = parts.add("capsfilter", |builder| builder.property("caps", caps))?;
    source.link(&filter).map_err(|error| parts.internal(error))?;
    linker.link_raw(&filter)
}

/// A pattern by the name that GStreamer has for it.
fn known_pattern(
    source: &gst::Element,
    pattern: &str,
    place: String,
) -> Result<gst::glib::Value, Reason> {
    let known = source
        .find_property("pattern")
        .and_then(|property| gst::glib::EnumClass::with_type(property.value_type()))
        .and_then(|class| class.to_value_by_nick(pattern));
    known.ok_or_else(|| Reason::Missing {
        place,
        problem: "GStreamer's videotestsrc has no such pattern".into(),
    })
}

/// What a device is asked for: frames as they are, or as JPEG, which is how USB cameras send large
/// ones.
fn device_caps(size: Option<FrameSize>, fps: Option<Fps>) -> gst::Caps {
    let mut caps = gst::Caps::new_empty();
    let asked = caps.make_mut();
    for format in [raw(size, fps).build(), described("image/jpeg", size, fps).build()] {
        asked.append(format);
    }
    caps
}

fn raw(size: Option<FrameSize>, fps: Option<Fps>) -> gst::caps::Builder<gst::caps::NoFeature> {
    described("video/x-raw", size, fps)
}

fn described(
    name: &str,
    size: Option<FrameSize>,
    fps: Option<Fps>,
) -> gst::caps::Builder<gst::caps::NoFeature> {
    let side = |pixels: u32| i32::try_from(pixels).unwrap_or(i32::MAX);
    gst::Caps::builder(name)
        .field_if_some("width", size.map(|size| side(size.width())))
        .field_if_some("height", size.map(|size| side(size.height())))
        .field_if_some("framerate", fps.map(|fps| gst::Fraction::new(side(fps.get()), 1)))
}

/// The system's own words for a file that cannot be opened are better than GStreamer's.
fn readable(path: &Path) -> Result<(), Reason> {
    let missing = |problem: String| Reason::Missing { place: path.display().to_string(), problem };
    // Before it is opened: opening a pipe waits for somebody to write.
    let about = std::fs::metadata(path).map_err(|error| missing(error.to_string()))?;
    if !about.is_file() {
        return Err(missing("is no file but a folder, device or pipe".into()));
    }
    std::fs::File::open(path).map_err(|error| missing(error.to_string()))?;
    if about.len() == 0 {
        return Err(Reason::NotAVideo {
            place: path.display().to_string(),
            problem: "the file is empty".into(),
        });
    }
    Ok(())
}

fn readable_device(path: &Path) -> Result<(), Reason> {
    let missing = |problem: String| Reason::Missing { place: path.display().to_string(), problem };
    let about = std::fs::metadata(path).map_err(|error| missing(error.to_string()))?;
    // Major number 81 is Video4Linux's for all drivers.
    let is_video = about.file_type().is_char_device() && rustix::fs::major(about.rdev()) == 81;
    if is_video { Ok(()) } else { Err(missing("is no camera's device file".into())) }
}

/// What can be said of a source without opening it: whether the file or device is there, and the test
/// pattern known.
///
/// # Errors
/// The reason that opening it would give.
pub fn present(spec: &SourceSpec) -> Result<(), Reason> {
    match spec {
        SourceSpec::Rtsp { credentials_file, .. } => {
            credentials_file.as_ref().map_or(Ok(()), |path| Credentials::read(path).map(drop))
        }
        SourceSpec::File { path, .. } => readable(path),
        SourceSpec::V4l2 { device, .. } => readable_device(device),
        SourceSpec::Test { pattern, .. } => {
            let internal = |problem: String| Reason::Internal { place: spec.place(), problem };
            gst::init().map_err(|error| internal(error.to_string()))?;
            let source = gst::ElementFactory::make("videotestsrc").build().map_err(|error| {
                internal(format!("GStreamer's element videotestsrc is not installed ({error})"))
            })?;
            known_pattern(&source, pattern, spec.place()).map(drop)
        }
    }
}
