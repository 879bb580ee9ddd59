//! The tracker on two rendered street scenes, from what the default detector found in their frames.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::path::Path;

use spotterd::track::Rules;

mod scene;

use scene::{Scene, Total};

fn scenes() -> [Scene; 2] {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/scenes");
    ["street-a", "street-b"].map(|name| Scene::read(&folder, name))
}

/// Both scenes, from every first frame that the step leaves open.
fn follow(step: usize) -> Total {
    let mut total = Total::default();
    for scene in scenes() {
        for start in 0..step {
            let report = scene.follow(Rules::default(), start, step);
            report.events.iter().for_each(|event| println!("from {start}: {event}"));
            total.add(&report);
        }
    }
    println!("every {step} frames: {total:?}");
    total
}

#[test]
fn the_detector_finds_who_is_to_be_found() {
    for scene in scenes() {
        let coverage = scene.detection(Rules::default().strong_score);
        let (recall, precision) = (coverage.recall(), coverage.precision());
        assert!(recall >= 0.9 && precision >= 0.98, "recall {recall} precision {precision}");
    }
}

/// What holds at any rate, per run: persons are shown and nobody else.
fn shows_persons(report: &Total) {
    assert!(report.coverage.recall() >= 0.93, "{:?}", report.coverage);
    assert!(report.coverage.precision() >= 0.99, "{:?}", report.coverage);
    assert_eq!(report.false_tracks, 0);
    // A person in a visit has one track, give or take one in ten.
    assert!(report.tracks * 10 <= report.visits * 11, "{} tracks", report.tracks);
}

#[test]
fn at_five_a_second_at_most_one_switch_in_ten_tracks() {
    let report = follow(3);
    shows_persons(&report);
    assert!(report.switches * 10 <= report.tracks, "{} switches", report.switches);
    assert!(report.lasting * 20 <= report.tracks, "{} lasting", report.lasting);
    assert!(report.mixed * 10 <= report.tracks, "{} mixed", report.mixed);
}

#[test]
fn at_fifteen_and_three_a_second_few_switches() {
    for step in [1, 5] {
        let report = follow(step);
        shows_persons(&report);
        assert!(report.switches * 4 <= report.tracks, "{} switches", report.switches);
    }
}
