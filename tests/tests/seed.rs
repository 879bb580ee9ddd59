//! "Tell me when this one comes back": an alert that is like somebody who was seen, and a search by a picture;
//! through the broker, as staff do it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{
    fs,
    process::Command,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use spotter_e2e::{
    daemon::{Plan, alert, are, arm, publish, state_of, within},
    program::{data, spotterd},
    rig::{Mosquitto, Seen, Watcher, topic},
    site::{Site, WITHIN, stop},
};

/// Seconds of the recording in which two persons walk by, one after the other, before it begins again.
const CLIP_S: i64 = 40;

/// The sightings of an alert that came so far, those only in which somebody came into view.
fn sightings(alert: &str, seen: &[Seen]) -> Vec<Value> {
    let told = seen.iter().filter(|seen| topic(seen) == "spotter/hall/box/sightings");
    let told = told.filter_map(|seen| serde_json::from_slice::<Value>(&seen.payload).ok());
    told.filter(|told| told["alert"] == alert && told["event"] == "new").collect()
}

/// Waits until one of an alert's sightings is new.
fn comes_back(watcher: &Watcher, alert: &str) -> Value {
    let before = sightings(alert, &watcher.seen.all()).len();
    within(WITHIN, || sightings(alert, &watcher.seen.all()).get(before).cloned())
}

fn like(like: Value, revision: u64) -> String {
    let mut message = alert("", revision);
    message["like"] = like;
    message.as_object_mut().unwrap().remove("text");
    message.to_string()
}

#[test]
fn who_was_seen_once_is_told_of_when_they_come_back_until_they_are_erased() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("two-persons.mp4");
    let cut = ["-t", &CLIP_S.to_string(), "-c", "copy"].map(str::to_owned);
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(data("one-by-one.mp4"))
        .args(cut)
        .arg(&clip)
        .status()
        .unwrap();
    assert!(status.success());
    let clip = clip.display();
    let camera = format!("[[camera]]\nid = \"gate\"\nurl = \"file:{clip}\"\nrepeat = true\n");
    let broker = Mosquitto::start_open();
    let mut plan = Plan::new(folder.path(), broker.port, &camera);
    plan.mqtt += "\ncommands = [\"erase\"]";
    let watcher = Watcher::start(broker.port, "spotter/hall/box/#");
    let site = Site::new(broker, &plan);
    let daemon = plan.start();
    arm(&site.broker, "everybody", 1);
    let first = within(WITHIN, || sightings("everybody", &watcher.seen.all()).first().cloned());
    let id = first["id"].as_str().unwrap();

    // The person is in view yet, and looked for from when they left.
    publish(&site.broker, "again", &like(json!({"sighting": id, "device": "box"}), 1));
    publish(&site.broker, "elsewhere", &like(json!({"sighting": id, "device": "attic"}), 1));
    publish(&site.broker, "nobody", &like(json!({"device": "box", "id": 999_999}), 1));
    let seen = watcher.seen.when("the states", are(&["elsewhere", "nobody"], "rejected"));
    let elsewhere = state_of("elsewhere", &seen);
    assert_eq!(elsewhere["code"], "elsewhere");
    assert!(elsewhere["reason"].as_str().unwrap().contains("is on device attic"), "{elsewhere}");
    assert_eq!(state_of("nobody", &seen)["code"], "no-person");
    within(WITHIN, || are(&["again"], "armed")(&watcher.seen.all()).then_some(()));
    let armed = state_of("again", &watcher.seen.all());
    assert_eq!(armed["text"], format!("somebody like box/{id}"));
    let back = comes_back(&watcher, "again");
    assert_eq!((&back["camera"], back["phrases"].as_array().unwrap().len()), (&json!("gate"), 0));

    // Who is most like the person is the person, as the recording comes again.
    site.until_kept(4);
    let found = site.done("search", &["--like", id, "--pictures", folder.path().to_str().unwrap()]);
    let answer = &found["answers"][0];
    let track = answer["like"]["id"].as_u64().unwrap();
    let results = answer["results"].as_array().unwrap();
    assert!(!results.is_empty() && results.iter().all(|hit| hit["id"] != track), "{found}");
    let at = |value: &Value| value["first_seen"].as_str().unwrap().parse::<Timestamp>().unwrap();
    let later = at(&results[0]).duration_since(at(&first)).as_secs();
    assert!((later - CLIP_S).abs() <= 8, "{later} s later: {results:?}");
    let unknown = site.run("search", &["--like", "01JD8Z0V6N8Q2K4M5P7R9T1W3X"]);
    assert!(unknown.code == 1 && unknown.err.contains("No device"), "{}", unknown.err);
    let preview = site.done("alert preview", &["--like", &format!("box/{track}")]);
    let preview = &preview["answers"][0];
    assert_eq!(preview["text"], format!("somebody like box/{track}"), "{preview}");
    let would = preview["results"].as_array().unwrap();
    assert!(!would.is_empty() && would.iter().all(|hit| hit["id"] != track), "{preview}");

    // As a guard says it.
    let added = ["--like", &format!("box/{track}"), "--for", "1h", "--wait", "30"];
    let added = site.done("alert add", &added);
    assert_eq!(
        (&added["done"], &added["devices"][0]["state"]["state"]),
        (&json!(true), &json!("armed"))
    );
    let other = site.run("alert add", &["--like", "attic/7", "--wait", "30"]);
    assert!(
        other.code == 1 && other.out.contains("is on device attic"),
        "{}{}",
        other.out,
        other.err
    );
    let listed = site.run("alert list", &[]);
    assert!(listed.out.contains(&format!("somebody like box/{track}")), "{}", listed.out);

    // By a picture, which travels. That of a track is most like the track.
    let best = results[0]["id"].as_u64().unwrap();
    let picture = folder.path().join(format!("box-{best}.jpg")).display().to_string();
    let by_picture = site.done("search", &["--picture", &picture, "--limit", "100"]);
    let answer = &by_picture["answers"][0];
    assert!(answer["persons"].is_u64() && answer["text"].is_null(), "{answer}");
    let of_best = answer["results"].as_array().unwrap().iter().find(|hit| hit["id"] == best);
    assert!(of_best.unwrap()["score"].as_f64().unwrap() > 0.9, "{answer}");
    fs::write(folder.path().join("words.jpg"), "no picture").unwrap();
    let words = folder.path().join("words.jpg").display().to_string();
    let wrong = site.run("search", &["--picture", &words]);
    assert!(wrong.code != 0 && wrong.err.contains("words.jpg"), "{}", wrong.err);

    // It outlives the track and a restart; another bundle reads the picture that was kept.
    stop(daemon);
    fs::remove_dir_all(plan.state().join("gallery")).unwrap();
    // What is damaged grows old as everybody does.
    let aside = ["alerts.db.damaged", "outbox/outbox.db.damaged-1795000000"];
    let aside = aside.map(|name| plan.state().join(name));
    for path in &aside {
        let file = fs::File::create(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
    }
    let daemon = plan.start();
    comes_back(&watcher, "again");
    within(WITHIN, || aside.iter().all(|path| !path.exists()).then_some(()));
    stop(daemon);
    let before = back["bundle"].as_str().unwrap();
    let bundle = folder.path().join("other-bundle").display().to_string();
    let run =
        spotterd(&["bench", "random-bundle", "--size", "tiny", "--seed", "2", "--out", &bundle]);
    assert_eq!(run.code, 0, "{}", run.err);
    plan.bundle = Some(bundle);
    let daemon = plan.start();
    within(WITHIN, || {
        let state = state_of("again", &watcher.seen.all());
        (state["state"] == "armed" && state["bundle"] != before).then_some(())
    });
    assert_ne!(comes_back(&watcher, "again")["bundle"], before);

    // Who is erased is not looked for any more, also after a restart.
    let done = site.done("erase", &["--sighting", id, "--yes"]);
    assert_eq!(done["alerts"], 2, "that of the guard too: {done}");
    let seen = watcher.seen.when("the withdrawal", are(&["again"], "withdrawn"));
    let reason = state_of("again", &seen)["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("was erased"), "{reason}");
    stop(daemon);
    let before = sightings("again", &watcher.seen.all()).len();
    let daemon = plan.start();
    comes_back(&watcher, "everybody");
    let all = watcher.seen.all();
    assert_eq!(
        (sightings("again", &all).len(), are(&["again"], "withdrawn")(&all)),
        (before, true)
    );
    stop(daemon);
}
