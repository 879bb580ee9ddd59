//! The link against a real mosquitto: outages, lost sessions, lost acknowledgements, two clients with
//! one id, certificates and rights.

#[path = "link/rig.rs"]
mod rig;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rig::{Desk, Mosquitto, Proxy, Taken, Watcher, text, topic, until};
use serde_json::Value;
use spotterd::{
    clock::{Clock, SystemClock},
    frame::CameraId,
    mqtt::{
        Inbound, Link, LinkState, Response, Security, Settings, Topics, Trouble,
        broker::{Embedded, Ports},
    },
    outbox::{self, Class, Message, Outbox},
};

fn settings(port: u16) -> Settings {
    let topics = Topics::new("spotter", "harbour", "gate-1").unwrap();
    Settings {
        backoff_base: Duration::from_millis(20),
        backoff_cap: Duration::from_millis(200),
        ..Settings::new(topics, "127.0.0.1", port, Security::Plaintext)
    }
}

fn outbox(folder: &Path) -> Arc<Outbox> {
    let settings = outbox::Settings { reserve_bytes: 1 << 16, ..outbox::Settings::new(folder) };
    Arc::new(Outbox::open(settings, Arc::new(SystemClock::new())).unwrap())
}

fn start(settings: Settings, outbox: &Arc<Outbox>, desk: &Desk) -> Link {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Link::start(settings, Arc::clone(outbox), clock, Box::new(desk.clone())).unwrap()
}

fn is_up(link: &Link) -> bool {
    matches!(link.state(), LinkState::Connected { .. })
}

fn trouble(link: &Link) -> Option<Trouble> {
    match link.state() {
        LinkState::Down { why, .. } => Some(why.trouble),
        _ => None,
    }
}

fn event(seq: usize) -> Message {
    let camera = CameraId::new(&format!("cam-{}", seq % 4)).unwrap();
    let payload = format!(r#"{{"schema":1,"seq":{seq},"camera":"{camera}","late":false}}"#);
    let camera = Some(camera);
    Message { camera, ..Message::new(Class::Event, "spotter/harbour/gate-1/sightings", payload) }
}

fn commit(outbox: &Outbox, seqs: std::ops::Range<usize>) {
    seqs.for_each(|seq| drop(outbox.commit(&[event(seq)]).unwrap()));
}

fn is_empty(outbox: &Outbox) -> bool {
    outbox.stats().waiting.total().messages == 0
}

#[test]
fn events_survive_lost_acknowledgements_and_an_outage() {
    let mut broker = Mosquitto::start_open();
    let proxy = Proxy::start(broker.port);
    let watcher = Watcher::start(broker.port, "spotter/harbour/gate-1/sightings");
    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(folder.path());
    let link = start(settings(proxy.port), &outbox, &Desk::new());
    until("connected", || is_up(&link));
    commit(&outbox, 0..50);
    until("the first are acknowledged", || is_empty(&outbox));
    // The broker takes these, and nobody hears that it did.
    proxy.swallow_answers(true);
    commit(&outbox, 50..60);
    watcher.seen.when("messages without acknowledgement", |seen| seen.len() >= 60);
    broker.stop();
    proxy.cut();
    proxy.swallow_answers(false);
    until("down", || trouble(&link) == Some(Trouble::Unreachable));
    commit(&outbox, 60..150);
    broker.resume();
    until("connected again", || is_up(&link));
    until("the backlog is acknowledged", || is_empty(&outbox));
    commit(&outbox, 150..200);
    until("the last are acknowledged", || is_empty(&outbox));
    let distinct = |seen: &[rig::Seen]| seen.iter().map(text).collect::<BTreeSet<_>>().len();
    let seen = watcher.seen.when("all 200", |seen| distinct(seen) >= 200);

    let mut copies: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for text in seen.iter().map(text) {
        let json: Value = serde_json::from_str(&text).unwrap();
        let seq = json["seq"].as_u64().unwrap();
        let copies = copies.entry(seq).or_default();
        if copies.is_empty() {
            let before = last.insert(json["camera"].as_str().unwrap().to_owned(), seq);
            assert!(before < Some(seq), "{seq} came after {before:?} of its camera");
        }
        copies.push(text);
        let is_late = (60..150).contains(&seq);
        assert_eq!(json["late"], is_late, "{seq}");
    }
    assert!(copies.keys().copied().eq(0..200), "missing: {:?}", copies.keys());
    assert!(copies.values().all(|copies| copies.iter().all(|copy| *copy == copies[0])));
    assert!((50..60).all(|seq| copies[&seq].len() == 2), "no duplicates: nothing was tested");
    assert_eq!(link.counters().connects(), 2);
}

#[test]
fn lost_sessions_bring_the_desired_state_back_and_what_is_gone_from_it() {
    let mut broker = Mosquitto::start_open();
    for alert in ["a", "b", "c"] {
        broker.publish(&format!("spotter/harbour/alerts/{alert}"), alert, &["-r"]);
    }
    broker.publish("spotter/harbour/approvals/a", "ok", &["-r"]);
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let link = start(settings(broker.port), &outbox(folder.path()), &desk);
    desk.taken.when("the retained set", is_complete(1));
    let all = [r#"Alert("a")"#, r#"Alert("b")"#, r#"Alert("c")"#, r#"Approval("a")"#];
    assert_eq!(desk.completes(), [all]);
    assert_eq!(desk.alerts().len(), 3, "the set is complete when all of it was handed over");
    // With a session, what is published while away comes, and the set is not read again.
    broker.stop();
    until("down", || !is_up(&link));
    broker.resume();
    broker.publish("spotter/harbour/alerts/d", "d", &["-r"]);
    desk.taken.when("an alert after a restart", has_alert("d"));
    assert_eq!(desk.completes().len(), 1);
    // Without one: b is still there, the others were withdrawn meanwhile.
    broker.stop();
    let mut other = Mosquitto::start_open();
    other.publish("spotter/harbour/alerts/b", "b", &["-r"]);
    other.stop();
    broker.remember_like(&other);
    broker.resume();
    desk.taken.when("the retained set again", is_complete(2));
    assert_eq!(desk.completes()[1], [r#"Alert("b")"#]);
    // And the subscriptions are there again.
    broker.publish("spotter/harbour/alerts/e", "e", &[]);
    desk.taken.when("an alert after the loss", has_alert("e"));
    assert_eq!(link.counters().retained_sets(), 2);
}

fn has_alert(alert: &str) -> impl Fn(&[Taken]) -> bool {
    let topic = Inbound::Alert(alert.to_owned());
    move |taken| taken.iter().any(|t| matches!(t, Taken::Message(m) if m.topic == topic))
}

fn is_complete(times: usize) -> impl Fn(&[Taken]) -> bool {
    move |taken| taken.iter().filter(|t| matches!(t, Taken::Complete(_))).count() >= times
}

#[test]
fn what_the_handler_cannot_take_is_handed_over_again_in_order() {
    let broker = Mosquitto::start_open();
    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(folder.path());
    let desk = Desk::new();
    let link = start(settings(broker.port), &outbox, &desk);
    desk.taken.when("the empty retained set", |taken| taken.len() == 1);
    desk.refuse(2);
    for alert in ["a", "b", "c"] {
        broker.publish(&format!("spotter/harbour/alerts/{alert}"), alert, &[]);
    }
    desk.taken.when("three alerts", |taken| taken.len() == 4);
    assert_eq!(desk.alerts(), ["a", "b", "c"]);
    assert_eq!(link.counters().deferred(), 2);
    // Refused to the end: the broker has it still, and gives it to the next process.
    desk.refuse(usize::MAX);
    broker.publish("spotter/harbour/alerts/d", "d", &[]);
    until("a refusal", || link.counters().deferred() == 3);
    link.stop();
    let next = Desk::new();
    let _link = start(settings(broker.port), &outbox, &next);
    next.taken.when("the alert that was refused", |taken| taken.len() == 2);
    assert_eq!(next.alerts(), ["d"]);
}

#[test]
fn requests_carry_where_to_answer_and_answers_carry_what_was_asked() {
    let broker = Mosquitto::start_open();
    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(folder.path());
    let desk = Desk::new();
    let watcher = Watcher::start(broker.port, "spotter/harbour/replies/desk");
    let _link = start(settings(broker.port), &outbox, &desk);
    desk.taken.when("the empty retained set", |taken| taken.len() == 1);
    let ask = |answer: &str| {
        let options = ["-D", "publish", "response-topic", answer];
        let about = ["-D", "publish", "correlation-data", "q7"];
        broker.publish("spotter/harbour/search", "{}", &[options, about].concat());
    };
    ask("spotter/harbour/replies/desk");
    ask("spotter/harbour/gate-2/command");
    let taken = desk.taken.when("two requests", |taken| taken.len() == 3);
    let response = |taken: &Taken| match taken {
        Taken::Message(received) => received.response.clone(),
        Taken::Complete(_) => panic!("a second set"),
    };
    assert_eq!(response(&taken[2]), Response::Forbidden("spotter/harbour/gate-2/command".into()));
    let (Response::To(reply), Taken::Message(asked)) = (response(&taken[1]), &taken[1]) else {
        panic!("{taken:?}");
    };
    assert_eq!((asked.topic.clone(), asked.retained), (Inbound::Search, false));
    let mut answer = Message::new(Class::Event, reply.as_str(), r#"{"late":false}"#);
    answer.header.correlation = asked.correlation.clone();
    answer.header.content_type = Some("application/json".into());
    answer.header.properties = vec![("kind".into(), "crop".into()), ("seq".into(), "1".into())];
    answer.expires_after = Some(Duration::from_secs(60));
    outbox.commit(&[answer.clone()]).unwrap();
    let seen = watcher.seen.when("the answer", |seen| seen.len() == 1).remove(0);
    let properties = seen.properties.unwrap();
    assert_eq!(properties.correlation_data.as_deref(), Some(b"q7".as_slice()));
    assert_eq!(properties.content_type.as_deref(), Some("application/json"));
    assert_eq!(properties.user_properties, answer.header.properties);
    assert!((1..=61).contains(&properties.message_expiry_interval.unwrap()));
}

#[test]
fn the_status_says_how_the_device_is() {
    let broker = Mosquitto::start_open();
    let watcher = Watcher::start(broker.port, "spotter/harbour/gate-1/status");
    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(folder.path());
    let states = |count: usize| {
        let seen = watcher.seen.when("a status", |seen| seen.len() >= count);
        let last: Value = serde_json::from_slice(&seen[count - 1].payload).unwrap();
        last["state"].as_str().unwrap().to_owned()
    };
    let proxy = Proxy::start(broker.port);
    let link = start(settings(proxy.port), &outbox, &Desk::new());
    assert_eq!(states(1), "online");
    link.announce();
    assert_eq!(states(2), "online");
    proxy.cut();
    assert_eq!(states(3), "offline", "the will, as after a kill: the connection just breaks");
    assert_eq!(states(4), "online");
    link.stop();
    assert_eq!(states(5), "stopped");
    let late = Watcher::start(broker.port, "spotter/+/+/status");
    let seen = late.seen.when("the retained status", |seen| seen.len() == 1);
    assert!(text(&seen[0]).contains("stopped") && seen[0].retain);
}

#[test]
fn another_client_with_our_id_is_noticed_and_given_way() {
    let broker = Mosquitto::start_open();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let links: Vec<_> = folders
        .iter()
        .map(|folder| start(settings(broker.port), &outbox(folder.path()), &Desk::new()))
        .collect();
    until("both were taken over", || links.iter().all(|link| link.counters().takeovers() >= 2));
    until("it is reported", || links.iter().any(|link| trouble(link) == Some(Trouble::TakenOver)));
    drop(links);
    // Waits of the longest kind: they do not spin.
    let slow = || Settings { backoff_cap: Duration::from_secs(600), ..settings(broker.port) };
    let links: Vec<_> =
        folders.iter().map(|f| start(slow(), &outbox(f.path()), &Desk::new())).collect();
    let waits = |link: &Link| match link.state() {
        LinkState::Down { retry_in, .. } => retry_in >= Duration::from_secs(300),
        _ => false,
    };
    until("one gives way", || links.iter().any(waits));
    until("the other serves", || links.iter().any(is_up));
}

#[test]
fn the_embedded_broker_serves_both_protocols_and_takes_snapshots() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let broker = Embedded::start(Ports::default(), &clock).unwrap();
    assert!(Embedded::start(broker.ports(), &clock).is_err(), "the ports are taken");
    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(folder.path());
    let publish = |port: u16, version: &str, topic: &str, retain: &[&str]| {
        let port = port.to_string();
        let mut command = std::process::Command::new("mosquitto_pub");
        command.args(["-V", version, "-p", &port, "-q", "1", "-t", topic, "-m", "{}"]).args(retain);
        assert!(command.status().unwrap().success());
    };
    publish(broker.ports().v5, "5", "spotter/harbour/alerts/kept", &["-r"]);
    let watcher = Watcher::start(broker.ports().v5, "spotter/harbour/gate-1/snapshots");
    let desk = Desk::new();
    let link = start(settings(broker.ports().v5), &outbox, &desk);
    desk.taken.when("the retained set", is_complete(1));
    assert_eq!(desk.completes(), [[r#"Alert("kept")"#]], "{:?}", desk.taken.all());
    publish(broker.ports().v4, "311", "spotter/harbour/alerts/old-client", &[]);
    desk.taken.when("an alert of a 3.1.1 client", |taken| taken.len() >= 3);
    let picture = vec![0xd8; 3_000_000];
    let snapshot =
        Message::new(Class::Picture, "spotter/harbour/gate-1/snapshots", picture.clone());
    outbox.commit(&[snapshot]).unwrap();
    let seen = watcher.seen.when("a snapshot", |seen| seen.len() == 1);
    assert!(seen[0].payload == picture && topic(&seen[0]).ends_with("snapshots"));
    until("acknowledged", || is_empty(&outbox));
    link.stop();
}
