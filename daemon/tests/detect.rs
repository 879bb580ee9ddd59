//! The detectors against what the original runtime gave for the same pictures.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use proptest::prelude::*;
use spotter_models::{
    Kind, Rgb,
    session::{Runtime, SessionOptions},
};
use spotterd::{
    detect::{self, Detector, Layout, SCORE_FLOOR, deimv2, yolox},
    geometry::BBox,
};

mod model;

use model::model_bytes;

const FEMTO: &str = "deimv2_hgnetv2_femto_coco";
const ATTO: &str = "deimv2_hgnetv2_atto_coco";
const NANO: &str = "yolox_nano_416";

/// A process has one.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::load(None).unwrap());

/// Boxes of one picture: x1, y1, x2, y2, score.
type Boxes = Vec<[f32; 5]>;

#[derive(serde::Deserialize)]
struct Golden {
    detections: BTreeMap<String, BTreeMap<String, Boxes>>,
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data")
}

fn open(model: &str) -> Box<dyn Detector> {
    let (path, bytes) = model_bytes(model);
    detect::open(&RUNTIME, &path, &bytes, &SessionOptions::default()).unwrap()
}

fn picture(name: &str) -> Rgb {
    let picture = image::open(data().join("images").join(name)).unwrap().to_rgb8();
    let (width, height) = picture.dimensions();
    Rgb::new(width, height, picture.into_raw()).unwrap()
}

/// Compares one picture; the two lists are of sound boxes and scores.
fn compare(what: &str, golden: &[[f32; 5]], found: &detect::Found) {
    let boxes: Vec<BBox> =
        golden.iter().map(|g| BBox::new(g[0], g[1], g[2], g[3]).unwrap()).collect();
    for (bbox, golden) in boxes.iter().zip(golden).filter(|(_, golden)| golden[4] >= 0.35) {
        let same = |d: &&detect::Detection| d.bbox.iou(bbox) >= 0.98;
        assert!(
            found.detections.iter().filter(same).any(|d| (d.score - golden[4]).abs() <= 0.02),
            "{what}: {golden:?} is missing in {:?}",
            found.detections.iter().filter(|d| d.bbox.iou(bbox) > 0.3).collect::<Vec<_>>()
        );
    }
    for extra in found.detections.iter().filter(|d| d.score >= 0.40) {
        assert!(boxes.iter().any(|bbox| bbox.iou(&extra.bbox) >= 0.98), "{what}: extra {extra:?}");
    }
}

fn agrees(model: &str, layout: Layout, side: u32) {
    let text = std::fs::read(data().join("detections.json")).unwrap();
    let golden: Golden = serde_json::from_slice(&text).unwrap();
    let mut detector = open(model);
    assert_eq!((detector.layout(), detector.input_size()), (layout, (side, side)));
    let pictures = &golden.detections[model];
    assert_eq!(pictures.len(), 11);
    let mut compared = 0;
    for (name, golden) in pictures {
        let picture = picture(name);
        let found = detector.detect(&picture, picture.width(), picture.height()).unwrap();
        compare(&format!("{model} {name}"), golden, &found);
        assert_eq!(found.dropped, detect::Dropped::default());
        assert!(found.detections.iter().all(|d| d.score >= SCORE_FLOOR));
        assert!(found.detections.is_sorted_by(|a, b| a.score >= b.score));
        compared += golden.iter().filter(|g| g[4] >= 0.35).count();
    }
    assert!(compared >= 20, "only {compared} boxes were compared");
}

#[test]
fn deimv2_femto_agrees_with_the_original_runtime() {
    agrees(FEMTO, Layout::Deimv2, 416);
}

#[test]
fn deimv2_atto_agrees_with_the_original_runtime() {
    agrees(ATTO, Layout::Deimv2, 320);
}

#[test]
fn yolox_nano_agrees_with_the_original_runtime() {
    agrees(NANO, Layout::Yolox, 416);
}

#[test]
fn the_order_of_frames_changes_nothing() {
    // Another aspect leaves another part of the input as padding.
    let mut detector = open(NANO);
    let (wide, tall) = (picture("000000000165.jpg"), picture("000000000459.jpg"));
    let first = detector.detect(&wide, wide.width(), wide.height()).unwrap();
    detector.detect(&tall, tall.width(), tall.height()).unwrap();
    assert_eq!(detector.detect(&wide, wide.width(), wide.height()).unwrap(), first);
    assert!(!first.detections.is_empty());
}

#[test]
fn a_corrupt_model_is_named() {
    let (path, bytes) = model_bytes(NANO);
    let mut flipped = bytes.clone();
    flipped.iter_mut().skip(100).take(400).for_each(|byte| *byte ^= 0x5a);
    for broken in [&b""[..], b"no model", &bytes[..bytes.len() / 2], &flipped] {
        let error = detect::open(&RUNTIME, &path, broken, &SessionOptions::default()).err();
        let error = error.expect("a broken file was opened");
        assert!(error.to_string().contains("yolox_nano_416.onnx"), "{error}");
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    }
}

/// The smallest ONNX model: `Identity` from `image` to `copy`, f32 [1,3,64,64], as protobuf bytes.
fn identity_model() -> Vec<u8> {
    fn field(number: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, u8::try_from(payload.len()).unwrap()];
        bytes.extend_from_slice(payload);
        bytes
    }
    let varint = |number: u8, value: u8| vec![number << 3, value];
    let dimension = |value| field(1, &varint(1, value));
    let shape = [1, 3, 64, 64].map(dimension).concat();
    let tensor = [varint(1, 1), field(2, &shape)].concat();
    let value = |name: &[u8]| [field(1, name), field(2, &field(1, &tensor))].concat();
    let node = [field(1, b"image"), field(2, b"copy"), field(4, b"Identity")].concat();
    let graph =
        [field(1, &node), field(2, b"g"), field(11, &value(b"image")), field(12, &value(b"copy"))];
    [varint(1, 8), field(7, &graph.concat()), field(8, &varint(2, 13))].concat()
}

#[test]
fn a_model_of_something_else_is_refused_with_what_it_takes_and_gives() {
    let name = Path::new("other.onnx");
    let opened = detect::open(&RUNTIME, name, &identity_model(), &SessionOptions::default());
    let error = opened.err().expect("no detector").to_string();
    for part in ["other.onnx", "image f32 [1, 3, 64, 64]", "copy f32", "DEIMv2", "YOLOX"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

/// Floats of every kind, more of those that models write.
fn any_number() -> impl Strategy<Value = f32> {
    prop_oneof![any::<f32>(), -2f32..2.0, 0f32..1.0]
}

proptest! {
    #[test]
    fn whatever_a_model_writes_gives_sound_boxes(
        numbers in prop::collection::vec(any_number(), 0..3000),
        factor in any::<f32>(),
    ) {
        let labels = vec![0; numbers.len()];
        let squeezed = deimv2::decode(&labels, &numbers, &numbers);
        let grid = yolox::Grid { width: 64, height: 32 };
        let cells = yolox::decode(&numbers, grid, factor);
        for detection in squeezed.detections.iter().chain(&cells.detections) {
            prop_assert!((SCORE_FLOOR..=1.0).contains(&detection.score));
            prop_assert!(detection.bbox.area() > 0.0);
        }
    }
}
