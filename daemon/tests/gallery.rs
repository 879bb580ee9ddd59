//! The gallery on a real disk: restarts, crashes, damage, a full disk, erasure, retention, search.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use spotter_models::{
    Embedding, Generation,
    kernel::{FineCodes, quantise},
};
use spotterd::{
    Kind,
    alert::Wall,
    clock::{Clock, ManualClock, Stop, SystemClock},
    frame::CameraId,
    gallery::{
        Counts, Filter, Gallery, HoldId, Look, MAX_HOLDS, Placed, Record, RecordId, Release,
        Selection, Settings, Why,
    },
    sighting::{Ids, SightingId},
};

const A: Generation = Generation([1; 16]);
const B: Generation = Generation([2; 16]);
const SIZE: usize = 48;
/// Bytes of a record's head in a file of tracks, and of the file's own head.
const HEAD: usize = 48;
const FILE_HEAD: usize = 64;

fn settings(folder: &Path) -> Settings {
    Settings::new(folder)
}

fn open(settings: Settings) -> Gallery {
    Gallery::open(settings, Arc::new(ManualClock::default())).unwrap()
}

fn camera(name: &str) -> CameraId {
    CameraId::new(name).unwrap()
}

fn second(at: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + at).unwrap()
}

fn now(at: i64) -> Wall {
    Wall { at: second(at), synced: Some(true) }
}

fn direction(random: &mut SmallRng, size: usize, generation: Generation) -> Embedding {
    // Not around zero: real embeddings lie to one side.
    let values = (0..size).map(|i| random.random_range(-1.0..1.0) + 0.3 * (i % 3) as f32);
    Embedding::new(values.collect(), generation).unwrap()
}

/// A record that differs from every other one; `number` seconds after a fixed moment.
fn record(number: u64) -> Record {
    let mut random = SmallRng::seed_from_u64(number);
    let mut look = || direction(&mut random, SIZE, A);
    let looks = (0..number % 4).map(|n| Look { quality: n as f32 / 4.0, embedding: look() });
    let looks: Vec<Look> = looks.collect();
    let pooled = look();
    let portrait = (0..700).map(|_| random.random()).collect();
    Record {
        camera: camera(["gate", "hall", "yard"][number as usize % 3]),
        track: number,
        first: second(number as i64),
        last: second(number as i64) + Duration::from_millis(1500),
        generation: A,
        quality: 0.5,
        sightings: if number.is_multiple_of(5) { vec![sighting(number)] } else { Vec::new() },
        looks,
        pooled,
        portrait: Some(portrait),
    }
}

fn sighting(number: u64) -> SightingId {
    Ids::new(SmallRng::seed_from_u64(number)).next(second(number as i64))
}

fn fill(gallery: &Gallery, numbers: std::ops::Range<u64>) -> Vec<RecordId> {
    numbers.map(|number| gallery.append(&record(number)).unwrap()).collect()
}

fn why(reason: &str) -> Why {
    Why { reason: reason.into(), by: Some("legal".into()), at: Some(second(0)) }
}

fn held(gallery: &Gallery, selection: Selection, reason: &str) -> HoldId {
    gallery.hold(selection, why(reason), None).unwrap().hold().id
}

fn is_released(gallery: &Gallery, id: HoldId) -> bool {
    matches!(gallery.release(id, why("over")).unwrap(), Release::Now(_))
}

/// That a stored record is what was given, but for the rounding of its vectors.
fn assert_same(stored: &Record, given: &Record) {
    let rounded = |embedding: &Embedding| {
        Embedding::new(quantise(embedding.values()).to_f32(), embedding.generation()).unwrap()
    };
    let pooled = FineCodes::new(given.pooled.values()).to_f32();
    let pooled = Embedding::new(pooled, given.generation).unwrap();
    let looks = given.looks.iter();
    let looks =
        looks.map(|look| Look { embedding: rounded(&look.embedding), quality: look.quality });
    let looks = looks.collect();
    let expected = Record { looks, pooled, portrait: None, ..given.clone() };
    assert_eq!(*stored, expected);
}

fn best(gallery: &Gallery, number: u64) -> Option<RecordId> {
    let hits = gallery.search(&record(number).pooled, &Filter::default(), 1).unwrap();
    hits.first().filter(|hit| hit.score > 0.999).map(|hit| hit.id)
}

fn files(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.to_string_lossy().ends_with(kind)).collect();
    files.sort();
    files
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for path in files(from, "") {
        fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

/// Where the heads of records are in a file of tracks: (offset, length of the body).
fn heads(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut at = FILE_HEAD;
    let mut heads = Vec::new();
    while at + HEAD <= bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        heads.push((at, length));
        at += HEAD + length;
    }
    heads
}

fn contains(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.windows(pattern.len()).any(|window| window == pattern)
}

/// Every form in which something of a record could be left.
fn traces(record: &Record) -> Vec<Vec<u8>> {
    let vectors = record.looks.iter().map(|look| &look.embedding).chain([&record.pooled]);
    let mut traces = Vec::new();
    for vector in vectors {
        // Parts too, so that a file that was overwritten by half is noticed.
        let bytes: Vec<u8> = quantise(vector.values()).values.iter().map(|v| *v as u8).collect();
        traces.extend([bytes[..16].to_vec(), bytes[SIZE - 16..].to_vec()]);
        let fine = FineCodes::new(vector.values()).values;
        let fine: Vec<u8> = fine.iter().flat_map(|v| v.to_le_bytes()).collect();
        traces.extend([fine[..16].to_vec(), fine[2 * SIZE - 16..].to_vec()]);
        let floats: Vec<u8> = vector.values().iter().flat_map(|v| v.to_le_bytes()).collect();
        traces.extend([floats[..16].to_vec(), floats[floats.len() - 16..].to_vec()]);
    }
    let jpeg = record.portrait.as_ref().unwrap();
    traces.extend([jpeg[..16].to_vec(), jpeg[350..366].to_vec(), jpeg[jpeg.len() - 16..].to_vec()]);
    traces.extend(record.sightings.iter().map(|id| id.to_bits().to_le_bytes().to_vec()));
    traces
}

fn left(folder: &Path, record: &Record) -> usize {
    let files: Vec<Vec<u8>> =
        files(folder, "").iter().map(|path| fs::read(path).unwrap()).collect();
    let is_left = |trace: &Vec<u8>| files.iter().any(|bytes| contains(bytes, trace));
    traces(record).iter().filter(|trace| is_left(trace)).count()
}

#[test]
fn records_come_back_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(settings(folder.path()));
    let ids = fill(&gallery, 0..40);
    drop(gallery);
    let gallery = open(settings(folder.path()));
    for (number, id) in (0..).zip(&ids) {
        assert_same(&gallery.record(*id).unwrap().unwrap(), &record(number));
        assert_eq!(gallery.picture(*id).unwrap(), record(number).portrait);
        assert_eq!(best(&gallery, number), Some(*id));
    }
    let more = gallery.append(&record(40)).unwrap();
    assert!(ids.iter().all(|id| *id < more));
    let counts = gallery.counts();
    assert_eq!((counts.records, counts.pictures, counts.damaged, counts.torn), (41, 41, 0, 0));
}

#[test]
fn an_empty_gallery_and_one_track() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(settings(folder.path()));
    let query = record(7).pooled;
    assert!(gallery.search(&query, &Filter::default(), 10).unwrap().is_empty());
    assert!(gallery.like(RecordId(1), &Filter::default(), 10).unwrap().is_empty());
    assert!(gallery.picture(RecordId(1)).unwrap().is_none());
    assert_eq!(gallery.recent(10, &[], A).count(), 0);
    assert_eq!(gallery.erase(&Selection::Record(RecordId(1)), false).unwrap().records, 0);
    gallery.upkeep(now(0)).unwrap();
    let id = gallery.append(&record(7)).unwrap();
    let hits = gallery.search(&query, &Filter::default(), 10).unwrap();
    assert_eq!(hits.len(), 1);
    let (hit, given) = (&hits[0], record(7));
    assert_eq!((hit.id, &hit.camera, hit.track), (id, &given.camera, given.track));
    assert_eq!((hit.first, hit.last, hit.quality), (given.first, given.last, given.quality));
    assert!(hit.has_picture && hit.score > 0.9999, "{hit:?}");
    assert!(gallery.search(&query, &Filter::default(), 0).unwrap().is_empty());
    assert!(gallery.like(id, &Filter::default(), 10).unwrap().is_empty());
}

#[test]
fn a_torn_tail_costs_the_last_record_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(settings(folder.path()));
    let ids = fill(&gallery, 0..3);
    drop(gallery);
    let path = files(folder.path(), ".tracks").pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let (last, _) = *heads(&bytes).last().unwrap();
    for length in last..bytes.len() {
        let copy = copy(folder.path());
        let path = copy.path().join(path.file_name().unwrap());
        fs::write(&path, &bytes[..length]).unwrap();
        let gallery = open(settings(copy.path()));
        let counts = gallery.counts();
        let torn = u64::from(length > last);
        assert_eq!((counts.records, counts.damaged, counts.torn), (2, 0, torn), "{length}");
        // What comes next is whole, also after another start.
        let next = gallery.append(&record(9)).unwrap();
        assert!(next > ids[2], "{length}");
        drop(gallery);
        let gallery = open(settings(copy.path()));
        assert_same(&gallery.record(next).unwrap().unwrap(), &record(9));
        assert_same(&gallery.record(ids[1]).unwrap().unwrap(), &record(1));
        assert_eq!(gallery.picture(ids[1]).unwrap(), record(1).portrait);
        // The portrait of the record that is lost belongs to nobody.
        drop(gallery);
        assert!(left(copy.path(), &record(2)) == 0, "{length}");
    }
}

#[test]
fn damage_in_the_middle_costs_what_it_hits() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(settings(folder.path()));
    let ids = fill(&gallery, 0..5);
    drop(gallery);
    let path = files(folder.path(), ".tracks").pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let (at, length) = heads(&bytes)[2];
    // Every byte of the head but its state, which only says whether it is erased, and its padding.
    let places = (0..4).chain(8..44).chain(HEAD..HEAD + length);
    for place in places {
        let copy = copy(folder.path());
        let path = copy.path().join(path.file_name().unwrap());
        let mut bytes = bytes.clone();
        bytes[at + place] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let gallery = open(settings(copy.path()));
        let counts = gallery.counts();
        assert_eq!((counts.records, counts.damaged, counts.torn), (4, 1, 0), "{place}");
        for number in [0, 1, 3, 4] {
            let stored = gallery.record(ids[number]).unwrap().unwrap();
            assert_same(&stored, &record(number as u64));
        }
    }
}

#[test]
fn a_rest_that_nothing_can_be_made_of_is_set_aside_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(settings(folder.path()));
    let ids = fill(&gallery, 0..5);
    drop(gallery);
    let path = files(folder.path(), ".tracks").pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let (at, _) = heads(&bytes)[3];
    bytes[at..].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    let gallery = open(settings(folder.path()));
    assert_eq!(gallery.counts().records, 3);
    assert_eq!(gallery.counts().damaged, 1);
    let aside = files(folder.path(), &format!(".damaged-{at}"));
    assert_eq!(fs::read(&aside[0]).unwrap(), bytes[at..]);
    let next = gallery.append(&record(9)).unwrap();
    assert!(next > ids[4], "numbers of lost records are not given again");
    drop(gallery);
    assert_eq!(open(settings(folder.path())).counts().records, 4);
}

#[test]
fn a_file_whose_head_is_damaged_is_set_aside_and_a_newer_one_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop({
        let gallery = open(settings(folder.path()));
        fill(&gallery, 0..3);
        gallery
    });
    let path = files(folder.path(), ".tracks").pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let mut newer = bytes.clone();
    newer[8] = 2;
    fs::write(&path, newer).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let error = Gallery::open(settings(folder.path()), clock.clone()).err().unwrap();
    assert!(error.to_string().contains("newer spotterd (version 2"), "{error}");
    assert_eq!(error.kind(), Kind::Config);
    let mut damaged = bytes.clone();
    damaged[20] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let gallery = open(settings(folder.path()));
    assert_eq!((gallery.counts().records, gallery.counts().damaged), (0, 1));
    assert_eq!(fs::read(&files(folder.path(), ".tracks.damaged")[0]).unwrap(), damaged);
    let error = Gallery::open(settings(folder.path()), clock).err().unwrap();
    assert!(error.to_string().contains("another process"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_file_makes_it_panic(seed: u64, edits in 1usize..40, cut in 0usize..4000, tracks: bool) {
        let folder = tempfile::tempdir().unwrap();
        let gallery = open(settings(folder.path()));
        fill(&gallery, 0..4);
        drop(gallery);
        let kind = if tracks { ".tracks" } else { ".pictures" };
        let path = files(folder.path(), kind).pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let mut random = SmallRng::seed_from_u64(seed);
        for _ in 0..edits {
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.random();
        }
        bytes.truncate(cut);
        fs::write(&path, &bytes).unwrap();
        // A version that is too high is refused; everything else can be used.
        if let Ok(gallery) = Gallery::open(settings(folder.path()), Arc::new(ManualClock::default())) {
            let id = gallery.append(&record(9)).unwrap();
            prop_assert_eq!(best(&gallery, 9), Some(id));
            let all = Selection::Span { from: second(-10), to: second(100), camera: None };
            gallery.erase(&all, true).unwrap();
            prop_assert_eq!(gallery.counts().records, 0);
            drop(gallery);
            let gallery = open(settings(folder.path()));
            prop_assert_eq!((gallery.counts().records, gallery.counts().damaged), (0, 0));
        }
    }
}

fn child(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("GALLERY_FOLDER", folder);
    command
}

fn child_folder() -> PathBuf {
    std::env::var_os("GALLERY_FOLDER").expect("only as a child of another test").into()
}

#[test]
#[ignore = "the process that `kills_lose_at_most_the_record_being_written` kills"]
fn child_appends() {
    let small = Settings { file_records: 16, ..settings(&child_folder()) };
    let gallery = Gallery::open(small, Arc::new(SystemClock::new())).unwrap();
    let start = gallery.counts().records as u64;
    for number in start.. {
        let id = gallery.append(&record(number)).unwrap();
        println!("appended {number} {}", id.0);
    }
}

#[test]
fn kills_lose_at_most_the_record_being_written() {
    let seed: u64 =
        std::env::var("SPOTTER_SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
    println!("SPOTTER_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut known: BTreeMap<u64, u64> = BTreeMap::new();
    for _ in 0..100 {
        let mut command = child("child_appends", folder.path());
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = |line: String| {
            let numbers = line.split_once("appended ")?.1.split_once(' ')?;
            Some((numbers.0.parse().unwrap(), numbers.1.parse().unwrap()))
        };
        let first = lines.by_ref().map(|text| line(text.unwrap())).find(Option::is_some);
        let (number, id): (u64, u64) = first.flatten().unwrap();
        known.insert(id, number);
        let reader = std::thread::spawn(move || -> Vec<(u64, u64)> {
            // A line that the kill cut short has no number, or a part of one that is checked below.
            lines
                .map_while(Result::ok)
                .filter(|text| text.matches(' ').count() == 2)
                .filter_map(line)
                .collect()
        });
        Stop::default().wait(Duration::from_micros(random.random_range(0..30_000)));
        process.kill().unwrap();
        process.wait().unwrap();
        let mut told = reader.join().unwrap();
        // The last line may lack digits.
        told.pop();
        known.extend(told.into_iter().map(|(number, id)| (id, number)));
    }
    let gallery = open(settings(folder.path()));
    for (id, number) in &known {
        let stored = gallery.record(RecordId(*id)).unwrap();
        assert_same(&stored.unwrap_or_else(|| panic!("record {id} is lost")), &record(*number));
        assert_eq!(gallery.picture(RecordId(*id)).unwrap(), record(*number).portrait);
    }
    let counts = gallery.counts();
    assert!(counts.damaged == 0 && counts.records >= known.len(), "{counts:?}");
    println!("{} records told of, {} there", known.len(), counts.records);
}

#[test]
fn what_is_erased_is_in_no_file_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let small = Settings { file_records: 8, file_bytes: 9000, ..settings(folder.path()) };
    let gallery = open(small.clone());
    let ids = fill(&gallery, 0..30);
    assert!((0..30).all(|number| left(folder.path(), &record(number)) > 4));
    let span = Selection::Span { from: second(3), to: second(5), camera: None };
    // 2 is in view until 3.5, 5 begins when the span is over.
    let cases = [
        (span, vec![2, 3, 4]),
        (Selection::Track { camera: camera("gate"), track: 9 }, vec![9]),
        (Selection::Track { camera: camera("gate"), track: 10 }, vec![]),
        (Selection::Sighting(sighting(20)), vec![20]),
        (Selection::Record(ids[29]), vec![29]),
        (
            Selection::Span { from: second(0), to: second(99), camera: Some(camera("hall")) },
            vec![1, 7, 10, 13, 16, 19, 22, 25, 28],
        ),
        (Selection::Camera(camera("yard")), vec![5, 8, 11, 14, 17, 23, 26]),
    ];
    let mut gone = Vec::new();
    for (selection, expected) in cases {
        let erased = gallery.erase(&selection, false).unwrap();
        let count = expected.len();
        assert_eq!(
            (erased.records, erased.pictures, erased.held),
            (count, count, 0),
            "{selection:?}"
        );
        gone.extend(expected);
        for number in 0..30 {
            let is_gone = gone.contains(&number);
            assert_eq!(
                left(folder.path(), &record(number)) == 0,
                is_gone,
                "{number} {selection:?}"
            );
            assert_eq!(best(&gallery, number).is_none(), is_gone, "{number}");
            assert_eq!(gallery.record(ids[number as usize]).unwrap().is_none(), is_gone);
            assert_eq!(gallery.picture(ids[number as usize]).unwrap().is_none(), is_gone);
        }
    }
    drop(gallery);
    let gallery = open(small);
    assert_eq!(gallery.counts().records, 30 - gone.len());
    assert_eq!(gallery.counts().damaged, 0);
    for number in 0..30 {
        assert_eq!(best(&gallery, number).is_none(), gone.contains(&number), "{number}");
    }
    let all = Selection::Span { from: Timestamp::MIN, to: Timestamp::MAX, camera: None };
    assert_eq!(gallery.erase(&all, false).unwrap().records, 30 - gone.len());
    assert!((0..30).all(|number| left(folder.path(), &record(number)) == 0));
    assert!(gallery.append(&record(50)).unwrap() > ids[29]);
}

#[test]
fn an_erasure_that_was_cut_short_is_finished_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(settings(folder.path()));
    let ids = fill(&gallery, 0..6);
    gallery.sync().unwrap();
    // As after a crash between the marks and the zeros: the files of before, with the marks of after.
    let copy = copy(folder.path());
    let meant = Selection::Span { from: second(2), to: second(4), camera: None };
    assert_eq!(gallery.erase(&meant, false).unwrap().records, 3);
    let path = files(folder.path(), ".tracks").pop().unwrap();
    let (after, target) = (fs::read(&path).unwrap(), copy.path().join(path.file_name().unwrap()));
    let mut bytes = fs::read(&target).unwrap();
    for (at, _) in heads(&bytes) {
        bytes[at + 4..at + 8].copy_from_slice(&after[at + 4..at + 8]);
    }
    fs::write(&target, &bytes).unwrap();
    assert!((1..4).all(|number| left(copy.path(), &record(number)) > 0));
    let again = open(settings(copy.path()));
    assert_eq!(again.counts().records, 3);
    for number in 0..6 {
        let is_gone = (1..4).contains(&number);
        assert_eq!(left(copy.path(), &record(number)) == 0, is_gone, "{number}");
        assert_eq!(again.record(ids[number as usize]).unwrap().is_none(), is_gone, "{number}");
    }
    assert_eq!(again.counts().pictures, 3);
}

#[test]
fn damaged_records_go_with_an_erasure() {
    let folder = tempfile::tempdir().unwrap();
    drop({
        let gallery = open(settings(folder.path()));
        fill(&gallery, 0..6);
        gallery
    });
    let path = files(folder.path(), ".tracks").pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let heads = heads(&bytes);
    // One body, one head.
    bytes[heads[1].0 + HEAD + 70] ^= 1;
    bytes[heads[3].0 + 20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let gallery = open(settings(folder.path()));
    assert_eq!((gallery.counts().records, gallery.counts().damaged), (4, 2));
    let elsewhere = Selection::Span { from: second(500), to: second(600), camera: None };
    let hold = held(&gallery, Selection::Camera(camera("gate")), "case 12");
    assert_eq!(gallery.erase(&elsewhere, false).unwrap().damaged, 0);
    assert!(is_released(&gallery, hold));
    assert_eq!(gallery.erase(&elsewhere, false).unwrap().damaged, 2);
    assert_eq!(left(folder.path(), &record(1)), 0);
    assert_eq!(gallery.counts().records, 4);
    drop(gallery);
    let gallery = open(settings(folder.path()));
    assert_eq!((gallery.counts().records, gallery.counts().damaged), (4, 0));
    // Of the one whose head was damaged nobody knew the portrait.
    assert_eq!(left(folder.path(), &record(3)), 0);
}

#[test]
fn what_is_held_outlives_erasure_retention_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Settings { max_tracks: 4, ..settings(folder.path()) };
    let gallery = open(limits.clone());
    let ids = fill(&gallery, 0..6);
    let first = held(&gallery, Selection::Record(ids[0]), "case 12");
    let span = Selection::Span { from: second(1), to: second(2), camera: Some(camera("hall")) };
    held(&gallery, span.clone(), "asked for by the police");
    let everybody = Selection::Span { from: second(-9), to: second(99), camera: None };
    drop(gallery);
    let gallery = open(limits);
    let reasons: Vec<String> = gallery.holds().into_iter().map(|hold| hold.why.reason).collect();
    assert_eq!(reasons, ["case 12", "asked for by the police"]);
    // 0 and 1 are held, so 2 and 3 go first.
    gallery.upkeep(now(10)).unwrap();
    let is_there = |number: usize| gallery.record(ids[number]).unwrap().is_some();
    assert_eq!([0, 1, 2, 3, 4, 5].map(is_there), [true, true, false, false, true, true]);
    gallery.upkeep(now(1_000_000_000)).unwrap();
    assert_eq!([0, 1, 4, 5].map(is_there), [true, true, false, false]);
    let erased = gallery.erase(&everybody, false).unwrap();
    assert_eq!((erased.records, erased.held), (0, 2));
    // Whoever comes into what is held later is held too.
    let late = Record { camera: camera("hall"), ..record(1) };
    let late = gallery.append(&late).unwrap();
    assert_eq!(gallery.erase(&Selection::Record(late), false).unwrap().held, 1);
    assert!(is_released(&gallery, first) && !is_released(&gallery, first));
    assert_eq!(gallery.erase(&Selection::Record(ids[0]), false).unwrap().records, 1);
    let erased = gallery.erase(&everybody, true).unwrap();
    assert_eq!((erased.records, erased.held), (2, 0));
    assert_eq!(left(folder.path(), &record(1)), 0);
}

#[test]
fn what_is_asked_twice_is_held_once_and_who_asked_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(settings(folder.path()));
    let gate = Selection::Camera(camera("gate"));
    let ask = |gallery: &Gallery, selection: &Selection, reason: &str, request: Option<&str>| {
        gallery.hold(selection.clone(), why(reason), request).map_err(|error| error.to_string())
    };
    let first = ask(&gallery, &gate, "case 12", Some("r-1")).unwrap();
    let Placed::New(first) = first else { panic!("{first:?}") };
    assert_eq!((first.id, &first.why), (HoldId(1), &why("case 12")));
    // The same request, and the same words by another one.
    for request in [Some("r-1"), Some("r-2"), None] {
        let again = ask(&gallery, &gate, "case 12", request).unwrap();
        assert_eq!(again, Placed::Known(first.clone()), "{request:?}");
    }
    let other = ask(&gallery, &gate, "case 13", Some("r-1")).unwrap_err();
    assert!(other.contains("request r-1: made hold 1, which says something else"), "{other}");
    assert_eq!(ask(&gallery, &gate, "case 13", None).unwrap().hold().id, HoldId(2));
    // What a kill left half written is no list.
    drop(gallery);
    fs::write(folder.path().join("holds.part"), "{\"version\": 2, \"next").unwrap();
    let gallery = open(settings(folder.path()));
    assert_eq!(gallery.holds()[0], first);

    let Release::Now(ended) = gallery.release(HoldId(1), why("closed")).unwrap() else { panic!() };
    assert_eq!(ended, first);
    drop(gallery);
    let gallery = open(settings(folder.path()));
    assert_eq!(gallery.holds().len(), 1);
    let before = gallery.release(HoldId(1), why("again")).unwrap();
    let Release::Before(before) = before else { panic!("{before:?}") };
    assert_eq!((before.id, before.why), (HoldId(1), why("closed")));
    assert_eq!(gallery.release(HoldId(9), why("over")).unwrap(), Release::Unknown);
    // A message that the broker hands over late holds nobody anew.
    let late = ask(&gallery, &gate, "case 12", Some("r-1")).unwrap_err();
    assert!(late.contains("which was released"), "{late}");
    assert_eq!(ask(&gallery, &gate, "case 12", None).unwrap().hold().id, HoldId(3));
}

#[test]
fn holds_are_bounded_and_one_that_was_released_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(settings(folder.path()));
    for number in 0..MAX_HOLDS as u64 {
        held(&gallery, Selection::Record(RecordId(number)), "case 12");
    }
    let one_more = || gallery.hold(Selection::Camera(camera("gate")), why("case 13"), None);
    let full = one_more().unwrap_err().to_string();
    assert!(full.contains("100 holds") && full.contains("release"), "{full}");
    let asked = gallery.known_hold(&Selection::Camera(camera("gate")), &why("case 13"), None);
    assert_eq!(asked.unwrap_err().to_string(), full);
    assert!(is_released(&gallery, HoldId(7)));
    assert_eq!(one_more().unwrap().hold().id, HoldId(MAX_HOLDS as u64 + 1));
}

#[test]
fn holds_of_an_older_version_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let old = r#"{"version": 1, "next": 8, "holds": [
        {"id": 7, "reason": "case 12", "selection": {"camera": "gate"}}]}"#;
    fs::write(folder.path().join("holds.json"), old).unwrap();
    let gallery = open(settings(folder.path()));
    let holds = gallery.holds();
    let reason = Why { reason: "case 12".into(), by: None, at: None };
    assert_eq!((holds[0].id, &holds[0].why), (HoldId(7), &reason));
    assert_eq!(held(&gallery, Selection::Record(RecordId(1)), "case 13"), HoldId(8));
}

#[test]
fn what_holds_keep_is_weighed_and_a_limit_that_they_break_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let wide = Settings { file_records: 2, ..settings(folder.path()) };
    let ids = fill(&open(wide.clone()), 0..6);
    let max_age = Duration::from_secs(60);
    let gallery = open(Settings { max_age, max_bytes: 1, max_picture_bytes: 1, ..wide });
    let selections = [Selection::Record(ids[0]), Selection::Camera(camera("gate"))];
    for selection in &selections {
        held(&gallery, selection.clone(), "case 12");
    }
    let kept = gallery.holdings(&selections, now(62)).unwrap();
    let each: Vec<_> = kept.each.iter().map(|h| (h.records, h.pictures, h.overdue)).collect();
    // 0 was last seen at 1.5, 3 at 4.5; both are at the gate.
    assert_eq!((each, kept.records, kept.overdue), (vec![(1, 1, 1), (2, 2, 1)], 2, 1));
    assert_eq!(kept.each[1].first, Some(second(0)));
    let sizes = |numbers: &[u64], kind: &str| -> u64 {
        let files = files(folder.path(), kind);
        let one = |path: &PathBuf| {
            let bytes = fs::read(path).unwrap();
            let portrait = |n: &u64| record(*n).portrait.unwrap()[..16].to_vec();
            let mut wanted = numbers.iter().map(portrait);
            let is_in = |trace: Vec<u8>| bytes.windows(16).any(|window| window == trace);
            if wanted.any(is_in) { bytes.len() as u64 } else { 0 }
        };
        files.iter().map(one).sum()
    };
    assert_eq!(kept.picture_bytes, sizes(&[0, 3], ".pictures"));
    // Two records in a file: 0 and 1, 2 and 3; 4 and 5 are in a third.
    let tracks = files(folder.path(), ".tracks");
    let bytes: u64 = tracks.iter().take(2).map(|path| fs::metadata(path).unwrap().len()).sum();
    assert_eq!(kept.track_bytes, bytes);
    // The limits cannot be kept: what is held stays all the same, the rest goes.
    gallery.upkeep(now(1_000)).unwrap();
    let left: Vec<bool> = ids.iter().map(|id| gallery.record(*id).unwrap().is_some()).collect();
    assert_eq!(left, [true, false, false, true, false, false]);
    assert!(
        gallery.picture(ids[0]).unwrap().is_some() && gallery.picture(ids[3]).unwrap().is_some()
    );
    // Released: it goes at the next pass.
    assert!(is_released(&gallery, HoldId(2)));
    gallery.upkeep(now(1_000)).unwrap();
    assert!(gallery.record(ids[3]).unwrap().is_none() && gallery.record(ids[0]).unwrap().is_some());
    assert!(is_released(&gallery, HoldId(1)));
    gallery.upkeep(now(1_000)).unwrap();
    assert_eq!(gallery.counts().records, 0);
    assert_eq!((0..6).map(|n| left_of(folder.path(), n)).sum::<usize>(), 0);
}

fn left_of(folder: &Path, number: u64) -> usize {
    left(folder, &record(number))
}

#[test]
fn damaged_parts_outlive_retention_as_long_as_anything_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let limits =
        Settings { max_age: Duration::from_secs(60), file_records: 3, ..settings(folder.path()) };
    drop({
        let gallery = open(limits.clone());
        fill(&gallery, 0..6);
        gallery
    });
    let path = files(folder.path(), ".tracks").remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let (at, _) = heads(&bytes)[1];
    bytes[at + HEAD + 70] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let gallery = open(limits);
    held(&gallery, Selection::Record(RecordId(99)), "case 12");
    assert_eq!(gallery.holdings(&[], now(0)).unwrap().damaged, 1);
    gallery.upkeep(now(1_000)).unwrap();
    assert_eq!(gallery.counts().records, 0);
    let after = fs::read(&path).unwrap();
    let (from, to) = (at + HEAD, at + HEAD + 60);
    assert_eq!(after[from..to], bytes[from..to], "somebody who is held may be in it");
    assert_eq!(left_of(folder.path(), 0), 0);
    assert!(is_released(&gallery, HoldId(1)));
    let everybody = Selection::Span { from: second(-9), to: second(99), camera: None };
    assert_eq!(gallery.erase(&everybody, false).unwrap().damaged, 1);
    assert_ne!(fs::read(&path).unwrap()[from..to], bytes[from..to]);
}

#[test]
fn damaged_files_and_parts_grow_old_as_everybody_does() {
    let folder = tempfile::tempdir().unwrap();
    let limits =
        Settings { max_age: Duration::from_secs(60), file_records: 3, ..settings(folder.path()) };
    drop({
        let gallery = open(limits.clone());
        fill(&gallery, 0..6);
        gallery
    });
    let path = files(folder.path(), ".tracks").remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let (at, _) = heads(&bytes)[0];
    bytes[at + HEAD + 70] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let [old, new] = ["00000098.tracks.damaged", "00000099.tracks.damaged-64"]
        .map(|name| folder.path().join(name));
    for (path, number) in [(&old, 98), (&new, 99)] {
        fs::write(path, record(number).portrait.unwrap()).unwrap();
    }
    let changed = |path: &Path, at: i64| {
        let at = std::time::SystemTime::try_from(second(at)).unwrap();
        fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    };
    changed(&old, 0);
    changed(&new, 30);
    let gallery = open(limits);
    assert_eq!(gallery.counts().damaged, 1);
    let part =
        || fs::read(&path).unwrap()[at + HEAD..at + HEAD + 60] == bytes[at + HEAD..at + HEAD + 60];
    let hold = held(&gallery, Selection::Record(RecordId(99)), "case 12");
    gallery.upkeep(now(61)).unwrap();
    assert!(old.exists() && part(), "somebody who is held may be in it");
    assert!(is_released(&gallery, hold));
    gallery.upkeep(Wall { synced: Some(false), ..now(61) }).unwrap();
    assert!(old.exists(), "nothing is too old by a clock that is not believed");
    gallery.upkeep(now(61)).unwrap();
    assert!(!old.exists() && new.exists());
    assert!(part(), "whoever stands behind it in the file is young enough yet");
    gallery.upkeep(now(63)).unwrap();
    assert!(path.exists() && !part(), "who came after it is too old by now");
    gallery.upkeep(now(91)).unwrap();
    assert!(!new.exists());
    assert_eq!((gallery.counts().records, left_of(folder.path(), 0)), (0, 0));
    drop(gallery);
    assert_eq!(open(settings(folder.path())).counts().damaged, 0);
}

#[test]
fn holds_that_cannot_be_read_stop_everything() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("holds.json"), "{").unwrap();
    let error = Gallery::open(settings(folder.path()), Arc::new(ManualClock::default()));
    let error = error.err().unwrap();
    for words in ["must not be deleted", "holds.json", "put it right", "move it away"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    let newer = r#"{"version": 9, "next": 1, "holds": [], "courts": []}"#;
    fs::write(folder.path().join("holds.json"), newer).unwrap();
    let error = Gallery::open(settings(folder.path()), Arc::new(ManualClock::default()));
    let error = error.err().unwrap().to_string();
    assert!(error.contains("a newer spotterd wrote version 9"), "{error}");
}

#[test]
fn what_is_too_old_goes_and_a_clock_that_jumps_deletes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Settings { max_age: Duration::from_secs(60), ..settings(folder.path()) };
    let gallery = open(limits);
    let ids = fill(&gallery, 0..20);
    // One that is older than those before it: the clock was set back.
    let back = Record { first: second(-900), last: second(-890), ..record(77) };
    let back = gallery.append(&back).unwrap();
    let years = Wall { at: second(300_000_000), synced: Some(false) };
    gallery.upkeep(years).unwrap();
    gallery.upkeep(Wall { at: Timestamp::UNIX_EPOCH, synced: None }).unwrap();
    assert_eq!(gallery.counts().records, 21);
    gallery.upkeep(now(70)).unwrap();
    assert!(gallery.record(back).unwrap().is_none());
    // Who was last seen at 10 or later is 60 seconds old at most.
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(gallery.record(*id).unwrap().is_some(), number as f64 + 1.5 >= 10.0, "{number}");
    }
    assert_eq!(left(folder.path(), &record(3)), 0);
    assert_eq!(gallery.counts().expired, 10);
    gallery.upkeep(now(10_000)).unwrap();
    assert_eq!(gallery.counts().records, 0);
}

#[test]
fn over_its_bytes_the_oldest_go_and_portraits_before_tracks() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Settings {
        max_bytes: 40_000,
        max_picture_bytes: 40_000,
        file_bytes: 4000,
        ..settings(folder.path())
    };
    let gallery = open(limits.clone());
    let mut ids = Vec::new();
    for number in 0..300 {
        ids.push(gallery.append(&record(number)).unwrap());
        gallery.upkeep(now(number as i64)).unwrap();
        let counts = gallery.counts();
        assert!(counts.track_bytes <= 44_000 && counts.picture_bytes <= 44_000, "{counts:?}");
    }
    let records: Vec<bool> = ids.iter().map(|id| gallery.record(*id).unwrap().is_some()).collect();
    let pictures: Vec<bool> =
        ids.iter().map(|id| gallery.picture(*id).unwrap().is_some()).collect();
    assert!(records.is_sorted() && pictures.is_sorted(), "only the oldest are gone");
    let count = |list: &[bool]| list.iter().filter(|there| **there).count();
    assert!(count(&records) > 60 && count(&pictures) > 30, "{records:?} {pictures:?}");
    assert!(count(&pictures) < count(&records));
    let hits = gallery.search(&record(299).pooled, &Filter::default(), 300).unwrap();
    assert_eq!(hits.len(), count(&records));
    assert_eq!(hits.iter().filter(|hit| hit.has_picture).count(), count(&pictures));
    drop(gallery);
    let again = open(limits).counts();
    assert_eq!((again.records, again.pictures), (count(&records), count(&pictures)));
}

#[test]
fn two_generations_live_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let of = |number: u64| {
        let mut random = SmallRng::seed_from_u64(number);
        let pooled = direction(&mut random, 32, B);
        Record { generation: B, looks: Vec::new(), pooled, ..record(number) }
    };
    let gallery = open(settings(folder.path()));
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push((gallery.append(&record(number)).unwrap(), gallery.append(&of(number)).unwrap()));
    }
    assert_eq!(files(folder.path(), ".tracks").len(), 2, "records in turn need no file each");
    drop(gallery);
    let gallery = open(settings(folder.path()));
    for (number, (a, b)) in (0..).zip(&ids) {
        assert_eq!(best(&gallery, number), Some(*a));
        let hits = gallery.search(&of(number).pooled, &Filter::default(), 20).unwrap();
        assert_eq!((hits.len(), hits[0].id), (10, *b));
    }
    let mut random = SmallRng::seed_from_u64(1);
    let third = direction(&mut random, SIZE, Generation([3; 16]));
    assert!(gallery.search(&third, &Filter::default(), 20).unwrap().is_empty());
    let wrong = direction(&mut random, SIZE, B);
    assert!(gallery.search(&wrong, &Filter::default(), 20).is_err());
    let broken = Record { generation: B, ..record(1) };
    assert!(gallery.append(&broken).is_err());
    assert_eq!(gallery.recent(99, &[], B).count(), 10);
    assert_eq!(gallery.counts().records, 20);
}

#[test]
fn the_best_are_found_in_order_and_filters_hold() {
    let folder = tempfile::tempdir().unwrap();
    let small = Settings { file_records: 256, ..settings(folder.path()) };
    let gallery = open(small);
    // Eight of 256 sealed into bits, the last ones not.
    let count = 2100;
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(gallery.append(&Record { portrait: None, ..record(number) }).unwrap());
    }
    // The same person once more: of equal scores the newest is first.
    let twin =
        gallery.append(&Record { track: 1, first: second(9000), last: second(9001), ..record(17) });
    let twin = twin.unwrap();
    let pooled: Vec<Embedding> = (0..count).map(|number| record(number).pooled).collect();
    for query in (0..count).step_by(100) {
        let query = record(query + 100_000).pooled;
        let mut exact: Vec<(f32, usize)> = Vec::new();
        for (number, vector) in pooled.iter().enumerate().filter(|(number, _)| number % 3 != 1) {
            exact.push((vector.cosine(&query).unwrap(), number));
        }
        exact.sort_by(|a, b| b.0.total_cmp(&a.0));
        let filter = Filter {
            cameras: vec![camera("gate"), camera("yard"), camera("new")],
            ..Filter::default()
        };
        let hits = gallery.search(&query, &filter, 20).unwrap();
        assert!(hits.is_sorted_by(|a, b| a.score >= b.score) && hits.len() == 20);
        for (hit, (score, _)) in hits.iter().zip(&exact) {
            assert!((hit.score - score).abs() < 1e-4, "{} {score}", hit.score);
        }
        let best: Vec<usize> = exact.iter().take(10).map(|(_, number)| *number).collect();
        let found = hits.iter().filter(|hit| best.contains(&(hit.track as usize))).count();
        assert_eq!(found, 10, "the best ten are among the first twenty");
    }
    let hits = gallery.search(&pooled[17], &Filter::default(), 2).unwrap();
    assert_eq!([hits[0].id, hits[1].id], [twin, ids[17]]);
    let like = gallery.like(ids[17], &Filter::default(), 1).unwrap();
    assert_eq!(like[0].id, twin);
    let filter = Filter { from: Some(second(40)), to: Some(second(50)), cameras: Vec::new() };
    let mut found: Vec<u64> =
        gallery.search(&pooled[17], &filter, 99).unwrap().iter().map(|hit| hit.track).collect();
    found.sort_unstable();
    assert_eq!(found, (39..50).collect::<Vec<u64>>());
    let nowhere = Filter { cameras: vec![camera("new")], ..Filter::default() };
    assert!(gallery.search(&pooled[17], &nowhere, 9).unwrap().is_empty());
}

#[test]
fn the_newest_looks_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(Settings { file_records: 8, ..settings(folder.path()) });
    let ids = fill(&gallery, 0..30);
    let recent: Vec<_> = gallery.recent(12, &[], A).map(Result::unwrap).collect();
    let expected: Vec<RecordId> = ids.iter().rev().take(12).copied().collect();
    assert_eq!(recent.iter().map(|recent| recent.id).collect::<Vec<_>>(), expected);
    assert_eq!(recent[0].looks.len(), record(29).looks.len());
    let hall: Vec<_> = gallery.recent(99, &[camera("hall")], A).map(Result::unwrap).collect();
    assert_eq!(hall.len(), 10);
    assert!(hall.iter().all(|recent| recent.camera == camera("hall")));
    // What is erased between the question and the reading is left out.
    let later = gallery.recent(3, &[], A);
    gallery.erase(&Selection::Record(ids[28]), false).unwrap();
    let later: Vec<RecordId> = later.map(|recent| recent.unwrap().id).collect();
    assert_eq!(later, [ids[29], ids[27]]);
}

#[test]
fn threads_append_search_and_erase_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let gallery = open(Settings { file_records: 32, ..settings(folder.path()) });
    std::thread::scope(|scope| {
        for thread in 0..2u64 {
            let gallery = &gallery;
            scope.spawn(move || {
                for number in 0..300 {
                    let number = thread * 1000 + number;
                    let id = gallery.append(&record(number)).unwrap();
                    assert_eq!(best(gallery, number), Some(id));
                    if number % 3 == 0 {
                        gallery.erase(&Selection::Record(id), false).unwrap();
                        assert_eq!(best(gallery, number), None);
                    }
                }
            });
        }
    });
    let counts = gallery.counts();
    assert_eq!(counts.records, 400 - 1 + u64::from(1000 % 3 != 0) as usize);
    drop(gallery);
    let again = open(settings(folder.path())).counts();
    assert_eq!((again.records, again.pictures), (counts.records, counts.pictures));
}

#[test]
#[ignore = "runs on the small file system that `a_full_disk_costs_portraits_first` mounts"]
fn child_full_disk() {
    let folder = child_folder();
    let gallery = open(settings(&folder));
    let large = |number: u64| {
        let mut random = SmallRng::seed_from_u64(number ^ 0xff);
        let portrait = Some((0..20_000).map(|_| random.random()).collect());
        Record { portrait, ..record(number) }
    };
    let mut ids = Vec::new();
    while gallery.counts().pictures_refused == 0 {
        ids.push(gallery.append(&large(ids.len() as u64)).unwrap());
        assert!(ids.len() < 1000, "the disk never filled");
    }
    // Small enough for what is left of the last block.
    let error = loop {
        match gallery.append(&large(ids.len() as u64)) {
            Ok(id) => ids.push(id),
            Err(error) => break error,
        }
        assert!(ids.len() < 10_000, "the disk never filled");
    };
    assert_eq!(error.kind(), Kind::Exhausted, "{error}");
    // As many looks as any has: at least as long as the one that was refused.
    let long = ids.len() as u64 | 3;
    assert!(gallery.append(&large(long)).is_err(), "still full");
    let counts = gallery.counts();
    assert!(counts.records_refused == 2 && counts.pictures_refused > 1, "{counts:?}");
    assert_eq!(counts.records, ids.len());
    let check = |gallery: &Gallery| {
        for (number, id) in ids.iter().enumerate() {
            assert_same(&gallery.record(*id).unwrap().unwrap(), &large(number as u64));
        }
        assert!(best(gallery, 3).is_some());
        assert_eq!(gallery.picture(ids[3]).unwrap(), large(3).portrait);
    };
    check(&gallery);
    // A start on a full disk loses nothing, and somebody can still be erased there.
    drop(gallery);
    let gallery = open(settings(&folder));
    check(&gallery);
    assert_eq!(gallery.erase(&Selection::Record(ids[4]), false).unwrap().pictures, 1);
    assert_eq!(left(&folder, &Record { portrait: large(4).portrait, ..record(4) }), 0);
    assert!(gallery.append(&large(long)).is_err(), "still full");
    fs::remove_file(folder.join("ballast")).unwrap();
    let id = gallery.append(&large(5000)).unwrap();
    assert_same(&gallery.record(id).unwrap().unwrap(), &large(5000));
    assert_eq!(gallery.picture(id).unwrap(), large(5000).portrait);
    drop(gallery);
    let counts = open(settings(&folder)).counts();
    assert_eq!((counts.records, counts.damaged), (ids.len(), 0));
    println!("full disk survived");
}

#[test]
fn a_full_disk_costs_portraits_first() {
    let folder = tempfile::tempdir().unwrap();
    let child = child("child_full_disk", folder.path());
    // A mount of our own in a namespace of our own: it ends with the process.
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "sh", "-c"]);
    let script = "mount -t tmpfs -o size=4m none \"$GALLERY_FOLDER\" && \
                  head -c 1000000 /dev/zero > \"$GALLERY_FOLDER/ballast\" && exec \"$@\"";
    command.arg(script).arg("sh");
    command.arg(child.get_program()).args(child.get_args());
    command.env("GALLERY_FOLDER", folder.path());
    let output = command.output().expect("unshare (util-linux) is needed");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("full disk survived"), "{text}\n{errors}");
}

#[test]
fn a_folder_that_cannot_be_had_is_an_error_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let inside = settings(&folder.path().join("file/gallery"));
    let error = Gallery::open(inside, Arc::new(ManualClock::default())).err().unwrap();
    assert!(error.to_string().contains("file/gallery"), "{error}");
    assert_eq!(Counts::default().records, 0);
}
