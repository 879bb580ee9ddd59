//! A large stream that is kept as it comes: what is decoded of it on demand is what decoding all of it gives.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

use std::{collections::BTreeMap, path::Path, process::Command, sync::Arc, time::Duration};

use spotter_models::Rgb;
use spotterd::{
    Result,
    clock::{Clock, Mono, SystemClock},
    frame::{CameraId, Frame, Pixels, Pts},
    geometry::PixelRect,
    mask::Mask,
    source::{
        DecoderChoice, Group, Pace, Pipeline, Pulled, Reader, SourceSpec, Unit,
        pipeline::{Lower, Opening},
        timeline::{Gap, Timeline},
    },
};

/// Longest wait for anything: a deadline, not a measurement.
const LONG: Duration = Duration::from_secs(20);

/// Time between two frames.
const STEP: Duration = Duration::from_millis(40);

const PART: PixelRect = PixelRect { x: 100, y: 60, width: 90, height: 200 };

fn camera() -> CameraId {
    CameraId::new("gate").unwrap()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

/// Six seconds of ffmpeg's moving test picture, a key frame every two.
fn video(out: &Path, codec: &[&str]) {
    let picture = ["-f", "lavfi", "-i", "testsrc2=duration=6:size=640x360:rate=25"];
    let run = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-y", "-threads", "1"])
        .args(picture)
        .args(["-g", "50", "-pix_fmt", "yuv420p"])
        .args(codec)
        .arg(out)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// All of a file as it comes, each frame with its format.
fn units(path: &Path) -> Vec<(Unit, gstreamer::Caps, (u32, u32))> {
    let spec = SourceSpec::File { path: path.to_path_buf(), pace: Pace::AsFast, repeat: false };
    let camera = camera();
    let opening = Opening {
        camera: &camera,
        spec: &spec,
        decoder: &DecoderChoice::Software,
        decodes: false,
        lower: Lower::Tcp,
        connect_timeout: LONG,
    };
    let mut pipeline = Pipeline::open(&opening, clock()).unwrap();
    let mut timeline = Timeline::new(Gap::Frame);
    let mut units = Vec::new();
    loop {
        match pipeline.pull(&mut timeline, LONG) {
            Pulled::Unit(unit, caps, size) => units.push((unit, caps, size)),
            Pulled::Ended => return units,
            Pulled::Frame(_) | Pulled::Nothing => panic!("no frame as it came"),
            Pulled::Failed(reason) => panic!("{reason}"),
        }
    }
}

/// The same part of every frame, where all are decoded.
fn parts(path: &Path) -> Vec<Rgb> {
    let reader = Reader::open(camera(), path, &DecoderChoice::Software, clock()).unwrap();
    reader.map(|frame| frame.unwrap().pixels.region(PART).unwrap()).collect()
}

/// A small stream's frame that has one colour.
struct Grey;

impl Pixels for Grey {
    fn scaled(&self, width: u32, height: u32) -> Result<Rgb> {
        Ok(Rgb::new(width, height, vec![9; (width * height * 3) as usize])?)
    }

    fn region(&self, rect: PixelRect) -> Result<Rgb> {
        self.scaled(rect.width, rect.height)
    }
}

fn at(number: usize) -> Mono {
    Mono(Duration::from_secs(1) + STEP * u32::try_from(number).unwrap())
}

/// The part of the large stream's frame that a small one's of that time is given.
fn asked(group: &Arc<Group>, number: usize) -> Rgb {
    masked(group, number, None)
}

fn masked(group: &Arc<Group>, number: usize, mask: Option<Arc<Mask>>) -> Rgb {
    let small = Frame {
        camera: camera(),
        seq: 0,
        pts: Pts::default(),
        decoded_at: at(number),
        width: 160,
        height: 90,
        pixels: Box::new(Grey),
    };
    let large = group.over(small, mask);
    assert_eq!((large.width, large.height), (640, 360));
    assert_eq!(large.pixels.scaled(4, 4).unwrap().data(), [9; 48], "the whole is the small one's");
    large.pixels.region(PART).unwrap()
}

fn push(
    group: &Group,
    units: &[(Unit, gstreamer::Caps, (u32, u32))],
    numbers: std::ops::Range<usize>,
) {
    for number in numbers {
        let (unit, caps, size) = &units[number];
        group.push(Unit { at: at(number), ..unit.clone() }, (caps, *size));
    }
}

#[test]
fn a_part_is_that_of_its_own_frame_whatever_was_asked_for_before() {
    let folder = tempfile::tempdir().unwrap();
    for (name, codec) in [
        ("plain.mp4", &["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0"][..]),
        (
            "hevc.mp4",
            &[
                "-c:v",
                "libx265",
                "-preset",
                "ultrafast",
                "-x265-params",
                "bframes=0:log-level=none",
            ],
        ),
    ] {
        let path = folder.path().join(name);
        video(&path, codec);
        let (units, parts) = (units(&path), parts(&path));
        assert_eq!((units.len(), parts.len()), (150, 150), "{name}");
        assert_eq!(units.iter().filter(|(unit, ..)| unit.is_key).count(), 3, "{name}");
        let group = Group::new(camera());
        // Nothing came yet: the small frame is what it is.
        let same = |number: usize| {
            assert_eq!(asked(&group, number).data(), parts[number].data(), "{name}: {number}");
        };
        push(&group, &units, 0..31);
        same(30);
        push(&group, &units, 31..75);
        // On from there, again, back within the group before, and into the next one.
        [40, 40, 49, 20, 45, 50, 74].into_iter().for_each(same);
        push(&group, &units, 75..150);
        [101, 149, 120, 149].into_iter().for_each(same);
    }
}

#[test]
fn frames_that_are_not_sent_in_order_cost_a_few_frames_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.mp4");
    video(&path, &["-c:v", "libx264", "-preset", "veryfast", "-bf", "2"]);
    let (units, parts) = (units(&path), parts(&path));
    let group = Group::new(camera());
    push(&group, &units, 0..140);
    for number in [60, 77, 130] {
        let got = asked(&group, number);
        let found = parts.iter().position(|part| part.data() == got.data()).unwrap();
        assert!(found.abs_diff(number) <= 4, "{found} for {number}");
    }
}

#[test]
fn masks_hide_in_the_large_stream_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plain.mp4");
    video(&path, &["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0"]);
    let (units, parts) = (units(&path), parts(&path));
    let group = Group::new(camera());
    push(&group, &units, 0..50);
    // The upper half of the picture: 180 rows, of which the part has 120.
    let half = vec![[0.0, 0.0], [1.0, 0.0], [1.0, 0.5], [0.0, 0.5]];
    let mask = Mask::new(&BTreeMap::from([("sky".to_owned(), half)])).unwrap();
    let part = masked(&group, 30, mask);
    let row = 3 * PART.width as usize;
    assert!(part.data()[..row * 120].iter().all(|value| *value == 0));
    assert_eq!(part.data()[row * 123..], parts[30].data()[row * 123..]);
}

#[test]
fn where_the_large_stream_is_gone_the_small_one_serves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plain.mp4");
    video(&path, &["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0"]);
    let units = units(&path);
    let group = Group::new(camera());
    push(&group, &units, 0..50);
    let small = |number| {
        let part = asked(&group, number);
        (part.width(), part.height(), part.data()[0])
    };
    assert_ne!(small(20), (23, 50, 9));
    // Too long ago, and after it broke off.
    assert_eq!(small(80), (23, 50, 9));
    group.clear();
    assert_eq!(small(20), (23, 50, 9));
    // A stream that begins in the middle of a group waits for its key frame.
    push(&group, &units, 60..90);
    assert_eq!(small(80), (23, 50, 9));
    push(&group, &units, 90..120);
    assert_ne!(small(110), (23, 50, 9));
}
