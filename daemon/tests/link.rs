//! The link against a real mosquitto: outages, lost sessions, lost acknowledgements, two clients with
//! one id, certificates and rights.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "link/rig.rs"]
mod rig;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use rand::Rng;
use rig::{Desk, Mosquitto, Proxy, Taken, Watcher, start_shipped, text, topic, until};
use serde_json::Value;
use spotterd::{
    clock::{Clock, SystemClock},
    frame::CameraId,
    mqtt::{
        Commands, Identity, Inbound, Link, LinkState, Response, Security, Settings, Topics,
        Trouble,
        broker::{Embedded, Ports},
    },
    outbox::{self, Class, DropReason, Message, Outbox},
};

/// The program that the embedded broker is a process of.
fn spotterd() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_spotterd"))
}

fn settings(port: u16) -> Settings {
    let topics = Topics::new("spotter", "harbour", "gate-1").unwrap();
    Settings {
        backoff_base: Duration::from_millis(20),
        backoff_cap: Duration::from_millis(200),
        backoff_hopeless: Duration::from_millis(200),
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
    until("down", || trouble(&link).is_some());
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
    assert!((50..60).all(|seq| copies[&seq].len() >= 2), "no duplicates: nothing was tested");
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
fn ten_thousand_retained_alerts_are_read_to_the_end() {
    let shipped = include_str!("../../configs/mosquitto/mosquitto.conf");
    let limit = shipped.lines().find(|line| line.starts_with("max_queued_messages")).unwrap();
    let open = "allow_anonymous true\nlistener PORT 127.0.0.1\n";
    let broker = Mosquitto::start(&format!("{open}{limit}\n"), |_| {});
    let alert = |n: usize| (format!("spotter/harbour/alerts/a-{n}"), "a red coat".to_owned());
    rig::publish_retained(broker.port, (0..10_000).map(alert));
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let clock = SystemClock::new();
    let _link = start(settings(broker.port), &outbox(folder.path()), &desk);
    desk.taken.when("the retained set", is_complete(1));
    println!("10,000 retained alerts handed over in {:?}", clock.now().0);
    assert_eq!(desk.alerts().len(), 10_000);
    assert_eq!(desk.completes()[0].len(), 10_000);
}

#[test]
fn a_broker_that_cuts_the_set_short_withdraws_nothing() {
    let open = "allow_anonymous true\nlistener PORT 127.0.0.1\nmax_queued_messages 200\n";
    let broker = Mosquitto::start(open, |_| {});
    let alert = |n: usize| Inbound::Alert(format!("a-{n}"));
    let topics = settings(broker.port).topics;
    let kept = (0..1000).map(|n| (topics.desired(&alert(n)).unwrap(), "a red coat".to_owned()));
    rig::publish_retained(broker.port, kept);
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    desk.stored.lock().unwrap().extend((0..1010).map(alert));
    let link = start(settings(broker.port), &outbox(folder.path()), &desk);
    let taken = desk.taken.when("the retained set", is_complete(1));
    let Some(Taken::Complete(present)) = taken.last() else { panic!("no end") };
    assert_eq!(*present, (0..1000).map(alert).collect());
    // The subscriptions by name are taken back: soon one copy comes of what changes.
    let mut tries = 0;
    until("one copy of a change", || {
        tries += 1;
        let (before, end) = (desk.alerts().len(), format!("end-{tries}"));
        broker.publish("spotter/harbour/alerts/a-999", "changed", &["-r"]);
        broker.publish(&format!("spotter/harbour/alerts/{end}"), "end", &[]);
        desk.taken.when("the last alert", has_alert(&end));
        desk.alerts()[before..] == ["a-999".to_owned(), end]
    });
    drop(link);
}

#[test]
#[ignore = "the process that `a_kill_shows_and_loses_nothing` kills"]
fn child_sends() {
    let variable = |name: &str| std::env::var(name).expect("run by another test only");
    let outbox = outbox(Path::new(&variable("LINK_FOLDER")));
    let link = start(settings(variable("LINK_PORT").parse().unwrap()), &outbox, &Desk::new());
    until("connected", || is_up(&link));
    let first = variable("LINK_FIRST").parse().unwrap();
    for seq in first.. {
        outbox.commit(&[event(seq)]).unwrap();
        println!("committed {seq}");
    }
}

#[test]
fn a_kill_shows_and_loses_nothing() {
    let broker = Mosquitto::start_open();
    let folder = tempfile::tempdir().unwrap();
    let watcher = Watcher::start(broker.port, "spotter/harbour/gate-1/#");
    let mut next = 0;
    let mut committed_ranges = Vec::new();
    for _ in 0..5 {
        let mut process = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_sends", "--ignored", "--nocapture"])
            .env("LINK_FOLDER", folder.path())
            .env("LINK_PORT", broker.port.to_string())
            .env("LINK_FIRST", next.to_string())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let committed = |line: String| line.split_once("committed ")?.1.parse::<usize>().ok();
        let enough = next + rand::rng().random_range(20..60);
        let read = lines.map_while(Result::ok).filter_map(committed);
        let last = read.take_while(|seq| *seq < enough).last();
        process.kill().unwrap();
        process.wait().unwrap();
        // What was committed after the last line that was read is not known: the numbers have a gap.
        committed_ranges.push(next..=last.unwrap());
        next = last.unwrap() + 1_000;
        let wills =
            |seen: &[rig::Seen]| seen.iter().filter(|seen| text(seen).contains("offline")).count();
        watcher.seen.when("the will", |seen| wills(seen) == committed_ranges.len());
    }
    let outbox = outbox(folder.path());
    let _link = start(settings(broker.port), &outbox, &Desk::new());
    until("the rest is acknowledged", || is_empty(&outbox));
    let seqs = |seen: &[rig::Seen]| -> BTreeSet<usize> {
        let json = seen.iter().filter_map(|s| serde_json::from_slice::<Value>(&s.payload).ok());
        json.filter_map(|json| json["seq"].as_u64()).map(|seq| seq as usize).collect()
    };
    let seen = watcher.seen.when("what was committed", |seen| {
        let seqs = seqs(seen);
        committed_ranges.iter().cloned().flatten().all(|seq| seqs.contains(&seq))
    });
    // What followed the last line of each run, too, comes without a hole: commits are in order.
    let seqs = seqs(&seen);
    let starts = seqs.iter().filter(|seq| !seqs.contains(&seq.wrapping_sub(1))).count();
    assert_eq!(starts, committed_ranges.len());
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
fn a_connection_that_only_seems_open_is_noticed() {
    let broker = Mosquitto::start_open();
    let proxy = Proxy::start(broker.port);
    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(folder.path());
    let probed = Settings { keep_alive: Duration::from_secs(1), ..settings(proxy.port) };
    let link = start(probed, &outbox, &Desk::new());
    until("connected", || is_up(&link));
    proxy.swallow_answers(true);
    until("no answer", || trouble(&link) == Some(Trouble::Unreachable));
    proxy.swallow_answers(false);
    proxy.cut();
    commit(&outbox, 0..3);
    until("sent over a new one", || is_empty(&outbox));
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
    // Long waits: they do not spin.
    let slow = || Settings { backoff_hopeless: Duration::from_secs(600), ..settings(broker.port) };
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
    let broker = Embedded::start(spotterd(), Ports::default(), &clock).unwrap();
    let taken = Embedded::start(spotterd(), broker.ports(), &clock);
    assert!(taken.is_err_and(|error| error.to_string().contains("embedded_port")));
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
    // A reload ends the link and starts it again; a connection may break, too.
    let proxy = Proxy::start(broker.ports().v5);
    let link = start(settings(proxy.port), &outbox, &desk);
    for alert in ["after-reload", "after-break", "after-another"] {
        until("connected", || is_up(&link));
        publish(broker.ports().v5, "5", &format!("spotter/harbour/alerts/{alert}"), &[]);
        desk.taken.when("an alert", has_alert(alert));
        commit(&outbox, 0..40);
        until("events are acknowledged", || is_empty(&outbox));
        let connects = link.counters().connects();
        proxy.cut();
        until("connected again", || link.counters().connects() > connects);
    }
}

/// A client of MQTT 5 whose id the embedded broker's library does not take. When the second one comes,
/// the library panics.
fn strange_client(port: u16) {
    let connect = b"\x10\x12\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x05a/b+#";
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return };
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // How it is turned away does not matter.
    let _ = stream.write_all(connect).and_then(|()| stream.read_to_end(&mut Vec::new()));
}

#[test]
fn an_embedded_broker_that_ends_is_started_again_and_no_event_is_lost() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let broker = Embedded::start(spotterd(), Ports::default(), &clock).unwrap();
    let port = broker.ports().v5;
    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(folder.path());
    let link = start(settings(port), &outbox, &Desk::new());
    until("connected", || is_up(&link));
    let connects = link.counters().connects();
    until("the broker ends", || {
        strange_client(port);
        !is_up(&link) || link.counters().connects() > connects
    });
    commit(&outbox, 0..40);
    until("events are acknowledged by the new broker", || is_empty(&outbox));
    assert!(link.counters().connects() > connects);
    let watcher = Watcher::start(port, "spotter/harbour/gate-1/sightings");
    commit(&outbox, 40..80);
    watcher.seen.when("events", |seen| seen.len() >= 40);
    link.stop();
    drop(broker);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the broker outlives its keeper");
}

fn secure(broker: &Mosquitto, ca: &str, login: &str, identity: Option<&str>) -> Settings {
    let file = |name: String| broker.folder.path().join(name);
    let identity = identity.map(|name| Identity {
        certificate: file(format!("{name}.crt")),
        key: file(format!("{name}.key")),
    });
    Settings {
        host: "localhost".into(),
        security: Security::Tls { ca: file(format!("{ca}.crt")), identity },
        login_file: Some(file(login.into())),
        ..settings(broker.port)
    }
}

#[test]
fn what_cannot_be_trusted_is_refused_with_a_reason() {
    let broker = start_shipped("localhost", |config| config);
    let elsewhere = start_shipped("elsewhere.example", |config| config);
    let certificate = "require_certificate false";
    let mutual = |config: String| config.replace(certificate, "require_certificate true");
    let mutual = start_shipped("localhost", mutual);
    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(folder.path());
    let down = |settings: Settings, trouble: Trouble, hint: &str| {
        let link = start(settings, &outbox, &Desk::new());
        until("down", || matches!(link.state(), LinkState::Down { .. }));
        let LinkState::Down { why, .. } = link.state() else { panic!("up") };
        assert!(why.trouble == trouble && why.text.contains(hint), "{hint}: {why:?}");
        assert!(!format!("{why:?}").contains("change-me"));
    };
    down(secure(&broker, "other-ca", "login", None), Trouble::Certificate, "not signed by the CA");
    down(secure(&elsewhere, "ca", "login", None), Trouble::Certificate, "for another host");
    down(secure(&broker, "ca", "wrong-login", None), Trouble::Login, "user and password");
    down(secure(&mutual, "ca", "login", None), Trouble::Certificate, "certificate");
    // A port that speaks TLS, spoken to without.
    let mut open = secure(&broker, "ca", "login", None);
    open.security = Security::Plaintext;
    down(open, Trouble::Closed, "");
    for (settings, name) in [
        (secure(&broker, "ca", "login", None), "TLS"),
        (secure(&mutual, "ca", "login", Some("device")), "TLS on both sides"),
    ] {
        let link = start(settings, &outbox, &Desk::new());
        until(name, || is_up(&link));
    }
    let mut missing = secure(&broker, "ca", "login", None);
    missing.login_file = Some(broker.folder.path().join("nobody"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let refused = Link::start(missing, outbox.clone(), clock, Box::new(Desk::new()));
    assert!(refused.err().unwrap().to_string().contains("nobody"));
}

#[test]
fn the_shipped_rights_let_everybody_do_their_part_and_no_more() {
    let broker = start_shipped("localhost", |config| config);
    let as_user = |user: &str, password: &str, topic: &str, payload: &str| {
        let port = broker.port.to_string();
        let output = std::process::Command::new("mosquitto_pub")
            .args(["-V", "5", "-h", "localhost", "-p", &port, "-q", "1", "-r", "--cafile"])
            .arg(broker.folder.path().join("ca.crt"))
            .args(["-u", user, "-P", password, "-t", topic, "-m", payload])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let control_room = |topic: &str, payload: &str| {
        as_user("control-room", "change-me-3", topic, payload);
    };
    let hostile = |topic: &str| as_user("gate-2", "change-me-2", topic, "forged");
    control_room("spotter/harbour/alerts/red", "text");

    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(folder.path());
    let desk = Desk::new();
    let commands =
        Settings { commands: Commands::Accepted, ..secure(&broker, "ca", "login", None) };
    let link = start(commands, &outbox, &desk);
    desk.taken.when("the retained set", is_complete(1));
    assert_eq!(desk.completes(), [[r#"Alert("red")"#]]);
    for topic in [
        "spotter/harbour/alerts/red",
        "spotter/harbour/alerts/forged",
        "spotter/harbour/approvals/red",
        "spotter/harbour/preview",
        "spotter/harbour/feedback",
        "spotter/harbour/search",
        "spotter/harbour/gate-1/command",
        "spotter/harbour/gate-1/marker",
        "spotter/harbour/gate-1/status",
        "spotter/harbour/gate-1/sightings",
        "homeassistant/device/gate-1/config",
    ] {
        hostile(topic);
    }
    // What a device says of itself reaches the others, and commands come from whom they may come from.
    as_user("gate-2", "change-me-2", "spotter/harbour/gate-2/status", "well");
    as_user("data-protection", "change-me-5", "spotter/harbour/gate-1/command", "do");
    as_user("data-protection", "change-me-5", "spotter/harbour/alerts/forged", "forged");
    for (topic, payload) in [(Inbound::Status("gate-2".into()), "well"), (Inbound::Command, "do")] {
        let is_it = |taken: &Taken| {
            matches!(taken, Taken::Message(received)
                if received.topic == topic && received.payload == payload.as_bytes())
        };
        desk.taken.when(payload, |taken| taken.iter().any(is_it));
    }
    for topic in ["command", "status", "sightings", "alerts/red"] {
        control_room(&format!("spotter/harbour/gate-1/{topic}"), "forged");
    }
    control_room("spotter/harbour/alerts/blue", "text");
    desk.taken.when("the alert of the staff", has_alert("blue"));
    assert_eq!(desk.alerts(), ["red", "blue"]);

    let device = "spotter/harbour/gate-1";
    let picture =
        Message::new(Class::Picture, format!("{device}/snapshots"), vec![0xd8; 2_000_000]);
    let answer = Message::new(Class::Event, "spotter/harbour/replies/desk", "{}");
    let config = Message::new(Class::State, "homeassistant/device/gate-1/config", "{}");
    outbox.commit(&[event(1), picture, answer, config]).unwrap();
    until("all of it is acknowledged", || is_empty(&outbox));
    assert_eq!(outbox.stats().done, 4, "{:?}", outbox.stats());
    // What a wrong configuration would send elsewhere: a state is given up, an event waits.
    outbox.commit(&[Message::new(Class::State, "spotter/harbour/gate-2/status", "{}")]).unwrap();
    until("the state is given up", || outbox.stats().dropped_for(DropReason::Refused) == 1);
    outbox.commit(&[Message::new(Class::Event, "spotter/harbour/gate-2/sightings", "{}")]).unwrap();
    until("the event is refused", || trouble(&link) == Some(Trouble::Rights));
    assert_eq!(outbox.stats().waiting.of(Class::Event).messages, 1);
    assert!(!desk.taken.all().iter().any(|taken| format!("{taken:?}").contains("forged")));
}
