//! Who passed is kept, found by a description, and previewed; through the broker, as staff do it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{fs, time::Duration};

use serde_json::Value;
use spotter_e2e::{
    daemon::{Plan, within},
    program::{Run, data, spotterd},
    rig::{Mosquitto, Watcher},
};

/// How long the first person may take to come and go.
const WITHIN: Duration = Duration::from_secs(120);

fn ask(broker: u16, arguments: &[&str]) -> Run {
    let broker = format!("mqtt://127.0.0.1:{broker}");
    let rest = ["--site", "hall", "--broker", &broker, "--wait", "20", "--json"];
    spotterd(&[arguments, &rest[..]].concat())
}

fn answer(run: &Run) -> Value {
    let answers: Value = serde_json::from_str(&run.out).unwrap_or_default();
    answers["answers"].get(0).cloned().unwrap_or_default()
}

/// Asks until somebody is found.
fn found(broker: u16, arguments: &[&str]) -> Value {
    within(WITHIN, || {
        let answer = answer(&ask(broker, arguments));
        let some = answer["results"].as_array().is_some_and(|results| !results.is_empty());
        some.then_some(answer)
    })
}

#[test]
fn who_passed_is_found_again_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let clip = data("one-by-one.mp4").display().to_string();
    let camera = format!("[[camera]]\nid = \"gate\"\nurl = \"file:{clip}\"\nrepeat = true\n");
    let broker = Mosquitto::start_open();
    let plan = Plan::new(folder.path(), broker.port, &camera);
    let daemon = plan.start();
    let _watching = Watcher::start(broker.port, "spotter/hall/box/status");
    let pictures = folder.path().join("found");
    let text = "woman in a red coat with a black backpack";
    let with = ["search", text, "--pictures", pictures.to_str().unwrap()];
    let first = found(broker.port, &with);
    let best = &first["results"][0];
    assert_eq!((&best["camera"], &first["device"]), (&"gate".into(), &"box".into()));
    assert_eq!(first["text"], text, "as it was understood");
    let track = best["id"].as_u64().unwrap();
    let jpeg = fs::read(pictures.join(format!("box-{track}.jpg"))).unwrap();
    assert_eq!(jpeg[..2], [0xff, 0xd8]);

    let like = ask(broker.port, &["search", "--like", &format!("box/{track}")]);
    assert_eq!(like.code, 0, "{}", like.err);
    let gone = ask(broker.port, &["search", "--like", "box/999999"]);
    assert!(gone.code == 1 && gone.out.contains("nobody of that number"), "{}", gone.out);
    let other = ask(broker.port, &["search", "--like", "attic/1"]);
    assert!(other.code == 1 && other.err.contains("attic"), "{} {}", other.out, other.err);
    let next_week = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(7 * 24);
    let next_week = format!("{} 06:00", &next_week.to_string()[..10]);
    for (times, word) in [
        (["--from", "1h", "--to", "2h"], "not before --to"),
        (["--from", &next_week, "--to", "1h"], "lies ahead"),
        (["--from", "tomorrow", "--to", "1h"], "--from tomorrow"),
    ] {
        let wrong = ask(broker.port, &[&["search", text][..], &times].concat());
        assert!(wrong.code == 2 && wrong.err.contains(word), "{}: {}", wrong.code, wrong.err);
    }
    let elsewhere = answer(&ask(broker.port, &["search", text, "--cameras", "dock"]));
    assert_eq!(elsewhere["results"], Value::Array(Vec::new()));
    let before = answer(&ask(broker.port, &["search", text, "--to", "2h"]));
    assert_eq!(before["results"], Value::Array(Vec::new()), "nobody passed so long ago");
    let refused = ask(broker.port, &["search", "an asian woman"]);
    assert_eq!(refused.code, 1, "{}", refused.out);
    assert!(refused.out.contains("error"), "{}", refused.out);

    // With a policy by which everybody fits, an alert would have told everybody who passed.
    let preview = answer(&ask(broker.port, &["alert", "preview", text]));
    assert!(preview["matched_24h"].as_u64().unwrap() >= 1, "{preview}");
    let refused = answer(&ask(broker.port, &["alert", "preview", "John Smith in a red coat"]));
    assert!(refused["error"].as_str().is_some_and(|why| why.contains("name")), "{refused}");

    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    let silent = ask(broker.port, &["search", text]);
    assert_eq!(answer(&silent), Value::Null, "nobody is online: {}", silent.out);
    let daemon = plan.start();
    let again = found(broker.port, &["search", text, "--limit", "100"]);
    let ids = again["results"].as_array().unwrap().iter().map(|hit| hit["id"].as_u64().unwrap());
    assert!(ids.into_iter().any(|id| id == track), "{again}");
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
}
