//! Masks on real frames: exact pixels in every format, and persons in a real video.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

use std::{collections::BTreeMap, path::Path, sync::Arc};

use spotter_models::{
    Rgb,
    session::{Runtime, SessionOptions},
};
use spotterd::{
    clock::{Mono, SystemClock},
    detect::{self, Detection},
    frame::{CameraId, Frame, Pixels, Pts},
    geometry::PixelRect,
    mask::Mask,
    source::{DecoderChoice, Reader},
};

mod formats;
mod model;

use formats::{FORMATS, pixels};

const SIZE: (u32, u32) = (320, 180);

fn camera() -> CameraId {
    CameraId::new("gate").unwrap()
}

fn mask(corners: &[[f32; 2]]) -> Arc<Mask> {
    Mask::new(&BTreeMap::from([("window".to_owned(), corners.to_vec())])).unwrap().unwrap()
}

/// A rectangle in shares of the picture.
fn rectangle(left: f32, top: f32, right: f32, bottom: f32) -> [[f32; 2]; 4] {
    [[left, top], [right, top], [right, bottom], [left, bottom]]
}

fn frame(pixels: Box<dyn Pixels>, (width, height): (u32, u32)) -> Frame {
    let (pts, decoded_at) = (Pts::default(), Mono::default());
    Frame { camera: camera(), seq: 0, pts, decoded_at, width, height, pixels }
}

/// Grey, with loud colours where the mask lies.
fn scene(loud: [u8; 3], hidden: PixelRect) -> Rgb {
    let (width, height) = SIZE;
    let mut data = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let inside = (hidden.x..hidden.x + hidden.width).contains(&x)
                && (hidden.y..hidden.y + hidden.height).contains(&y);
            data.extend(if inside { loud } else { [90, 120, 150] });
        }
    }
    Rgb::new(width, height, data).unwrap()
}

#[test]
fn masked_pixels_are_black_in_every_format_and_nothing_of_what_they_hide_is_left() {
    // A quarter of each side from a quarter on, which are whole pixels.
    let hidden = PixelRect { x: 80, y: 45, width: 80, height: 45 };
    let mask = mask(&rectangle(0.25, 0.25, 0.5, 0.5));
    for format in FORMATS {
        let over = |loud| {
            mask.over(frame(
                Box::new(pixels(formats::frame(&scene(loud, hidden), format, None))),
                SIZE,
            ))
        };
        let (red, white) = (over([255, 0, 0]), over([255, 255, 255]));
        let whole = PixelRect { x: 0, y: 0, width: SIZE.0, height: SIZE.1 };
        let seen = red.pixels.region(whole).unwrap();
        for y in 0..SIZE.1 {
            for (x, pixel) in seen.view().row(y).as_chunks::<3>().0.iter().enumerate() {
                // Two pixels around are black too, as their colour is shared.
                let near = |at: u32, from: u32, span: u32| at + 2 >= from && at < from + span + 2;
                let is_hidden =
                    near(x as u32, hidden.x, hidden.width) && near(y, hidden.y, hidden.height);
                assert_eq!(*pixel == [0, 0, 0], is_hidden, "{format} {x},{y}: {pixel:?}");
            }
        }
        // A person's crop, and the detector's input in several sizes: as if nothing were behind the mask.
        let part = PixelRect { x: 70, y: 31, width: 41, height: 77 };
        assert_eq!(
            red.pixels.region(part).unwrap(),
            white.pixels.region(part).unwrap(),
            "{format}"
        );
        for (width, height) in [SIZE, (416, 416), (160, 90), (97, 53), (640, 360)] {
            let [one, other] =
                [&red, &white].map(|frame| frame.pixels.scaled(width, height).unwrap());
            assert!(one == other, "{format} at {width}x{height}");
            let middle = (width as usize * 3 / 8) * 3;
            assert_eq!(one.view().row(height * 3 / 8)[middle..middle + 3], [0, 0, 0]);
        }
    }
}

/// The part of a box that lies between two columns, of 1.
fn share_between(found: &Detection, left: f32, right: f32) -> f32 {
    let inside = found.bbox.x2().min(right) - found.bbox.x1().max(left);
    inside.max(0.0) / found.bbox.width()
}

#[test]
fn a_person_behind_a_mask_is_not_found_in_a_real_video() {
    let video = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/one-by-one.mp4");
    let (path, bytes) = model::model_bytes("deimv2_hgnetv2_femto_coco");
    let runtime = Runtime::load(None).unwrap();
    let mut detector = detect::open(&runtime, &path, &bytes, &SessionOptions::default()).unwrap();
    let (left, right) = (0.25, 0.75);
    // How many persons were found between the columns.
    let mut look = |mask: Option<Arc<Mask>>| {
        let clock = Arc::new(SystemClock::new());
        let reader = Reader::open(camera(), &video, &DecoderChoice::Software, clock).unwrap();
        let mut within = 0;
        for frame in reader.step_by(10) {
            let frame = frame.unwrap();
            let frame = match &mask {
                Some(mask) => mask.over(frame),
                None => frame,
            };
            let width = frame.width as f32;
            let found = detector.detect(frame.pixels.as_ref(), frame.width, frame.height).unwrap();
            let sure = found.detections.iter().filter(|found| found.score >= 0.3);
            within += sure
                .filter(|found| share_between(found, left * width, right * width) > 0.9)
                .count();
        }
        within
    };
    let open = look(None);
    assert!(open >= 20, "the video shows persons there: {open}");
    assert_eq!(look(Some(mask(&rectangle(left, 0.0, right, 1.0)))), 0, "without it {open}");
    // A mask that lies elsewhere hides nobody.
    let beside = look(Some(mask(&rectangle(0.0, 0.0, 0.15, 1.0))));
    assert!(beside * 10 >= open * 8, "{beside} of {open}");
}
