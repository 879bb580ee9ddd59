//! Pixels of frames: right colours from every format, wherever the rectangle lies, by both ways.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

use std::{hint::black_box, time::Duration};

use gstreamer as gst;
use gstreamer_video::{
    VideoConverter, VideoConverterConfig, VideoFormat, VideoFrameRef, VideoInfo,
    VideoResamplerMethod,
};
use spotter_models::Rgb;
use spotterd::{
    clock::{Clock, SystemClock},
    frame::Pixels,
    geometry::PixelRect,
    source::{
        device::{Converter, DeviceConverter, DevicePixels},
        pixels::{Converters, SystemPixels},
    },
};

mod formats;

use formats::{FORMATS, frame, pixels};

/// A smooth picture: red grows to the right, green downwards, blue along the diagonal.
fn smooth(width: u32, height: u32) -> Rgb {
    let mut data = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let (right, down) = (x * 200 / width, y * 200 / height);
            data.extend([right as u8 + 20, down as u8 + 30, ((right + down) / 2) as u8 + 10]);
        }
    }
    Rgb::new(width, height, data).unwrap()
}

/// Largest difference of two pictures' bytes.
fn difference(a: &Rgb, b: &Rgb) -> u8 {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    a.data().iter().zip(b.data()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn colours_survive_every_format_and_colorimetry() {
    let picture = smooth(320, 180);
    for format in FORMATS {
        for colorimetry in [None, Some("bt601"), Some("bt709"), Some("1:4:0:0")] {
            let rgb = [VideoFormat::Rgb, VideoFormat::Bgrx].contains(&format);
            if rgb && colorimetry.is_some() {
                continue;
            }
            let whole = pixels(frame(&picture, format, colorimetry)).scaled(320, 180).unwrap();
            // Rounding to limited range and chroma that is shared by four pixels.
            let off = difference(&whole, &picture);
            assert!(off <= 10, "{format} {colorimetry:?}: {off}");
        }
    }
}

#[test]
fn a_region_is_that_part_of_the_frame_wherever_it_lies() {
    let picture = smooth(320, 180);
    for format in FORMATS {
        let pixels = pixels(frame(&picture, format, None));
        for (x, y, width, height) in [
            (0, 0, 320, 180),
            (1, 1, 33, 51),
            (101, 37, 7, 5),
            (287, 129, 33, 51),
            (319, 179, 1, 1),
        ] {
            let rect = PixelRect { x, y, width, height };
            let region = pixels.region(rect).unwrap();
            let wanted = picture.view().region(x, y, width, height).unwrap().to_rgb();
            let off = difference(&region, &wanted);
            assert!(off <= 10, "{format} {rect:?}: {off}");
        }
    }
}

#[test]
fn a_smaller_frame_is_an_average_and_not_a_choice_of_pixels() {
    // Columns in turn black and white: half of them alone would be one of both.
    let columns = |index: u32| if index.is_multiple_of(2) { [0_u8; 3] } else { [255; 3] };
    let data = (0..320 * 180).flat_map(|index| columns(index % 320)).collect();
    let striped = Rgb::new(320, 180, data).unwrap();
    let small = pixels(frame(&striped, VideoFormat::Y444, None)).scaled(80, 45).unwrap();
    for byte in small.data() {
        assert!((100..156).contains(byte), "{byte}");
    }
}

#[test]
fn a_devices_own_converter_gives_the_same_pixels() {
    let picture = smooth(320, 180);
    let (info, buffer) = frame(&picture, VideoFormat::Nv12, None);
    let caps = info.to_caps().unwrap();
    let shared = DeviceConverter::new(Converter::Generic);
    let device = DevicePixels::new(caps, buffer.clone(), (320, 180), shared.clone());
    let system = pixels((info, buffer));
    for (width, height) in [(64, 64), (64, 64), (200, 100), (64, 64)] {
        let (a, b) = (device.scaled(width, height).unwrap(), system.scaled(width, height).unwrap());
        assert!(difference(&a, &b) <= 12, "{width}x{height}: {}", difference(&a, &b));
    }
    // Even corners: videocrop cuts where chroma can be cut.
    for (x, y, width, height) in [(0, 0, 320, 180), (40, 20, 60, 80), (260, 100, 60, 80)] {
        let rect = PixelRect { x, y, width, height };
        let (a, b) = (device.region(rect).unwrap(), system.region(rect).unwrap());
        assert!(difference(&a, &b) <= 12, "{rect:?}: {}", difference(&a, &b));
    }
    let outside = PixelRect { x: 319, y: 0, width: 2, height: 1 };
    assert!(device.region(outside).is_err() && system.region(outside).is_err());
}

/// Figures for the doc comments: `cargo test --release --workspace --test pixels -- --ignored
/// --nocapture`.
#[test]
#[ignore = "a measurement"]
fn what_conversion_costs() {
    const ROUNDS: u32 = 60;
    let clock = SystemClock::new();
    let time = |name: &str, step: &mut dyn FnMut()| {
        step();
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            let start = clock.now();
            step();
            best = best.min(clock.now().since(start));
        }
        println!("{name:50} {:8.3} ms", best.as_secs_f64() * 1e3);
    };
    let picture = smooth(1280, 720);
    for format in [VideoFormat::I420, VideoFormat::Nv12] {
        println!("{format}");
        let (info, buffer) = frame(&picture, format, Some("bt709"));
        let pixels = pixels((info.clone(), buffer.clone()));
        time("scaled(416, 416)", &mut || {
            black_box(pixels.scaled(416, 416).unwrap());
        });
        time("region 120x300", &mut || {
            let rect = PixelRect { x: 401, y: 203, width: 120, height: 300 };
            black_box(pixels.region(rect).unwrap());
        });
        let whole = pixels.scaled(1280, 720).unwrap();
        let mut resizer = fast_image_resize::Resizer::new();
        let options = fast_image_resize::ResizeOptions::new().resize_alg(
            fast_image_resize::ResizeAlg::Convolution(fast_image_resize::FilterType::Bilinear),
        );
        let kind = fast_image_resize::PixelType::U8x3;
        time("RGB 1280x720 to 416x416, fast_image_resize", &mut || {
            let from = fast_image_resize::images::ImageRef::new(1280, 720, whole.data(), kind);
            let mut to = fast_image_resize::images::Image::new(416, 416, kind);
            resizer.resize(&from.unwrap(), &mut to, &options).unwrap();
            black_box(to);
        });
        let to = |format: VideoFormat, width: u32, height: u32| {
            let output = VideoInfo::builder(format, width, height).build().unwrap();
            let mut config = VideoConverterConfig::new();
            config.set_resampler_method(VideoResamplerMethod::Linear);
            let converter = VideoConverter::new(&info, &output, Some(config)).unwrap();
            let (buffer, info) = (buffer.clone(), info.clone());
            move || {
                let from = VideoFrameRef::from_buffer_ref_readable(&buffer, &info).unwrap();
                let mut to = gst::Buffer::with_size(output.size()).unwrap();
                let writable = to.get_mut().unwrap();
                let mut to = VideoFrameRef::from_buffer_ref_writable(writable, &output).unwrap();
                converter.frame_ref(&from, &mut to);
                black_box(&to);
            }
        };
        let (rgb, bgrx) = (VideoFormat::Rgb, VideoFormat::Bgrx);
        time("one VideoConverter to RGB 416x416", &mut to(rgb, 416, 416));
        time("one VideoConverter to RGB 1280x720", &mut to(rgb, 1280, 720));
        time("one VideoConverter to BGRx 1280x720", &mut to(bgrx, 1280, 720));
        let plane = fast_image_resize::PixelType::U8;
        let luma = vec![7; 1280 * 720];
        let chroma = vec![7; 640 * 360];
        time("planes of I420 to 416x416, fast_image_resize", &mut || {
            for (width, height, data) in
                [(1280, 720, &luma), (640, 360, &chroma), (640, 360, &chroma)]
            {
                let from = fast_image_resize::images::ImageRef::new(width, height, data, plane);
                let mut to = fast_image_resize::images::Image::new(416, 416, plane);
                resizer.resize(&from.unwrap(), &mut to, &options).unwrap();
                black_box(to);
            }
        });
        let small = frame(&smooth(416, 416), VideoFormat::Y444, Some("bt709"));
        let small = SystemPixels::new(small.0, small.1, Converters::new());
        time("Y444 416x416 to RGB", &mut || {
            black_box(small.scaled(416, 416).unwrap());
        });
        let narrow = frame(&smooth(120, 300), format, Some("bt709"));
        let narrow = SystemPixels::new(narrow.0, narrow.1, Converters::new());
        time("120x300 to RGB with a kept converter", &mut || {
            black_box(narrow.scaled(120, 300).unwrap());
        });
        let device = DevicePixels::new(
            info.to_caps().unwrap(),
            buffer.clone(),
            (1280, 720),
            DeviceConverter::new(Converter::Generic),
        );
        time("device way: scaled(416, 416)", &mut || {
            black_box(device.scaled(416, 416).unwrap());
        });
        time("device way: region 120x300", &mut || {
            let rect = PixelRect { x: 400, y: 202, width: 120, height: 300 };
            black_box(device.region(rect).unwrap());
        });
    }
}
