//! Thresholds from a budget of false alarms.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use spotter_models::{Generation, calibration::Null, cohort::Cohort};

use super::{
    Asked, Cutoff, History, Policy, Promise, Reference, Sought, Study, Upper,
    reference::Scores,
    share::{Sharer, thresholds},
};
use crate::{error::Result, frame::CameraId};

/// By how many tracks, as a share of those that are judged by, calibration may lag behind the site.
const LAG: f64 = 0.1;

/// Fewest further tracks for which everything is calibrated anew.
const MIN_LAG: u64 = 32;

/// Fewest tracks a day that a budget is spread over: on a night without anybody, not everybody fits.
const MIN_PER_DAY: f64 = 24.0;

/// From so many tracks of the site on, others that score otherwise say something of the site, and not of
/// the cohort.
const SETTLED: usize = 256;

/// How far beyond its tracks a null distribution is trusted: to a tenth of the rarest that it saw.
const BEYOND: f64 = 10.0;

/// Counts on the site's own tracks what each text scores by chance, and takes the score that chance
/// reaches as often as can be borne.
pub(super) struct Budget {
    cohort: Cohort,
    generation: Generation,
    width: usize,
    per_day: f64,
    history: Arc<History>,
    fitted: Fitted,
}

/// What calibration rests on now.
struct Fitted {
    reference: Reference,
    /// Tracks that had passed by then.
    count: u64,
    /// Tracks a day by then.
    per_day: f64,
    /// How many of the site's tracks, the last ones, were not there the time before.
    new: usize,
}

/// What a text scores on the tracks of a site.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The distribution of its scores on tracks that do not match.
    pub(super) null: Arc<Null>,
    /// The largest scores of the last 24 hours, falling, at most [`Promise::MOST_MATCHED`].
    largest: Vec<f32>,
    /// The tracks a day that it is compared with.
    tracks_per_day: f64,
    is_watched: bool,
    /// False alarms a day that its author can bear on the whole site, where it says so.
    own_budget: Option<f64>,
    /// Whether it is a picture of somebody whom others may be like. Its cosines lie higher than those of texts, so that no
    /// score is one for both: it gets the even part that a text would have, for itself.
    is_picture: bool,
    common: f64,
    /// Tracks of the site that this rests on.
    tracks: usize,
}

impl Budget {
    /// Judges by the cohort until tracks pass; `bundle` is its generation and the size of its
    /// embeddings.
    ///
    /// # Errors
    /// Where the cohort is of another size.
    pub(super) fn new(
        cohort: Cohort,
        (generation, width): (Generation, usize),
        per_day: f64,
        history: Arc<History>,
    ) -> Result<Self> {
        let reference = Reference::new(generation, width, Some(&cohort), &[])?;
        let fitted = Fitted { reference, count: 0, per_day: 0.0, new: 0 };
        let mut policy = Self { cohort, generation, width, per_day, history, fitted };
        policy.fit(Timestamp::UNIX_EPOCH)?;
        Ok(policy)
    }

    fn fit(&mut self, now: Timestamp) -> Result<()> {
        let count = self.history.count();
        let site = self.history.tracks(self.generation);
        let reference = Reference::new(self.generation, self.width, Some(&self.cohort), &site)?;
        let per_day = self.history.per_day(now, |_| true);
        let new = usize::try_from(count - self.fitted.count).unwrap_or(usize::MAX);
        self.fitted = Fitted { reference, count, per_day, new };
        Ok(())
    }
}

impl Policy for Budget {
    fn study(&self, asked: &Asked<'_>, now: Timestamp) -> Result<Study> {
        let Fitted { reference, .. } = &self.fitted;
        let scores = scores(reference, asked)?;
        let is_picture = asked.sought != Sought::Words;
        let since = now.saturating_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN);
        let largest =
            reference.largest(&scores, since.as_second(), asked.counts, Promise::MOST_MATCHED);
        Ok(Study::Counted(Box::new(Counted {
            null: Arc::new(reference.null(&scores, asked.counts)?),
            largest,
            tracks_per_day: self.history.per_day(now, asked.counts).max(MIN_PER_DAY),
            is_watched: asked.is_watched,
            own_budget: asked.budget_per_day,
            is_picture,
            // Pictures of one site are alike by light and camera, which says nothing of the persons.
            common: if is_picture { 0.0 } else { reference.common(&scores).unwrap_or(0.0) },
            tracks: reference.of_site(),
        })))
    }

    fn cut(&self, studies: &[&Study], now: Timestamp) -> Vec<Cutoff> {
        // The budget is the site's; this device takes the part that its tracks are of all tracks.
        let share = self.history.share(now);
        let counted: Vec<&Counted> = studies
            .iter()
            .filter_map(|study| match study {
                Study::Counted(counted) => Some(&**counted),
                Study::Threshold(_) => None,
            })
            .collect();
        let sharers: Vec<Sharer<'_>> = counted
            .iter()
            .filter(|counted| counted.shares())
            .map(|counted| counted.sharer(self.per_day * share))
            .collect();
        let mut shared = thresholds(&sharers).into_iter();
        let cutoff = |counted: &Counted| {
            if counted.shares() {
                return counted.cutoff(shared.next().unwrap_or(1.0), None);
            }
            let alone = counted.own_budget.unwrap_or(self.per_day) * share;
            counted.cutoff(counted.sharer(0.0).allowing(alone), Some(alone))
        };
        counted.into_iter().map(cutoff).collect()
    }

    fn upper(&self, asked: &Asked<'_>, before: &Study) -> Result<Vec<(CameraId, Upper)>> {
        let Fitted { reference, new, .. } = &self.fitted;
        let Study::Counted(before) = before else { return Ok(Vec::new()) };
        if *new == 0 || before.tracks < SETTLED {
            return Ok(Vec::new());
        }
        let bar = before.null.threshold(Upper::PROMISED);
        Ok(reference.upper(&scores(reference, asked)?, bar, *new, asked.counts))
    }

    fn follow(&mut self, now: Timestamp) -> Result<bool> {
        let Fitted { reference, count, per_day, .. } = &self.fitted;
        let new = self.history.count() - count;
        let lags = new >= MIN_LAG && new as f64 >= LAG * reference.of_site() as f64;
        let now_per_day = self.history.per_day(now, |_| true);
        let busier = now_per_day > per_day * 1.25 || now_per_day < per_day * 0.8;
        if lags || busier {
            self.fit(now)?;
        }
        Ok(lags || busier)
    }
}

/// What is asked for scores on the tracks.
fn scores(reference: &Reference, asked: &Asked<'_>) -> Result<Scores> {
    match asked.sought {
        Sought::Words => reference.score(asked.text),
        Sought::Picture => reference.score_others(asked.text, None),
        Sought::Track(own) => reference.score_others(asked.text, Some(own)),
    }
}

impl Counted {
    /// Whether it has a part in the common budget.
    fn shares(&self) -> bool {
        self.is_watched && self.own_budget.is_none() && !self.is_picture
    }

    fn sharer(&self, even: f64) -> Sharer<'_> {
        let shown = self.tracks_per_day / (BEYOND * self.null.tracks());
        Sharer { null: &self.null, tracks: self.tracks_per_day, even, shown }
    }

    /// `allowed`: the false alarms a day that its own budget leaves it, where it has one.
    fn cutoff(&self, threshold: f32, allowed: Option<f64>) -> Cutoff {
        let sharer = self.sharer(0.0);
        let alarms = sharer.alarms(threshold);
        let budget_share = allowed.unwrap_or(alarms);
        let of_here = |alarms: f64| if self.is_watched { alarms } else { 0.0 };
        let matched = self.largest.iter().take_while(|score| **score >= threshold).count();
        let promise = Promise {
            budget_share: of_here(budget_share),
            expected_per_day: of_here(alarms.max(sharer.shown)),
            matched_24h: matched as u64,
            tracks: self.tracks,
            common: self.common,
        };
        Cutoff { threshold, null: Some(self.null.clone()), promise: Some(promise) }
    }
}

#[cfg(test)]
mod tests {
    use spotter_models::Embedding;

    use super::*;
    use crate::{
        clock::Mono,
        score::{Look, Own, Passed},
        track::TrackId,
    };

    const A: Generation = Generation([1; 16]);

    fn asked(text: &Embedding) -> Asked<'_> {
        Asked {
            text,
            sought: Sought::Words,
            budget_per_day: None,
            counts: &|_| true,
            is_watched: true,
        }
    }

    fn alone(policy: &Budget, asked: &Asked<'_>, now: Timestamp) -> Cutoff {
        policy.cut(&[&policy.study(asked, now).unwrap()], now).remove(0)
    }

    /// How certain one good look is.
    const ONCE: f32 = 1.0 / 1.2;

    /// A person whose cosine with the text [1, 0, 0] is `cosine`.
    fn person(cosine: f32) -> Vec<f32> {
        vec![cosine, (1.0 - cosine * cosine).sqrt(), 0.0]
    }

    /// Cosines spread evenly from -0.2 to 0.2, in an order that is not theirs.
    fn cosine(number: usize) -> f32 {
        (number * 37 % 1000) as f32 / 2500.0 - 0.2
    }

    fn passes(history: &History, camera: &str, cosines: &[f32], at: Timestamp) {
        let look = |cosine: &f32| Look {
            embedding: Embedding::new(person(*cosine), A).unwrap(),
            quality: 1.0,
            at: Mono::default(),
        };
        history.add(Passed {
            camera: CameraId::new(camera).unwrap(),
            track: TrackId(1),
            at,
            looks: cosines.iter().map(look).collect(),
        });
    }

    fn budget(history: &Arc<History>) -> Budget {
        let cohort = Cohort::new((0..1000).map(|n| person(cosine(n) - 0.5)).collect()).unwrap();
        let reference = Reference::new(A, 3, Some(&cohort), &[]).unwrap();
        let fitted = Fitted { reference, count: 0, per_day: 0.0, new: 0 };
        let history = history.clone();
        Budget { cohort, generation: A, width: 3, per_day: 2.0, history, fitted }
    }

    #[test]
    fn the_site_replaces_the_cohort_and_a_smaller_budget_raises_the_bar() {
        let history = Arc::new(History::default());
        let mut policy = budget(&history);
        let (text, noon) = (Embedding::new(person(1.0), A).unwrap(), Timestamp::UNIX_EPOCH);
        let at = |policy: &Budget, per_day| {
            let asked = Asked { budget_per_day: Some(per_day), ..asked(&text) };
            alone(policy, &asked, noon)
        };
        history.watching(&CameraId::new("gate").unwrap(), noon);
        let before = at(&policy, 100.0);
        assert!((-0.39..-0.28).contains(&before.threshold), "a fifth of the cohort: {before:?}");
        for number in 0..2000 {
            passes(&history, "gate", &[cosine(number)], noon);
        }
        assert!(policy.follow(noon).unwrap());
        assert!(!policy.follow(noon).unwrap(), "once");
        let per_day = history.per_day(noon, |_| true);
        let [tenth, hundredth] = [0.1, 0.01].map(|share| at(&policy, share * per_day));
        assert!((tenth.threshold - 0.16 * ONCE).abs() < 0.005, "{tenth:?}");
        assert!((hundredth.threshold - 0.196 * ONCE).abs() < 0.02, "{hundredth:?}");
        let Promise { budget_share, expected_per_day, tracks, .. } = tenth.promise.unwrap();
        assert_eq!((budget_share, tracks), (0.1 * per_day, 2000));
        assert!((expected_per_day / budget_share - 1.0).abs() < 0.05);
        // What two thousand tracks cannot show is not promised.
        let promise = at(&policy, 1e-7 * per_day).promise.unwrap();
        assert!(promise.expected_per_day > 100.0 * promise.budget_share);
    }

    #[test]
    fn the_largest_score_over_a_tracks_looks_is_what_counts() {
        let history = Arc::new(History::default());
        let mut policy = budget(&history);
        let (text, noon) = (Embedding::new(person(1.0), A).unwrap(), Timestamp::UNIX_EPOCH);
        for number in 0..2000 {
            passes(&history, "gate", &[cosine(number) + 0.3, cosine(number) - 0.3], noon);
        }
        policy.follow(noon).unwrap();
        let per_day = history.per_day(noon, |_| true);
        let asked = Asked { budget_per_day: Some(0.1 * per_day), ..asked(&text) };
        let Cutoff { threshold, promise, .. } = alone(&policy, &asked, noon);
        assert!((threshold - 0.46 * ONCE).abs() < 0.01, "of the first looks: {threshold}");
        assert!((195..206).contains(&promise.unwrap().matched_24h), "{promise:?}");
    }

    #[test]
    fn an_alert_for_some_cameras_is_judged_by_them_alone() {
        let history = Arc::new(History::default());
        let mut policy = budget(&history);
        let (text, noon) = (Embedding::new(person(1.0), A).unwrap(), Timestamp::UNIX_EPOCH);
        for number in 0..2000 {
            passes(&history, "gate", &[cosine(number)], noon);
            passes(&history, "dock", &[cosine(number) + 0.5], noon);
        }
        policy.follow(noon).unwrap();
        let of = |name: &'static str| {
            let counts = move |camera: &CameraId| camera.as_str() == name;
            let per_day = history.per_day(noon, counts);
            let asked = Asked {
                text: &text,
                sought: Sought::Words,
                budget_per_day: Some(0.1 * per_day),
                counts: &counts,
                is_watched: true,
            };
            alone(&policy, &asked, noon).threshold
        };
        assert!((of("gate") - 0.16 * ONCE).abs() < 0.01 && (of("dock") - 0.66 * ONCE).abs() < 0.01);
    }

    #[test]
    fn somebody_who_was_seen_has_an_even_part_alone_and_says_nothing_of_itself() {
        let history = Arc::new(History::default());
        let mut policy = budget(&history);
        policy.per_day = 0.01 * 2000.0;
        let noon = Timestamp::UNIX_EPOCH;
        (0..2000).for_each(|number| passes(&history, "gate", &[cosine(number)], noon));
        // The track itself, which fits itself like nobody else.
        let camera = CameraId::new("gate").unwrap();
        let look = Look {
            embedding: Embedding::new(person(1.0), A).unwrap(),
            quality: 1.0,
            at: Mono::default(),
        };
        let (track, looks) = (TrackId(77), vec![look]);
        history.add(Passed { camera: camera.clone(), track, at: noon, looks });
        policy.follow(noon).unwrap();
        let seen = Embedding::new(person(1.0), A).unwrap();
        let own = Own { camera, track: 77, last: noon };
        let sought = Sought::Track(&own);
        let alike = policy.study(&Asked { sought, ..asked(&seen) }, noon).unwrap();
        let text = policy.study(&asked(&seen), noon).unwrap();
        let cut = policy.cut(&[&alike, &text, &text], noon);
        let promise = cut[0].promise.unwrap();
        assert_eq!((promise.budget_share, promise.common), (policy.per_day, 0.0));
        assert_eq!(promise.matched_24h, text_matches(&cut[0], &history), "without itself");
        let alone = policy.cut(&[&text, &text], noon);
        assert_eq!(cut[1..], alone, "it takes nothing from those that share");
        // A track of the same number in another run is another one.
        let later = Own { last: noon + SignedDuration::from_hours(1), ..own };
        let sought = Sought::Track(&later);
        let other = policy.study(&Asked { sought, ..asked(&seen) }, noon).unwrap();
        let with_it = policy.cut(&[&other], noon)[0].promise.unwrap().matched_24h;
        assert_eq!(with_it, promise.matched_24h + 1);
    }

    /// How many of those who pass at the gate reach a threshold, but for the one who is looked for.
    fn text_matches(cutoff: &Cutoff, history: &History) -> u64 {
        let text = Embedding::new(person(1.0), A).unwrap();
        let others = history.tracks(A).into_iter().filter(|passed| passed.track != TrackId(77));
        let best = |passed: Passed| {
            let places = super::super::Looks::after_each(&passed.looks).unwrap();
            places.iter().map(|place| place.score(&text).unwrap()).fold(-1.0, f32::max)
        };
        others.map(best).filter(|score| *score >= cutoff.threshold).count() as u64
    }

    #[test]
    fn what_everybody_here_wears_is_named_so_and_one_person_alone_stops_nothing() {
        let history = Arc::new(History::default());
        let mut policy = budget(&history);
        let (text, noon) = (Embedding::new(person(1.0), A).unwrap(), Timestamp::UNIX_EPOCH);
        // The cohort scores -0.7 to -0.3; here everybody does far more.
        (0..600).for_each(|number| passes(&history, "gate", &[cosine(number) + 0.6], noon));
        policy.follow(noon).unwrap();
        let promise = alone(&policy, &asked(&text), noon).promise.unwrap();
        assert_eq!(promise.common, 1.0);
        let history = Arc::new(History::default());
        let mut policy = budget(&history);
        (0..5000).for_each(|_| passes(&history, "gate", &[-0.6], noon));
        policy.follow(noon).unwrap();
        let cutoff = alone(&policy, &asked(&text), noon);
        assert_eq!((cutoff.threshold, cutoff.promise.unwrap().common), (1.0, 0.0));
    }

    #[test]
    fn persons_who_score_higher_than_those_before_are_seen_to() {
        let history = Arc::new(History::default());
        let mut policy = budget(&history);
        let (text, noon) = (Embedding::new(person(1.0), A).unwrap(), Timestamp::UNIX_EPOCH);
        (0..2000).for_each(|number| passes(&history, "gate", &[cosine(number)], noon));
        policy.follow(noon).unwrap();
        let before = policy.study(&asked(&text), noon).unwrap();
        // A fifth of those who pass at the dock scores what a tenth did before, at the gate all as before.
        for number in 0..200 {
            passes(&history, "gate", &[cosine(number * 5)], noon);
            passes(&history, "dock", &[cosine(number * 5) + 0.04], noon);
        }
        assert!(policy.follow(noon).unwrap());
        let upper = policy.upper(&asked(&text), &before).unwrap();
        let names: Vec<&str> = upper.iter().map(|(camera, _)| camera.as_str()).collect();
        assert_eq!(names, ["dock", "gate"]);
        let ratio = |upper: Upper| upper.above as f64 / (upper.tracks as f64 * Upper::PROMISED);
        let [dock, gate] = [upper[0].1, upper[1].1];
        assert_eq!((dock.tracks, gate.tracks), (200, 200));
        assert!((ratio(dock) - 2.0).abs() < 0.2 && (ratio(gate) - 1.0).abs() < 0.2, "{upper:?}");
        let at_gate = Asked { counts: &|camera| camera.as_str() == "gate", ..asked(&text) };
        assert_eq!(policy.upper(&at_gate, &before).unwrap(), upper[1..]);
        let Study::Counted(few) = before else { unreachable!() };
        let few = Study::Counted(Box::new(Counted { tracks: 100, ..*few }));
        assert_eq!(policy.upper(&asked(&text), &few).unwrap(), [], "that was the cohort's");
    }

    #[test]
    fn a_track_whose_looks_cancel_out_stops_nothing() {
        let history = Arc::new(History::default());
        let mut policy = budget(&history);
        let noon = Timestamp::UNIX_EPOCH;
        let look = |x: f32| Look {
            embedding: Embedding::new(vec![x, 0.0, 0.0], A).unwrap(),
            quality: 1.0,
            at: Mono::default(),
        };
        let camera = CameraId::new("gate").unwrap();
        let looks = vec![look(1.0), look(-1.0)];
        history.add(Passed { camera, track: TrackId(1), at: noon, looks });
        (0..100).for_each(|number| passes(&history, "gate", &[cosine(number)], noon));
        assert!(policy.follow(noon).unwrap());
        let text = Embedding::new(person(1.0), A).unwrap();
        let promise = alone(&policy, &asked(&text), noon).promise.unwrap();
        assert_eq!(promise.tracks, 100);
    }

    #[test]
    fn texts_without_a_budget_of_their_own_share_one_and_the_others_keep_theirs() {
        let history = Arc::new(History::default());
        let mut policy = budget(&history);
        policy.per_day = 0.05 * 2000.0;
        let noon = Timestamp::UNIX_EPOCH;
        (0..2000).for_each(|number| passes(&history, "gate", &[cosine(number)], noon));
        policy.follow(noon).unwrap();
        let text = |x: f32, y: f32| Embedding::new(vec![x, y, 0.0], A).unwrap();
        let texts = [text(1.0, 0.0), text(1.0, 0.01), text(1.0, 0.0), text(1.0, 0.0)];
        let budgets = [(None, true), (None, true), (Some(1.0), true), (None, false)];
        let studies: Vec<Study> = texts
            .iter()
            .zip(budgets)
            .map(|(text, (budget_per_day, is_watched))| {
                let asked = Asked { budget_per_day, is_watched, ..asked(text) };
                policy.study(&asked, noon).unwrap()
            })
            .collect();
        let cut = policy.cut(&studies.iter().collect::<Vec<_>>(), noon);
        assert!((cut[0].threshold - cut[1].threshold).abs() < 1e-4, "one score: {cut:?}");
        let parts: Vec<f64> = cut.iter().map(|cut| cut.promise.unwrap().budget_share).collect();
        let whole = 2.0 * policy.per_day;
        assert!((parts[0] + parts[1] - whole).abs() < 0.02 * whole, "{parts:?} of {whole}");
        assert!(parts[1] > parts[0], "whose scores lie higher: {parts:?}");
        assert_eq!(parts[2..], [1.0, 0.0], "its own; and nothing where it is watched for nowhere");
        assert!(cut[2].threshold > cut[0].threshold);
    }
}
