//! Recordings through the pipeline: the same result every time, and true to the labels.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use serde_json::Value;
use spotter_e2e::program::{data, spotterd, tiny_bundle};

fn replay(scene: &str, more: &[&str]) -> Value {
    let video = data(&format!("scenes/{scene}.mp4")).display().to_string();
    let truth = data(&format!("scenes/{scene}.truth.json")).display().to_string();
    let mut arguments = vec!["replay", "--video", &video, "--truth", &truth, "--json", "-"];
    arguments.extend(more);
    let run = spotterd(&arguments);
    assert_eq!(run.code, 0, "{}", run.err);
    serde_json::from_str(&run.out).expect("JSON on standard output")
}

#[test]
fn a_replay_is_deterministic_and_tells_where_the_time_went() {
    let truth = data("scenes/street-a.truth.json").display().to_string();
    let with = ["--bundle", tiny_bundle(), "--alerts", &truth, "--policy", "fixed=0.0"];
    let (first, second) = (replay("street-a", &with), replay("street-a", &with));
    assert!(!first["sightings"].as_array().unwrap().is_empty());
    assert_eq!(first["sightings"], second["sightings"]);
    assert_eq!(first["tracks"], second["tracks"]);
    for stage in ["detect", "track", "crop", "prepare", "embed", "score"] {
        let cost = &first["summary"]["cost"]["stages"][stage];
        assert!(cost["items"].as_u64().unwrap() > 0, "{stage}");
        assert!(cost["wall"].as_f64().unwrap() > 0.0, "{stage}");
    }
    assert!(first["summary"]["cost"]["decode_cpu_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn every_sighting_begins_and_ends_once() {
    let truth = data("scenes/street-b.truth.json").display().to_string();
    let result = replay(
        "street-b",
        &["--bundle", tiny_bundle(), "--alerts", &truth, "--policy", "fixed=0.0"],
    );
    let sightings = result["sightings"].as_array().unwrap();
    let count = |event: &str| sightings.iter().filter(|s| s["event"] == event).count();
    assert!(count("new") > 0);
    assert_eq!(count("new"), count("end"));
    for sighting in sightings {
        let key = |s: &Value| (s["alert"].clone(), s["track"].clone());
        let same: Vec<&Value> = sightings.iter().filter(|s| key(s) == key(sighting)).collect();
        assert_eq!(same[0]["event"], "new");
        assert_eq!(same[same.len() - 1]["event"], "end");
        assert_eq!(same.iter().filter(|s| s["event"] == "new").count(), 1);
    }
}

/// Acceptance: at 5 detections a second, at most one identity switch per ten tracks.
#[test]
fn persons_of_the_labelled_scenes_are_found_and_keep_their_identity() {
    let (mut switches, mut tracks) = (0, 0);
    for scene in ["street-a", "street-b"] {
        let result = replay(scene, &["--rate", "5"]);
        let agreement = &result["summary"]["truth"][scene];
        println!("{scene} at 5/s: {agreement}");
        assert!(agreement["precision"].as_f64().unwrap() >= 0.98, "{agreement}");
        assert!(agreement["recall"].as_f64().unwrap() >= 0.9, "{agreement}");
        assert_eq!(agreement["persons"], 8, "{agreement}");
        switches += agreement["switches"].as_u64().unwrap();
        tracks += agreement["tracks"].as_u64().unwrap();
    }
    assert!(switches * 10 <= tracks, "{switches} switches of {tracks} tracks");
}
