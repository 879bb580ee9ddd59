//! Verdicts of staff: which crops wait for them, what is kept, what goes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

mod folder;
mod state;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use folder::files;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use spotter_models::{
    Generation, Rgb,
    feedback::{Feedback, Judgement, MAX_PICTURES, Verdict},
};
use spotterd::{
    alert::{AlertId, Wall},
    erase::{Eraser, Fields},
    feedback::{Intake, Limits, Outcome, Said, Shelf, Shot, Told, Wish},
    gallery::{Selection, Why},
    page::Board,
    sighting::{Event, Sighting, SightingId},
};
use state::{State, camera, record, second, sighting};

const BUNDLE: Generation = Generation([0x5a; 16]);

fn now() -> Timestamp {
    "2026-11-27T12:00:00Z".parse().unwrap()
}

fn limits() -> Limits {
    Limits {
        keep: true,
        retention: Duration::from_secs(30 * 86_400),
        pending: Duration::from_secs(72 * 3600),
        max_bytes: 1 << 30,
        max_verdicts: 100,
        max_pending: 100,
    }
}

fn open(folder: &Path) -> Shelf {
    Shelf::open(folder.join("feedback"), limits(), false, now()).unwrap()
}

/// A crop like no other.
fn shot(number: u64, quality: f32) -> Shot {
    let pixel = |i: u64| (i.wrapping_mul(2_654_435_761).wrapping_add(number * 97) >> 7) as u8;
    let crop = Rgb::new(20, 50, (0..3000).map(pixel).collect()).unwrap();
    Shot { number, quality, crop: Arc::new(crop) }
}

fn told(number: u64, event: Event, shots: Vec<Shot>) -> Told {
    let at = second(number as i64);
    let sighting = Sighting {
        schema: 1,
        id: sighting(number),
        event,
        seq: 1,
        alert: AlertId::new("red-coat").unwrap(),
        alert_revision: Some(1),
        camera: camera(number),
        track: number,
        at,
        first_seen: at,
        score: 0.41,
        threshold: 0.37,
        false_alarm_probability: None,
        crops: 1,
        bbox: [0.1, 0.1, 0.1, 0.4],
        phrases: Vec::new(),
        bundle: BUNDLE.to_string(),
        suppressed: 0,
        late: false,
        clock_synced: true,
    };
    let left_out = BTreeMap::from([("tiny", 2)]);
    Told { sighting, text: "woman in a red coat".into(), shots, left_out }
}

fn wish(id: SightingId, said: Said) -> Wish {
    Wish { sighting: id, said, by: "gate".into(), text: None, note: None }
}

const CONFIRMED: Said = Said::Judged(Judgement::Confirmed);
const REJECTED: Said = Said::Judged(Judgement::Rejected);

fn verdicts(folder: &Path) -> Vec<Verdict> {
    let (verdicts, broken) = Feedback::open(&folder.join("feedback")).unwrap().all().unwrap();
    assert!(broken.is_empty(), "{broken:?}");
    verdicts
}

/// Files in which a JPEG begins.
fn pictures(folder: &Path) -> usize {
    let has = |path: &std::path::PathBuf| fs::read(path).unwrap().starts_with(&[0xff, 0xd8]);
    files(folder).iter().filter(|path| has(path)).count()
}

#[test]
fn the_best_crops_wait_over_a_restart_and_become_the_verdicts() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = open(folder.path());
    shelf.told(&told(1, Event::New, (0..3).map(|n| shot(n, 0.5)).collect()), now());
    // Better views of the same track, and some that were there.
    let more = (1..12).map(|n| shot(n, 0.3 + 0.05 * n as f32)).collect();
    shelf.told(&told(1, Event::Update, more), now());
    shelf.told(&told(1, Event::End, Vec::new()), now());
    assert_eq!(pictures(folder.path()), MAX_PICTURES);
    // What a crash left of another: no erasure would find it.
    fs::create_dir_all(folder.path().join("feedback/.pending/lost")).unwrap();
    fs::write(folder.path().join("feedback/.pending/lost/0.jpg"), [0xff, 0xd8]).unwrap();
    fs::create_dir(folder.path().join("feedback/.01X.partial")).unwrap();
    fs::write(folder.path().join("feedback/.01X.partial/0.jpg"), [0xff, 0xd8]).unwrap();
    drop(shelf);
    let shelf = open(folder.path());
    assert_eq!(pictures(folder.path()), MAX_PICTURES);
    let outcome = shelf.judge(&wish(sighting(1), CONFIRMED), now()).unwrap();
    let left_out = BTreeMap::from([("tiny".to_owned(), 2)]);
    let expected = Outcome::Kept { pictures: MAX_PICTURES, replaced: false, left_out };
    assert_eq!(outcome, expected);
    assert_eq!(pictures(folder.path()), MAX_PICTURES, "moved, not copied");
    let kept = verdicts(folder.path()).pop().unwrap();
    assert_eq!((kept.text.as_str(), kept.by.as_str()), ("woman in a red coat", "gate"));
    assert_eq!((kept.bundle, kept.camera.as_str()), (BUNDLE, camera(1).as_str()));
    let qualities: Vec<f32> = kept.pictures.iter().map(|picture| picture.quality).collect();
    assert!(qualities.is_sorted_by(|a, b| a >= b), "{qualities:?}");
    assert_eq!(qualities[0], 0.3 + 0.05 * 11.0);

    // The last word counts, also after a restart, and keeps the pictures.
    drop(shelf);
    let shelf = open(folder.path());
    let again = Wish { text: Some("orange coat".into()), ..wish(sighting(1), REJECTED) };
    let outcome = shelf.judge(&again, now()).unwrap();
    assert!(matches!(outcome, Outcome::Kept { pictures: MAX_PICTURES, replaced: true, .. }));
    let kept = verdicts(folder.path());
    assert_eq!((kept.len(), kept[0].verdict), (1, Judgement::Rejected));
    assert_eq!((kept[0].meant(), kept[0].pictures.len()), ("orange coat", MAX_PICTURES));
    assert_eq!(pictures(folder.path()), MAX_PICTURES);
}

#[test]
fn what_is_unknown_is_not_kept_and_who_is_on_the_way_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = open(folder.path());
    assert_eq!(shelf.judge(&wish(sighting(1), CONFIRMED), now()).unwrap(), Outcome::Unknown);
    // An end alone begins nothing: who it is about was erased.
    shelf.told(&told(1, Event::End, vec![shot(1, 0.5)]), now());
    assert_eq!(shelf.judge(&wish(sighting(1), CONFIRMED), now()).unwrap(), Outcome::Unknown);
    shelf.told(&told(2, Event::New, Vec::new()), now());
    assert_eq!(shelf.judge(&wish(sighting(2), Said::Taken), now()).unwrap(), Outcome::Taken);
    assert!(verdicts(folder.path()).is_empty());
    let outcome = shelf.judge(&wish(sighting(2), CONFIRMED), now()).unwrap();
    assert!(matches!(outcome, Outcome::Kept { pictures: 0, replaced: false, .. }), "{outcome:?}");
    let summary = open(folder.path()).summary().unwrap();
    assert_eq!((summary.confirmed, summary.without_pictures, summary.pending), (1, 1, 0));
    assert_eq!(summary.taken, BTreeMap::from([(sighting(2).to_string(), "gate".to_owned())]));
    // Views that come after the verdict are not added to it.
    shelf.told(&told(2, Event::Update, vec![shot(7, 0.9)]), now());
    assert_eq!(pictures(folder.path()), 0);
}

#[test]
fn what_is_old_or_too_much_goes_the_oldest_first() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::open(
        folder.path().join("feedback"),
        Limits { max_verdicts: 2, max_pending: 2, ..limits() },
        false,
        now(),
    );
    let shelf = shelf.unwrap();
    for number in 1..=6 {
        shelf.told(&told(number, Event::New, vec![shot(number, 0.5)]), now());
    }
    let later = |hours: i64| now() + SignedDuration::from_hours(hours);
    for number in 1..=3 {
        shelf.judge(&wish(sighting(number), CONFIRMED), later(number as i64)).unwrap();
    }
    let wall = |hours| Wall { at: later(hours), synced: Some(true) };
    shelf.upkeep(wall(4), None);
    let known = |shelf: &Shelf| -> Vec<u64> {
        (1..=6).filter(|number| shelf.knows(&sighting(*number).to_string())).collect()
    };
    assert_eq!(known(&shelf), [2, 3, 5, 6]);
    assert_eq!((verdicts(folder.path()).len(), pictures(folder.path())), (2, 4));
    // A clock that nobody believes deletes nothing by age.
    shelf.upkeep(Wall { synced: Some(false), ..wall(10_000) }, None);
    assert_eq!(known(&shelf), [2, 3, 5, 6]);
    shelf.upkeep(wall(73), None);
    assert_eq!(known(&shelf), [2, 3]);
    shelf.upkeep(wall(30 * 24 + 3), None);
    assert_eq!(known(&shelf), [3]);
    drop(shelf);
    let full = Limits { max_bytes: 10, ..limits() };
    let shelf = Shelf::open(folder.path().join("feedback"), full, false, now()).unwrap();
    shelf.upkeep(wall(0), None);
    assert_eq!((known(&shelf), pictures(folder.path())), (vec![], 0));
}

#[test]
fn an_erasure_takes_verdicts_and_crops_and_a_hold_keeps_them() {
    let state = State::new();
    let folder = state.folder.path();
    let gallery = state.gallery();
    for number in 0..6 {
        gallery.append(&record(number)).unwrap();
    }
    let why = Why { reason: "case 2031".into(), by: None, at: None };
    gallery.hold(Selection::Sighting(sighting(3)), why, None).unwrap();
    let shelf = open(folder);
    for number in 0..6 {
        shelf.told(
            &told(number, Event::New, vec![shot(number, 0.5), shot(number + 50, 0.6)]),
            now(),
        );
    }
    for number in [0, 1, 3] {
        shelf.judge(&wish(sighting(number), CONFIRMED), now()).unwrap();
    }
    // Neither age nor room take who is held.
    let old = now() + SignedDuration::from_hours(24 * 400);
    let kept = Shelf::open(folder.join("feedback"), limits(), false, now()).unwrap();
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let target = to.join(path.file_name().unwrap());
            match path.is_dir() {
                true => copy(&path, &target),
                false => drop(fs::copy(&path, &target).unwrap()),
            }
        }
    }
    drop(kept);
    let aside = tempfile::tempdir().unwrap();
    copy(&folder.join("feedback"), &aside.path().join("feedback"));
    let copied = Shelf::open(aside.path().join("feedback"), limits(), false, now()).unwrap();
    copied.upkeep(Wall { at: old, synced: Some(true) }, Some(&gallery));
    assert_eq!(verdicts(aside.path()).len(), 1);
    assert!(copied.knows(&sighting(3).to_string()) && !copied.knows(&sighting(0).to_string()));
    drop((gallery, shelf));

    let eraser = Eraser::open(folder, false, state.clock()).unwrap();
    let gate = Fields { camera: Some(camera(0)), ..Fields::default() };
    let dry = Fields { dry_run: true, ..gate.clone() }.wish().unwrap();
    let would = eraser.erase(&dry).unwrap();
    // Persons 0 and 3 are at the gate; 3 is held.
    assert_eq!((would.verdicts, would.verdict_pictures, would.waiting_crops), (1, 2, 0));
    assert_eq!((would.held[0].told, pictures(&folder.join("feedback"))), (1, 12));
    let done = eraser.erase(&gate.wish().unwrap()).unwrap();
    assert_eq!((done.verdicts, done.verdict_pictures), (1, 2));
    let fields = Fields { sighting: Some(sighting(4).to_string()), ..Fields::default() };
    assert_eq!(eraser.erase(&fields.wish().unwrap()).unwrap().waiting_crops, 2);
    drop(eraser);
    let left = open(folder);
    let known: Vec<u64> =
        (0..6).filter(|number| left.knows(&sighting(*number).to_string())).collect();
    assert_eq!((known, pictures(&folder.join("feedback"))), (vec![1, 2, 3, 5], 8));
    assert_eq!(verdicts(folder).len(), 2);
    drop(left);

    // A time takes a verdict that cannot be read, but not while somebody is held.
    fs::write(folder.join("feedback").join(sighting(1).to_string()).join("verdict.json"), "{")
        .unwrap();
    fs::remove_dir_all(folder.join("feedback/.pending").join(sighting(1).to_string())).unwrap();
    let everybody = Fields {
        from: Some("1960-01-01T00:00:00Z".into()),
        to: Some("2060-01-01T00:00:00Z".into()),
        ..Fields::default()
    };
    let eraser = Eraser::open(folder, false, state.clock()).unwrap();
    let done = eraser.erase(&everybody.wish().unwrap()).unwrap();
    assert_eq!((done.unreadable, done.waiting_crops), (1, 4), "{done:?}");
    drop(eraser);
    let gallery = state.gallery();
    for hold in gallery.holds() {
        let why = Why { reason: "over".into(), by: None, at: None };
        gallery.release(hold.id, why).unwrap();
    }
    drop(gallery);
    let eraser = Eraser::open(folder, false, state.clock()).unwrap();
    let done = eraser.erase(&everybody.wish().unwrap()).unwrap();
    assert_eq!((done.damaged, done.verdicts, done.unreadable), (1, 1, 0), "{done:?}");
    assert_eq!(pictures(folder), 0);
}

#[test]
fn only_whose_sighting_it_is_answers_and_what_is_gone_is_told() {
    let state = State::new();
    let gallery = Arc::new(state.gallery());
    gallery.append(&record(1)).unwrap();
    let intake = |keep| {
        let folder = state.folder.path().join("feedback");
        let shelf = Shelf::open(folder, Limits { keep, ..limits() }, false, now()).unwrap();
        Intake {
            shelf: Arc::new(shelf),
            flusher: None,
            gallery: Some(gallery.clone()),
            board: Arc::new(Board::new()),
            clock: state.clock(),
        }
    };
    let say = |intake: &Intake, number: u64, verdict: &str| {
        let id = sighting(number);
        let said = json!({"sighting": id, "verdict": verdict, "by": "gate"});
        intake.take(said.to_string().as_bytes())
    };
    let device = intake(true);
    assert_eq!(say(&device, 2, "confirmed"), None, "another device's");
    assert_eq!(say(&device, 1, "confirmed").unwrap()["result"], "too-old");
    assert_eq!(say(&device, 1, "taken").unwrap()["result"], "taken");
    device.shelf.told(&told(2, Event::New, vec![shot(1, 0.5)]), now());
    let kept = say(&device, 2, "rejected").unwrap();
    assert_eq!((&kept["result"], &kept["kept_pictures"]), (&json!("kept"), &json!(1)), "{kept}");
    assert_eq!(kept["sighting"], json!(sighting(2)));
    let wrong = device.take(br#"{"verdict": "confirmed", "by": "gate"}"#).unwrap();
    assert!(wrong["error"].as_str().unwrap().contains("sighting"), "{wrong}");
    let off = intake(false);
    let refused = say(&off, 1, "confirmed").unwrap();
    assert_eq!(refused["result"], "refused", "{refused}");
    assert!(refused["reason"].as_str().unwrap().contains("[feedback] keep"), "{refused}");
}

#[test]
fn an_erasure_names_bundles_that_were_trained_on_whom_it_takes() {
    let state = State::new();
    let store = tempfile::tempdir().unwrap();
    let digest = "0".repeat(64);
    let bundle = |name: &str, provenance: Value| {
        let generation = name.repeat(32);
        let folder = store.path().join("generations").join(&generation);
        fs::create_dir_all(&folder).unwrap();
        let file = json!({"sha256": digest, "bytes": 1});
        let delta = json!({"schema": 1, "name": "site night", "created_at": "2026-11-27T03:00:00Z",
            "parent": "9".repeat(32), "lineage": {"base": digest, "adapters": digest},
            "precisions": ["f32"], "tensors": file, "probe": file, "provenance": provenance,
            "result": generation});
        fs::write(folder.join("delta.json"), delta.to_string()).unwrap();
        generation
    };
    let (one, two) = (sighting(1).to_string(), sighting(2).to_string());
    let trained = bundle("a", json!({"sightings": [one, two, "no id"]}));
    bundle("b", json!({"sightings": [two]}));
    bundle("c", json!({}));
    fs::create_dir_all(store.path().join("generations").join("d".repeat(32))).unwrap();
    std::os::unix::fs::symlink(format!("generations/{trained}"), store.path().join("current"))
        .unwrap();
    // A damaged one is passed over, with a line in the log.
    fs::write(store.path().join("generations").join("d".repeat(32)).join("delta.json"), "{")
        .unwrap();
    let shelf = open(state.folder.path());
    shelf.told(&told(1, Event::New, vec![shot(1, 0.5)]), now());
    shelf.judge(&wish(sighting(1), CONFIRMED), now()).unwrap();
    drop(shelf);
    let eraser = Eraser::open(state.folder.path(), false, state.clock()).unwrap();
    let eraser = eraser.with_bundles(store.path().to_owned());
    let erase = |fields: Fields| eraser.erase(&fields.wish().unwrap()).unwrap();
    let by_camera = erase(Fields { camera: Some(camera(1)), ..Fields::default() });
    assert_eq!((by_camera.verdicts, by_camera.bundles.len()), (1, 1), "{by_camera:?}");
    let found = &by_camera.bundles[0];
    assert_eq!((&found.bundle, found.current, &found.sightings), (&trained, true, &vec![one]));
    // Of the other one nothing is kept any more: its id says enough.
    let gone = erase(Fields { sighting: Some(two.clone()), ..Fields::default() });
    assert_eq!((gone.verdicts, gone.bundles.len(), gone.bundles[1].current), (0, 2, false));
    let nobody = erase(Fields { sighting: Some(sighting(7).to_string()), ..Fields::default() });
    assert!(nobody.bundles.is_empty() && nobody.is_empty());
}
