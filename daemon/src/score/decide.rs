//! When a score is a sighting. A policy, because no fixed cut-off on CLIP scores suits every text.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use spotter_models::{Embedding, Generation, bundle::Bundle, calibration::Null, cohort::Cohort};

use super::{History, Reference};
use crate::{
    error::{Error, Result},
    frame::CameraId,
};

/// The policy of a configuration that names none.
const DEFAULT: Choice = Choice::Budget(2.0);

/// Largest number of deviations that is taken for meant.
const MAX_DEVIATIONS: f32 = 100.0;

/// Largest budget that is taken for meant, in false alarms a day.
const MAX_BUDGET: f64 = 1e6;

/// Least spread that counts: a text that scores the same on everybody stands out on nobody by noise.
const MIN_DEVIATION: f32 = 1e-4;

/// By how many tracks, as a share of those that are judged by, calibration may lag behind the site.
const LAG: f64 = 0.1;

/// Fewest further tracks for which everything is calibrated anew.
const MIN_LAG: u64 = 32;

/// Fewest tracks a day that a budget is spread over: on a night without anybody, not everybody fits.
const MIN_PER_DAY: f64 = 24.0;

/// How far beyond its tracks a null distribution is trusted: to a tenth of the rarest that it saw.
const BEYOND: f64 = 10.0;

/// What is asked for a text.
pub struct Asked<'a> {
    /// Its direction.
    pub text: &'a Embedding,
    /// False alarms a day that its author can bear on the whole site, where it says so.
    pub budget_per_day: Option<f64>,
    /// Whether it is watched for on a camera.
    pub counts: &'a dyn Fn(&CameraId) -> bool,
}

/// What a score must reach, and what follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Cutoff {
    /// The cosine from which a track fits, -1 to 1.
    pub threshold: f32,
    /// The distribution of the text's scores on tracks that do not match, where it was counted.
    pub null: Option<Arc<Null>>,
    /// What its author is promised, where anything is.
    pub promise: Option<Promise>,
}

/// What to expect of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Promise {
    /// This device's share of the budget, in false alarms a day.
    pub budget_share: f64,
    /// False alarms a day to expect of this device. More than the share where so few cannot be shown
    /// from so few tracks.
    pub expected_per_day: f64,
    /// Tracks of the last 24 hours that would have fitted, as far as they are remembered.
    pub matched_24h: u64,
    /// Tracks of the site that this rests on.
    pub tracks: usize,
    /// The share of them that fit the text better than nearly everybody of the bundle's cohort does:
    /// how usual here is what it describes.
    pub common: f64,
}

/// Decides what score a text must reach.
pub trait Policy: Send {
    /// What this text must reach.
    ///
    /// # Errors
    /// Where the text was embedded by another bundle than the policy judges by.
    fn cutoff(&self, asked: &Asked<'_>, now: Timestamp) -> Result<Cutoff>;

    /// Looks at what happened on the site meanwhile. Whether all texts are to be asked for anew.
    ///
    /// # Errors
    /// Where tracks come from another bundle.
    fn follow(&mut self, _now: Timestamp) -> Result<bool> {
        Ok(false)
    }
}

/// A policy as it is written: `budget=N`, `zscore=Z` or `fixed=X`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Choice {
    /// So many false alarms a day for each text that names no number itself, counted on the site's
    /// own tracks.
    Budget(f64),
    /// The same cosine for every text: for experiments and comparisons, not for a site.
    Fixed(f32),
    /// So many standard deviations above what the text scores on average against the bundle's
    /// background cohort.
    ZScore(f32),
}

impl Choice {
    /// The policy for the texts of this bundle; `history` has the site's tracks.
    ///
    /// # Errors
    /// [`Error::Config`] where it judges by a background cohort and the bundle has none; what
    /// [`Cohort::of`] finds.
    pub fn open(self, bundle: &Bundle, history: Arc<History>) -> Result<Box<dyn Policy>> {
        let generation = bundle.generation();
        Ok(match self {
            Choice::Fixed(cosine) => Box::new(Fixed { cosine }),
            Choice::ZScore(deviations) => {
                Box::new(ZScore { cohort: self.cohort(bundle)?, generation, deviations })
            }
            Choice::Budget(per_day) => {
                let (cohort, width) = (self.cohort(bundle)?, bundle.manifest().config.embed);
                let reference = Reference::new(generation, width, Some(&cohort), &[])?;
                let fitted = Fitted { reference, count: 0, per_day: 0.0 };
                let mut policy = Budget { cohort, generation, width, per_day, history, fitted };
                policy.fit(Timestamp::UNIX_EPOCH)?;
                Box::new(policy)
            }
        })
    }

    fn cohort(self, bundle: &Bundle) -> Result<Cohort> {
        Cohort::of(bundle)?.ok_or_else(|| {
            Error::config(
                format!("policy {self}"),
                format!(
                    "needs a background cohort, and bundle {} has none: put one in with \
                     `spotterd bundle cohort`, or use fixed=X",
                    bundle.manifest().name
                ),
            )
        })
    }
}

impl Default for Choice {
    fn default() -> Self {
        DEFAULT
    }
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |reason: &str| Error::config(format!("policy {text:?}"), reason);
        let known = text
            .split_once('=')
            .and_then(|(name, number)| Some((name, number.trim().parse::<f64>().ok()?)));
        match known {
            Some(("budget", per_day)) if per_day > 0.0 && per_day <= MAX_BUDGET => {
                Ok(Choice::Budget(per_day))
            }
            Some(("budget", _)) => Err(refuse(
                "is no number of false alarms a day: use more than 0, such as budget=2 or, for one \
                 in ten days, budget=0.1",
            )),
            Some(("fixed", cosine)) if (-1.0..=1.0).contains(&cosine) => {
                Ok(Choice::Fixed(cosine as f32))
            }
            Some(("fixed", _)) => Err(refuse("is no cosine: use -1 to 1")),
            Some(("zscore", z)) if z.abs() <= f64::from(MAX_DEVIATIONS) => {
                Ok(Choice::ZScore(z as f32))
            }
            Some(("zscore", _)) => Err(refuse("is no number of deviations: use -100 to 100")),
            _ => Err(refuse(
                "is not known; use budget=N with N the false alarms a day that can be borne for a \
                 text, such as budget=2; or zscore=Z with Z the standard deviations above what a \
                 text scores by chance; or fixed=X with X a cosine from -1 to 1",
            )),
        }
    }
}

impl TryFrom<String> for Choice {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Choice> for String {
    fn from(choice: Choice) -> Self {
        choice.to_string()
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Budget(per_day) => write!(f, "budget={per_day}"),
            Choice::Fixed(cosine) => write!(f, "fixed={cosine}"),
            Choice::ZScore(deviations) => write!(f, "zscore={deviations}"),
        }
    }
}

struct Fixed {
    cosine: f32,
}

impl Policy for Fixed {
    fn cutoff(&self, _: &Asked<'_>, _: Timestamp) -> Result<Cutoff> {
        Ok(Cutoff { threshold: self.cosine, null: None, promise: None })
    }
}

/// Each text has its own range of scores; its mean and spread over persons whom no alert means say
/// what is much for it. How likely a false alarm is then, nobody has counted.
struct ZScore {
    cohort: Cohort,
    generation: Generation,
    deviations: f32,
}

impl Policy for ZScore {
    fn cutoff(&self, asked: &Asked<'_>, _: Timestamp) -> Result<Cutoff> {
        if asked.text.generation() != self.generation {
            return Err(Error::internal(
                "policy zscore",
                "text and cohort come from two bundles, whose scores are never compared",
            ));
        }
        let spread = self.cohort.spread(asked.text)?;
        let threshold = spread.mean + self.deviations * spread.deviation.max(MIN_DEVIATION);
        Ok(Cutoff { threshold: threshold.clamp(-1.0, 1.0), null: None, promise: None })
    }
}

/// Counts on the site's own tracks what each text scores by chance, and takes the score that chance
/// reaches as often as can be borne.
struct Budget {
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
}

impl Budget {
    fn fit(&mut self, now: Timestamp) -> Result<()> {
        let count = self.history.count();
        let site = self.history.tracks(self.generation);
        let reference = Reference::new(self.generation, self.width, Some(&self.cohort), &site)?;
        let per_day = self.history.per_day(now, |_| true);
        self.fitted = Fitted { reference, count, per_day };
        Ok(())
    }
}

impl Policy for Budget {
    fn cutoff(&self, asked: &Asked<'_>, now: Timestamp) -> Result<Cutoff> {
        let Fitted { reference, .. } = &self.fitted;
        let scores = reference.score(asked.text)?;
        let null = reference.null(&scores, asked.counts)?;
        // The budget is the site's; this device takes the part that its tracks are of all tracks.
        let share = self.history.share(now);
        let budget_share = asked.budget_per_day.unwrap_or(self.per_day) * share;
        let tracks_per_day = self.history.per_day(now, asked.counts).max(MIN_PER_DAY);
        let threshold = null.threshold((budget_share / tracks_per_day).min(1.0));
        let shown = 1.0 / (BEYOND * null.tracks());
        let expected_per_day = null.probability(threshold).max(shown) * tracks_per_day;
        let since = now.saturating_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN);
        let matched_24h = reference.reached(&scores, threshold, since.as_second(), asked.counts);
        let tracks = reference.of_site();
        let common = reference.common(&scores).unwrap_or(0.0);
        Ok(Cutoff {
            threshold,
            null: Some(Arc::new(null)),
            promise: Some(Promise { budget_share, expected_per_day, matched_24h, tracks, common }),
        })
    }

    fn follow(&mut self, now: Timestamp) -> Result<bool> {
        let Fitted { reference, count, per_day } = &self.fitted;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Mono,
        score::{Look, Passed},
        track::TrackId,
    };

    const A: Generation = Generation([1; 16]);

    fn asked(text: &Embedding) -> Asked<'_> {
        Asked { text, budget_per_day: None, counts: &|_| true }
    }

    #[test]
    fn what_is_no_policy_is_refused_with_the_forms_that_are() {
        for text in ["fixed=0.3", "fixed=-1", "zscore=3", "zscore=-0.5", "budget=2", "budget=0.1"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        for text in [
            "fixed=2",
            "fixed=NaN",
            "fixed=",
            "0.3",
            "budget",
            "budget=0",
            "budget=-1",
            "budget=NaN",
            "budget=1e9",
            "zscore",
            "zscore=inf",
            "zscore=NaN",
            "zscore=1e9",
            "zscore=3=3",
        ] {
            let error = text.parse::<Choice>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("use"), "{error}");
        }
    }

    #[test]
    fn a_text_must_stand_out_from_its_own_range() {
        // One direction that all persons share, and one in which they differ.
        let person = |n: u8| {
            let x = f32::from(n) / 40.0 - 0.5;
            let rest = 1.0_f32 - 0.64 - 0.04 * x * x;
            vec![0.8, 0.2 * x, rest.sqrt()]
        };
        let cohort = Cohort::new((0..=40).map(person).collect()).unwrap();
        let generation = Generation([1; 16]);
        let policy = ZScore { cohort, generation, deviations: 2.0 };
        let threshold = |values: [f32; 3]| {
            let text = Embedding::new(values.to_vec(), generation).unwrap();
            policy.cutoff(&asked(&text), Timestamp::UNIX_EPOCH).unwrap().threshold
        };
        // Everybody scores 0.8 on the first, which says nothing; 0.2 is much on the second.
        assert!((threshold([1.0, 0.0, 0.0]) - 0.8).abs() < 1e-3);
        let second = threshold([0.0, 1.0, 0.0]);
        assert!((0.1..0.13).contains(&second), "{second}");
        let other = Embedding::new(vec![1.0, 0.0, 0.0], Generation([2; 16])).unwrap();
        assert!(policy.cutoff(&asked(&other), Timestamp::UNIX_EPOCH).is_err());
    }

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
        let fitted = Fitted { reference, count: 0, per_day: 0.0 };
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
            policy.cutoff(&asked, noon).unwrap()
        };
        history.watching(&CameraId::new("gate").unwrap(), noon);
        let before = at(&policy, 100.0);
        assert!((-0.4..-0.3).contains(&before.threshold), "a fifth of the cohort: {before:?}");
        for number in 0..2000 {
            passes(&history, "gate", &[cosine(number)], noon);
        }
        assert!(policy.follow(noon).unwrap());
        assert!(!policy.follow(noon).unwrap(), "once");
        let per_day = history.per_day(noon, |_| true);
        let [tenth, hundredth] = [0.1, 0.01].map(|share| at(&policy, share * per_day));
        assert!((tenth.threshold - 0.16).abs() < 0.005, "{tenth:?}");
        assert!((hundredth.threshold - 0.196).abs() < 0.02, "{hundredth:?}");
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
        let Cutoff { threshold, promise, .. } = policy.cutoff(&asked, noon).unwrap();
        assert!((threshold - 0.46).abs() < 0.01, "of the first looks: {threshold}");
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
            let asked = Asked { text: &text, budget_per_day: Some(0.1 * per_day), counts: &counts };
            policy.cutoff(&asked, noon).unwrap().threshold
        };
        assert!((of("gate") - 0.16).abs() < 0.01 && (of("dock") - 0.66).abs() < 0.01);
    }

    #[test]
    fn what_everybody_here_wears_is_named_so_and_one_person_alone_stops_nothing() {
        let history = Arc::new(History::default());
        let mut policy = budget(&history);
        let (text, noon) = (Embedding::new(person(1.0), A).unwrap(), Timestamp::UNIX_EPOCH);
        // The cohort scores -0.7 to -0.3; here everybody does far more.
        (0..600).for_each(|number| passes(&history, "gate", &[cosine(number) + 0.6], noon));
        policy.follow(noon).unwrap();
        let promise = policy.cutoff(&asked(&text), noon).unwrap().promise.unwrap();
        assert_eq!(promise.common, 1.0);
        let history = Arc::new(History::default());
        let mut policy = budget(&history);
        (0..5000).for_each(|_| passes(&history, "gate", &[-0.6], noon));
        policy.follow(noon).unwrap();
        let cutoff = policy.cutoff(&asked(&text), noon).unwrap();
        assert_eq!((cutoff.threshold, cutoff.promise.unwrap().common), (1.0, 0.0));
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
        let promise = policy.cutoff(&asked(&text), noon).unwrap().promise.unwrap();
        assert_eq!(promise.tracks, 100);
    }
}
