//! The book of alerts: a function of the set of messages, whatever their order.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use jiff::{SignedDuration, Timestamp};
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::SliceRandom};
use serde_json::{Value, json};
use spotter_models::vocabulary::Vocabulary;
use spotterd::alert::{
    AlertId, Book, Code, Policy, Rules, View, Wall,
    book::{Outcome, Retained, Status, Withdrawal},
    lint::Doubtful,
};

const NOW: &str = "2026-11-24T12:00:00Z";

fn wall(at: &str) -> Wall {
    Wall { at: at.parse().unwrap(), synced: Some(true) }
}

fn now() -> Wall {
    wall(NOW)
}

fn id(name: &str) -> AlertId {
    AlertId::new(name).unwrap()
}

fn book(change: impl FnOnce(&mut Policy)) -> Book {
    Book::new(rules(change))
}

fn rules(change: impl FnOnce(&mut Policy)) -> Rules {
    let mut policy = Policy::default();
    change(&mut policy);
    Rules::new(policy).unwrap()
}

fn alert(revision: u64, text: &str) -> Value {
    json!({"schema": 1, "text": text, "revision": revision, "expires_at": "2026-11-25T06:00:00Z",
        "created_by": "ann"})
}

fn take(book: &mut Book, name: &str, message: &Value) -> Outcome {
    book.take(&id(name), message.to_string().as_bytes(), now())
}

fn status(book: &mut Book, name: &str) -> Option<Status> {
    view(book, name).map(|view| view.status)
}

fn view(book: &mut Book, name: &str) -> Option<View> {
    book.settle();
    book.readers().load().get(&id(name)).map(|view| (**view).clone())
}

fn all(book: &mut Book) -> Vec<View> {
    book.settle();
    book.readers().load().all().iter().map(|view| (**view).clone()).collect()
}

fn rejected(book: &mut Book, name: &str) -> Code {
    match status(book, name) {
        Some(Status::Rejected(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

/// Topic kind, alert, payload.
type Sent = (bool, &'static str, String);

/// Messages with a revision of every kind: several revisions, ties, refusals, withdrawals,
/// approvals.
fn messages() -> Vec<Sent> {
    let mut sent: Vec<Sent> = Vec::new();
    let mut alerts = |name, message: Value| sent.push((false, name, message.to_string()));
    for revision in 1..6 {
        alerts("red-coat", alert(revision, &format!("red coat {revision}")));
        alerts("hat", alert(revision, "a hat"));
        alerts("late", alert(revision, "a bag"));
        alerts("broken", alert(revision, "a dress"));
    }
    alerts("hat", json!({"schema": 1, "revision": 4, "withdrawn": true}));
    alerts("hat", json!({"schema": 1, "revision": 9, "withdrawn": true}));
    alerts("late", json!({"schema": 1, "revision": 3, "withdrawn": true}));
    alerts("broken", json!({"schema": 2, "revision": 7}));
    alerts("broken", json!({"schema": 1, "revision": 6, "text": 5}));
    for text in ["blue hat", "blue cap", "blue hood"] {
        alerts("tie", alert(2, text));
    }
    alerts("tie", alert(1, "blue"));
    alerts("old", {
        let mut message = alert(1, "green");
        message["expires_at"] = json!("2026-11-24T11:00:00Z");
        message
    });
    // Written otherwise, but asking for the same as one of its revision; greater by its bytes.
    let rewritten = r#"{"text": "blue hood", "revision": 2, "schema": 1, "created_by": "ann",
        "expires_at": "2026-11-25T06:00:00Z"}"#;
    sent.push((false, "tie", rewritten.to_owned()));
    let mut approve = |name, revision: u64, by: &str| {
        let message = json!({"schema": 1, "revision": revision, "approved_by": by});
        sent.push((true, name, message.to_string()));
    };
    for (name, revision, by) in [
        ("red-coat", 4, "bob"),
        ("red-coat", 5, "Ann"),
        ("red-coat", 5, "zoe"),
        ("late", 4, "bob"),
        ("tie", 2, "ann"),
        ("nobody", 1, "bob"),
    ] {
        approve(name, revision, by);
    }
    sent
}

fn send(book: &mut Book, (approval, name, payload): &Sent) {
    let name = id(name);
    if *approval {
        book.approve(&name, payload.as_bytes(), now());
    } else {
        book.take(&name, payload.as_bytes(), now());
    }
}

#[test]
fn any_order_with_duplicates_gives_the_same_alerts() {
    let messages = messages();
    let build = |sent: &[&Sent]| {
        let mut book = book(|policy| policy.second_person = true);
        for one in sent {
            send(&mut book, one);
        }
        all(&mut book)
    };
    let expected = build(&messages.iter().collect::<Vec<_>>());
    let states: Vec<(&str, &Status)> =
        expected.iter().map(|view| (view.id.as_str(), &view.status)).collect();
    assert_eq!(states.len(), 6, "{states:?}");
    assert!(states.contains(&("red-coat", &Status::Armed)), "{states:?}");
    assert!(states.contains(&("hat", &Status::Withdrawn(Withdrawal::Message))), "{states:?}");
    assert!(states.contains(&("late", &Status::PendingApproval)), "{states:?}");
    assert!(states.contains(&("old", &Status::Expired)), "{states:?}");
    let mut rng = SmallRng::seed_from_u64(3);
    for round in 0..200 {
        let mut sent: Vec<&Sent> = messages.iter().collect();
        for _ in 0..rng.random_range(0..60) {
            sent.push(&messages[rng.random_range(0..messages.len())]);
        }
        sent.shuffle(&mut rng);
        assert_eq!(build(&sent), expected, "order {round}");
    }
}

#[test]
fn of_two_messages_with_one_revision_the_same_one_counts_everywhere_and_staff_are_told() {
    let mut book = book(|_| {});
    assert_eq!(take(&mut book, "a", &alert(1, "blue coat")), Outcome::Changed);
    assert_eq!(take(&mut book, "a", &alert(1, "blue coat")), Outcome::Duplicate);
    assert_eq!(take(&mut book, "a", &alert(1, "red coat")), Outcome::Conflict { revision: 1 });
    let seen = view(&mut book, "a").unwrap();
    assert!(seen.warnings.iter().any(|w| w.contains("higher one")), "{seen:?}");
    take(&mut book, "a", &alert(2, "red coat"));
    assert_eq!(view(&mut book, "a").unwrap().warnings, Vec::<String>::new());
    assert_eq!(take(&mut book, "a", &alert(1, "blue coat")), Outcome::Stale { newest: Some(2) });
}

#[test]
fn an_empty_payload_withdraws_what_was_seen_and_nothing_that_comes_later() {
    let mut book = book(|_| {});
    assert_eq!(book.take(&id("a"), b"", now()), Outcome::Nothing);
    take(&mut book, "a", &alert(3, "red"));
    assert_eq!(book.take(&id("a"), b"", now()), Outcome::Changed);
    assert_eq!(status(&mut book, "a"), Some(Status::Withdrawn(Withdrawal::Empty)));
    for late in [alert(3, "red"), alert(2, "red")] {
        assert!(matches!(take(&mut book, "a", &late), Outcome::Stale { .. }));
    }
    assert_eq!(take(&mut book, "a", &alert(4, "red")), Outcome::Changed);
    assert_eq!(status(&mut book, "a"), Some(Status::Armed));
}

#[test]
fn what_cannot_be_read_disarms_nothing_but_is_answered() {
    let mut book = book(|_| {});
    take(&mut book, "a", &alert(3, "red"));
    for garbage in [&b"\xff\xfe"[..], b"red coat", b"{", &[b'x'; 9000]] {
        assert!(matches!(book.take(&id("a"), garbage, now()), Outcome::Refused(_)));
        let seen = view(&mut book, "a").unwrap();
        assert_eq!(seen.status, Status::Armed);
        assert!(seen.warnings.iter().any(|w| w.contains("refused")), "{seen:?}");
    }
    // Where nothing is armed the refusal is the alert's state, and the last one counts.
    book.take(&id("b"), b"\xff", now());
    assert_eq!(rejected(&mut book, "b"), Code::NotUtf8);
    book.take(&id("b"), b"red coat", now());
    assert_eq!(rejected(&mut book, "b"), Code::NotJson);
    take(&mut book, "b", &alert(1, "red"));
    assert_eq!(status(&mut book, "b"), Some(Status::Armed));
    // One that has a revision replaces what came before it, on a device that saw that and on
    // others.
    take(&mut book, "a", &json!({"schema": 7, "revision": 4}));
    assert_eq!(rejected(&mut book, "a"), Code::UnknownSchema);
}

#[test]
fn plain_text_lives_as_long_as_the_site_says_and_no_repetition_prolongs_it() {
    let mut book = book(|p| (p.plain_text, p.default_lifetime_h) = (true, 2));
    assert_eq!(book.take(&id("a"), b"man in a red hat", now()), Outcome::Changed);
    let seen = view(&mut book, "a").unwrap();
    assert_eq!(seen.expires_at, Some("2026-11-24T14:00:00Z".parse().unwrap()));
    let later = wall("2026-11-24T13:00:00Z");
    assert_eq!(book.take(&id("a"), b"man in a red hat", later), Outcome::Duplicate);
    book.tick(wall("2026-11-24T14:00:00Z"));
    assert_eq!(status(&mut book, "a"), Some(Status::Expired));
    assert_eq!(book.take(&id("a"), b"man in a blue hat", later), Outcome::Changed);
    assert_eq!(view(&mut book, "a").unwrap().spec.unwrap().text, "man in a blue hat");
}

#[test]
fn a_second_person_approves_one_revision() {
    let mut book = book(|policy| policy.second_person = true);
    let approve = |book: &mut Book, revision: u64, by: &str| {
        let message = json!({"schema": 1, "revision": revision, "approved_by": by}).to_string();
        book.approve(&id("a"), message.as_bytes(), now())
    };
    take(&mut book, "a", &alert(1, "red"));
    assert_eq!(status(&mut book, "a"), Some(Status::PendingApproval));
    approve(&mut book, 1, "ann");
    assert_eq!(status(&mut book, "a"), Some(Status::PendingApproval), "ann is the author");
    approve(&mut book, 1, "bob");
    assert_eq!(view(&mut book, "a").unwrap().approved_by.as_deref(), Some("bob"));
    assert_eq!(status(&mut book, "a"), Some(Status::Armed));
    take(&mut book, "a", &alert(2, "blue"));
    assert_eq!(status(&mut book, "a"), Some(Status::PendingApproval));
    assert_eq!(approve(&mut book, 1, "bob"), Outcome::Stale { newest: Some(2) });
    approve(&mut book, 2, "bob");
    assert_eq!(status(&mut book, "a"), Some(Status::Armed));
    book.approve(&id("a"), b"", now());
    assert_eq!(status(&mut book, "a"), Some(Status::PendingApproval), "taken back");
    let mut anonymous = alert(1, "red");
    anonymous["created_by"] = Value::Null;
    take(&mut book, "b", &anonymous);
    assert_eq!(rejected(&mut book, "b"), Code::MissingField);
}

#[test]
fn the_number_of_alerts_is_bounded_and_so_is_the_memory_of_ended_ones() {
    let mut book = book(|policy| (policy.max_alerts, policy.max_ended) = (3, 2));
    let mut disabled = alert(1, "red");
    disabled["enabled"] = json!(false);
    for name in ["a", "b"] {
        assert_eq!(take(&mut book, name, &alert(1, "red")), Outcome::Changed);
    }
    take(&mut book, "c", &disabled);
    assert_eq!(status(&mut book, "c"), Some(Status::Disabled));
    let Outcome::Refused(refusal) = take(&mut book, "d", &alert(1, "red")) else { panic!("taken") };
    assert_eq!(refusal.code, Code::Full);
    assert_eq!(status(&mut book, "d"), None);
    assert_eq!(take(&mut book, "a", &alert(2, "blue")), Outcome::Changed, "no new one");
    // Ended ones do not count; the one that ended first is forgotten first.
    for name in ["b", "a", "c"] {
        book.take(&id(name), b"", now());
        book.settle();
    }
    assert_eq!(status(&mut book, "b"), None);
    assert!(status(&mut book, "a").is_some() && status(&mut book, "c").is_some());
    assert_eq!(take(&mut book, "d", &alert(1, "red")), Outcome::Changed);
    // Garbage on many topics pushes out the oldest ended ones and no alert.
    for n in 0..50 {
        book.take(&id(&format!("garbage-{n}")), b"{", now());
    }
    assert_eq!(all(&mut book).len(), 3);
    assert_eq!(status(&mut book, "d"), Some(Status::Armed));
}

#[test]
fn what_is_forgotten_is_reported() {
    let mut book = book(|policy| policy.max_ended = 1);
    for name in ["a", "b"] {
        take(&mut book, name, &json!({"schema": 1, "revision": 1, "withdrawn": true}));
        let changes = book.settle();
        assert_eq!(changes.views.len(), 1);
        assert_eq!(changes.forgotten.len(), usize::from(name == "b"));
    }
    assert_eq!(book.settle(), Default::default());
}

#[test]
fn a_retained_set_without_an_alert_withdraws_it_until_it_is_there_again() {
    let mut book = book(|policy| policy.second_person = true);
    for name in ["a", "b"] {
        take(&mut book, name, &alert(1, "red"));
        let message = json!({"revision": 1, "approved_by": "bob"}).to_string();
        book.approve(&id(name), message.as_bytes(), now());
    }
    let only_b: Retained =
        Retained { alerts: [id("b")].into(), approvals: [id("a"), id("b")].into() };
    assert_eq!(book.reconcile(&only_b, now()), [id("a")]);
    assert_eq!(book.reconcile(&only_b, now()), []);
    assert_eq!(status(&mut book, "a"), Some(Status::Withdrawn(Withdrawal::NotRetained)));
    assert_eq!(status(&mut book, "b"), Some(Status::Armed));
    // A broker that lost its memory gets the same messages again.
    assert_eq!(take(&mut book, "a", &alert(1, "red")), Outcome::Changed);
    assert_eq!(status(&mut book, "a"), Some(Status::Armed));
    let no_approval = Retained { alerts: [id("a"), id("b")].into(), approvals: [].into() };
    book.reconcile(&no_approval, now());
    assert_eq!(status(&mut book, "b"), Some(Status::PendingApproval));
}

#[test]
fn the_clock_may_be_wrong() {
    let mut book = book(|p| (p.plain_text, p.longest_lifetime_h) = (true, 48));
    let never_set = Wall { at: Timestamp::UNIX_EPOCH, synced: Some(false) };
    book.take(&id("a"), alert(1, "red").to_string().as_bytes(), never_set);
    book.take(&id("b"), b"a plain text", never_set);
    for name in ["a", "b"] {
        assert_eq!(status(&mut book, name), Some(Status::Armed), "{name}");
    }
    assert_eq!(view(&mut book, "b").unwrap().expires_at, None);
    book.tick(now());
    assert_eq!(status(&mut book, "b"), Some(Status::Armed));
    let day = SignedDuration::from_hours(24);
    let shifted = |by: SignedDuration| Wall { at: now().at.checked_add(by).unwrap(), ..now() };
    assert_eq!(view(&mut book, "b").unwrap().expires_at, Some(shifted(day).at));
    book.tick(shifted(day));
    assert_eq!(status(&mut book, "a"), Some(Status::Expired));
    book.tick(shifted(-day));
    for name in ["a", "b"] {
        assert_eq!(status(&mut book, name), Some(Status::Armed), "put right: {name}");
    }
    // Too long a life is only judged by a clock that is believed.
    let mut long = alert(1, "red");
    long["expires_at"] = json!("2026-12-31T00:00:00Z");
    book.take(&id("c"), long.to_string().as_bytes(), never_set);
    assert_eq!(status(&mut book, "c"), Some(Status::Armed));
    book.tick(now());
    assert_eq!(rejected(&mut book, "c"), Code::LivesTooLong);
}

#[test]
fn other_rules_decide_anew() {
    let mut book = book(|_| {});
    take(&mut book, "a", &alert(1, "red coat"));
    book.use_rules(rules(|p| p.refused_terms = vec!["Coat".into()]), now());
    assert_eq!(rejected(&mut book, "a"), Code::RefusedTerm);
    book.use_rules(rules(|_| {}), now());
    assert_eq!(status(&mut book, "a"), Some(Status::Armed));
}

#[test]
fn a_text_that_the_bundle_cannot_read_is_rejected_until_it_changes() {
    let mut book = book(|_| {});
    take(&mut book, "a", &alert(1, "odd coat"));
    let seen = view(&mut book, "a").unwrap();
    let why = spotterd::alert::Refusal::new(Code::Unreadable, "cannot be read");
    assert!(book.cannot_arm(&seen, why.clone(), now()));
    assert_eq!(rejected(&mut book, "a"), Code::Unreadable);
    book.try_again(now());
    assert_eq!(status(&mut book, "a"), Some(Status::Armed));
    take(&mut book, "a", &alert(2, "red"));
    assert!(!book.cannot_arm(&seen, why, now()), "it is about an older revision");
    assert_eq!(status(&mut book, "a"), Some(Status::Armed));
}

#[test]
fn what_is_reverted_never_was() {
    let mut book = book(|policy| policy.max_ended = 1);
    take(&mut book, "a", &alert(1, "red"));
    take(&mut book, "b", &json!({"schema": 1, "revision": 1, "withdrawn": true}));
    let before = all(&mut book);
    take(&mut book, "a", &alert(2, "blue"));
    book.take(&id("c"), b"{", now());
    book.revert();
    assert_eq!(all(&mut book), before);
    take(&mut book, "a", &alert(2, "blue"));
    assert_eq!(view(&mut book, "a").unwrap().revision, Some(2));
}

#[test]
fn texts_are_read_before_anything_is_armed() {
    let mut book = Book::new(rules(|_| {}));
    for (text, code) in [
        ("black man", Code::RefusedTrait),
        ("John Smith in a coat", Code::RefusedName),
        ("a woman with blue eyes", Code::RefusedFace),
        ("🙂", Code::Unreadable),
        ("red \u{1b}[31m coat", Code::BadCharacter),
    ] {
        book = Book::new(rules(|_| {}));
        take(&mut book, "a", &alert(1, text));
        assert_eq!(rejected(&mut book, "a"), code, "{text}");
    }
    // Put right, it is armed.
    take(&mut book, "a", &alert(2, "black coat"));
    assert_eq!(status(&mut book, "a"), Some(Status::Armed));
    assert_eq!(view(&mut book, "a").unwrap().warnings, Vec::<String>::new());
    for (text, word) in [
        ("man", "fits a great many people"),
        ("woman in a coat, no hat", "without: [\"hat\"]"),
        ("Frau mit rotem Mantel", "German"),
        ("a man and a woman in red", "contradict"),
        ("near the gate at 3 pm", "can use no word"),
    ] {
        let revision = view(&mut book, "a").unwrap().revision.unwrap() + 1;
        take(&mut book, "a", &alert(revision, text));
        let view = view(&mut book, "a").unwrap();
        assert_eq!(view.status, Status::Armed, "{text}");
        assert!(view.warnings[0].contains(word), "{:?}", view.warnings);
    }
    let words = "red coat, yesterday, no hat, ".repeat(60);
    take(&mut book, "a", &alert(90, &words));
    let warnings = view(&mut book, "a").unwrap().warnings;
    assert!(warnings.len() <= 16 && warnings.iter().all(|w| w.len() < 400), "{warnings:?}");
}

#[test]
fn the_site_and_the_bundle_decide_what_is_refused() {
    let mut open = book(|policy| policy.refuse.clear());
    for text in ["John Smith in a coat", "a woman with blue eyes", "an asian man"] {
        take(&mut open, "a", &alert(1, text));
        assert_eq!(status(&mut open, "a"), Some(Status::Armed), "{text}");
        open = book(|policy| policy.refuse.clear());
    }
    let strict = |words: &str| {
        let vocabulary = Vocabulary::of_captions([words]).unwrap();
        let rules = rules(|policy| policy.unusable = Doubtful::Refuse);
        rules.with_vocabulary(Some(vocabulary.into()))
    };
    let mut book = Book::new(strict("a red coat"));
    take(&mut book, "a", &alert(1, "fuchsia poncho"));
    assert_eq!(rejected(&mut book, "a"), Code::Unusable);
    take(&mut book, "b", &alert(1, "fuchsia coat"));
    let warned = view(&mut book, "b").unwrap();
    assert_eq!(warned.status, Status::Armed);
    assert!(warned.warnings[0].contains("\"fuchsia\""), "{:?}", warned.warnings);
    // With a bundle that has met the words, both are armed.
    book.use_rules(strict("a fuchsia poncho, a fuchsia coat"), now());
    assert_eq!(status(&mut book, "a"), Some(Status::Armed));
    assert_eq!(view(&mut book, "b").unwrap().warnings, Vec::<String>::new());
}
