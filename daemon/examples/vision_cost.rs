//! What a frame costs beside the models: scaling and feeding, decoding, tracking, choosing views.
//!
//! ```text
//! cargo run --release --workspace --example vision_cost
//! ```
//!
//! Ten persons walk through a frame of 1280x720. Prints the mean processor time of each step.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{sync::Arc, time::Duration};

use spotter_models::Rgb;
use spotterd::{
    crop::{self, Quality, SelectionRules, Selector},
    detect::{Detection, deimv2, planes, yolox},
    frame::{Pixels, Pts},
    geometry::BBox,
    track::{Rules, State, Tracker},
};

const ROUNDS: u32 = 300;
const SIZE: (u32, u32) = (1280, 720);
const SIDE: u32 = 416;

fn main() -> anyhow::Result<()> {
    let bytes = (0..SIZE.0 * SIZE.1 * 3).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
    let frame = Rgb::new(SIZE.0, SIZE.1, bytes.collect())?;
    let small = frame.scaled(SIDE, SIDE)?;
    let mut input = vec![0.0; 3 * (SIDE * SIDE) as usize];
    time("scale to 416x416", |_| frame.scaled(SIDE, SIDE).map(|_| ()).unwrap_or_default());
    time("planes of floats", |_| {
        planes::write(&small, planes::Order::Rgb, 255.0, SIDE as usize, &mut input);
    });
    time_decoding();
    time_tracking(&frame);
    Ok(())
}

/// Prints the mean processor time of a step that is done [`ROUNDS`] times; other programs on the
/// machine do not count.
fn time(what: &str, mut step: impl FnMut(u32)) {
    (0..ROUNDS / 10).for_each(&mut step);
    let start = processor_time();
    (0..ROUNDS).for_each(&mut step);
    let mean = (processor_time() - start) * 1e6 / f64::from(ROUNDS);
    println!("{what:20} {mean:8.1} µs");
}

/// Seconds that this thread has run.
fn processor_time() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 * 1e-9
}

fn time_decoding() {
    let grid = yolox::Grid { width: SIDE, height: SIDE };
    let rows: Vec<f32> =
        (0..grid.len() * 85).map(|i| if i % 997 < 85 { 0.6 } else { 0.05 }).collect();
    time("decode YOLOX", |_| drop(std::hint::black_box(yolox::decode(&rows, grid, 0.325))));
    let (labels, scores) = ([0; 300], [0.3; 300]);
    let boxes: Vec<f32> = (0..300).flat_map(|i| [0.0, 0.0, 50.0, 100.0 + i as f32]).collect();
    time("decode DEIMv2", |_| drop(std::hint::black_box(deimv2::decode(&labels, &boxes, &scores))));
}

/// Ten persons at a moment, half of them in front of each other, and ten weak boxes.
fn persons(round: u32) -> Vec<Detection> {
    let person = |i: u32, score: f32| {
        let x = (i * 113 + round * (3 + i % 5)) as f32 % 1200.0;
        let height = 120.0 + 25.0 * i as f32;
        let bbox = BBox::new(x, 200.0, x + height * 0.4, 200.0 + height)?;
        Some(Detection { bbox, score })
    };
    let strong = (0..10).filter_map(|i| person(i, 0.8));
    strong.chain((0..10).filter_map(|i| person(i + 3, 0.2))).collect()
}

fn time_tracking(frame: &Rgb) {
    let mut tracker = Tracker::new(Rules::default(), Arc::default());
    let pts = |round: u32| Pts(Duration::from_millis(1000 + 100 * u64::from(round)));
    let mut round = 0;
    time("track", |_| {
        round += 1;
        drop(std::hint::black_box(tracker.update(pts(round), SIZE, &persons(round))));
    });
    let mut selector = Selector::new(SelectionRules::default());
    time("choose views", |_| {
        round += 1;
        let update = tracker.update(pts(round), SIZE, &persons(round));
        let boxes: Vec<BBox> = update.tracks.iter().map(|view| view.bbox).collect();
        for view in update.tracks.iter().filter(|view| view.state == State::Confirmed) {
            let quality =
                Quality::of_box(&Detection { bbox: view.bbox, score: view.score }, &boxes, SIZE);
            if selector.consider(view.id, pts(round), &view.bbox, &quality).is_none() {
                continue;
            }
            let rectangle = crop::rectangle(&view.bbox, SIZE.0, SIZE.1);
            if let Some(Ok(crop)) = rectangle.map(|rectangle| frame.region(rectangle)) {
                let quality = quality.with_sharpness(crop::sharpness(&crop));
                selector.take(view.id, pts(round), &view.bbox, &quality);
            }
        }
        update.ended.iter().for_each(|ended| selector.forget(ended.id));
    });
    let crop =
        frame.region(spotterd::geometry::PixelRect { x: 10, y: 10, width: 120, height: 300 });
    if let Ok(crop) = crop {
        time("sharpness of a crop", |_| _ = std::hint::black_box(crop::sharpness(&crop)));
    }
}
