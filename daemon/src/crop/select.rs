//! Which views of a track are embedded: a few, each for a reason.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::Quality;
use crate::{frame::Pts, geometry::BBox, track::TrackId};

/// When a view is worth an embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SelectionRules {
    /// From this total on, a first view is taken at once.
    pub good: f32,
    /// Below this total a view is poor: tiny, mostly cut or mostly hidden.
    pub poor: f32,
    /// How long a track that shows only middling views is given to show a good one.
    pub patience: Duration,
    /// How long a track that shows only poor views is given, before one of those is taken.
    pub last_patience: Duration,
    /// By how much the area has to grow, as a factor, for another view.
    pub larger: f32,
    /// By how much the total has to rise, as a factor, for another view.
    pub better: f32,
    /// After this long another view is taken even if it is not better, only not poor.
    pub refresh: Duration,
    /// Most embeddings of a track.
    pub max_views: u32,
    /// Least time between two looks at the pixels of a track, and so between two views.
    pub pause: Duration,
    /// Most tracks that are remembered; the one that was not considered for longest goes.
    pub max_tracks: usize,
}

impl Default for SelectionRules {
    fn default() -> Self {
        Self {
            good: 0.45,
            poor: 0.12,
            patience: Duration::from_millis(600),
            last_patience: Duration::from_millis(1500),
            larger: 1.2,
            better: 1.15,
            refresh: Duration::from_secs(5),
            max_views: 8,
            pause: Duration::from_millis(300),
            max_tracks: 512,
        }
    }
}

/// Why a view is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The track's first view that is not poor.
    First,
    /// The person is larger than in every view that was taken, and the view no worse.
    Larger,
    /// The view is better in total: sharper, less hidden, less cut.
    Better,
    /// The last view is old.
    Refresh,
    /// Poor, but nothing better came for long.
    LastResort,
}

/// What is remembered of a track.
#[derive(Clone, Debug)]
struct Taken {
    /// When the track was first considered.
    since: Pts,
    /// When it was last considered.
    considered: Pts,
    /// When its pixels were last looked at.
    looked: Option<Pts>,
    /// When a view was last taken.
    taken: Option<Pts>,
    /// How many were taken.
    views: u32,
    /// Best total among them.
    best: f32,
    /// Largest area among them, square pixels.
    area: f32,
}

/// Chooses views of the tracks of one camera. Owned by its detection stage.
#[derive(Debug)]
pub struct Selector {
    rules: SelectionRules,
    tracks: BTreeMap<TrackId, Taken>,
}

impl Selector {
    /// A selector that has seen nobody yet.
    pub fn new(rules: SelectionRules) -> Self {
        Self { rules, tracks: BTreeMap::new() }
    }

    /// Whether a view of a confirmed track is worth a look at its pixels, judged by geometry. Where
    /// it is, the caller measures its sharpness and calls [`Selector::take`].
    pub fn consider(
        &mut self,
        track: TrackId,
        pts: Pts,
        bbox: &BBox,
        quality: &Quality,
    ) -> Option<Reason> {
        self.make_room(track);
        let taken = self.tracks.entry(track).or_insert_with(|| Taken::new(pts));
        taken.considered = pts;
        let resting = taken.looked.is_some_and(|last| since(pts, last) < self.rules.pause);
        if resting || taken.views >= self.rules.max_views {
            return None;
        }
        let reason = taken.reason(&self.rules, pts, bbox, quality.total())?;
        taken.looked = Some(pts);
        Some(reason)
    }

    /// Decides with the sharpness known, for a view that [`Selector::consider`] said yes to. The
    /// reason means that the view is to be embedded, and it counts; `None` that it is too blurred
    /// to be worth it.
    pub fn take(
        &mut self,
        track: TrackId,
        pts: Pts,
        bbox: &BBox,
        quality: &Quality,
    ) -> Option<Reason> {
        let taken = self.tracks.get_mut(&track)?;
        let reason = taken.reason(&self.rules, pts, bbox, quality.total())?;
        if taken.views >= self.rules.max_views {
            return None;
        }
        taken.views += 1;
        taken.taken = Some(pts);
        taken.best = taken.best.max(quality.total());
        taken.area = taken.area.max(bbox.area());
        Some(reason)
    }

    /// How long ago a view of a track was taken last; `None` where none was.
    pub fn since_last(&self, track: TrackId, pts: Pts) -> Option<Duration> {
        Some(since(pts, self.tracks.get(&track)?.taken?))
    }

    /// How many views of a track were taken.
    pub fn views(&self, track: TrackId) -> u32 {
        self.tracks.get(&track).map_or(0, |taken| taken.views)
    }

    /// Forgets a track that is over.
    pub fn forget(&mut self, track: TrackId) {
        self.tracks.remove(&track);
    }

    /// Makes room for a track that is not known yet.
    fn make_room(&mut self, track: TrackId) {
        if self.tracks.contains_key(&track) || self.tracks.len() < self.rules.max_tracks.max(1) {
            return;
        }
        let oldest = self.tracks.iter().min_by_key(|(_, taken)| taken.considered).map(|t| *t.0);
        if let Some(oldest) = oldest {
            self.tracks.remove(&oldest);
        }
    }
}

impl Taken {
    fn new(pts: Pts) -> Self {
        Self {
            since: pts,
            considered: pts,
            looked: None,
            taken: None,
            views: 0,
            best: 0.0,
            area: 0.0,
        }
    }

    fn reason(&self, rules: &SelectionRules, pts: Pts, bbox: &BBox, total: f32) -> Option<Reason> {
        let waited = since(pts, self.since);
        let poor = total < rules.poor;
        let Some(last) = self.taken else {
            let ripe = total >= rules.good || waited >= rules.patience;
            return match poor {
                false => ripe.then_some(Reason::First),
                true => (waited >= rules.last_patience).then_some(Reason::LastResort),
            };
        };
        if poor {
            return None;
        }
        // The first sound view after a poor one is better by any measure.
        let larger = bbox.area() >= self.area * rules.larger && total >= self.best;
        let better = total >= self.best * rules.better;
        let old = since(pts, last) >= rules.refresh;
        [(better, Reason::Better), (larger, Reason::Larger), (old, Reason::Refresh)]
            .into_iter()
            .find_map(|(holds, reason)| holds.then_some(reason))
    }
}

/// Time since `earlier`, zero where time went back.
fn since(pts: Pts, earlier: Pts) -> Duration {
    pts.0.saturating_sub(earlier.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TrackId = TrackId(7);

    fn ms(ms: u64) -> Pts {
        Pts(Duration::from_millis(ms))
    }

    fn selector() -> Selector {
        Selector::new(SelectionRules::default())
    }

    /// A box of this height, 2.5 times as high as wide.
    fn high(height: f32) -> BBox {
        BBox::new(100.0, 100.0, 100.0 + height / 2.5, 100.0 + height).unwrap()
    }

    /// A view of this total.
    fn worth(total: f32) -> Quality {
        Quality { size: total, uncut: 1.0, unhidden: 1.0, score: 1.0, sharpness: None }
    }

    /// Considers and, where it is worth it, takes a sharp view.
    fn offer(selector: &mut Selector, at: u64, height: f32, total: f32) -> Option<Reason> {
        let (bbox, quality) = (high(height), worth(total));
        selector.consider(ID, ms(at), &bbox, &quality)?;
        selector.take(ID, ms(at), &bbox, &quality.with_sharpness(1.0))
    }

    #[test]
    fn a_good_first_view_is_taken_at_once() {
        let mut selector = selector();
        assert_eq!(offer(&mut selector, 1000, 200.0, 0.6), Some(Reason::First));
        assert_eq!(offer(&mut selector, 1400, 205.0, 0.61), None, "no news");
        assert_eq!(selector.views(ID), 1);
    }

    #[test]
    fn a_middling_view_waits_for_a_better_one_but_not_long() {
        let mut selector = selector();
        assert_eq!(offer(&mut selector, 1000, 90.0, 0.3), None);
        assert_eq!(offer(&mut selector, 1500, 90.0, 0.3), None);
        assert_eq!(offer(&mut selector, 1600, 90.0, 0.3), Some(Reason::First));
    }

    #[test]
    fn poor_views_are_a_last_resort() {
        let mut selector = selector();
        for at in [1000, 1600, 2400] {
            assert_eq!(offer(&mut selector, at, 30.0, 0.05), None);
        }
        assert_eq!(offer(&mut selector, 2500, 30.0, 0.05), Some(Reason::LastResort));
        assert_eq!(offer(&mut selector, 9900, 32.0, 0.06), None, "never a second poor one");
        assert_eq!(offer(&mut selector, 9950, 60.0, 0.2), Some(Reason::Better));
    }

    #[test]
    fn larger_better_and_later_views_are_news() {
        let mut selector = selector();
        offer(&mut selector, 1000, 150.0, 0.6);
        assert_eq!(offer(&mut selector, 1400, 170.0, 0.6), Some(Reason::Larger));
        assert_eq!(offer(&mut selector, 1800, 250.0, 0.5), None, "larger but worse");
        assert_eq!(offer(&mut selector, 2200, 100.0, 0.7), Some(Reason::Better));
        assert_eq!(offer(&mut selector, 7100, 100.0, 0.3), None);
        assert_eq!(offer(&mut selector, 7200, 100.0, 0.3), Some(Reason::Refresh));
    }

    #[test]
    fn a_blurred_view_is_not_taken_and_not_looked_at_again_at_once() {
        let mut selector = selector();
        offer(&mut selector, 1000, 150.0, 0.6);
        let (bbox, quality) = (high(150.0), worth(0.75));
        assert!(selector.consider(ID, ms(1400), &bbox, &quality).is_some());
        let blurred = quality.with_sharpness(0.2);
        assert_eq!(selector.take(ID, ms(1400), &bbox, &blurred), None);
        assert_eq!(selector.consider(ID, ms(1500), &bbox, &quality), None);
        assert!(selector.consider(ID, ms(1700), &bbox, &quality).is_some());
        assert_eq!(selector.views(ID), 1);
    }

    #[test]
    fn views_of_a_track_are_bounded() {
        let mut selector = selector();
        let taken = (0..1000).filter(|i| {
            let reason = offer(&mut selector, 1000 + 400 * i, 100.0, 0.4 * 1.2f32.powi(*i as i32));
            reason.is_some()
        });
        assert_eq!(taken.count(), 8);
        selector.forget(ID);
        assert_eq!(selector.views(ID), 0);
    }

    #[test]
    fn memory_is_bounded_and_the_idle_go_first() {
        let rules = SelectionRules { max_tracks: 3, ..SelectionRules::default() };
        let mut selector = Selector::new(rules);
        for id in 1..=3 {
            selector.consider(TrackId(id), ms(1000 + id), &high(200.0), &worth(0.6));
        }
        selector.consider(TrackId(1), ms(2000), &high(200.0), &worth(0.6));
        selector.consider(TrackId(4), ms(2000), &high(200.0), &worth(0.6));
        let known: Vec<u64> = selector.tracks.keys().map(|id| id.0).collect();
        assert_eq!(known, [1, 3, 4]);
    }

    #[test]
    fn time_that_goes_back_stops_nothing() {
        let mut selector = selector();
        offer(&mut selector, 9000, 150.0, 0.6);
        assert_eq!(offer(&mut selector, 1000, 200.0, 0.8), None, "resting");
        assert_eq!(offer(&mut selector, 9300, 200.0, 0.8), Some(Reason::Better));
    }
}
