use serde_json::json;
use spotter_models::{Embedding, Generation};
use tempfile::TempDir;

use super::*;
use crate::alert::{
    Policy,
    book::{Status, Withdrawal},
};

const A: Generation = Generation([1; 16]);
const B: Generation = Generation([2; 16]);

fn now() -> Wall {
    Wall { at: "2026-11-24T12:00:00Z".parse().unwrap(), synced: Some(true) }
}

fn rules() -> Rules {
    Rules::new(Policy { plain_text: true, ..Policy::default() }).unwrap()
}

fn open(path: &Path) -> Store {
    Store::open(path, rules(), now()).unwrap()
}

fn id(name: &str) -> AlertId {
    AlertId::new(name).unwrap()
}

fn inbound(name: &str, payload: impl AsRef<[u8]>) -> Inbound {
    Inbound { topic: Topic::Alert, id: id(name), payload: payload.as_ref().to_vec() }
}

fn alert(revision: u64, text: &str) -> String {
    json!({"schema": 1, "text": text, "revision": revision, "expires_at": "2026-11-25T06:00:00Z",
        "created_by": "ann"})
    .to_string()
}

fn views(store: &Store) -> Vec<View> {
    store.book().readers().load().all().iter().map(|view| (**view).clone()).collect()
}

/// What a power failure would leave: the files as they are while the store is open.
fn crash_image(path: &Path) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let path = folder.path().join(path.file_name().unwrap());
    (folder, path)
}

/// Every kind of message that can count.
fn kinds() -> Vec<Inbound> {
    let approval = json!({"schema": 1, "revision": 1, "approved_by": "Bob"}).to_string();
    let mut all = vec![
        inbound("armed", alert(1, "red coat")),
        inbound("tie", alert(2, "red coat")),
        inbound("tie", alert(2, "blue coat")),
        inbound("withdrawn", r#"{"schema": 1, "revision": 4, "withdrawn": true}"#),
        inbound("future", r#"{"schema": 2, "revision": 4}"#),
        inbound("plain", "man in a hat"),
        inbound("plain-over", alert(7, "a dress")),
        inbound("plain-over", "woman in a dress"),
        inbound("cleared", alert(3, "a bag")),
        inbound("cleared", ""),
        inbound("garbage", vec![0xff; 20_000]),
        inbound("garbage-over", alert(1, "a scarf")),
        inbound("garbage-over", "{"),
    ];
    for name in ["armed", "nothing-yet"] {
        let payload = approval.clone().into_bytes();
        all.push(Inbound { topic: Topic::Approval, id: id(name), payload });
    }
    all
}

#[test]
fn what_take_returned_is_there_after_a_crash_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.db");
    let mut store = open(&path);
    for message in kinds() {
        store.take(std::slice::from_ref(&message), now()).unwrap();
        let (_folder, image) = crash_image(&path);
        let again = open(&image);
        assert_eq!(views(&again), views(&store), "after {message:?}");
        assert_eq!(again.set_aside(), None);
    }
    let statuses: Vec<Status> = views(&store).into_iter().map(|view| view.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == Status::Armed).count(), 5);
}

#[test]
fn a_book_that_was_reopened_decides_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.db");
    let mut store = open(&path);
    store.take(&kinds(), now()).unwrap();
    let before = views(&store);
    drop(store);
    let mut store = open(&path);
    assert_eq!(views(&store), before);
    let repeated = [
        inbound("armed", alert(1, "red coat")),
        inbound("plain", "man in a hat"),
        inbound("cleared", alert(3, "a bag")),
        inbound("plain-over", alert(7, "a dress")),
    ];
    let (outcomes, changes) = store.take(&repeated, now()).unwrap();
    assert_eq!(outcomes[..2], [Outcome::Duplicate, Outcome::Duplicate]);
    assert!(outcomes[2..].iter().all(|o| matches!(o, Outcome::Stale { .. })), "{outcomes:?}");
    assert_eq!(changes, Changes::default());
    // What was approved before the alert came still counts.
    let rules = Policy { second_person: true, ..Policy::default() };
    store.use_rules(Rules::new(rules).unwrap(), now());
    store.take(&[inbound("nothing-yet", alert(1, "a belt"))], now()).unwrap();
    let armed: Vec<AlertId> = views(&store)
        .into_iter()
        .filter(|view| view.status == Status::Armed)
        .map(|view| view.id)
        .collect();
    assert_eq!(armed, [id("armed"), id("nothing-yet")]);
}

#[test]
fn what_the_broker_lost_is_withdrawn_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.db");
    let mut store = open(&path);
    store.take(&[inbound("a", alert(1, "red")), inbound("b", alert(1, "red"))], now()).unwrap();
    let retained = Retained { alerts: [id("b")].into(), ..Retained::default() };
    let (withdrawn, changes) = store.reconcile(&retained, now()).unwrap();
    assert_eq!((withdrawn, changes.views.len()), (vec![id("a")], 1));
    drop(store);
    let store = open(&path);
    let statuses: Vec<Status> = views(&store).into_iter().map(|view| view.status).collect();
    assert_eq!(statuses, [Status::Withdrawn(Withdrawal::NotRetained), Status::Armed]);
}

#[test]
fn where_the_disk_is_full_nothing_is_taken_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.db");
    let mut store = open(&path);
    store.take(&[inbound("a", alert(1, "red"))], now()).unwrap();
    let pages: i64 = store.db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.db.pragma_update(None, "max_page_count", pages).unwrap();
    let before = views(&store);
    let many: Vec<Inbound> =
        (0..200).map(|n| inbound(&format!("n{n}"), alert(1, &"x".repeat(1000)))).collect();
    let error = store.take(&many, now()).unwrap_err().to_string();
    assert!(error.contains("alerts.db") && error.contains("full"), "{error}");
    assert_eq!(views(&store), before);
    // Time goes on all the same.
    let later = Wall { at: "2026-11-26T00:00:00Z".parse().unwrap(), ..now() };
    assert_eq!(store.tick(later).views[0].status, Status::Expired);
    store.db.pragma_update(None, "max_page_count", 1 << 20).unwrap();
    let (outcomes, _) = store.take(&many, now()).unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Changed));
}

#[test]
fn forgotten_alerts_leave_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.db");
    let policy = Policy { max_ended: 3, ..Policy::default() };
    let rules = Rules::new(policy).unwrap();
    let mut store = Store::open(&path, rules.clone(), now()).unwrap();
    for n in 0..20 {
        store.take(&[inbound(&format!("n{n:02}"), "{")], now()).unwrap();
    }
    let rows = |store: &Store| -> i64 {
        store.db.query_row("SELECT count(*) FROM alert", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(rows(&store), 3);
    drop(store);
    // The order of forgetting survives as well: the one that ended first goes first.
    let mut store = Store::open(&path, rules, now()).unwrap();
    store.take(&[inbound("a-late-one", "{")], now()).unwrap();
    let names: Vec<String> = views(&store).iter().map(|view| view.id.to_string()).collect();
    assert_eq!(names, ["a-late-one", "n18", "n19"]);
    assert_eq!(rows(&store), 3);
}

#[test]
fn a_damaged_file_is_set_aside_and_the_box_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.db");
    std::fs::write(&path, b"this is no database, whatever it is".repeat(100)).unwrap();
    let mut store = open(&path);
    assert_eq!(store.set_aside(), Some(folder.path().join("alerts.db.damaged").as_path()));
    let many: Vec<Inbound> =
        (0..300).map(|n| inbound(&format!("n{n}"), alert(1, &"x".repeat(500)))).collect();
    store.take(&many, now()).unwrap();
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    assert!(whole.len() > 100_000, "{}", whole.len());
    // A file that lost its end, or a part in its middle.
    for cut in [10, 100, 5000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let mut store = open(&path);
        assert!(store.set_aside().is_some() || views(&store).len() == 300, "cut at {cut}");
        store.take(&[inbound("after", alert(1, "red"))], now()).unwrap();
    }
    let mut holed = whole.clone();
    holed[8192..40_000].fill(0xaa);
    std::fs::write(&path, &holed).unwrap();
    assert!(open(&path).set_aside().is_some());
}

#[test]
fn a_newer_file_and_a_second_process_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.db");
    let store = open(&path);
    let error = Store::open(&path, rules(), now()).err().unwrap().to_string();
    assert!(error.contains("twice"), "{error}");
    store.db.pragma_update(None, "user_version", 3).unwrap();
    drop(store);
    let error = Store::open(&path, rules(), now()).err().unwrap().to_string();
    assert!(error.contains("newer version"), "{error}");
    let nowhere = folder.path().join("missing/alerts.db");
    let error = Store::open(&nowhere, rules(), now()).err().unwrap().to_string();
    assert!(error.contains("missing/alerts.db") && error.contains("owner"), "{error}");
}

fn text(generation: Generation, values: &[f32]) -> Text {
    Text {
        understood: "red coat".into(),
        lost: Some("and more".into()),
        embedding: Embedding::new(values.to_vec(), generation).unwrap(),
    }
}

#[test]
fn a_text_is_computed_again_only_when_it_or_the_bundle_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.db");
    let mut store = open(&path);
    let read = text(A, &[1.0, 0.0, 0.0]);
    store.keep_embeddings(&[("Red  coat".into(), read.clone())].into()).unwrap();
    drop(store);
    let mut store = open(&path);
    assert_eq!(store.embedding(" Red coat ", A).unwrap(), Some(read.clone()));
    assert_eq!(store.embedding("Red coat", B).unwrap(), None);
    assert_eq!(store.embedding("Red coats", A).unwrap(), None);
    // Kept as long as an alert holds the text, for the bundles that may run.
    store
        .keep_embeddings(&[("Red coat".into(), text(B, &[0.0, 1.0])), ("gone".into(), read)].into())
        .unwrap();
    store.take(&[inbound("a", alert(1, "Red coat"))], now()).unwrap();
    assert_eq!(store.prune_embeddings(&[A, B]).unwrap(), 1);
    assert_eq!(store.prune_embeddings(&[B]).unwrap(), 1);
    assert_eq!(store.embedding("Red coat", A).unwrap(), None);
    assert!(store.embedding("Red coat", B).unwrap().is_some());
}

#[test]
fn ten_thousand_retained_alerts_are_one_wait_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.db");
    let mut store = open(&path);
    let all: Vec<Inbound> = (0..10_001)
        .map(|n| inbound(&format!("n{n}"), alert(1, &format!("person {n} in a red coat"))))
        .collect();
    let (outcomes, changes) = store.take(&all, now()).unwrap();
    assert_eq!(changes.views.len(), 10_000);
    assert!(matches!(outcomes.last(), Some(Outcome::Refused(_))), "one too many");
    let (outcomes, changes) = store.take(&all[..10_000], now()).unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Duplicate));
    assert_eq!(changes, Changes::default());
    drop(store);
    assert_eq!(open(&path).book().readers().load().armed().count(), 10_000);
}

/// What a broker that forgot everything gets back makes the same alerts in an empty book, and
/// changes nothing in the one that gave it.
#[test]
fn what_is_given_back_makes_the_same_alerts_and_is_no_news() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder.path().join("alerts.db"));
    store.take(&kinds(), now()).unwrap();
    let messages = store.messages();
    let wanted = |store: &Store| {
        let views = views(store).into_iter();
        views
            .filter(|view| view.status == Status::Armed)
            .map(|view| (view.id, view.spec, view.approved_by))
            .collect::<Vec<_>>()
    };
    assert!(wanted(&store).len() >= 4, "{:?}", wanted(&store));
    let mut other = open(&folder.path().join("other.db"));
    other.take(&messages, now()).unwrap();
    assert_eq!(wanted(&other), wanted(&store));
    let before = views(&store);
    let (outcomes, changes) = store.take(&messages, now()).unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Duplicate), "{outcomes:?}");
    assert!(changes.views.is_empty() && changes.forgotten.is_empty());
    assert_eq!(views(&store), before);
    // An alert that was withdrawn is not among them.
    let named = |name: &str| messages.iter().any(|message| message.id == id(name));
    assert!(named("armed") && named("nothing-yet") && !named("withdrawn") && !named("cleared"));
}

const SIGHTING: &str = "01JD8Z0V6N8Q2K4M5P7R9T1W3X";

fn like_alert(revision: u64, like: &str) -> String {
    let like = like.parse::<crate::alert::Like>().unwrap().to_json();
    json!({"schema": 1, "like": like, "revision": revision, "expires_at": "2026-11-25T06:00:00Z"})
        .to_string()
}

fn seed_of(record: u64) -> Seed {
    let at = |second: i64| jiff::Timestamp::from_second(1_795_000_000 + second).unwrap();
    Seed {
        record: crate::gallery::RecordId(record),
        camera: crate::frame::CameraId::new("gate").unwrap(),
        track: 4,
        first: at(0),
        last: at(9),
        sightings: vec![SIGHTING.parse().unwrap()],
        picture: Some((0..9000u32).map(|n| (n * n % 251) as u8).collect()),
    }
}

fn embedding_of(generation: Generation, x: f32) -> Embedding {
    Embedding::new(vec![x, 0.5, -0.25, 0.75], generation).unwrap()
}

/// An alert that is like somebody, who is kept with it by two bundles.
fn seeded(path: &Path) -> (Store, crate::alert::Like) {
    let mut store = open(path);
    store.take(&[inbound("again", like_alert(1, SIGHTING))], now()).unwrap();
    let like = SIGHTING.parse().unwrap();
    for generation in [A, B] {
        let embedding = embedding_of(generation, 0.125);
        store.keep_seed(&id("again"), &like, (&seed_of(7), &embedding)).unwrap();
    }
    (store, like)
}

/// Whether any file of the folder has a part of the picture or of the vector.
fn is_left(path: &Path) -> bool {
    let picture = seed_of(7).picture.unwrap();
    let vector: Vec<u8> =
        embedding_of(A, 0.125).values().iter().flat_map(|value| value.to_le_bytes()).collect();
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let has = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).any(|bytes| {
        has(&bytes, &vector) || has(&bytes, &picture[4000..4100]) || has(&bytes, &picture[..100])
    })
}

#[test]
fn whom_an_alert_is_like_outlives_restarts_by_each_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.db");
    let (store, like) = seeded(&path);
    drop(store);
    let store = open(&path);
    for generation in [A, B] {
        let known = Kept::Seed(Box::new(seed_of(7)), Some(embedding_of(generation, 0.125)));
        assert_eq!(store.seed(&id("again"), &like, generation).unwrap(), Some(known));
    }
    let third = store.seed(&id("again"), &like, Generation([3; 16])).unwrap();
    assert_eq!(third, Some(Kept::Seed(Box::new(seed_of(7)), None)), "its picture is there");
    let other = "box/7".parse().unwrap();
    assert_eq!(store.seed(&id("again"), &other, A).unwrap(), None, "somebody else");
    assert_eq!(store.seeds().unwrap(), [(id("again"), seed_of(7))]);
}

#[test]
fn whom_an_alert_was_like_is_in_no_file_once_it_is_over_or_like_somebody_else() {
    type End = fn(&mut Store);
    let ends: [(&str, End); 4] = [
        ("withdrawn", |store| {
            let gone = r#"{"schema": 1, "revision": 2, "withdrawn": true}"#;
            store.take(&[inbound("again", gone)], now()).unwrap();
        }),
        ("not retained", |store| drop(store.reconcile(&Retained::default(), now()).unwrap())),
        ("another", |store| {
            store.take(&[inbound("again", like_alert(2, "box/9"))], now()).unwrap();
        }),
        ("expired", |store| {
            let late = Wall { at: "2026-11-25T06:00:00Z".parse().unwrap(), synced: Some(true) };
            assert_eq!(store.tick(late).views[0].status, Status::Expired);
        }),
    ];
    for (name, end) in ends {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.db");
        let (mut store, _) = seeded(&path);
        assert!(is_left(&path), "the test looks at nothing");
        end(&mut store);
        assert_eq!((store.seeds().unwrap(), is_left(&path)), (Vec::new(), false), "{name}");
    }
    // Also where it ended while nothing ran.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.db");
    drop(seeded(&path));
    let late = Wall { at: "2026-11-26T06:00:00Z".parse().unwrap(), synced: Some(true) };
    drop(Store::open(&path, rules(), late).unwrap());
    assert!(!is_left(&path));
}

#[test]
fn an_alert_like_somebody_who_was_erased_is_withdrawn_and_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.db");
    let (mut store, like) = seeded(&path);
    let changes = store.erase_seeds(&[id("again")], now()).unwrap();
    let erased = Status::Withdrawn(Withdrawal::Erased);
    assert_eq!(changes.views[0].status, erased);
    assert!(!is_left(&path) && store.seeds().unwrap().is_empty());
    drop(store);
    let mut store = open(&path);
    assert_eq!(views(&store)[0].status, erased, "after a restart");
    store.take(&[inbound("again", like_alert(1, SIGHTING))], now()).unwrap();
    assert_eq!(views(&store)[0].status, erased, "the broker says it again");
    // Who says it anew is told so by the desk, which asks first.
    store.take(&[inbound("again", like_alert(2, SIGHTING))], now()).unwrap();
    assert_eq!(store.seed(&id("again"), &like, A).unwrap(), Some(Kept::Erased));
    let view = views(&store).remove(0);
    assert_eq!(store.is_like_erased(&view, now()).views[0].status, erased);
    store.take(&[inbound("again", alert(3, "red coat"))], now()).unwrap();
    assert_eq!(views(&store)[0].status, Status::Armed, "a text is another alert");
}

#[test]
fn a_file_of_the_layout_before_gets_the_new_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerts.db");
    let mut store = open(&path);
    store.take(&[inbound("armed", alert(1, "red coat"))], now()).unwrap();
    store.db.execute_batch("DROP TABLE seed; DROP TABLE seed_vector;").unwrap();
    store.db.pragma_update(None, "user_version", 1).unwrap();
    drop(store);
    assert_eq!(seeds_of(&path).unwrap(), Some(Vec::new()), "looked at, not changed");
    let store = open(&path);
    assert_eq!((views(&store).len(), store.seeds().unwrap()), (1, Vec::new()));
}
