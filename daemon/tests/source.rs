//! Sources that need no server: files of every container and codec, the test picture, broken input.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use spotterd::{
    clock::{Clock, SystemClock},
    frame::{CameraId, Frame},
    geometry::PixelRect,
    source::{
        Codec, DecoderChoice, Fps, FrameSize, Pipeline, Pulled, Reader, Reason, SourceSpec,
        pipeline::{Lower, Opening},
        timeline::{Gap, Timeline},
    },
};

/// Longest wait for anything: a deadline, not a measurement.
const LONG: Duration = Duration::from_secs(20);

fn camera() -> CameraId {
    CameraId::new("gate").unwrap()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn one_by_one() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/one-by-one.mp4")
}

/// Makes a video: `ffmpeg … OUT`.
fn ffmpeg(arguments: &[&str], out: &Path) {
    let run = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-y", "-threads", "1"])
        .args(arguments)
        .arg(out)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// A second of ffmpeg's test picture, 10 frames of 320x240.
const PICTURE: [&str; 4] = ["-f", "lavfi", "-i", "testsrc=duration=1:size=320x240:rate=10"];

fn read(path: &Path, choice: &DecoderChoice) -> Reader {
    Reader::open(camera(), path, choice, clock()).unwrap()
}

/// Reads to the end; every frame must be good.
fn count(reader: Reader) -> usize {
    reader.fold(0, |count, frame| {
        frame.unwrap();
        count + 1
    })
}

fn reason(error: spotterd::Error) -> Reason {
    match error {
        spotterd::Error::Source { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

/// Why a file gives no frame.
fn refusal(path: &Path, choice: &DecoderChoice) -> Reason {
    match Reader::open(camera(), path, choice, clock()) {
        Err(error) => reason(error),
        Ok(mut reader) => reason(reader.next().unwrap().err().unwrap()),
    }
}

#[test]
fn every_frame_of_a_recording_comes_once_in_order_and_the_same_each_time() {
    let digest = || {
        let mut pixels = 0_u64;
        let mut last = None;
        let mut reader = read(&one_by_one(), &DecoderChoice::Auto);
        let mut count = 0;
        for frame in reader.by_ref().take(300) {
            let frame = frame.unwrap();
            assert_eq!((frame.width, frame.height, frame.seq), (768, 432, count));
            assert!(last.is_none_or(|last| frame.pts > last));
            last = Some(frame.pts);
            count += 1;
            if count % 50 == 0 {
                let picture = frame.pixels.scaled(64, 36).unwrap();
                for byte in picture.data() {
                    pixels = pixels.wrapping_mul(31).wrapping_add(u64::from(*byte));
                }
            }
        }
        let stream = reader.stream().unwrap();
        assert_eq!(stream.codec, Some(Codec::H264));
        (count, last.unwrap(), pixels)
    };
    let first = digest();
    assert_eq!(first.0, 300);
    assert!((first.1.0.as_secs_f64() - 29.9).abs() < 0.001, "{:?}", first.1);
    assert_eq!(first, digest());
}

#[test]
fn the_last_frame_is_not_lost() {
    assert_eq!(count(read(&one_by_one(), &DecoderChoice::Software)), 1394);
}

#[test]
fn every_container_and_codec_is_read() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments, codec) in [
        ("a.mp4", &["-c:v", "libx264", "-bf", "2", "-pix_fmt", "yuv420p"][..], Codec::H264),
        ("a.mkv", &["-c:v", "libx264", "-pix_fmt", "yuv420p"], Codec::H264),
        ("a.ts", &["-c:v", "libx264", "-pix_fmt", "yuv420p"], Codec::H264),
        ("b.mp4", &["-c:v", "libx265", "-x265-params", "log-level=none"], Codec::H265),
        ("b.ts", &["-c:v", "libx265", "-x265-params", "log-level=none"], Codec::H265),
        ("c.avi", &["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"], Codec::Mjpeg),
        ("c.mkv", &["-c:v", "mjpeg", "-pix_fmt", "yuvj422p"], Codec::Mjpeg),
    ] {
        let path = folder.path().join(name);
        ffmpeg(&[&PICTURE[..], arguments].concat(), &path);
        let mut reader = read(&path, &DecoderChoice::Auto);
        let frames: Vec<Frame> = reader.by_ref().map(|frame| frame.unwrap()).collect();
        assert_eq!(frames.len(), 10, "{name}");
        assert_eq!(reader.stream().unwrap().codec, Some(codec), "{name}");
        let length = frames[9].pts.seconds_since(frames[0].pts);
        assert!((length - 0.9).abs() < 0.01, "{name}: {length}");
    }
}

#[test]
fn a_sound_track_does_not_disturb() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.mp4", "a.mkv", "a.ts", "a.avi"] {
        let path = folder.path().join(name);
        let sound = ["-f", "lavfi", "-i", "sine=duration=1", "-c:v", "libx264"];
        ffmpeg(&[&PICTURE[..], &sound, &["-pix_fmt", "yuv420p", "-c:a", "mp2"]].concat(), &path);
        assert_eq!(count(read(&path, &DecoderChoice::Auto)), 10, "{name}");
    }
}

#[test]
fn what_is_no_video_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("text.mp4"), "This is a text and no video.\n".repeat(100)).unwrap();
    std::fs::write(path("empty.mp4"), "").unwrap();
    let noise: Vec<u8> =
        (0..65_536_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(path("noise.mp4"), noise).unwrap();
    ffmpeg(&["-f", "lavfi", "-i", "sine=duration=1"], &path("sound.wav"));
    ffmpeg(&["-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac"], &path("sound.mp4"));
    ffmpeg(&[&PICTURE[..], &["-c:v", "libvpx"]].concat(), &path("vp8.mkv"));
    std::fs::create_dir(path("folder")).unwrap();
    for (name, words) in [
        ("text.mp4", &["not_a_video"][..]),
        ("empty.mp4", &["not_a_video"]),
        ("noise.mp4", &["not_a_video", "broken"]),
        ("sound.wav", &["not_a_video"]),
        ("sound.mp4", &["not_a_video"]),
        ("vp8.mkv", &["codec"]),
        ("folder", &["missing"]),
        ("none.mp4", &["missing"]),
    ] {
        let reason = refusal(&path(name), &DecoderChoice::Auto);
        assert!(words.contains(&reason.word()), "{name}: {} {reason}", reason.word());
        assert!(reason.to_string().contains(name), "{reason}");
    }
}

#[test]
fn a_decoder_that_was_named_is_that_one_or_an_error() {
    let named = |name: &str| DecoderChoice::Named(name.into());
    let mut reader = read(&one_by_one(), &named("openh264dec"));
    reader.next().unwrap().unwrap();
    assert_eq!(reader.stream().unwrap().decoder.as_deref(), Some("openh264dec"));
    for (name, part) in [
        ("nosuchdec", "not installed"),
        ("avdec_h265", "does not decode H.264"),
        ("fakesink", "decodes no video"),
    ] {
        let reason = refusal(&one_by_one(), &named(name));
        assert_eq!(reason.word(), "decoder", "{name}");
        let text = reason.to_string();
        assert!(text.contains(name) && text.contains(part), "{text}");
    }
}

#[test]
fn a_broken_middle_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.ts");
    ffmpeg(&LONGER, &whole);
    let mut bytes = std::fs::read(&whole).unwrap();
    let middle = bytes.len() * 2 / 5..bytes.len() * 3 / 5;
    for (index, byte) in bytes[middle].iter_mut().enumerate() {
        *byte ^= (index as u32).wrapping_mul(2_654_435_761).to_be_bytes()[1];
    }
    let broken = folder.path().join("broken.ts");
    std::fs::write(&broken, bytes).unwrap();
    let mut reader = read(&broken, &DecoderChoice::Auto);
    let frames: Vec<Frame> = reader.by_ref().map(|frame| frame.unwrap()).collect();
    assert!(reader.counts().warnings > 0, "the break is told");
    assert!((70..100).contains(&frames.len()), "{}", frames.len());
    let length = frames.last().unwrap().pts.seconds_since(frames[0].pts);
    assert!(length > 8.0, "the part behind the break is there: {length} s");
}

#[test]
fn a_cut_off_file_gives_its_good_frames_and_then_ends_or_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(one_by_one()).unwrap();
    let cut = folder.path().join("cut.mp4");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let mut good = 0;
    let mut ends = 0;
    for frame in read(&cut, &DecoderChoice::Auto) {
        match frame {
            Ok(frame) => {
                assert_eq!((ends, frame.seq), (0, good), "no frame behind the end");
                good += 1;
            }
            Err(error) => {
                assert!(["broken", "broken_off", "not_a_video"].contains(&reason(error).word()));
                ends += 1;
            }
        }
    }
    assert!(ends <= 1 && (good > 0 || ends == 1), "{good} frames, {ends} errors");
}

/// Ten seconds, a key frame each.
const LONGER: [&str; 10] = [
    "-f",
    "lavfi",
    "-i",
    "testsrc=duration=10:size=320x240:rate=10",
    "-c:v",
    "libx264",
    "-g",
    "10",
    "-pix_fmt",
    "yuv420p",
];

/// Frames, warnings and the word of the error at the end.
fn ending(path: &Path) -> (usize, u64, Option<&'static str>) {
    let mut reader = read(path, &DecoderChoice::Auto);
    let (mut frames, mut word) = (0, None);
    for frame in reader.by_ref() {
        match frame {
            Ok(_) => frames += 1,
            Err(error) => word = Some(reason(error).word()),
        }
    }
    (frames, reader.counts().warnings, word)
}

#[test]
fn a_recording_that_lacks_a_part_is_not_taken_for_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, options) in [("a.mkv", &[][..]), ("a.mp4", &["-movflags", "+faststart"])] {
        let whole = path(name);
        ffmpeg(&[&LONGER[..], options].concat(), &whole);
        assert_eq!(ending(&whole), (100, 0, None), "{name}");
        let bytes = std::fs::read(&whole).unwrap();
        let part = |share: usize| bytes.len() * share / 100;
        let cut = path(&format!("cut-{name}"));
        std::fs::write(&cut, &bytes[..part(60)]).unwrap();
        let (frames, _, word) = ending(&cut);
        assert!((40..80).contains(&frames), "{name}: {frames}");
        assert_eq!(word, Some("broken_off"), "{name}");
        let without = path(&format!("without-{name}"));
        std::fs::write(&without, [&bytes[..part(40)], &bytes[part(60)..]].concat()).unwrap();
        let noise = path(&format!("noise-{name}"));
        let mut noisy = bytes.clone();
        for (index, byte) in noisy[part(40)..part(60)].iter_mut().enumerate() {
            *byte ^= (index as u32).wrapping_mul(2_654_435_761).to_be_bytes()[1];
        }
        std::fs::write(&noise, noisy).unwrap();
        for damaged in [without, noise] {
            let (frames, warnings, word) = ending(&damaged);
            assert!(warnings > 0 || word.is_some(), "{}: {frames} frames", damaged.display());
        }
    }
    // Sound that goes on behind the last picture is no break. (GStreamer leaves out a track that is
    // shorter than a fifth of the whole.)
    let sound = path("sound.mp4");
    let tone = ["-f", "lavfi", "-i", "sine=duration=4"];
    ffmpeg(&[&PICTURE[..], &tone, &["-c:v", "libx264", "-pix_fmt", "yuv420p"]].concat(), &sound);
    assert_eq!(ending(&sound), (10, 0, None));
}

#[test]
fn an_mp4_without_its_index_is_broken_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.mp4");
    ffmpeg(&LONGER, &whole);
    let bytes = std::fs::read(&whole).unwrap();
    let cut = folder.path().join("cut.mp4");
    std::fs::write(&cut, &bytes[..bytes.len() * 6 / 10]).unwrap();
    let clock = clock();
    // Which of GStreamer's threads comes first decides whether its error arrives.
    for round in 0..6 {
        let begun = clock.now();
        assert_eq!(refusal(&cut, &DecoderChoice::Auto).word(), "broken");
        assert!(clock.now().since(begun) < Duration::from_secs(10), "round {round}");
    }
}

#[test]
fn a_size_that_changes_in_the_middle_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let part = |name: &str, size: &str| {
        let path = folder.path().join(name);
        let picture = format!("testsrc=duration=1:size={size}:rate=10");
        ffmpeg(
            &[
                "-f", "lavfi", "-i", &picture, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-f",
                "h264",
            ],
            &path,
        );
        std::fs::read(path).unwrap()
    };
    let joined = folder.path().join("joined.h264");
    std::fs::write(&joined, [part("a", "320x240"), part("b", "640x360")].concat()).unwrap();
    let frames: Vec<Frame> = read(&joined, &DecoderChoice::Auto).map(|f| f.unwrap()).collect();
    let sizes: Vec<_> = frames.iter().map(|frame| (frame.width, frame.height)).collect();
    assert_eq!(sizes.len(), 20);
    assert!(sizes[..10].iter().all(|size| *size == (320, 240)), "{sizes:?}");
    assert!(sizes[10..].iter().all(|size| *size == (640, 360)), "{sizes:?}");
    for frame in &frames {
        let rect = PixelRect { x: frame.width - 31, y: frame.height - 17, width: 31, height: 17 };
        let region = frame.pixels.region(rect).unwrap();
        assert_eq!((region.width(), region.height()), (31, 17));
    }
}

#[test]
fn the_test_picture_is_live_and_its_pixels_are_right() {
    let spec = SourceSpec::Test {
        pattern: "red".into(),
        size: FrameSize::new(320, 240).unwrap(),
        fps: Fps::new(30).unwrap(),
    };
    let camera = camera();
    let opening = Opening {
        camera: &camera,
        spec: &spec,
        decoder: &DecoderChoice::Auto,
        decodes: true,
        lower: Lower::Tcp,
        connect_timeout: LONG,
    };
    let mut pipeline = Pipeline::open(&opening, clock()).unwrap();
    let mut timeline = Timeline::new(Gap::Clock);
    for index in 0..3 {
        let Pulled::Frame(frame) = pipeline.pull(&mut timeline, LONG) else { panic!("no frame") };
        assert!(frame.seq >= index);
        let whole = frame.pixels.scaled(50, 40).unwrap();
        let part = frame.pixels.region(PixelRect { x: 7, y: 9, width: 33, height: 21 }).unwrap();
        for pixel in whole.data().as_chunks::<3>().0.iter().chain(part.data().as_chunks().0) {
            assert!(pixel[0] > 250 && pixel[1] < 5 && pixel[2] < 5, "{pixel:?}");
        }
        let outside = PixelRect { x: 300, y: 0, width: 21, height: 10 };
        assert!(frame.pixels.region(outside).is_err());
    }
    let wrong = SourceSpec::Test {
        pattern: "nosuch".into(),
        size: FrameSize::new(320, 240).unwrap(),
        fps: Fps::new(30).unwrap(),
    };
    let opening = Opening { spec: &wrong, ..opening };
    assert_eq!(Pipeline::open(&opening, clock()).err().unwrap().word(), "missing");
}

#[test]
fn a_missing_device_says_so() {
    let spec = SourceSpec::V4l2 { device: "/dev/nosuchvideo".into(), size: None, fps: None };
    let camera = camera();
    let opening = Opening {
        camera: &camera,
        spec: &spec,
        decoder: &DecoderChoice::Auto,
        decodes: true,
        lower: Lower::Tcp,
        connect_timeout: LONG,
    };
    assert_eq!(Pipeline::open(&opening, clock()).err().unwrap().word(), "missing");
}
