use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};

use super::*;

const A: Generation = Generation([1; 16]);

fn ledger(limits: Limits) -> Ledger<SmallRng> {
    Ledger::new(limits, SmallRng::seed_from_u64(7))
}

fn free() -> Limits {
    Limits { quota: None, ..Limits::default() }
}

fn at(seconds: f64) -> Mono {
    Mono(Duration::from_secs_f64(seconds))
}

/// Seconds of monotonic time, with a wall clock that runs along.
fn moment(seconds: f64) -> Moment {
    let start: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
    let span = SignedDuration::from_millis((seconds * 1000.0) as i64);
    Moment { mono: at(seconds), wall: Wall { at: start + span, synced: Some(true) } }
}

fn alert(name: &str) -> AlertId {
    AlertId::new(name).unwrap()
}

fn camera(name: &str) -> CameraId {
    CameraId::new(name).unwrap()
}

fn scored(track: u64, score: f32, seconds: f64) -> Scored {
    Scored {
        alert: alert("red"),
        revision: Some(1),
        cooldown: Duration::ZERO,
        camera: camera("door"),
        track,
        score,
        threshold: 0.3,
        false_alarm_probability: None,
        bbox: [0.1, 0.2, score, 0.4],
        crops: 1,
        phrases: Vec::new(),
        bundle: A,
        first: at(0.0),
        at: at(seconds),
    }
}

fn events(sightings: &[Sighting]) -> Vec<(Event, u64)> {
    sightings.iter().map(|sighting| (sighting.event, sighting.seq)).collect()
}

#[test]
fn a_sighting_begins_gets_better_and_ends() {
    let mut ledger = ledger(free());
    let mut told = Vec::new();
    for (seconds, score) in
        [(0.5, 0.2), (1.0, 0.4), (1.2, 0.5), (1.4, 0.45), (2.5, 0.2), (9.0, 0.505), (9.5, 0.1)]
    {
        told.extend(ledger.see(scored(1, score, seconds), moment(seconds)));
    }
    told.extend(ledger.end(&camera("door"), 1, moment(11.0)));
    assert_eq!(events(&told), [(Event::New, 1), (Event::Update, 2), (Event::End, 3)]);
    let [new, update, end] = &told[..] else { panic!() };
    assert!(new.id == update.id && update.id == end.id);
    // The better look of 1.2 s came too soon and is told with its own time and place.
    assert_eq!((update.score, update.bbox), (0.5, [0.1, 0.2, 0.5, 0.4]));
    assert_eq!(update.at, moment(1.2).wall.at);
    // 0.505 is no gain worth a message, but the end tells the best.
    assert_eq!((end.score, end.at, end.bbox[2]), (0.505, moment(9.5).wall.at, 0.1));
    assert_eq!(end.first_seen, moment(0.0).wall.at);
    assert!(!end.late && end.clock_synced);
}

#[test]
fn a_cooldown_holds_for_all_cameras_and_tells_how_many_it_held_back() {
    let mut ledger = ledger(free());
    let see = |ledger: &mut Ledger<SmallRng>, name: &str, track, seconds| {
        let mut scored = scored(track, 0.4, seconds);
        (scored.camera, scored.cooldown) = (camera(name), Duration::from_secs(60));
        ledger.see(scored, moment(seconds))
    };
    assert_eq!(see(&mut ledger, "door", 1, 0.0).len(), 1);
    for (name, track) in [("gate", 1), ("gate", 1), ("yard", 5), ("door", 2)] {
        assert_eq!(see(&mut ledger, name, track, 10.0), []);
    }
    assert_eq!(ledger.suppressed(&alert("red")), 3, "each track counts once");
    // Still in view when the cooldown is over: told, and not counted as held back.
    let told = see(&mut ledger, "yard", 5, 60.0);
    assert_eq!((told[0].event, told[0].suppressed), (Event::New, 2));
    assert_eq!(ledger.suppressed(&alert("red")), 0);
    // Counted and told already; telling it later takes nothing from the new count.
    see(&mut ledger, "yard", 9, 61.0);
    assert_eq!(see(&mut ledger, "gate", 1, 120.0)[0].suppressed, 1);
    let other = Scored { alert: alert("blue"), ..scored(2, 0.4, 121.0) };
    assert_eq!(ledger.see(other, moment(121.0)).len(), 1, "another alert is not cooled down");
}

#[test]
fn a_quota_holds_back_a_storm() {
    let quota = Some(Quota { burst: 5, per_hour: 60.0 });
    let mut ledger = ledger(Limits { quota, ..Limits::default() });
    let told: Vec<Sighting> =
        (0..1000).flat_map(|track| ledger.see(scored(track, 0.4, 1.0), moment(1.0))).collect();
    assert_eq!(told.len(), 5);
    let next = ledger.see(scored(2000, 0.4, 62.0), moment(62.0));
    assert_eq!((next.len(), next[0].suppressed), (1, 995));
}

#[test]
fn a_withdrawn_or_changed_alert_ends_its_sightings() {
    let mut ledger = ledger(free());
    ledger.see(scored(1, 0.4, 1.0), moment(1.0));
    let changed = Scored { revision: Some(2), ..scored(1, 0.6, 2.0) };
    let told = ledger.see(changed, moment(2.0));
    assert_eq!(events(&told), [(Event::End, 2), (Event::New, 1)]);
    assert_eq!((told[0].alert_revision, told[1].alert_revision), (Some(1), Some(2)));
    assert_ne!(told[0].id, told[1].id);
    assert_eq!(events(&ledger.end_alert(&alert("red"), moment(3.0))), [(Event::End, 2)]);
    assert_eq!(ledger.end(&camera("door"), 1, moment(4.0)), []);
}

#[test]
fn another_bundle_s_scores_are_not_compared() {
    let mut ledger = ledger(free());
    ledger.see(scored(1, 0.4, 1.0), moment(1.0));
    let other = Scored { bundle: Generation([2; 16]), ..scored(1, 0.9, 5.0) };
    assert_eq!(ledger.see(other, moment(5.0)), []);
    let end = ledger.end_all(moment(6.0));
    assert_eq!((end[0].score, end[0].bundle.as_str()), (0.4, A.to_string().as_str()));
}

#[test]
fn memory_is_bounded_and_what_it_drops_is_ended() {
    let limits = Limits { max_tracks: 10, max_ended: 20, ..free() };
    let mut ledger = ledger(limits);
    let mut open = 0i64;
    for track in 0..1000 {
        for sighting in ledger.see(scored(track, 0.4, track as f64), moment(track as f64)) {
            open += if sighting.event == Event::New { 1 } else { -1 };
        }
    }
    assert_eq!(open, 10);
    assert!(ledger.tracks.len() == 10 && ledger.ended.len() == 20);
    assert_eq!(ledger.ended_order.len(), 20);
    assert_eq!(ledger.end_all(moment(1e6)).len(), 10);
}

#[test]
fn a_wall_clock_that_jumps_changes_neither_pace_nor_order() {
    let mut ledger = ledger(free());
    let cooled = |track, seconds| Scored {
        cooldown: Duration::from_secs(60),
        ..scored(track, 0.4, seconds)
    };
    let jumped = |seconds: f64, hours: i64| {
        let now = moment(seconds);
        let wall = Wall { at: now.wall.at + SignedDuration::from_hours(hours), ..now.wall };
        Moment { wall, ..now }
    };
    assert_eq!(ledger.see(cooled(1, 1.0), jumped(1.0, 24)).len(), 1);
    assert_eq!(ledger.see(cooled(2, 2.0), jumped(2.0, 48)), [], "two days of wall time");
    assert_eq!(ledger.see(cooled(2, 61.0), jumped(61.0, -24)).len(), 1);
    for end in ledger.end_all(jumped(62.0, -24)) {
        assert!(end.first_seen <= end.at);
    }
    let never_set = Wall { at: Timestamp::UNIX_EPOCH, synced: None };
    let start = Moment { mono: at(500.0), wall: never_set };
    let told = ledger.see(scored(3, 0.4, 500.0), start);
    assert!(!told[0].clock_synced);
    assert!(told[0].to_json().starts_with(b"{"));
}

#[test]
fn scores_that_are_no_numbers_are_ignored() {
    let mut ledger = ledger(free());
    for score in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(ledger.see(scored(1, score, 1.0), moment(1.0)), []);
    }
    assert_eq!(ledger.ignored(), 3);
}

#[test]
fn track_numbers_may_begin_anew_when_a_camera_did() {
    let mut ledger = ledger(free());
    ledger.see(scored(1, 0.4, 1.0), moment(1.0));
    ledger.end(&camera("door"), 1, moment(2.0));
    assert_eq!(ledger.see(scored(1, 0.4, 3.0), moment(3.0)), [], "late");
    ledger.end_camera(&camera("door"), moment(4.0));
    assert_eq!(ledger.see(scored(1, 0.4, 5.0), moment(5.0)).len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Score { alert: u8, camera: u8, track: u64, score: f32 },
    End { camera: u8, track: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let score = (0u8..3, 0u8..2, 0u64..4, -1.0f32..1.0)
        .prop_map(|(alert, camera, track, score)| Step::Score { alert, camera, track, score });
    let end = (0u8..2, 0u64..4).prop_map(|(camera, track)| Step::End { camera, track });
    prop_oneof![8 => score, 1 => end]
}

proptest! {
    #[test]
    fn for_each_pair_new_is_first_end_is_last_and_seq_is_dense(
        steps in proptest::collection::vec((step(), 0.0f64..2.0), 0..200),
        cooldown_s in 0u64..5,
        max_tracks in 1usize..8,
    ) {
        let quota = Some(Quota { burst: 3, per_hour: 1800.0 });
        let mut ledger = ledger(Limits { quota, max_tracks, ..Limits::default() });
        let mut told: Vec<Sighting> = Vec::new();
        let mut seconds = 0.0;
        for (step, pause) in steps {
            seconds += pause;
            told.extend(match step {
                Step::Score { alert: a, camera: c, track, score } => {
                    let scored = Scored {
                        alert: alert(&format!("a{a}")),
                        camera: camera(&format!("c{c}")),
                        cooldown: Duration::from_secs(cooldown_s),
                        ..scored(track, score, seconds)
                    };
                    ledger.see(scored, moment(seconds))
                }
                Step::End { camera: c, track } => {
                    ledger.end(&camera(&format!("c{c}")), track, moment(seconds))
                }
            });
        }
        told.extend(ledger.end_all(moment(seconds)));
        let mut pairs: BTreeMap<_, Vec<&Sighting>> = BTreeMap::new();
        for one in &told {
            pairs.entry((&one.alert, &one.camera, one.track)).or_default().push(one);
        }
        for (pair, messages) in pairs {
            let (first, last) = (messages[0], messages[messages.len() - 1]);
            prop_assert!(messages.len() >= 2, "{pair:?}");
            prop_assert_eq!((first.event, last.event), (Event::New, Event::End));
            for (index, message) in messages.iter().enumerate() {
                prop_assert_eq!(message.seq, index as u64 + 1);
                prop_assert_eq!(message.id, first.id);
                let between = index > 0 && index + 1 < messages.len();
                prop_assert_eq!(message.event == Event::Update, between);
                prop_assert!(message.first_seen <= message.at);
            }
        }
        let ids: std::collections::BTreeSet<_> = told.iter().map(|one| one.id).collect();
        let news = told.iter().filter(|one| one.event == Event::New).count();
        prop_assert_eq!(ids.len(), news);
    }
}
