//! What a tracker promises, on persons who walk by a formula and on boxes of every kind.

use proptest::prelude::*;

use super::*;

const SIZE: (u32, u32) = (1280, 720);

fn ms(ms: u64) -> Pts {
    Pts(Duration::from_millis(ms))
}

fn tracker() -> Tracker {
    Tracker::new(Rules::default(), Arc::default())
}

fn seen(x: f32, y: f32, height: f32, score: f32) -> Detection {
    let half = height * 0.19;
    Detection { bbox: BBox::new(x - half, y, x + half, y + height).unwrap(), score }
}

/// Follows what `persons` shows at each moment, `rate` times a second from `from` for `seconds`.
fn follow(
    tracker: &mut Tracker,
    rate: f64,
    span: std::ops::Range<f64>,
    persons: impl Fn(f64) -> Vec<Detection>,
) -> Vec<Update> {
    (0..)
        .map(|i| span.start + f64::from(i) / rate)
        .take_while(|seconds| *seconds < span.end)
        .map(|at| tracker.update(Pts(Duration::from_secs_f64(at)), SIZE, &persons(at)))
        .collect()
}

/// The id at each update of the track nearest to `x`.
fn id_near(update: &Update, x: f32) -> Option<TrackId> {
    let off = |view: &&TrackView| (view.bbox.centre().0 - x).abs();
    let confirmed = update.tracks.iter().filter(|view| view.state == State::Confirmed);
    confirmed.min_by(|a, b| off(a).total_cmp(&off(b))).map(|view| view.id)
}

#[test]
fn a_walker_is_one_track_at_every_rate() {
    for rate in [15.0, 5.0, 3.0] {
        let walker = |at: f64| vec![seen(100.0 + 180.0 * at as f32, 300.0, 240.0, 0.8)];
        let updates = follow(&mut tracker(), rate, 0.0..5.0, walker);
        let born: Vec<TrackId> = updates.iter().flat_map(|update| update.born.clone()).collect();
        assert_eq!(born, [TrackId(1)], "{rate}");
        let confirmed = updates.iter().position(|update| update.confirmed == born).unwrap();
        assert!(confirmed as f64 / rate < 0.4, "{rate}: confirmed after {confirmed} frames");
        assert!(updates[1..].iter().all(|update| update.tracks.len() == 1));
    }
}

#[test]
fn one_noisy_box_is_never_believed() {
    for rate in [15.0, 5.0, 3.0] {
        let mut tracker = tracker();
        let flicker = |at: f64| {
            if (0.9..1.0 / rate + 0.9).contains(&at) {
                vec![seen(300.0, 300.0, 200.0, 0.9)]
            } else {
                vec![]
            }
        };
        let updates = follow(&mut tracker, rate, 0.0..3.0, flicker);
        assert!(updates.iter().all(|update| update.confirmed.is_empty()));
        let ended: Vec<Ended> = updates.iter().flat_map(|update| update.ended.clone()).collect();
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].cause, EndCause::Unconfirmed);
    }
}

#[test]
fn persons_who_cross_keep_their_tracks() {
    // The nearer one hides the other for about half a second.
    for rate in [15.0, 5.0, 3.0] {
        let near = |at: f64| 200.0 + 170.0 * at as f32;
        let far = |at: f64| 1000.0 - 150.0 * at as f32;
        let persons = |at: f64| {
            let mut persons = vec![seen(near(at), 320.0, 260.0, 0.85)];
            if (near(at) - far(at)).abs() > 60.0 {
                persons.push(seen(far(at), 300.0, 230.0, 0.8));
            }
            persons
        };
        let updates = follow(&mut tracker(), rate, 0.0..5.0, persons);
        let (before, after) = ((1.5 * rate) as usize, (4.0 * rate) as usize);
        let ids_at = |number: usize| {
            let at = number as f64 / rate;
            [near(at), far(at)].map(|x| id_near(&updates[number], x))
        };
        assert!(ids_at(before).iter().all(Option::is_some));
        assert_eq!(ids_at(before), ids_at(after), "{rate}");
        assert_eq!(updates.iter().map(|update| update.born.len()).sum::<usize>(), 2, "{rate}");
    }
}

#[test]
fn a_box_around_two_persons_is_given_to_nobody() {
    let mut tracker = tracker();
    let two = |_: f64| vec![seen(600.0, 300.0, 200.0, 0.8), seen(660.0, 310.0, 210.0, 0.8)];
    follow(&mut tracker, 5.0, 0.0..2.0, two);
    let both = BBox::new(560.0, 300.0, 702.0, 520.0).unwrap();
    let update = tracker.update(ms(2000), SIZE, &[Detection { bbox: both, score: 0.9 }]);
    assert_eq!((update.tracks.len(), update.born.len(), update.ended.len()), (0, 0, 0));
    let update = tracker.update(ms(2200), SIZE, &two(2.2));
    assert_eq!(update.tracks.iter().map(|view| view.id.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn weak_boxes_continue_a_track_and_begin_none() {
    let mut tracker = tracker();
    let stands = |score: f32| move |_: f64| vec![seen(600.0, 300.0, 200.0, score)];
    let updates = follow(&mut tracker, 5.0, 0.0..2.0, stands(0.2));
    assert!(updates.iter().all(|update| update.tracks.is_empty() && update.born.is_empty()));
    follow(&mut tracker, 5.0, 2.0..3.0, stands(0.8));
    let updates = follow(&mut tracker, 5.0, 3.0..6.0, stands(0.3));
    assert!(updates.iter().all(|update| update.tracks.len() == 1 && update.tracks[0].id.0 == 1));
}

#[test]
fn who_walks_out_is_not_who_comes_in_there() {
    for rate in [15.0, 5.0] {
        let mut tracker = tracker();
        let cut = |detection: Detection| {
            let bbox = detection.bbox.clipped(1280.0, 720.0).filter(|bbox| bbox.width() > 6.0)?;
            Some(Detection { bbox, ..detection })
        };
        let person = |at: f64| {
            let x = if at < 3.0 {
                1000.0 + 120.0 * at as f32
            } else {
                1330.0 - 120.0 * (at - 3.0) as f32
            };
            cut(seen(x, 300.0, 230.0, 0.8)).into_iter().collect()
        };
        let updates = follow(&mut tracker, rate, 0.0..6.0, person);
        let believed: usize = updates.iter().map(|update| update.confirmed.len()).sum();
        assert_eq!(believed, 2, "{rate}");
    }
}

#[test]
fn hidden_for_a_while_is_the_same_and_for_long_is_another() {
    let stands = |_: f64| vec![seen(600.0, 300.0, 200.0, 0.8)];
    for (away, same) in [(3.0, true), (4.5, false), (300.0, false)] {
        let mut tracker = tracker();
        follow(&mut tracker, 5.0, 0.0..2.0, stands);
        let updates = follow(&mut tracker, 5.0, 2.0 + away..4.0 + away, stands);
        let id = updates[5].tracks[0].id;
        assert_eq!(id == TrackId(1), same, "{away}");
        let ended = updates.iter().flat_map(|update| &update.ended).filter(|e| e.id.0 == 1).count();
        assert_eq!(ended, usize::from(!same), "{away}");
    }
}

#[test]
fn time_that_goes_back_begins_anew() {
    let mut tracker = tracker();
    let stands = |_: f64| vec![seen(600.0, 300.0, 200.0, 0.8)];
    follow(&mut tracker, 5.0, 10.0..12.0, stands);
    let update = tracker.update(ms(5000), SIZE, &stands(5.0));
    assert_eq!(update.ended.len(), 1);
    assert_eq!(update.ended[0].cause, EndCause::Restarted);
    assert_eq!(update.born, [TrackId(2)]);
    let update = tracker.update(ms(5200), SIZE, &stands(5.2));
    assert_eq!(update.confirmed, [TrackId(2)]);
    let again = tracker.update(ms(5200), SIZE, &stands(5.2));
    assert_eq!(again.tracks.len(), 1, "the same moment twice");
}

#[test]
fn another_resolution_goes_on_and_another_shape_does_not() {
    let mut tracker = tracker();
    let walker = |at: f64| vec![seen(100.0 + 180.0 * at as f32, 300.0, 240.0, 0.8)];
    follow(&mut tracker, 5.0, 0.0..2.0, walker);
    let half = seen((100.0 + 360.0) / 2.0, 150.0, 120.0, 0.8);
    let update = tracker.update(ms(2000), (640, 360), &[half]);
    assert_eq!(update.tracks[0].id, TrackId(1));
    assert!((update.tracks[0].speed.0 - 90.0).abs() < 10.0);
    let update = tracker.update(ms(2200), (640, 480), &[half]);
    assert_eq!(update.ended[0].cause, EndCause::Restarted);
}

#[test]
fn there_is_a_limit_and_it_is_told() {
    let rules = Rules { max_tracks: 3, ..Rules::default() };
    let mut tracker = Tracker::new(rules, Arc::default());
    let crowd: Vec<Detection> = (0..5).map(|i| seen(200.0 * i as f32, 300.0, 200.0, 0.8)).collect();
    let update = tracker.update(ms(0), SIZE, &crowd);
    assert_eq!((update.born.len(), update.refused), (3, 2));
}

#[test]
fn ids_are_shared_by_the_trackers_of_a_process() {
    let ids: Arc<TrackIds> = Arc::default();
    let mut trackers = [(); 2].map(|()| Tracker::new(Rules::default(), Arc::clone(&ids)));
    let person = [seen(600.0, 300.0, 200.0, 0.8)];
    let born = trackers.each_mut().map(|tracker| tracker.update(ms(0), SIZE, &person).born);
    assert_eq!(born, [[TrackId(1)], [TrackId(2)]]);
}

fn any_detection() -> impl Strategy<Value = Detection> {
    let side = prop_oneof![-1e6f32..1e6, -50f32..1400.0, Just(0.0), Just(1e-30), any::<f32>()];
    let corners = prop::array::uniform4(side);
    let score = prop_oneof![0f32..1.0, any::<f32>()];
    (corners, score).prop_filter_map("no box", |([x1, y1, x2, y2], score)| {
        let bbox = BBox::new(x1.min(x2), y1.min(y2), x1.max(x2), y1.max(y2))?;
        Some(Detection { bbox, score })
    })
}

fn any_moment() -> impl Strategy<Value = (Pts, (u32, u32), Vec<Detection>)> {
    let time = prop_oneof![0u64..3000, any::<u64>().prop_map(|v| v >> 20), Just(u64::MAX)];
    let size = prop_oneof![4 => Just(SIZE), 1 => (any::<u32>(), any::<u32>())];
    let repeated = (any_detection(), 1usize..4).prop_map(|(d, n)| vec![d; n]);
    let detections = prop::collection::vec(repeated, 0..12).prop_map(|d| d.concat());
    (time.prop_map(ms), size, detections)
}

proptest! {
    #[test]
    fn whatever_comes_the_books_balance(moments in prop::collection::vec(any_moment(), 1..40)) {
        let mut tracker = tracker();
        let mut alive = std::collections::BTreeSet::new();
        let mut last = 0;
        for (pts, size, detections) in moments {
            let update = tracker.update(pts, size, &detections);
            for id in &update.born {
                prop_assert!(id.0 > last, "an id comes twice");
                last = id.0;
                alive.insert(*id);
            }
            for view in &update.tracks {
                prop_assert!(alive.contains(&view.id));
                prop_assert!(detections.iter().any(|d| d.bbox == view.bbox));
            }
            for ended in &update.ended {
                prop_assert!(alive.remove(&ended.id), "ended twice or never born");
            }
            let mut views: Vec<TrackId> = update.tracks.iter().map(|view| view.id).collect();
            views.dedup();
            prop_assert_eq!(views.len(), update.tracks.len());
            prop_assert!(alive.len() <= Rules::default().max_tracks);
        }
    }
}
