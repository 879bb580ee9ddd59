//! The demo's model on labelled scenes it was never trained on: alerts fire for the persons they describe
//! and not for others.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use spotter_e2e::program;
use spotter_models::{
    Rgb,
    bundle::{Bundle, fold},
    manifest::Precision,
    session::{Runtime, SessionOptions},
};
use spotterd::{embed::Embedder, engine::Engine, picture};

/// Everybody whom the scene's alerts mean is a pair (alert, person).
#[derive(Debug, Default)]
struct Outcome {
    /// Pairs that were told, of all.
    found: BTreeSet<(usize, u64)>,
    meant: BTreeSet<(usize, u64)>,
    /// Sightings of persons whom the alert does not mean, not even loosely.
    wrong: Vec<(usize, u64)>,
    /// Sightings of boxes that show nobody in particular.
    nobody: usize,
    /// Pairs that would be wrong: alerts by persons, less those meant or near.
    others: usize,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn spotterd(arguments: &[&str]) {
    let done = Command::new(program::path("spotterd")).args(arguments).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Replays a scene with its own fifteen alerts.
fn replay(bundle: &Path, scene: &str) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let scenes = root().join("tests/data/scenes");
    let truth = scenes.join(format!("{scene}.truth.json"));
    let truth: Value = serde_json::from_slice(&fs::read(truth).unwrap()).unwrap();
    let alerts = truth["alerts"].as_array().unwrap();
    let wanted: Vec<Value> = alerts
        .iter()
        .enumerate()
        .map(|(index, alert)| json!({"id": format!("a{index}"), "text": alert["text"]}))
        .collect();
    let (file, out) = (folder.path().join("alerts.json"), folder.path().join("out.json"));
    fs::write(&file, serde_json::to_vec(&wanted).unwrap()).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let video = text(&scenes.join(format!("{scene}.mp4")));
    spotterd(&[
        "replay",
        "--bundle",
        &text(bundle),
        "--video",
        &video,
        "--alerts",
        &text(&file),
        "--policy",
        "zscore=3",
        "--json",
        &text(&out),
    ]);
    let replayed: Value = serde_json::from_slice(&fs::read(out).unwrap()).unwrap();
    judge(alerts, &truth, &replayed)
}

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

fn judge(alerts: &[Value], truth: &Value, replayed: &Value) -> Outcome {
    let persons: Vec<u64> =
        truth["identities"].as_array().unwrap().iter().map(|p| p["id"].as_u64().unwrap()).collect();
    let mut outcome = Outcome::default();
    let mut fitting: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    for (index, alert) in alerts.iter().enumerate() {
        let meant = numbers(&alert["matches"]);
        outcome.meant.extend(meant.iter().map(|person| (index, *person)));
        let near = numbers(&alert["near"]);
        let fits: BTreeSet<u64> = meant.into_iter().chain(near).collect();
        outcome.others += persons.len() - fits.len();
        fitting.insert(index, fits);
    }
    for sighting in replayed["sightings"].as_array().unwrap() {
        let index: usize = sighting["alert"].as_str().unwrap()[1..].parse().unwrap();
        match shown(truth, sighting) {
            None => outcome.nobody += 1,
            Some(person) if outcome.meant.contains(&(index, person)) => {
                outcome.found.insert((index, person));
            }
            Some(person) if fitting[&index].contains(&person) => {}
            Some(person) if sighting["event"] == "new" => outcome.wrong.push((index, person)),
            Some(_) => {}
        }
    }
    outcome
}

/// Whose box a sighting's is.
fn shown(truth: &Value, sighting: &Value) -> Option<u64> {
    let size = ["width", "height"].map(|side| truth[side].as_f64().unwrap());
    let bbox: Vec<f64> =
        sighting["box"].as_array().unwrap().iter().map(|side| side.as_f64().unwrap()).collect();
    let (left, top) = (bbox[0] * size[0], bbox[1] * size[1]);
    let own = [left, top, left + bbox[2] * size[0], top + bbox[3] * size[1]];
    let at: jiff::Timestamp = sighting["at"].as_str().unwrap().parse().unwrap();
    let frame = (at.as_millisecond() as f64 / 1000.0 * truth["fps"].as_f64().unwrap()).round();
    let persons = truth["persons_per_frame"][frame as usize]["persons"].as_array()?;
    let overlap = |person: &Value| {
        let other: Vec<f64> =
            person["box"].as_array().unwrap().iter().map(|side| side.as_f64().unwrap()).collect();
        let side =
            |low: usize| (own[low + 2].min(other[low + 2]) - own[low].max(other[low])).max(0.0);
        let area = |b: &[f64]| (b[2] - b[0]) * (b[3] - b[1]);
        let both = side(0) * side(1);
        both / (area(&own) + area(&other) - both)
    };
    let best = persons.iter().max_by(|a, b| overlap(a).total_cmp(&overlap(b)))?;
    (overlap(best) > 0.3).then(|| best["id"].as_u64().unwrap())
}

#[test]
fn alerts_fire_for_the_persons_they_describe_and_not_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle");
    let pack = root().join("models/demo");
    spotterd(&["bundle", "fold", pack.to_str().unwrap(), "--out", bundle.to_str().unwrap()]);
    spotterd(&["bundle", "verify", bundle.to_str().unwrap()]);
    let (mut found, mut meant, mut wrong) = (0, 0, 0);
    for scene in ["street-a", "street-b"] {
        let outcome = replay(&bundle, scene);
        println!(
            "{scene}: {} of {} found, {} of {} others told wrongly {:?}, {} of nobody",
            outcome.found.len(),
            outcome.meant.len(),
            outcome.wrong.len(),
            outcome.others,
            outcome.wrong,
            outcome.nobody,
        );
        found += outcome.found.len();
        meant += outcome.meant.len();
        wrong += outcome.wrong.len() + outcome.nobody;
    }
    // Measured when the model was made: 13 of 22 found, none of 216 told wrongly. Another processor
    // rounds and decodes a little differently.
    assert!(found * 2 >= meant, "{found} of {meant}");
    assert!(wrong <= 2, "{wrong} sightings are wrong");
}

/// Eight bits have one range for all that is computed together: what came before must not be in it.
#[test]
fn an_int8_crop_embeds_the_same_alone_and_beside_an_outlier() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    fold(&root().join("models/demo"), &path, &[Precision::Int8]).unwrap();
    let open = || {
        let runtime = Runtime::load(None).unwrap();
        let options = SessionOptions::default();
        let engine = Engine { runtime, options, precision: Precision::Int8 };
        Embedder::open(&engine, &Bundle::open(&path).unwrap()).unwrap()
    };
    let mut crops: Vec<PathBuf> = fs::read_dir(root().join("tests/data/persons"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jpg"))
        .collect();
    crops.sort();
    let crops: Vec<Rgb> = crops.iter().take(8).map(|path| picture::read(path).unwrap()).collect();
    assert_eq!(crops.len(), 8);
    // The largest contrast there is: single rows, all white or all black.
    let stripes = (0..256 * 96).map(|at| [if at / 96 % 2 == 0 { 255 } else { 0 }; 3]);
    let outlier = Rgb::new(96, 256, stripes.flatten().collect()).unwrap();
    let mut together = open();
    for crop in &crops {
        let alone = open().embed(crop.view()).unwrap();
        let odd = together.embed(outlier.view()).unwrap();
        let beside = together.embed(crop.view()).unwrap();
        assert_eq!(beside.values(), alone.values(), "to the last bit");
        assert!(odd.cosine(&alone).unwrap() < 0.9, "the outlier is something else");
    }
}
