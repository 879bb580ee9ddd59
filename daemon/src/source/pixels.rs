//! Pixels of a frame in system memory, converted only when and where they are asked for.
//!
//! A person's crop is converted alone: 0.11 ms for 120x300 of a 1280x720 frame, half of it building the
//! converter, where the whole frame to RGB costs 1.2 ms (I420) to 1.8 ms (NV12).
//!
//! A detector's input is the whole frame, and there the order matters. From 1280x720 to RGB 416x416, I420
//! and NV12, in milliseconds:
//!
//! | way | I420 | NV12 |
//! |---|---|---|
//! | one `VideoConverter` that scales and converts | 2.3 | 2.2 |
//! | `VideoConverter` to RGB, then `fast_image_resize` | 1.8 | 2.3 |
//! | each plane by `fast_image_resize`, then `VideoConverter` | 1.6 | not tried |
//! | `VideoConverter` to BGRx, `fast_image_resize`, packing (this module) | 1.4 | 2.1 |
//!
//! I420 is what software decoders give, and GStreamer has a vector path from it to BGRx. Measured on an
//! x86-64 build machine with two busy cores, on one of them, best of 60: `cargo test --release
//! --workspace --test pixels -- --ignored --nocapture`.

use std::sync::{Arc, Mutex, PoisonError};

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use gstreamer as gst;
use gstreamer_video::{
    VideoColorMatrix, VideoColorRange, VideoColorimetry, VideoConverter, VideoConverterConfig,
    VideoDitherMethod, VideoFormat, VideoFrameExt, VideoFrameRef, VideoInfo, VideoResamplerMethod,
};
use spotter_models::Rgb;

use crate::{
    error::{Error, Result},
    frame::Pixels,
    geometry::PixelRect,
};

/// Converts whole frames of one format: kept, because building a converter costs as much as using it
/// and fresh memory for a large frame costs page faults.
struct Whole {
    input: VideoInfo,
    output: VideoInfo,
    converter: VideoConverter,
    scratch: gst::Buffer,
    resizer: Resizer,
}

impl Whole {
    fn build(input: &VideoInfo) -> Result<Self> {
        let output = four_bytes(input)?;
        let scratch = gst::Buffer::with_size(output.size()).map_err(fail)?;
        let converter = build(input, &output, None)?;
        Ok(Self { input: input.clone(), output, converter, scratch, resizer: Resizer::new() })
    }

    fn scaled(&mut self, buffer: &gst::BufferRef, width: u32, height: u32) -> Result<Rgb> {
        let (from_width, from_height) = (self.output.width(), self.output.height());
        let input = VideoFrameRef::from_buffer_ref_readable(buffer, &self.input).map_err(fail)?;
        let scratch = self.scratch.get_mut().ok_or_else(|| fail("a kept buffer is shared"))?;
        let mut whole =
            VideoFrameRef::from_buffer_ref_writable(scratch, &self.output).map_err(fail)?;
        self.converter.frame_ref(&input, &mut whole);
        let data = whole.plane_data(0).map_err(fail)?;
        let data = data.get(..from_width as usize * from_height as usize * 4).unwrap_or_default();
        if (width, height) == (from_width, from_height) {
            return pack(width, height, data);
        }
        let from = ImageRef::new(from_width, from_height, data, PixelType::U8x4).map_err(fail)?;
        let mut to = Image::new(width, height, PixelType::U8x4);
        // Averages where it makes smaller, as Pillow's and torchvision's bilinear do.
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
            .use_alpha(false);
        self.resizer.resize(&from, &mut to, &options).map_err(fail)?;
        pack(width, height, to.buffer())
    }
}

/// What the frames of one source share: the converter of whole frames.
#[derive(Default)]
pub struct Converters {
    whole: Mutex<Option<Whole>>,
}

impl Converters {
    /// None built yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Takes the converter out, so that no lock is held while it works; another thread that wants one
    /// at the same time builds its own.
    fn take(&self, input: &VideoInfo) -> Result<Whole> {
        let kept = self.whole.lock().unwrap_or_else(PoisonError::into_inner).take();
        // After a change of the stream the old one never fits again.
        kept.filter(|whole| whole.input == *input).map_or_else(|| Whole::build(input), Ok)
    }

    fn put(&self, whole: Whole) {
        *self.whole.lock().unwrap_or_else(PoisonError::into_inner) = Some(whole);
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
}

impl SystemPixels {
    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.info.width(), self.info.height())
    }
}

impl Pixels for SystemPixels {
    fn scaled(&self, width: u32, height: u32) -> Result<Rgb> {
        let mut whole = self.converters.take(&self.info)?;
        let picture = whole.scaled(&self.buffer, width, height);
        self.converters.put(whole);
        picture
    }

    fn region(&self, rect: PixelRect) -> Result<Rgb> {
        check_region(rect, (self.info.width(), self.info.height()))?;
        let output = tight_rgb(&self.info, rect.width, rect.height)?;
        let converter = build(&self.info, &output, Some(rect))?;
        let input =
            VideoFrameRef::from_buffer_ref_readable(&self.buffer, &self.info).map_err(fail)?;
        let mut buffer = gst::Buffer::with_size(output.size()).map_err(fail)?;
        let writable = buffer.get_mut().ok_or_else(|| fail("a new buffer is shared"))?;
        let mut frame = VideoFrameRef::from_buffer_ref_writable(writable, &output).map_err(fail)?;
        converter.frame_ref(&input, &mut frame);
        let data = frame.plane_data(0).map_err(fail)?;
        let bytes = output.width() as usize * output.height() as usize * 3;
        let data = data.get(..bytes).unwrap_or_default().to_vec();
        Ok(Rgb::new(output.width(), output.height(), data)?)
    }
}

/// For `map_err`: a step on mapped memory that fails by a bug or for want of memory.
fn fail(error: impl std::fmt::Display) -> Error {
    Error::internal("pixels of a frame", error)
}

/// Packs B G R x pixels without padding to R G B.
fn pack(width: u32, height: u32, data: &[u8]) -> Result<Rgb> {
    let mut packed = Vec::with_capacity(width as usize * height as usize * 3);
    for [blue, green, red, _] in data.as_chunks::<4>().0 {
        packed.extend_from_slice(&[*red, *green, *blue]);
    }
    Ok(Rgb::new(width, height, packed)?)
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

/// The frame as B G R x at its own size; rows have no padding, because four bytes need none.
fn four_bytes(input: &VideoInfo) -> Result<VideoInfo> {
    VideoInfo::builder(VideoFormat::Bgrx, input.width(), input.height())
        .fps(input.fps())
        .interlace_mode(input.interlace_mode())
        .colorimetry(&full_rgb(input))
        .build()
        .map_err(fail)
}

/// RGB without padding between rows, as [`Rgb`] wants it.
fn tight_rgb(input: &VideoInfo, width: u32, height: u32) -> Result<VideoInfo> {
    let stride = i32::try_from(u64::from(width) * 3).map_err(fail)?;
    VideoInfo::builder(VideoFormat::Rgb, width, height)
        .fps(input.fps())
        .interlace_mode(input.interlace_mode())
        .colorimetry(&full_rgb(input))
        .stride(&[stride])
        .offset(&[0])
        .size(width as usize * height as usize * 3)
        .build()
        .map_err(fail)
}

/// RGB over the full range; gamma and primaries stay the camera's, as every player leaves them.
fn full_rgb(input: &VideoInfo) -> VideoColorimetry {
    VideoColorimetry::new(
        VideoColorRange::Range0_255,
        VideoColorMatrix::Rgb,
        input.colorimetry().transfer(),
        input.colorimetry().primaries(),
    )
}

/// A converter of a whole frame or a part of it.
fn build(input: &VideoInfo, output: &VideoInfo, part: Option<PixelRect>) -> Result<VideoConverter> {
    let mut config = VideoConverterConfig::new();
    config.set_resampler_method(VideoResamplerMethod::Linear);
    config.set_dither_method(VideoDitherMethod::None);
    if let Some(rect) = part {
        let side = |pixels: u32| i32::try_from(pixels).map_err(fail);
        config.set_src_x(side(rect.x)?);
        config.set_src_y(side(rect.y)?);
        config.set_src_width(Some(side(rect.width)?));
        config.set_src_height(Some(side(rect.height)?));
    }
    VideoConverter::new(input, output, Some(config))
        .map_err(|error| Error::internal(format!("conversion of {} to RGB", input.format()), error))
}

/// Copies a mapped B G R x frame, whose rows may be padded, to tightly packed RGB.
pub(super) fn pack_padded(frame: &VideoFrameRef<&gst::BufferRef>) -> Result<Rgb> {
    let stride = frame.plane_stride().first().copied().unwrap_or(0);
    let stride = usize::try_from(stride).map_err(fail)?;
    let row_bytes = frame.width() as usize * 4;
    if stride < row_bytes {
        return Err(fail("rows overlap"));
    }
    let data = frame.plane_data(0).map_err(fail)?;
    let mut rows = Vec::with_capacity(row_bytes * frame.height() as usize);
    for row in data.chunks(stride).take(frame.height() as usize) {
        rows.extend_from_slice(row.get(..row_bytes).ok_or_else(|| fail("a row is cut off"))?);
    }
    pack(frame.width(), frame.height(), &rows)
}
