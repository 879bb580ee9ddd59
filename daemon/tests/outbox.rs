//! The outbox on a real disk: order, budget, crashes, damage, a full file system.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use rand::Rng;
use serde_json::Value;
use spotterd::{
    Kind,
    clock::{Clock, ManualClock, Mono, SystemClock},
    outbox::{Broker, Class, DropReason, LATE_AFTER, Message, Outbox, RowId, Settings},
};

const ALL: usize = 1_000_000;

fn settings(folder: &Path) -> Settings {
    Settings { reserve_bytes: 64 << 10, ..Settings::new(folder) }
}

fn open(folder: &Path) -> Outbox {
    Outbox::open(settings(folder), Arc::new(ManualClock::default())).unwrap()
}

fn event(number: usize) -> Message {
    let payload = format!(r#"{{"schema":1,"seq":{number},"score":0.41200,"late":false}}"#);
    let reference = Some(format!("sighting/{number}"));
    Message { reference, ..Message::new(Class::Event, "spotter/s/d/sightings", payload) }
}

fn picture(bytes: usize) -> Message {
    Message::new(Class::Picture, "spotter/s/d/snapshots", vec![0xd8; bytes])
}

fn state(topic: &str, text: &str) -> Message {
    Message { retain: true, ..Message::new(Class::State, topic, text) }
}

fn rows(outbox: &Outbox) -> Vec<RowId> {
    outbox.pending(RowId::START, ALL).unwrap().iter().map(|waiting| waiting.row).collect()
}

fn payloads(outbox: &Outbox, broker: Broker) -> Vec<String> {
    // In windows, as the link does it.
    let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
    let rows = rows(outbox);
    let windows = rows.chunks(32).flat_map(|rows| outbox.begin(rows, broker).unwrap());
    windows.map(|outgoing| text(&outgoing.payload)).collect()
}

fn seqs(outbox: &Outbox) -> Vec<usize> {
    let text = payloads(outbox, Broker::Present);
    let seq = |text: &String| serde_json::from_str::<Value>(text).ok()?["seq"].as_u64();
    text.iter().filter_map(seq).map(|seq| seq as usize).collect()
}

#[test]
fn messages_come_back_in_order_with_all_they_carry() {
    let folder = tempfile::tempdir().unwrap();
    let mut message = event(1);
    message.header.properties =
        vec![("sighting".into(), "01JD".into()), ("seq".into(), "1".into())];
    message.header.content_type = Some("application/json".into());
    message.header.correlation = Some(vec![0, 255]);
    message.header.response_topic = Some("spotter/s/replies/c".into());
    message.expires_after = Some(Duration::from_secs(60));
    let outbox = open(folder.path());
    let rows = outbox.commit(&[message.clone(), event(2)]).unwrap();
    outbox.commit(&[event(3)]).unwrap();
    assert_eq!(outbox.pending(rows[0], 1).unwrap()[0].row, rows[1]);
    let first = outbox.begin(&rows[..1], Broker::Present).unwrap().remove(0);
    assert_eq!((first.payload, first.header), (message.payload, message.header));
    assert_eq!(first.expires_in, Some(Duration::from_secs(60)));
    drop(outbox);
    let outbox = open(folder.path());
    assert_eq!(seqs(&outbox), [1, 2, 3]);
    outbox.done(&rows).unwrap();
    outbox.done(&rows).unwrap();
    assert_eq!(seqs(&outbox), [3]);
    assert_eq!(outbox.stats().done, 2);
    // A number is never given twice, also after a restart with an empty outbox.
    outbox.done(&self::rows(&outbox)).unwrap();
    drop(outbox);
    assert!(open(folder.path()).commit(&[event(4)]).unwrap()[0] > rows[1]);
}

#[test]
fn a_state_replaces_the_older_one_of_its_topic_only() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    outbox.commit(&[state("a", "1"), state("b", "1"), event(1)]).unwrap();
    outbox.commit(&[state("a", "2")]).unwrap();
    assert_eq!(payloads(&outbox, Broker::Present)[0], "1");
    assert_eq!(payloads(&outbox, Broker::Present)[2], "2");
    assert_eq!(outbox.stats().waiting.of(Class::State).messages, 2);
    assert_eq!(outbox.stats().waiting.of(Class::Event).messages, 1);
}

#[test]
fn the_first_send_fixes_the_bytes_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let outbox = Outbox::open(settings(folder.path()), clock.clone()).unwrap();
    outbox.commit(&[event(1), state("a", r#"{"late":false}"#)]).unwrap();
    clock.advance(LATE_AFTER);
    let first = payloads(&outbox, Broker::Present);
    assert!(first[0].contains(r#""late":false"#), "5 s is not more than 5 s");
    clock.advance(Duration::from_secs(3600));
    assert_eq!(payloads(&outbox, Broker::WasAway), first);
    outbox.commit(&[event(2), event(3)]).unwrap();
    let all = rows(&outbox);
    outbox.begin(&all[2..3], Broker::WasAway).unwrap();
    clock.advance(LATE_AFTER + Duration::from_millis(1));
    let late = payloads(&outbox, Broker::Present);
    assert_eq!(late[2], r#"{"schema":1,"seq":2,"score":0.41200,"late":true}"#);
    assert!(late[3].contains(r#""late":true"#));
    drop(outbox);
    assert_eq!(payloads(&open(folder.path()), Broker::WasAway), late, "also after a restart");
}

/// Wall time that a test sets; monotonic time stands still.
struct Wall(Mutex<SystemTime>);

impl Clock for Wall {
    fn now(&self) -> Mono {
        Mono::default()
    }
    fn wall(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

#[test]
fn messages_expire_by_their_age_and_not_by_a_clock_that_jumps() {
    let folder = tempfile::tempdir().unwrap();
    let year = |year: u64| SystemTime::UNIX_EPOCH + Duration::from_secs((year - 1970) * 31_557_600);
    let at =
        |wall| Outbox::open(settings(folder.path()), Arc::new(Wall(Mutex::new(wall)))).unwrap();
    let short = Message { expires_after: Some(Duration::from_secs(60)), ..event(1) };
    at(year(1970)).commit(std::slice::from_ref(&short)).unwrap();
    assert_eq!(seqs(&at(year(2026))), [1], "committed before the clock was set");
    assert_eq!(seqs(&at(year(1970))), [1]);
    at(year(2026)).commit(&[Message { expires_after: short.expires_after, ..event(2) }]).unwrap();
    assert_eq!(seqs(&at(year(2025))), [1, 2], "the clock went back");
    let later = at(year(2026) + Duration::from_secs(61));
    assert_eq!(seqs(&later), [1]);
    assert_eq!(later.stats().dropped_for(DropReason::Expired), 1);
    drop(later);

    let clock = Arc::new(ManualClock::default());
    let outbox = Outbox::open(settings(folder.path()), clock.clone()).unwrap();
    outbox.commit(&[Message { expires_after: short.expires_after, ..event(3) }]).unwrap();
    clock.advance(Duration::from_secs(59));
    assert_eq!(seqs(&outbox), [1, 3]);
    clock.advance(Duration::from_secs(1));
    assert_eq!(seqs(&outbox), [0; 0]);
    assert_eq!(outbox.stats().waiting.total().messages, 0);
}

#[test]
fn over_the_budget_pictures_go_first_oldest_first_and_events_last() {
    let folder = tempfile::tempdir().unwrap();
    let budget = Settings { max_bytes: 20_000, ..settings(folder.path()) };
    let outbox = Outbox::open(budget, Arc::new(ManualClock::default())).unwrap();
    let first = outbox.commit(&[event(1), picture(8_000), picture(8_000)]).unwrap();
    let kept = outbox.commit(&[picture(8_000), state("a", "1")]).unwrap();
    assert_eq!(rows(&outbox), [first[0], first[2], kept[0], kept[1]]);
    assert_eq!(outbox.stats().dropped[&(Class::Picture, DropReason::Budget)], 1);
    // More than fits at all: what is committed is what the answer names.
    let big = outbox.commit(&[picture(30_000), event(2)]).unwrap();
    assert_eq!(big.len(), 1);
    assert_eq!(seqs(&outbox), [1, 2]);
    for number in 3..200 {
        outbox.commit(&[event(number)]).unwrap();
    }
    let left = seqs(&outbox);
    assert_eq!(*left.last().unwrap(), 199);
    assert!(left.windows(2).all(|pair| pair[1] == pair[0] + 1), "the oldest events went: {left:?}");
    let stats = outbox.stats();
    assert_eq!(stats.dropped[&(Class::State, DropReason::Budget)], 1);
    assert_eq!(stats.dropped[&(Class::Picture, DropReason::Budget)], 4);
    assert_eq!(stats.dropped[&(Class::Event, DropReason::Budget)], 199 - left.len() as u64);
    assert!(stats.waiting.total().bytes <= 20_000);
}

#[test]
fn two_processes_cannot_have_one_outbox() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path());
    let second = Outbox::open(settings(folder.path()), Arc::new(ManualClock::default()));
    let error = second.err().unwrap();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("another process"), "{error}");
}

#[test]
fn a_newer_file_and_a_foreign_one_are_refused_untouched() {
    for (sql, text) in [
        ("PRAGMA user_version = 2", "newer spotterd"),
        ("PRAGMA application_id = 7", "another program"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = open(folder.path()).path().to_path_buf();
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let before = fs::read(&path).unwrap();
        let error = Outbox::open(settings(folder.path()), Arc::new(ManualClock::default()));
        let error = error.err().unwrap();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

fn set_aside(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains(".damaged-")).collect()
}

#[test]
fn a_damaged_file_that_was_set_aside_grows_old() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    let aside = folder.path().join("outbox.db.damaged-1795000000");
    fs::write(&aside, "somebody").unwrap();
    let changed = fs::metadata(&aside).unwrap().modified().unwrap();
    assert_eq!(outbox.expire_damaged(changed).unwrap(), 0);
    assert_eq!(outbox.expire_damaged(changed + Duration::from_secs(1)).unwrap(), 1);
    assert!(!aside.exists() && outbox.damaged() == 0);
}

#[test]
fn a_damaged_file_is_set_aside_and_a_fresh_one_works() {
    let damages: [fn(&mut Vec<u8>); 5] = [
        |bytes| bytes[..100].fill(0xa5),
        |bytes| bytes[4096..].fill(0xa5),
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| *bytes = b"not a database".to_vec(),
        |bytes| bytes[100..200].fill(0),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = open(folder.path());
        for number in 0..50 {
            outbox.commit(&[event(number), picture(5000)]).unwrap();
        }
        let path = outbox.path().to_path_buf();
        drop(outbox);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let outbox = open(folder.path());
        assert_eq!(seqs(&outbox), [0; 0], "damage {number}");
        assert_eq!(set_aside(folder.path()).len(), 1, "damage {number}");
        outbox.commit(&[event(1)]).unwrap();
        drop(outbox);
        assert_eq!(seqs(&open(folder.path())), [1], "damage {number}");
    }
}

#[test]
fn files_set_aside_do_not_fill_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..6 {
        fs::write(folder.path().join("outbox.db"), "not a database").unwrap();
        open(folder.path());
    }
    assert_eq!(set_aside(folder.path()).len(), 3);
}

/// Runs a test of this file in a process of its own, with a folder.
fn child(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env("OUTBOX_FOLDER", folder);
    command.stdout(Stdio::piped());
    command
}

fn child_folder() -> PathBuf {
    std::env::var_os("OUTBOX_FOLDER").expect("run by another test only").into()
}

#[test]
#[ignore = "the process that `kill_at_any_moment_loses_nothing` kills"]
fn child_commits() {
    let outbox = Outbox::open(settings(&child_folder()), Arc::new(SystemClock::new())).unwrap();
    for number in 0.. {
        let batch = [event(2 * number), picture(20_000), event(2 * number + 1)];
        outbox.commit(&batch).unwrap();
        println!("committed {number}");
        let done: Vec<_> = outbox.pending(RowId::START, ALL).unwrap();
        let pictures = done.iter().filter(|waiting| waiting.class == Class::Picture);
        outbox.done(&pictures.map(|waiting| waiting.row).collect::<Vec<_>>()).unwrap();
    }
}

#[test]
fn kill_at_any_moment_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = rand::rng();
    for round in 0..20 {
        let mut process = child("child_commits", folder.path()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let last = rng.random_range(0..40);
        let mut committed = None;
        // Stops reading at a random commit and kills at once: the child is somewhere in a later one.
        for line in lines.map_while(Result::ok) {
            if let Some((_, number)) = line.split_once("committed ") {
                committed = number.parse::<usize>().ok();
                if committed >= Some(last) {
                    std::hint::spin_loop();
                    break;
                }
            }
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let outbox = open(folder.path());
        assert!(set_aside(folder.path()).is_empty(), "round {round}");
        let seqs = seqs(&outbox);
        let committed = committed.expect("the child committed nothing");
        assert!(seqs.len() >= 2 * (committed + 1), "round {round}: {} of {committed}", seqs.len());
        assert!(seqs.iter().copied().eq(0..seqs.len()), "round {round}: {seqs:?}");
        assert!(seqs.len().is_multiple_of(2), "round {round}: half a commit");
        outbox.done(&rows(&outbox)).unwrap();
    }
}

#[test]
fn a_power_cut_anywhere_in_the_log_leaves_whole_commits() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    for number in 0..20 {
        outbox.commit(&[event(2 * number), event(2 * number + 1)]).unwrap();
    }
    let db = fs::read(outbox.path()).unwrap();
    let log = fs::read(folder.path().join("outbox.db-wal")).unwrap();
    assert!(log.len() > 20 * 4096, "nothing to cut");
    let mut rng = rand::rng();
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..60 {
        let copy = tempfile::tempdir().unwrap();
        let cut = rng.random_range(0..=log.len());
        let mut log = log[..cut].to_vec();
        if round % 3 == 0 && cut > 4096 {
            // The last sectors are on the disk with what was there before.
            log[cut - 2048..].fill(0);
        }
        fs::write(copy.path().join("outbox.db"), &db).unwrap();
        fs::write(copy.path().join("outbox.db-wal"), &log).unwrap();
        let cut_short = open(copy.path());
        let seqs = seqs(&cut_short);
        assert!(seqs.len().is_multiple_of(2) && seqs.iter().copied().eq(0..seqs.len()), "{cut}");
        seen.insert(seqs.len());
        cut_short.commit(&[event(99)]).unwrap();
    }
    assert!(seen.len() > 5, "the cuts fell in few places: {seen:?}");
}

#[test]
#[ignore = "runs on the small file system that `a_full_disk_keeps_events` mounts"]
fn child_full_disk() {
    let folder = child_folder();
    let clock = Arc::new(ManualClock::default());
    let reserve = Settings { reserve_bytes: 1 << 20, ..settings(&folder) };
    let outbox = Outbox::open(reserve, clock.clone()).unwrap();
    let mut number = 0;
    while !outbox.stats().is_short {
        outbox.commit(&[event(number), picture(50_000)]).unwrap();
        number += 1;
        assert!(number < 1000, "the disk never filled");
    }
    // Somebody else takes what is left: only room inside the database remains.
    let mut rest = fs::File::create(folder.join("log")).unwrap();
    while std::io::Write::write_all(&mut rest, &[7; 4096]).is_ok() {}
    for _ in 0..500 {
        outbox.commit(&[event(number), picture(50_000)]).unwrap();
        number += 1;
    }
    let stats = outbox.stats();
    assert!(stats.disk_full >= 1 && stats.is_short);
    assert!(stats.dropped[&(Class::Picture, DropReason::DiskFull)] >= 500);
    assert!(stats.dropped.keys().all(|(class, _)| *class == Class::Picture), "{stats:?}");
    assert_eq!(seqs(&outbox).len(), number, "an event is missing");
    // Also here pictures are taken back to the last byte, those too that made room before.
    let kept = outbox.kept().unwrap();
    let pictures = kept.iter().filter(|kept| kept.class == Class::Picture);
    let pictures: Vec<RowId> = pictures.map(|kept| kept.row).collect();
    outbox.erase(&pictures, false).unwrap();
    for name in ["outbox.db", "outbox.db-wal"] {
        let bytes = fs::read(folder.join(name)).unwrap();
        assert!(!bytes.windows(64).any(|window| window == [0xd8; 64]), "{name}");
    }
    assert_eq!(seqs(&outbox).len(), number, "an event went with them");
    // Events without end: at last a clear error, and nothing that was there is lost.
    let error = loop {
        match outbox.commit(&(0..100).map(event).collect::<Vec<_>>()) {
            Ok(_) => number += 100,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("no room on the disk"), "{error}");
    assert_eq!(seqs(&outbox).len(), number);
    // What is sent leaves room, though nobody else gives any: pictures are taken again.
    rows(&outbox).chunks(32).for_each(|rows| outbox.done(rows).unwrap());
    clock.advance(Duration::from_secs(11));
    assert_eq!(outbox.commit(&[picture(50_000)]).unwrap().len(), 1);
    assert!(!outbox.stats().is_short && folder.join("outbox.reserve").exists());
    println!("full disk survived");
}

#[test]
fn a_full_disk_keeps_events() {
    let folder = tempfile::tempdir().unwrap();
    let child = child("child_full_disk", folder.path());
    // A mount of our own in a namespace of our own: it ends with the process.
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "sh", "-c"]);
    command.arg("mount -t tmpfs -o size=8m none \"$OUTBOX_FOLDER\" && exec \"$@\"").arg("sh");
    command.arg(child.get_program()).args(child.get_args());
    command.env("OUTBOX_FOLDER", folder.path());
    let output = command.output().expect("unshare (util-linux) is needed");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("full disk survived"), "{text}\n{errors}");
}

#[test]
fn a_folder_that_cannot_be_had_is_an_error_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let inside = folder.path().join("file/outbox");
    let error = Outbox::open(settings(&inside), Arc::new(ManualClock::default())).err().unwrap();
    assert!(error.to_string().contains("file/outbox"), "{error}");
    // A folder where the file should be.
    fs::create_dir_all(folder.path().join("taken/outbox.db")).unwrap();
    let taken =
        Outbox::open(settings(&folder.path().join("taken")), Arc::new(ManualClock::default()));
    assert!(taken.err().unwrap().to_string().contains("outbox.db"));
}
