//! Pictures in the formats that decoders give.

use gstreamer as gst;
use gstreamer_video::{VideoConverter, VideoFormat, VideoFrameRef, VideoInfo};
use spotter_models::Rgb;
use spotterd::source::pixels::{Converters, SystemPixels};

/// A frame of this picture in another format, converted by GStreamer.
pub fn frame(
    picture: &Rgb,
    format: VideoFormat,
    colorimetry: Option<&str>,
) -> (VideoInfo, gst::Buffer) {
    gst::init().unwrap();
    let (width, height) = (picture.width(), picture.height());
    let input = VideoInfo::builder(VideoFormat::Rgb, width, height)
        .stride(&[width as i32 * 3])
        .offset(&[0])
        .size(picture.data().len())
        .build()
        .unwrap();
    let builder = VideoInfo::builder(format, width, height);
    let output = match colorimetry {
        Some(name) => builder.colorimetry(&name.parse().unwrap()).build().unwrap(),
        None => builder.build().unwrap(),
    };
    let from = gst::Buffer::from_slice(picture.data().to_vec());
    let mut to = gst::Buffer::with_size(output.size()).unwrap();
    {
        let from = VideoFrameRef::from_buffer_ref_readable(&from, &input).unwrap();
        let to = to.get_mut().unwrap();
        let mut to = VideoFrameRef::from_buffer_ref_writable(to, &output).unwrap();
        VideoConverter::new(&input, &output, None).unwrap().frame_ref(&from, &mut to);
    }
    (output, to)
}

/// The pixels that the daemon makes of it.
pub fn pixels((info, buffer): (VideoInfo, gst::Buffer)) -> SystemPixels {
    SystemPixels::new(info, buffer, Converters::new())
}

/// What decoders give.
pub const FORMATS: [VideoFormat; 8] = [
    VideoFormat::I420,
    VideoFormat::Nv12,
    VideoFormat::Yuy2,
    VideoFormat::Y42b,
    VideoFormat::Y444,
    VideoFormat::Rgb,
    VideoFormat::Bgrx,
    VideoFormat::I42010le,
];
