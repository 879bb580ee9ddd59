//! The broker inside the daemon under load: nothing lost, memory flat.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::Value;
use spotter_e2e::{
    daemon::{Plan, within},
    rig::{self, Desk, Watcher},
};
use spotterd::{
    clock::{Clock, SystemClock},
    mqtt::{Link, Security, Settings, Topics},
    outbox::{self, Class, Message, Outbox},
};

/// How long something may take that must come.
const PATIENCE: Duration = Duration::from_secs(60);
const SIGHTINGS: usize = 100_000;
/// Committed at a time: one wait for the disk each.
const BATCH: usize = 200;
/// Messages between two looks at the memory.
const SAMPLE_EVERY: usize = 5_000;
/// Messages until the broker has all that it keeps of a topic for slow readers, 16 MiB, and the
/// allocator has settled.
const WARM: usize = 50_000;
/// What the second half may add to that, in KiB: a leak of 21 bytes a message would show.
const GROWTH_MAX_KIB: u64 = 1 << 10;

fn topics() -> Topics {
    Topics::new("spotter", "hall", "other").unwrap()
}

/// The shipped example of a sighting with another number.
fn sightings(numbers: std::ops::Range<usize>) -> Vec<Message> {
    let example =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/schemas/examples/sighting.new.json");
    let mut example: Value = serde_json::from_slice(&std::fs::read(example).unwrap()).unwrap();
    let message = |number: usize| {
        example["seq"] = number.into();
        Message::new(Class::Event, topics().sightings(), example.to_string())
    };
    numbers.map(message).collect()
}

#[test]
fn a_hundred_thousand_sightings_pass_and_memory_stays_flat() {
    let folder = tempfile::tempdir().unwrap();
    let ball = "[[camera]]\nid = \"ball\"\nurl = \"test:ball\"\nrate_hz = 0.2\n";
    let port = rig::free_port();
    let mut plan = Plan::new(folder.path(), port, ball);
    plan.mqtt = format!("broker = \"embedded\"\nembedded_port = {port}");
    let daemon = plan.start();
    daemon.says(PATIENCE, &["Connected to the broker."]);
    let watcher = Watcher::start(port, &topics().sightings());

    // Another device sends them, by the same outbox and link.
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let settings = outbox::Settings::new(folder.path().join("other"));
    let outbox = Arc::new(Outbox::open(settings, clock.clone()).unwrap());
    let settings = Settings::new(topics(), "127.0.0.1", port, Security::Plaintext);
    let link = Link::start(settings, outbox.clone(), clock.clone(), Box::new(Desk::new()));
    let link = link.unwrap();
    let start = clock.now();
    let mut memory = Vec::new();
    for first in (0..SIGHTINGS).step_by(BATCH) {
        outbox.commit(&sightings(first..first + BATCH)).unwrap();
        let sent = first + BATCH;
        if sent.is_multiple_of(SAMPLE_EVERY) {
            // Not more than this under way, or the disk and not the broker were tested.
            within(PATIENCE, || (link.counters().published() >= sent as u64).then_some(()));
            memory.push((sent, daemon.memory_kib()));
        }
    }
    let all = within(PATIENCE, || {
        let seen = watcher.seen.all();
        (seen.len() >= SIGHTINGS).then_some(seen)
    });
    let took = clock.now().since(start);
    println!("{SIGHTINGS} sightings of {} bytes in {took:?}", all[0].payload.len());
    println!("resident KiB of the daemon by messages: {memory:?}");

    assert_eq!(all.len(), SIGHTINGS, "each once: no connection broke");
    for (number, seen) in all.iter().enumerate() {
        let json: Value = serde_json::from_slice(&seen.payload).unwrap();
        assert_eq!(json["seq"], number, "in order, none missing");
    }
    assert_eq!(link.counters().connects(), 1);
    let most = |from: usize, to: usize| {
        let of = memory.iter().filter(|(sent, _)| (from..=to).contains(sent));
        of.map(|(_, kib)| *kib).max().unwrap()
    };
    let (warm, end) = (most(0, WARM), most(WARM + 1, SIGHTINGS));
    assert!(end <= warm + GROWTH_MAX_KIB, "{warm} KiB became {end} KiB: {memory:?}");
    link.stop();
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
}
