//! Pixels of a frame in system memory, converted only when and where they are asked for.

use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer_video::{
    VideoColorimetry, VideoConverter, VideoConverterConfig, VideoDitherMethod, VideoFormat,
    VideoFrameExt, VideoFrameRef, VideoInfo, VideoResamplerMethod,
};
use spotter_models::Rgb;

use crate::{
    error::{Error, Result},
    frame::Pixels,
    geometry::PixelRect,
};

/// Converters of whole frames that are kept: one per size that consumers ask for, and those are few (a
/// detector's input, a thumbnail).
const KEPT: usize = 4;

/// One kept converter.
struct Kept {
    input: VideoInfo,
    size: (u32, u32),
    converter: VideoConverter,
}

/// The converters of one source, shared by its frames: building one costs as much as using it.
#[derive(Default)]
pub struct Converters {
    kept: Mutex<Vec<Kept>>,
}

impl Converters {
    /// None built yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Takes a converter out; it is put back after use, so that no lock is held meanwhile.
    fn take(&self, input: &VideoInfo, size: (u32, u32)) -> Option<VideoConverter> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let index = kept.iter().position(|kept| kept.size == size && kept.input == *input)?;
        Some(kept.swap_remove(index).converter)
    }

    fn put(&self, input: &VideoInfo, size: (u32, u32), converter: VideoConverter) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // After a change of the stream the old ones never fit again.
        kept.retain(|kept| kept.input == *input);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(Kept { input: input.clone(), size, converter });
    }
}

/// One frame whose memory the processor can read.
pub struct SystemPixels {
    info: VideoInfo,
    buffer: gst::Buffer,
    converters: Arc<Converters>,
}

impl SystemPixels {
    /// `info` describes `buffer`; nothing is mapped before pixels are asked for.
    pub fn new(info: VideoInfo, buffer: gst::Buffer, converters: Arc<Converters>) -> Self {
        Self { info, buffer, converters }
    }

    fn convert(&self, converter: &VideoConverter, output: &VideoInfo) -> Result<Rgb> {
        let fail = |error: gst::glib::BoolError| Error::internal("pixels of a frame", error);
        let input =
            VideoFrameRef::from_buffer_ref_readable(&self.buffer, &self.info).map_err(fail)?;
        let mut buffer = gst::Buffer::with_size(output.size()).map_err(fail)?;
        let writable = buffer
            .get_mut()
            .ok_or_else(|| Error::internal("pixels of a frame", "a new buffer is shared"))?;
        let mut frame = VideoFrameRef::from_buffer_ref_writable(writable, output).map_err(fail)?;
        converter.frame_ref(&input, &mut frame);
        let data = frame.plane_data(0).map_err(fail)?;
        let bytes = output.width() as usize * output.height() as usize * 3;
        let data = data.get(..bytes).unwrap_or_default().to_vec();
        Ok(Rgb::new(output.width(), output.height(), data)?)
    }
}

impl Pixels for SystemPixels {
    fn scaled(&self, width: u32, height: u32) -> Result<Rgb> {
        let output = tight_rgb(&self.info, width, height)?;
        let size = (width, height);
        let converter = match self.converters.take(&self.info, size) {
            Some(converter) => converter,
            None => build(&self.info, &output, None)?,
        };
        let picture = self.convert(&converter, &output);
        self.converters.put(&self.info, size, converter);
        picture
    }

    fn region(&self, rect: PixelRect) -> Result<Rgb> {
        check_region(rect, (self.info.width(), self.info.height()))?;
        let output = tight_rgb(&self.info, rect.width, rect.height)?;
        let converter = build(&self.info, &output, Some(rect))?;
        self.convert(&converter, &output)
    }
}

/// A rectangle that does not lie inside the frame is a caller's bug, and reading there would be worse.
pub(super) fn check_region(rect: PixelRect, (width, height): (u32, u32)) -> Result<()> {
    let inside = |start: u32, span: u32, limit: u32| {
        span > 0 && start.checked_add(span).is_some_and(|end| end <= limit)
    };
    if inside(rect.x, rect.width, width) && inside(rect.y, rect.height, height) {
        return Ok(());
    }
    Err(Error::internal(
        "region of a frame",
        format!(
            "{}x{} at {},{} lies outside of {width}x{height}",
            rect.width, rect.height, rect.x, rect.y
        ),
    ))
}

/// RGB without padding between rows, as [`Rgb`] wants it.
fn tight_rgb(input: &VideoInfo, width: u32, height: u32) -> Result<VideoInfo> {
    let fail = |error: &dyn std::fmt::Display| Error::internal("picture size", error);
    let stride = i32::try_from(u64::from(width) * 3).map_err(|error| fail(&error))?;
    VideoInfo::builder(VideoFormat::Rgb, width, height)
        .fps(input.fps())
        .interlace_mode(input.interlace_mode())
        .colorimetry(&VideoColorimetry::new(
            gstreamer_video::VideoColorRange::Range0_255,
            gstreamer_video::VideoColorMatrix::Rgb,
            input.colorimetry().transfer(),
            input.colorimetry().primaries(),
        ))
        .stride(&[stride])
        .offset(&[0])
        .size(width as usize * height as usize * 3)
        .build()
        .map_err(|error| fail(&error))
}

/// A converter of a whole frame or a part of it.
fn build(input: &VideoInfo, output: &VideoInfo, part: Option<PixelRect>) -> Result<VideoConverter> {
    let mut config = VideoConverterConfig::new();
    config.set_resampler_method(VideoResamplerMethod::Linear);
    config.set_dither_method(VideoDitherMethod::None);
    if let Some(rect) = part {
        let side = |pixels: u32| {
            i32::try_from(pixels).map_err(|error| Error::internal("region of a frame", error))
        };
        config.set_src_x(side(rect.x)?);
        config.set_src_y(side(rect.y)?);
        config.set_src_width(Some(side(rect.width)?));
        config.set_src_height(Some(side(rect.height)?));
    }
    VideoConverter::new(input, output, Some(config))
        .map_err(|error| Error::internal(format!("conversion of {} to RGB", input.format()), error))
}

/// Copies a mapped RGBA frame to tightly packed RGB.
pub(super) fn pack_rgba(frame: &VideoFrameRef<&gst::BufferRef>) -> Result<Rgb> {
    let fail = |error: &dyn std::fmt::Display| Error::internal("pixels of a frame", error);
    let stride = frame.plane_stride().first().copied().unwrap_or(0);
    let stride = usize::try_from(stride).map_err(|error| fail(&error))?;
    let row_bytes = frame.width() as usize * 4;
    if stride < row_bytes {
        return Err(fail(&"rows overlap"));
    }
    let data = frame.plane_data(0).map_err(|error| fail(&error))?;
    let mut packed = Vec::with_capacity(frame.width() as usize * frame.height() as usize * 3);
    for row in data.chunks(stride).take(frame.height() as usize) {
        let row = row.get(..row_bytes).ok_or_else(|| fail(&"a row is cut off"))?;
        for pixel in row.as_chunks::<4>().0 {
            packed.extend_from_slice(&[pixel[0], pixel[1], pixel[2]]);
        }
    }
    Ok(Rgb::new(frame.width(), frame.height(), packed)?)
}
