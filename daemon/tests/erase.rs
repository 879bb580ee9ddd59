//! Erasing persons from a state folder: the gallery, what waits for the broker, and who is held.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod folder;
mod state;

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use folder::files;
use spotterd::{
    alert::{
        AlertId, Like, Policy, Rules, Store, Wall, Who,
        store::{Inbound, Seed, Topic},
    },
    clock::{Mono, Stop},
    erase::{Eraser, Fields, Report, Running, Trace, in_view},
    frame::CameraId,
    gallery::{RecordId, Release, Selection, Why},
    mqtt::Topics,
    out::Outlet,
    outbox::{Broker, Class, Message, RowId},
    page::Board,
    score::{self, History, Passed},
    sighting::{Event, Sighting},
    track::TrackId,
};
use state::{A, ALL, State, at_gate, camera, noise, record, second, sighting, snapshot, told};

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
    let why = Why { reason: "case 2031".into(), by: None, at: None };
    let hold = gallery.hold(Selection::Sighting(sighting(3)), why.clone(), None).unwrap();
    let hold = hold.hold().id;
    drop(gallery);
    let report = state.erase(&at_gate());
    assert_eq!((report.tracks, report.messages, report.waiting_pictures), (2, 6, 4));
    let held = &report.held[0];
    assert_eq!((held.hold, held.reason.as_str(), held.tracks), (hold.0, "case 2031", 1));
    assert!(state.left(3) > 10);
    assert_eq!(state.waiting(3), (ALL.map(String::from).into(), 2));
    assert_eq!((state.left(0), state.left(6)), (0, 0));
    assert!(matches!(state.gallery().release(hold, why).unwrap(), Release::Now(_)));
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

/// Alerts that are like persons 1 and 3, and one that is a text.
fn arm_likes(state: &State) {
    let now = Wall { at: second(0), synced: Some(true) };
    let path = state.folder.path().join("alerts.db");
    let mut store = Store::open(&path, Rules::new(Policy::default()).unwrap(), now).unwrap();
    for number in [1, 3] {
        let id = AlertId::new(&format!("like-{number}")).unwrap();
        let like = Like { device: None, who: Who::Sighting(sighting(number)) };
        let payload = serde_json::json!({"schema": 1, "revision": 1, "like": like.to_json(),
            "expires_at": "1970-01-01T10:00:00Z"});
        let payload = payload.to_string().into_bytes();
        let message = Inbound { topic: Topic::Alert, id: id.clone(), payload };
        store.take(&[message], now).unwrap();
        let record = record(number);
        let seed = Seed {
            record: RecordId(number + 1),
            camera: record.camera,
            track: record.track,
            first: record.first,
            last: record.last,
            sightings: record.sightings,
            picture: record.portrait,
        };
        store.keep_seed(&id, &like, (&seed, &record.pooled)).unwrap();
    }
}

#[test]
fn what_alerts_keep_of_whom_they_are_like_goes_too() {
    let state = State::new();
    arm_likes(&state);
    let portraits = || [1, 3].map(|number| state.left(number) > 0);
    assert_eq!(portraits(), [true, true]);
    // By the gallery both are too old already: the alerts know them by themselves.
    let by_number = Fields { id: Some(2), ..Fields::default() };
    assert_eq!(state.erase(&Fields { dry_run: true, ..by_number.clone() }).alerts, 1);
    assert_eq!(portraits(), [true, true], "nothing was done yet");
    let done = state.erase(&by_number);
    assert!(done.alerts == 1 && !done.is_empty() && !done.is_short(), "{done:?}");
    assert_eq!(portraits(), [false, true]);
    let by_sighting = Fields { sighting: Some(sighting(3).to_string()), ..Fields::default() };
    let elsewhere = Fields { sighting: Some(sighting(4).to_string()), ..Fields::default() };
    assert_eq!(state.erase(&elsewhere).alerts, 0);
    assert_eq!((state.erase(&by_sighting).alerts, portraits()), (1, [false, false]));
    assert!(state.erase(&by_sighting).is_empty(), "once");
}

#[test]
fn whom_an_alert_is_like_stays_while_held_and_damaged_alerts_go_with_an_erasure() {
    let state = State::new();
    state.gallery().append(&record(0)).unwrap();
    arm_likes(&state);
    let why = Why { reason: "case 2031".into(), by: None, at: None };
    let selection = Selection::Camera(camera(0));
    let hold = state.gallery().hold(selection, why.clone(), None).unwrap().hold().id;
    assert_eq!(state.erase(&at_gate()).alerts, 0, "person 3 is held");
    state.gallery().release(hold, why).unwrap();
    assert_eq!(state.erase(&at_gate()).alerts, 1);

    let (path, aside) =
        ["alerts.db", "alerts.db.damaged"].map(|name| state.folder.path().join(name)).into();
    fs::write(&aside, record(3).portrait.unwrap()).unwrap();
    let one = Fields { sighting: Some(sighting(4).to_string()), ..Fields::default() };
    let report = state.erase(&one);
    assert!(report.is_short() && report.unreadable == 1 && aside.exists(), "{report:?}");
    assert_eq!(state.erase(&at_gate()).damaged, 1);
    assert!(!aside.exists() && state.left(3) == 0);
    // One that the daemon has not put aside yet.
    fs::write(&path, noise(5, 9000)).unwrap();
    let report = state.erase(&Fields { dry_run: true, ..at_gate() });
    assert_eq!((report.damaged, fs::read(&path).unwrap()), (1, noise(5, 9000)));
    assert_eq!(state.erase(&at_gate()).damaged, 1);
    assert!(!aside.exists());
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
