//! Encoded video in memory: what the RTSP server sends round and round.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;

/// Frames a second at which every clip is sent; 10, as the recordings in `tests/data` have it.
pub const FPS: u32 = 10;

/// How a clip is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Width and height; the recording's own where there are none.
    pub size: Option<(u32, u32)>,
    /// Frames a second.
    pub fps: u32,
    /// Seconds between two key frames.
    pub keys_s: u32,
    /// Kilobits a second, about.
    pub kbps: u32,
}

impl Default for Form {
    fn default() -> Self {
        Self { size: None, fps: FPS, keys_s: 1, kbps: 1500 }
    }
}

/// How long encoding may stand still.
const STUCK: gst::ClockTime = gst::ClockTime::from_seconds(60);

/// What a clip is encoded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// H.264.
    H264,
    /// H.265.
    H265,
    /// Motion JPEG.
    Mjpeg,
}

impl std::str::FromStr for Codec {
    type Err = anyhow::Error;
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "h264" => Ok(Codec::H264),
            "h265" => Ok(Codec::H265),
            "mjpeg" => Ok(Codec::Mjpeg),
            _ => bail!("codec {name}: must be h264, h265 or mjpeg"),
        }
    }
}

impl Codec {
    /// The name that [`str::parse`] takes, and a prepared clip's file extension.
    pub fn name(self) -> &'static str {
        match self {
            Codec::H264 => "h264",
            Codec::H265 => "h265",
            Codec::Mjpeg => "mjpeg",
        }
    }

    fn encoder(self, form: &Form) -> String {
        let (keys, kbps) = (form.fps * form.keys_s, form.kbps);
        match self {
            Codec::H264 => format!(
                "x264enc speed-preset=ultrafast tune=zerolatency key-int-max={keys} \
                 threads=1 bitrate={kbps} ! video/x-h264,profile=constrained-baseline"
            ),
            Codec::H265 => format!(
                "x265enc speed-preset=ultrafast tune=zerolatency key-int-max={keys} \
                 bitrate={kbps} log-level=none"
            ),
            Codec::Mjpeg => "videoconvert ! video/x-raw,format=I420 ! jpegenc quality=80".into(),
        }
    }

    fn parser(self) -> &'static str {
        match self {
            Codec::H264 => {
                "h264parse config-interval=-1 ! \
                 video/x-h264,stream-format=byte-stream,alignment=au"
            }
            Codec::H265 => {
                "h265parse config-interval=-1 ! \
                 video/x-h265,stream-format=byte-stream,alignment=au"
            }
            Codec::Mjpeg => "jpegparse",
        }
    }

    /// The payloader's description.
    pub(crate) fn payloader(self) -> &'static str {
        match self {
            Codec::H264 => "h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1",
            Codec::H265 => "h265parse ! rtph265pay name=pay0 pt=96 config-interval=-1",
            Codec::Mjpeg => "rtpjpegpay name=pay0 pt=26",
        }
    }
}

/// Encoded frames in the order in which they are sent, each complete, the first a key frame.
pub struct Clip {
    /// What they are encoded as.
    pub codec: Codec,
    /// GStreamer's format of the frames.
    pub caps: gst::Caps,
    /// The frames.
    pub frames: Vec<gst::Buffer>,
    /// Frames a second at which it is sent.
    pub fps: u32,
}

impl Clip {
    /// Takes a prepared clip as it is (`.h264`, `.h265`, `.mjpeg`); encodes anything else.
    ///
    /// `sizes` are the frame sizes of equal parts of the clip; the recording's own where it is empty.
    ///
    /// # Errors
    /// Where the file cannot be decoded or GStreamer lacks an encoder.
    pub fn load(file: &Path, codec: Codec, sizes: &[(u32, u32)]) -> Result<Self> {
        gst::init()?;
        let extension = file.extension().and_then(|extension| extension.to_str());
        let location = format!("filesrc location={:?}", file.display().to_string());
        if extension == Some(codec.name()) && sizes.is_empty() {
            return collect(codec, FPS, &format!("{location} ! {}", codec.parser()));
        }
        if sizes.is_empty() {
            return Self::encode(file, codec, &Form::default());
        }
        let mut joined: Option<Clip> = None;
        for (index, size) in sizes.iter().enumerate() {
            let form = Form { size: Some(*size), ..Form::default() };
            let part = Self::encode(file, codec, &form)?;
            let (from, to) = (index * part.frames.len(), (index + 1) * part.frames.len());
            let key = |at: usize| next_key(&part.frames, at / sizes.len());
            let frames = part.frames.get(key(from)..key(to)).unwrap_or_default().to_vec();
            match &mut joined {
                None => joined = Some(Clip { frames, ..part }),
                Some(joined) => joined.frames.extend(frames),
            }
        }
        joined.ok_or_else(|| anyhow!("no sizes"))
    }

    /// Encodes a recording.
    ///
    /// # Errors
    /// As [`Clip::load`].
    pub fn encode(file: &Path, codec: Codec, form: &Form) -> Result<Self> {
        gst::init()?;
        let scale = form.size.map(|(width, height)| {
            format!(",width={width},height={height},pixel-aspect-ratio=1/1")
        });
        let description = format!(
            "filesrc location={:?} ! decodebin ! videoconvert ! videorate ! videoscale ! \
             video/x-raw,framerate={}/1{} ! {} ! {}",
            file.display().to_string(),
            form.fps,
            scale.unwrap_or_default(),
            codec.encoder(form),
            codec.parser()
        );
        collect(codec, form.fps, &description)
    }

    /// Writes the clip so that [`Clip::load`] takes it as it is.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, file: &Path) -> Result<()> {
        let mut bytes = Vec::new();
        for frame in &self.frames {
            bytes.extend_from_slice(frame.map_readable()?.as_slice());
        }
        std::fs::write(file, bytes).with_context(|| file.display().to_string())
    }

    /// Time between two frames.
    pub fn interval() -> Duration {
        Duration::from_secs(1) / FPS
    }
}

/// The first key frame at or behind `index`, else the end.
fn next_key(frames: &[gst::Buffer], index: usize) -> usize {
    let is_key = |frame: &gst::Buffer| !frame.flags().contains(gst::BufferFlags::DELTA_UNIT);
    frames.iter().skip(index).position(is_key).map_or(frames.len(), |found| index + found)
}

/// Runs a pipeline to its end and keeps what comes out.
fn collect(codec: Codec, fps: u32, description: &str) -> Result<Clip> {
    let description = format!("{description} ! appsink name=out sync=false max-buffers=8");
    let pipeline = gst::parse::launch(&description).with_context(|| description.clone())?;
    let sink = pipeline
        .downcast_ref::<gst::Bin>()
        .and_then(|bin| bin.by_name("out"))
        .and_then(|sink| sink.downcast::<gst_app::AppSink>().ok())
        .context("no appsink")?;
    pipeline.set_state(gst::State::Playing)?;
    let mut frames = Vec::new();
    let mut caps = None;
    while let Some(sample) = sink.try_pull_sample(STUCK) {
        caps = caps.or_else(|| sample.caps_owned());
        frames.extend(sample.buffer_owned());
    }
    let error = pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
    pipeline.set_state(gst::State::Null)?;
    if let Some(gst::MessageView::Error(error)) = error.as_ref().map(|message| message.view()) {
        bail!("{description}: {} ({:?})", error.error(), error.debug());
    }
    match caps {
        Some(caps) if !frames.is_empty() => Ok(Clip { codec, caps, frames, fps }),
        _ => bail!("{description}: no frame"),
    }
}
