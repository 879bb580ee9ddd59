//! `kill -9` at random moments: what was armed is armed again, what was committed arrives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{collections::BTreeSet, path::Path, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::Value;
use spotter_e2e::{
    daemon::{Plan, are, arm, publish, within},
    delivery,
    program::data,
    rig::{Mosquitto, Seen, Watcher, topic},
    rtsp::ServerProcess,
};
use spotterd::clock::Stop;

/// How long something may take that must come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lives that end by a kill; more where `SPOTTER_CHAOS` is set, as `make chaos` does.
const KILLS: usize = 20;
const KILLS_LONG: usize = 100;
/// The longest of them, from the start of the process: models are opened in the first second.
const LIFE_MAX_MS: u64 = 6_000;

/// Each of them brings a sighting of each person: enough that some kills hit a commit or a publish.
const ALERTS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/// Random, or the one that `SPOTTER_SEED` names.
fn seed() -> u64 {
    let named = std::env::var("SPOTTER_SEED").ok();
    named.map_or_else(rand::random, |seed| seed.parse().expect("SPOTTER_SEED is a number"))
}

/// The alerts that these messages tell of.
fn alerts(seen: &[Seen], ids: &BTreeSet<String>) -> BTreeSet<String> {
    let sightings = seen.iter().filter(|seen| topic(seen).ends_with("/sightings"));
    let sightings = sightings.map(|seen| serde_json::from_slice::<Value>(&seen.payload).unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    sightings.filter(|s| ids.contains(&text(&s["id"]))).map(|s| text(&s["alert"])).collect()
}

#[test]
fn kills_at_random_moments_lose_neither_alerts_nor_sightings() {
    let seed = seed();
    let kills = if std::env::var_os("SPOTTER_CHAOS").is_some() { KILLS_LONG } else { KILLS };
    println!("SPOTTER_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let (street, hall) = (data("scenes/street-a.mp4"), data("one-by-one.mp4"));
    let mount = format!("/hall={}", hall.display());
    let server = ["--mount", &mount];
    let server = ServerProcess::start(Path::new(env!("CARGO_BIN_EXE_rtsp-server")), &server);
    let server = server.unwrap();
    let cameras = format!(
        "[[camera]]\nid = \"street\"\nurl = \"file:{}\"\nrepeat = true\nrate_hz = 4.0\n\
         [[camera]]\nid = \"hall\"\nurl = \"{}\"\nrate_hz = 4.0\n",
        street.display(),
        server.url("/hall")
    );
    let mut broker = Mosquitto::start_open();
    let watcher = Watcher::start(broker.port, "spotter/hall/box/#");
    let plan = Plan::new(folder.path(), broker.port, &cameras);
    ALERTS.iter().for_each(|id| arm(&broker, id, 1));
    // The first life is long enough to arm them.
    let daemon = plan.start();
    watcher.seen.when("armed", are(&ALERTS, "armed"));
    let mut committed = delivery::committed(&daemon.kill());
    let mut lives_with_commits = 0;
    for _ in 1..kills {
        let daemon = plan.start();
        Stop::default().wait(Duration::from_millis(random.random_range(0..LIFE_MAX_MS)));
        let of_this_life = delivery::committed(&daemon.kill());
        lives_with_commits += usize::from(!of_this_life.is_empty());
        committed.extend(of_this_life);
    }
    assert!(lives_with_commits >= 3, "too few lives with sightings: nothing was tested");

    // The broker is away while the last one starts: its alerts come from its own disk.
    broker.stop();
    let daemon = plan.start();
    let ids = within(PATIENCE, || {
        let committed = delivery::committed(&daemon.log.all());
        let ids: BTreeSet<String> = committed.into_iter().map(|(id, _)| id).collect();
        (ids.len() >= ALERTS.len()).then_some(ids)
    });
    broker.resume();
    // And one that staff withdraw before it is back is withdrawn.
    let [withdrawn, ..] = ALERTS;
    publish(&broker, withdrawn, r#"{"schema":1,"revision":2,"withdrawn":true}"#);
    within(PATIENCE, || (alerts(&watcher.seen.all(), &ids).len() == ALERTS.len()).then_some(()));
    within(PATIENCE, || are(&[withdrawn], "withdrawn")(&watcher.seen.all()).then_some(()));
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    let lines: Vec<String> = log.lines().map(str::to_owned).collect();
    committed.extend(delivery::committed(&lines));
    within(PATIENCE, || {
        delivery::missing(&committed, &watcher.seen.all()).is_empty().then_some(())
    });
    let arrived = delivery::check(&committed, &watcher.seen.all());
    println!(
        "{kills} kills, {lives_with_commits} lives with sightings; {} messages by the logs, {} arrived",
        committed.len(),
        arrived.len(),
    );
}
