//! Staff confirm and reject sightings; the box keeps what they say with the crops of the tracks, where the
//! trainer reads it, until it is erased.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use spotter_e2e::{
    daemon::{Daemon, Plan, alert, publish, within},
    folder::files,
    program::{data, spotterd},
    rig::{self, Mosquitto, Watcher},
    site::{Site, WITHIN, stop},
};
use spotter_models::feedback::{Feedback, Judgement, Verdict};

fn verdicts(state: &Path) -> Vec<Verdict> {
    let (verdicts, broken) = Feedback::open(&state.join("feedback")).unwrap().all().unwrap();
    assert!(broken.is_empty(), "{broken:?}");
    verdicts
}

/// Sightings that are over, by their ids, of this run's watcher.
fn ended(watcher: &Watcher) -> Vec<String> {
    let mut ended = Vec::new();
    for seen in watcher.seen.all().iter().filter(|seen| rig::topic(seen).ends_with("/sightings")) {
        let message: Value = serde_json::from_slice(&seen.payload).unwrap();
        if message["event"] == "end" {
            ended.push(message["id"].as_str().unwrap().to_owned());
        }
    }
    ended
}

/// What a verdict's pictures begin with behind the head that all JPEGs share.
fn traits_of(state: &Path, verdict: &Verdict) -> Vec<Vec<u8>> {
    let feedback = Feedback::open(&state.join("feedback")).unwrap();
    let bytes = verdict
        .pictures
        .iter()
        .map(|picture| fs::read(feedback.path_of(verdict, picture)).unwrap());
    bytes.map(|jpeg| jpeg[jpeg.len() / 2..jpeg.len() / 2 + 48].to_vec()).collect()
}

fn holding(state: &Path, pattern: &[u8]) -> Vec<PathBuf> {
    let has = |path: &PathBuf| {
        fs::read(path).unwrap().windows(pattern.len()).any(|window| window == pattern)
    };
    files(state).into_iter().filter(has).collect()
}

fn say(site: &Site, arguments: &[&str]) -> Value {
    let (verb, rest) = arguments.split_first().unwrap();
    let mut run =
        site.run(&format!("feedback {verb}"), &[rest, &["--json", "--by", "gate"]].concat());
    if run.out.is_empty() {
        run.out = "null".into();
    }
    let answer: Value = serde_json::from_str(&run.out).unwrap();
    json!({"code": run.code, "answer": answer, "err": run.err})
}

#[test]
fn what_staff_say_is_kept_with_crops_and_erased_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let clip = data("one-by-one.mp4").display().to_string();
    let camera = format!("[[camera]]\nid = \"gate\"\nurl = \"file:{clip}\"\nrepeat = true\n");
    let broker = Mosquitto::start_open();
    let mut plan = Plan::new(folder.path(), broker.port, &camera);
    plan.mqtt += "\ncommands = [\"erase\"]";
    let site = Site::new(broker, &plan);
    let state = plan.state();
    let watcher = Watcher::start(site.broker.port, "spotter/+/+/sightings");
    let daemon = plan.start();
    publish(&site.broker, "everybody", &alert("a person in a coat", 1).to_string());
    let ids = within(WITHIN, || Some(ended(&watcher)).filter(|ids| ids.len() >= 3));

    // One of another site, a slip of the pen, and somebody who is on the way.
    let nobody = say(&site, &["confirm", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "--wait", "2"]);
    assert_eq!(nobody["code"], 1, "{nobody}");
    assert!(nobody["err"].as_str().unwrap().contains("knows the sighting"), "{nobody}");
    let slip = site.run("feedback confirm", &["01ARZ3", "--by", "gate"]);
    assert!(slip.code == 2 && slip.err.contains("26 of"), "{}{}", slip.out, slip.err);
    let taken = say(&site, &["taken", &ids[0]]);
    assert_eq!(
        (&taken["code"], &taken["answer"]["result"]),
        (&json!(0), &json!("taken")),
        "{taken}"
    );

    // Confirmed, and rejected with what the person looks like; then the last word on the first.
    let first = say(&site, &["reject", &ids[0]]);
    assert_eq!(first["answer"]["result"], "kept", "{first}");
    let again = say(&site, &["confirm", &ids[0], "--note", "seen at the gate"]);
    assert_eq!(
        (&again["code"], &again["answer"]["replaced"]),
        (&json!(0), &json!(true)),
        "{again}"
    );
    let other = say(&site, &["reject", &ids[1], "--text", "man in a blue jacket"]);
    assert_eq!(other["answer"]["result"], "kept", "{other}");
    let kept = verdicts(&state);
    assert_eq!(kept.len(), 2);
    let of = |id: &str| kept.iter().find(|verdict| verdict.sighting == id).unwrap();
    let (one, two) = (of(&ids[0]), of(&ids[1]));
    assert_eq!((one.verdict, two.verdict), (Judgement::Confirmed, Judgement::Rejected));
    assert_eq!((one.text.as_str(), two.meant()), ("a person in a coat", "man in a blue jacket"));
    assert_eq!(
        (one.alert.as_str(), one.camera.as_str(), one.by.as_str()),
        ("everybody", "gate", "gate")
    );
    assert_ne!(one.track, two.track);
    let counted = again["answer"]["kept_pictures"].as_u64().unwrap();
    assert_eq!(counted, one.pictures.len() as u64);
    assert!(counted >= 1 && !two.pictures.is_empty(), "{again} {other}");
    for picture in &one.pictures {
        let path = Feedback::open(&state.join("feedback")).unwrap().path_of(one, picture);
        let read = image::open(&path).unwrap();
        assert_eq!([read.width(), read.height()], picture.size);
    }
    let listed = site.done("feedback list", &[]);
    assert_eq!((&listed["confirmed"], &listed["rejected"]), (&json!(1), &json!(1)), "{listed}");
    assert!(listed["pending"].as_u64() >= Some(1), "{listed}");
    assert_eq!(daemon.metric("spotter_feedback_total{result=\"kept\"}"), Some(3.0));

    // A kill takes nothing of it.
    drop(daemon.kill());
    let daemon: Daemon = plan.start();
    daemon.says(WITHIN, &["Watching"]);
    assert_eq!(verdicts(&state), kept);
    let other = say(&site, &["confirm", &ids[2]]);
    assert_eq!(other["answer"]["result"], "kept", "its crops waited on disk: {other}");

    // One goes by its sighting, the others by camera; of none a byte is left.
    let patterns = traits_of(&state, one);
    assert!(patterns.iter().all(|pattern| !holding(&state, pattern).is_empty()));
    let done = site.done("erase", &["--sighting", &ids[0], "--yes"]);
    assert_eq!(
        (&done["verdicts"], &done["verdict_pictures"]),
        (&json!(1), &json!(counted)),
        "{done}"
    );
    for pattern in &patterns {
        assert_eq!(holding(&state, pattern), Vec::<PathBuf>::new());
    }
    assert_eq!(verdicts(&state).len(), 2);
    let late = say(&site, &["confirm", &ids[0], "--wait", "2"]);
    assert_eq!(late["code"], 1, "erased: {late}");
    stop(daemon);
    let rest: Vec<Vec<u8>> = verdicts(&state).iter().flat_map(|v| traits_of(&state, v)).collect();
    let everybody = ["--from", "2020-01-01T00:00:00Z", "--to", "now", "--yes"];
    let done = site.done("erase", &everybody);
    assert_eq!(done["verdicts"], 2, "{done}");
    for pattern in &rest {
        assert_eq!(holding(&state, pattern), Vec::<PathBuf>::new());
    }
    assert!(verdicts(&state).is_empty());
    let state = state.display().to_string();
    let listed = spotterd(&["feedback", "list", "--state", &state]);
    assert!(listed.out.contains("0 confirmed, 0 rejected"), "{}{}", listed.out, listed.err);
}

#[test]
fn a_device_that_keeps_nothing_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let clip = data("one-by-one.mp4").display().to_string();
    let rest = format!(
        "[feedback]\nkeep = false\n[[camera]]\nid = \"gate\"\nurl = \"file:{clip}\"\nrepeat = true\n"
    );
    let broker = Mosquitto::start_open();
    let plan = Plan::new(folder.path(), broker.port, &rest);
    let site = Site::new(broker, &plan);
    let watcher = Watcher::start(site.broker.port, "spotter/+/+/sightings");
    let daemon = plan.start();
    publish(&site.broker, "everybody", &alert("a person", 1).to_string());
    let ids = within(WITHIN, || Some(ended(&watcher)).filter(|ids| !ids.is_empty()));
    let refused = say(&site, &["confirm", &ids[0]]);
    assert_eq!(
        (&refused["code"], &refused["answer"]["result"]),
        (&json!(1), &json!("refused")),
        "{refused}"
    );
    assert!(refused["answer"]["reason"].as_str().unwrap().contains("[feedback] keep"), "{refused}");
    assert_eq!(say(&site, &["taken", &ids[0]])["code"], 0);
    // As any client says it: no answer is wanted, and what cannot be read harms nothing.
    let tell = |payload: &str| site.broker.publish("spotter/hall/feedback", payload, &[]);
    tell("\u{7f}{");
    tell(&"x".repeat(20_000));
    daemon.says(WITHIN, &["Feedback was refused."]);
    assert!(!plan.state().join("feedback").exists());
    stop(daemon);
}
