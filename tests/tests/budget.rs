//! A site's budget of false alarms is shared by the devices that are online.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use spotter_e2e::{
    daemon::{Daemon, Plan, alert, last_json, publish},
    program::{self, data, spotterd, tiny_bundle},
    rig::{self, Mosquitto, Seen, Watcher},
};

/// A bundle that means nothing, with a cohort by which a budget can be spread.
fn bundle(folder: &Path) -> String {
    let out = folder.join("bundle").display().to_string();
    let pictures = data("persons").display().to_string();
    let run = spotterd(&[
        "bundle",
        "cohort",
        "--bundle",
        tiny_bundle(),
        "--pictures",
        &pictures,
        "--out",
        &out,
    ]);
    assert_eq!(run.code, 0, "{}", run.err);
    out
}

/// Starts a device whose one camera shows no person, with more lines of its configuration.
fn start_with(
    more: &str,
    folder: &Path,
    device: &'static str,
    broker: &Mosquitto,
    bundle: &str,
) -> Daemon {
    let own = folder.join(device);
    fs::create_dir(&own).unwrap();
    let camera = "[[camera]]\nid = \"gate\"\nurl = \"test:black\"\nrate_hz = 0.5\n";
    let mut plan = Plan::new(&own, broker.port, &format!("{camera}{more}"));
    (plan.names, plan.policy) = (("hall", device), "budget=2");
    let metrics = rig::free_port();
    plan.write(metrics);
    let text = fs::read_to_string(plan.file()).unwrap();
    fs::write(plan.file(), text.replace(&format!("{:?}", tiny_bundle()), &format!("{bundle:?}")))
        .unwrap();
    Daemon::run(Command::new(program::path("spotterd")).arg("run").arg(plan.file()), metrics)
}

fn start(folder: &Path, device: &'static str, broker: &Mosquitto, bundle: &str) -> Daemon {
    start_with("", folder, device, broker, bundle)
}

fn status(device: &str, seen: &[Seen]) -> Value {
    last_json(&format!("spotter/hall/{device}/status"), seen)
}

fn share(device: &str, seen: &[Seen]) -> f64 {
    let state = last_json(&format!("spotter/hall/{device}/alerts/red"), seen);
    state["budget_share"].as_f64().unwrap_or(-1.0)
}

/// Whether a share is this, but for traffic that is told in steps.
fn is_about(share: f64, wanted: f64) -> bool {
    (share - wanted).abs() <= 0.06 * wanted
}

#[test]
fn the_shares_of_those_that_are_online_add_up_to_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(folder.path());
    let broker = Mosquitto::start_open();
    let watcher = Watcher::start(broker.port, "spotter/hall/#");
    let mut wanted = alert("woman in a red coat", 1);
    wanted["budget_per_day"] = json!(4);
    publish(&broker, "red", &wanted.to_string());
    let one = start(folder.path(), "one", &broker, &bundle);
    let alone = |seen: &[Seen]| is_about(share("one", seen), 4.0);
    let seen = watcher.seen.when("the whole for one that is alone", alone);
    assert!(
        status("one", &seen)["tracks_per_day"].as_f64() > Some(0.0),
        "{:?}",
        status("one", &seen)
    );

    let two = start(folder.path(), "two", &broker, &bundle);
    let both =
        |seen: &[Seen]| is_about(share("one", seen), 2.0) && is_about(share("two", seen), 2.0);
    let seen = watcher.seen.when("a half for each", both);
    let sum = share("one", &seen) + share("two", &seen);
    assert!(is_about(sum, 4.0), "{sum}");

    // A third that is as busy as both, and a fourth that does not say how busy it is.
    let per_day = status("one", &seen)["tracks_per_day"].as_f64().unwrap();
    let tell = |device: &str, payload: Value| {
        broker.publish(&format!("spotter/hall/{device}/status"), &payload.to_string(), &["-r"]);
    };
    tell("three", json!({"schema": 1, "state": "online", "tracks_per_day": 2.0 * per_day}));
    let third =
        |seen: &[Seen]| is_about(share("one", seen), 1.0) && is_about(share("two", seen), 1.0);
    watcher.seen.when("a quarter for each", third);
    tell("four", json!({"schema": 1, "state": "online"}));
    watcher.seen.when("a fifth", |seen| is_about(share("one", seen), 0.8));
    // What no device says changes nothing; who leaves gives back.
    broker.publish("spotter/hall/alerts/status", r#"{"state": "online"}"#, &["-r"]);
    tell("four", json!({"schema": 1, "state": "stopped"}));
    tell("three", json!({"schema": 1, "state": "offline"}));
    let (code, log) = two.stop();
    assert_eq!(code, Some(0), "{log}");
    watcher.seen.when("the whole again", alone);
    let (code, log) = one.stop();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn texts_share_what_they_have_and_one_that_cannot_keep_its_budget_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(folder.path());
    let broker = Mosquitto::start_open();
    let watcher = Watcher::start(broker.port, "spotter/hall/#");
    let mut hopeless = alert("man in a blue coat", 1);
    hopeless["budget_per_day"] = json!(0.0001);
    publish(&broker, "hopeless", &hopeless.to_string());
    publish(&broker, "red", &alert("woman in a red coat", 1).to_string());
    publish(&broker, "green", &alert("man with a green backpack", 1).to_string());
    let device = start(folder.path(), "one", &broker, &bundle);
    let state = |device: &str, id: &str, seen: &[Seen]| {
        last_json(&format!("spotter/hall/{device}/alerts/{id}"), seen)
    };
    let parts = |seen: &[Seen]| {
        ["red", "green"].map(|id| state("one", id, seen)["budget_share"].as_f64().unwrap_or(-9.0))
    };
    // Two for each, by whichever of them finds more.
    let whole = |seen: &[Seen]| is_about(parts(seen).iter().sum(), 4.0);
    let seen = watcher.seen.when("a budget for both", whole);
    assert!(parts(&seen).iter().all(|part| (0.4..=8.0).contains(part)), "{:?}", parts(&seen));
    let (code, log) = device.stop();
    assert_eq!(code, Some(0), "{log}");

    let strict = "[policy]\nover_budget = \"refuse\"\n";
    let device = start_with(strict, folder.path(), "two", &broker, &bundle);
    let refused = |seen: &[Seen]| state("two", "hopeless", seen)["state"] == "rejected";
    let seen = watcher.seen.when("a refusal", refused);
    let refused = state("two", "hopeless", &seen);
    assert_eq!(refused["code"], "over-budget", "{refused}");
    assert!(refused["reason"].as_str().unwrap().contains("allow more"), "{refused}");
    let (code, log) = device.stop();
    assert_eq!(code, Some(0), "{log}");
}
