//! Erasing persons from a state folder: the gallery, what waits for the broker, and who is held.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::json;
use spotter_models::{
    Embedding, Generation,
    kernel::{FineCodes, quantise},
};
use spotterd::{
    alert::AlertId,
    clock::{Clock, ManualClock, Mono, Stop},
    erase::{Eraser, Fields, Report, Running, Trace, in_view},
    frame::CameraId,
    gallery::{Gallery, Look, Record, Selection, Settings},
    mqtt::Topics,
    out::Outlet,
    outbox::{Broker, Class, Message, Outbox, RowId, Settings as OutboxSettings},
    page::Board,
    score::{self, History, Passed},
    sighting::{Event, Sighting, SightingId},
    track::TrackId,
};

const SIZE: usize = 48;
const A: Generation = Generation([1; 16]);

/// Times are those of the manual clock: the outbox dates what it takes by it.
fn second(at: i64) -> Timestamp {
    Timestamp::from_second(at).unwrap()
}

fn camera(number: u64) -> CameraId {
    CameraId::new(["gate", "hall", "yard"][number as usize % 3]).unwrap()
}

/// The sighting of person `number`, named after the moment of its first look.
fn sighting(number: u64) -> SightingId {
    let at = second(number as i64).as_millisecond() as u128;
    SightingId::from_bits(at << 80 | u128::from(number) << 8 | 0xf1)
}

fn noise(number: u64, bytes: usize) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(number);
    (0..bytes).map(|_| random.random()).collect()
}

/// Person `number`, seen in second `number` and the next.
fn record(number: u64) -> Record {
    let mut random = SmallRng::seed_from_u64(number);
    let mut vector = || {
        let values = (0..SIZE).map(|_| random.random_range(-1.0..1.0));
        Embedding::new(values.collect(), A).unwrap()
    };
    Record {
        camera: camera(number),
        track: number,
        first: second(number as i64),
        last: second(number as i64 + 1),
        generation: A,
        quality: 0.5,
        sightings: vec![sighting(number)],
        looks: vec![Look { quality: 0.5, embedding: vector() }],
        pooled: vector(),
        portrait: Some(noise(1000 + number, 700)),
    }
}

/// What is told of person `number`: events, each but the end with a picture of its own.
fn told(number: u64, events: &[&str]) -> Vec<Message> {
    let (id, at) = (sighting(number).to_string(), second(number as i64).to_string());
    let mut messages = Vec::new();
    for (seq, name) in (1..).zip(events) {
        let payload = json!({"schema": 1, "id": id, "event": name, "seq": seq, "alert": "red-coat",
            "camera": camera(number), "track": number, "at": at, "first_seen": at, "late": false});
        let mut event = Message::new(Class::Event, "spotter/s/d/sightings", payload.to_string());
        event.camera = Some(camera(number));
        messages.push(event);
        if *name != "end" {
            let jpeg = snapshot(number, seq);
            let mut picture = Message::new(Class::Picture, "spotter/s/d/snapshots", jpeg);
            picture.camera = Some(camera(number));
            picture.header.properties =
                vec![("sighting".into(), id.clone()), ("seq".into(), seq.to_string())];
            messages.push(picture);
        }
    }
    messages
}

/// Longer than a page of the database.
fn snapshot(number: u64, seq: u64) -> Vec<u8> {
    noise(100_000 + 10 * number + seq, 9000)
}

struct State {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl State {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: Arc::default() }
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    fn gallery(&self) -> Gallery {
        Gallery::open(Settings::new(self.folder.path().join("gallery")), self.clock()).unwrap()
    }

    fn outbox(&self) -> Outbox {
        let folder = self.folder.path().join("outbox");
        let settings = OutboxSettings { reserve_bytes: 64 << 10, ..OutboxSettings::new(folder) };
        Outbox::open(settings, self.clock()).unwrap()
    }

    /// Persons 0 to 8 in the gallery, each told of while the clock goes on.
    fn fill(&self) {
        let (gallery, outbox) = (self.gallery(), self.outbox());
        for number in 0..9 {
            gallery.append(&record(number)).unwrap();
            outbox.commit(&told(number, &["new", "update", "end"])).unwrap();
            self.clock.advance(Duration::from_secs(1));
        }
    }

    fn erase(&self, fields: &Fields) -> Report {
        let eraser = Eraser::open(self.folder.path(), fields.dry_run, self.clock()).unwrap();
        eraser.erase(&fields.wish().unwrap()).unwrap()
    }

    /// How many traces of a person are in any file below the folder.
    fn left(&self, number: u64) -> usize {
        let files: Vec<Vec<u8>> =
            files(self.folder.path()).iter().map(|path| fs::read(path).unwrap()).collect();
        let record = record(number);
        let mut traces = Vec::new();
        for vector in [&record.pooled, &record.looks[0].embedding] {
            let coarse = quantise(vector.values()).values;
            traces.push(coarse.iter().map(|v| *v as u8).collect::<Vec<u8>>()[..16].to_vec());
            let fine = FineCodes::new(vector.values()).values;
            let fine: Vec<u8> = fine.iter().flat_map(|v| v.to_le_bytes()).collect();
            traces.extend([fine[..16].to_vec(), fine[2 * SIZE - 16..].to_vec()]);
        }
        let pictures = [record.portrait.unwrap(), snapshot(number, 1), snapshot(number, 2)];
        for jpeg in &pictures {
            let (middle, end) = (jpeg.len() / 2, jpeg.len());
            let parts = [0..16, middle..middle + 16, end - 16..end];
            traces.extend(parts.map(|part| jpeg[part].to_vec()));
        }
        let is_in = |bytes: &Vec<u8>, trace: &Vec<u8>| {
            bytes.windows(trace.len()).any(|window| window == trace)
        };
        traces.iter().filter(|trace| files.iter().any(|bytes| is_in(bytes, trace))).count()
    }

    /// Events and pictures that wait, by person.
    fn waiting(&self, number: u64) -> (Vec<String>, usize) {
        let (id, kept) = (sighting(number).to_string(), self.outbox().kept().unwrap());
        let events = kept.iter().filter(|kept| kept.class == Class::Event);
        let events = events.map(|kept| String::from_utf8(kept.payload.clone()).unwrap());
        let name = |text: String| {
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            (json["id"] == id.as_str()).then(|| json["event"].as_str().unwrap().to_owned())
        };
        let is_its = |kept: &&spotterd::outbox::Kept| {
            kept.header.properties.iter().any(|(_, value)| *value == id)
        };
        (events.filter_map(name).collect(), kept.iter().filter(is_its).count())
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

fn at_gate() -> Fields {
    Fields { camera: Some(camera(0)), ..Fields::default() }
}

const ALL: [&str; 3] = ["new", "update", "end"];

#[test]
fn nothing_of_who_was_erased_is_in_any_file_and_nothing_of_others_is_lost() {
    let state = State::new();
    state.fill();
    assert!((0..9).all(|number| state.left(number) > 10));
    let dry = state.erase(&Fields { dry_run: true, ..at_gate() });
    let counts = |report: &Report| {
        let Report { tracks, track_pictures, messages, waiting_pictures, .. } = *report;
        (tracks, track_pictures, messages, waiting_pictures)
    };
    assert_eq!((counts(&dry), dry.dry_run), ((3, 3, 9, 6), true));
    let span = (dry.first_seen.as_deref(), dry.last_seen.as_deref());
    assert_eq!(span, (Some("1970-01-01T00:00:00.000Z"), Some("1970-01-01T00:00:07.000Z")));
    assert!(state.left(0) > 10, "nothing was done yet");

    let done = state.erase(&at_gate());
    assert_eq!(counts(&done), counts(&dry));
    for number in 0..9 {
        let is_gone = number % 3 == 0;
        assert_eq!(state.left(number) == 0, is_gone, "{number}: {}", state.left(number));
        let expected = if is_gone { (Vec::new(), 0) } else { (ALL.map(String::from).into(), 2) };
        assert_eq!(state.waiting(number), expected, "{number}");
    }
    let again = state.erase(&at_gate());
    assert!(again.is_empty(), "{again:?}");

    // A span: 4 is seen from second 4 to 5. A track by its number, a sighting by its id.
    let span = Fields {
        from: Some(second(5).to_string()),
        to: Some(second(6).to_string()),
        ..Fields::default()
    };
    assert_eq!(state.erase(&span).tracks, 2);
    let track = Fields { id: Some(2), ..Fields::default() };
    let sighting = Fields { sighting: Some(sighting(8).to_string()), ..Fields::default() };
    for fields in [track, sighting] {
        let report = state.erase(&fields);
        assert_eq!(counts(&report), (1, 1, 3, 2), "{fields:?}");
    }
    let gone: Vec<u64> = (0..9).filter(|number| state.left(*number) == 0).collect();
    // Numbers of the gallery begin at 1: track 2 is person 1.
    assert_eq!(gone, [0, 1, 3, 4, 5, 6, 8]);
}

#[test]
fn what_was_sent_before_is_in_no_file_either() {
    let state = State::new();
    let outbox = state.outbox();
    let rows = outbox.commit(&told(1, &["new", "update", "end"])).unwrap();
    outbox.begin(&rows, Broker::Present).unwrap();
    outbox.done(&rows).unwrap();
    // Nobody is meant any more; the log of the database had it all the same.
    assert!(state.left(1) > 0);
    drop(outbox);
    state.gallery().append(&record(1)).unwrap();
    state.erase(&Fields { camera: Some(camera(1)), ..Fields::default() });
    assert_eq!(state.left(1), 0);
}

#[test]
fn a_sighting_whose_beginning_was_sent_still_ends() {
    let state = State::new();
    let outbox = state.outbox();
    let rows = outbox.commit(&told(0, &ALL)).unwrap();
    outbox.begin(&rows[..1], Broker::Present).unwrap();
    outbox.commit(&told(3, &ALL)).unwrap();
    drop(outbox);
    let report = state.erase(&at_gate());
    // Of person 0 the end stays.
    assert_eq!((report.messages, report.waiting_pictures), (5, 4));
    assert_eq!(state.waiting(0), (vec!["end".to_owned()], 0));
    assert_eq!(state.waiting(3), (Vec::new(), 0));
}

#[test]
fn who_is_held_stays_everywhere_and_is_named() {
    let state = State::new();
    state.fill();
    let gallery = state.gallery();
    let hold = gallery.hold(Selection::Sighting(sighting(3)), "case 2031").unwrap();
    drop(gallery);
    let report = state.erase(&at_gate());
    assert_eq!((report.tracks, report.messages, report.waiting_pictures), (2, 6, 4));
    let held = &report.held[0];
    assert_eq!((held.hold, held.reason.as_str(), held.tracks), (hold.0, "case 2031", 1));
    assert!(state.left(3) > 10);
    assert_eq!(state.waiting(3), (ALL.map(String::from).into(), 2));
    assert_eq!((state.left(0), state.left(6)), (0, 0));
    assert!(state.gallery().release(hold).unwrap());
    assert_eq!(state.erase(&at_gate()).tracks, 1);
    assert_eq!(state.left(3), 0);
}

#[test]
fn answers_to_searches_go_and_damaged_files_with_them() {
    let state = State::new();
    state.fill();
    let outbox = state.outbox();
    let mut answer = Message::new(Class::Picture, "spotter/s/replies/desk", noise(77, 9000));
    answer.header.properties = vec![("id".into(), "1".into())];
    let status = Message { retain: true, ..Message::new(Class::State, "spotter/s/d/status", "{}") };
    outbox.commit(&[answer, status]).unwrap();
    drop(outbox);
    let aside = state.folder.path().join("outbox/outbox.db.damaged-1795000000");
    fs::write(&aside, noise(88, 500)).unwrap();
    let sighting = Fields { sighting: Some(sighting(4).to_string()), ..Fields::default() };
    let report = state.erase(&sighting);
    assert_eq!((report.waiting_pictures, report.damaged), (3, 0));
    assert!(aside.exists(), "one person is meant, and nobody can say who was in it");
    assert_eq!(state.erase(&at_gate()).damaged, 1);
    assert!(!aside.exists());
    let kept = state.outbox();
    let rows: Vec<RowId> = kept.pending(RowId::START, 99).unwrap().iter().map(|w| w.row).collect();
    let topics = kept.begin(&rows, Broker::Present).unwrap();
    assert!(topics.iter().any(|message| message.topic.ends_with("/status")));
    assert!(topics.iter().all(|message| !message.topic.contains("/replies/")));
}

#[test]
fn a_look_changes_no_file_and_damaged_files_that_stay_are_named() {
    let state = State::new();
    state.fill();
    let nowhere = CameraId::new("nowhere").unwrap();
    let nowhere = Fields { camera: Some(nowhere), dry_run: true, ..Fields::default() };
    assert_eq!(state.erase(&nowhere).cameras, [0, 1, 2].map(camera));
    let gallery = state.folder.path().join("gallery");
    let contents = || -> Vec<(PathBuf, Vec<u8>)> {
        let mut all: Vec<_> = files(&gallery)
            .into_iter()
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        all.sort();
        all
    };
    let tracks = gallery.join("00000001.tracks");
    let whole = fs::read(&tracks).unwrap();
    let one = Fields { sighting: Some(sighting(4).to_string()), ..Fields::default() };
    let look = Fields { dry_run: true, ..one.clone() };

    fs::write(&tracks, &whole[..whole.len() - 7]).unwrap();
    let before = contents();
    assert_eq!((state.erase(&look).tracks, contents() == before), (1, true), "a torn record");
    let mut headless = whole;
    headless[..8].fill(b'X');
    fs::write(&tracks, &headless).unwrap();
    let before = contents();
    let report = state.erase(&look);
    assert_eq!((report.tracks, report.unreadable, report.is_short()), (0, 1, true));
    assert_eq!(state.erase(&nowhere).damaged, 1);
    assert!(contents() == before, "a damaged head");

    let report = state.erase(&one);
    assert_eq!((report.tracks, report.damaged, report.unreadable), (0, 0, 1));
    assert!(contents().iter().any(|(_, bytes)| *bytes == headless), "nobody can say who is in it");
    assert_eq!(state.erase(&at_gate()).damaged, 1);
    assert!(contents().iter().all(|(_, bytes)| bytes.len() < headless.len()));
}

#[test]
fn a_folder_that_a_daemon_has_open_is_left_alone() {
    let state = State::new();
    state.fill();
    let (gallery, outbox) = (state.gallery(), state.outbox());
    let refused =
        || Eraser::open(state.folder.path(), false, state.clock()).err().unwrap().to_string();
    assert!(refused().contains("another process has this outbox open"), "{}", refused());
    drop(outbox);
    assert!(refused().contains("another process has this gallery open"), "{}", refused());
    assert_eq!(gallery.counts().records, 9);
}

#[test]
fn what_memory_and_the_page_know_goes_too_and_views_on_the_way_are_asked_for_first() {
    let state = State::new();
    state.fill();
    let (gallery, outbox) = (Arc::new(state.gallery()), Arc::new(state.outbox()));
    let (history, board) = (Arc::new(History::default()), Arc::new(Board::new()));
    for number in 0..9 {
        let record = record(number);
        let look =
            score::Look { embedding: record.pooled.clone(), quality: 0.5, at: Mono::default() };
        let (track, looks) = (TrackId(number), vec![look]);
        history.add(Passed { camera: record.camera, track, at: record.last, looks });
        board.sighting(&shown(number), Some(snapshot(number, 1)));
    }
    let topics = Topics::new("spotter", "s", "d").unwrap();
    let outlet = Outlet::new(outbox.clone(), topics, board.clone());
    let (in_view, jobs) = in_view();
    let running = Running {
        history: history.clone(),
        board: board.clone(),
        outlet: Arc::new(Mutex::new(outlet)),
        in_view,
        flusher: None,
    };
    let folder = state.folder.path();
    let eraser = Eraser::new(folder, Some(gallery.clone()), outbox.clone(), state.clock(), running);
    // The thread of the pipeline, which has one of them in view.
    let pipeline = std::thread::spawn(move || {
        let mut asked = Vec::new();
        while asked.len() < 2 {
            let Some(job) = jobs.next() else {
                Stop::default().wait(Duration::from_millis(2));
                continue;
            };
            let trace = |number: u64| Trace {
                camera: camera(number),
                track: Some(number),
                first: second(number as i64),
                last: second(number as i64),
                sighting: None,
            };
            let meant: Vec<u64> =
                (0..12).filter(|number| job.meaning.means(&trace(*number))).collect();
            job.done.send(meant.len()).unwrap();
            asked.push((job.dry_run, meant));
        }
        asked
    });
    let generation = |history: &History| history.tracks(A).len();
    let at_gate = |dry_run| Fields { dry_run, ..at_gate() }.wish().unwrap();
    let dry = eraser.erase(&at_gate(true)).unwrap();
    assert_eq!((dry.tracks, dry.in_view, dry.judged_by, dry.shown), (3, 4, 3, 3));
    assert_eq!((generation(&history), board.snapshot().sightings.len()), (9, 9));
    let done = eraser.erase(&at_gate(false)).unwrap();
    assert_eq!(done, spotterd::erase::Report { dry_run: false, ..dry });
    assert_eq!((generation(&history), board.snapshot().sightings.len()), (6, 6));
    let at = |camera: &CameraId| *camera == self::camera(0);
    assert!(board.snapshot().sightings.iter().all(|shown| !at(&shown.sighting.camera)));
    assert!(history.tracks(A).iter().all(|passed| !at(&passed.camera)));
    assert_eq!(gallery.counts().records, 6);
    assert_eq!(pipeline.join().unwrap(), [(true, vec![0, 3, 6, 9]), (false, vec![0, 3, 6, 9])]);
    // Nobody answers any more: nothing is erased by half.
    let yard = Fields { camera: Some(camera(2)), ..Fields::default() };
    let error = eraser.erase(&yard.wish().unwrap()).unwrap_err().to_string();
    assert!(error.contains("nothing was erased"), "{error}");
    assert_eq!((gallery.counts().records, generation(&history)), (6, 6));
}

/// A sighting as the page shows it.
fn shown(number: u64) -> Sighting {
    Sighting {
        schema: 1,
        id: sighting(number),
        event: Event::New,
        seq: 1,
        alert: AlertId::new("red-coat").unwrap(),
        alert_revision: Some(1),
        camera: camera(number),
        track: number,
        at: second(number as i64),
        first_seen: second(number as i64),
        score: 0.41,
        threshold: 0.37,
        false_alarm_probability: None,
        crops: 1,
        bbox: [0.1, 0.1, 0.1, 0.4],
        phrases: Vec::new(),
        bundle: "b".to_owned(),
        suppressed: 0,
        late: false,
        clock_synced: true,
    }
}
