//! When a score is a sighting. A policy, because no fixed cut-off on CLIP scores suits every text.

use std::{fmt, str::FromStr, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use spotter_models::{Embedding, Generation, bundle::Bundle, calibration::Null, cohort::Cohort};

use super::{
    History,
    budget::{Budget, Counted},
    reference::COHORT_CERTAINTY,
};
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

/// The track that an alert is like: it says nothing of how others score on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Who saw it.
    pub camera: CameraId,
    /// Its number there, within one run of the daemon.
    pub track: u64,
    /// When it was last looked at.
    pub last: Timestamp,
}

/// By how much the ends of one track may lie beside each other, in two places that know it.
const SLACK: SignedDuration = SignedDuration::from_secs(60);

impl Own {
    /// Whether it is this track. Numbers begin again when the daemon is started: times tell runs apart.
    pub fn is(&self, camera: &CameraId, track: u64, at: Timestamp) -> bool {
        track == self.track && *camera == self.camera && at.duration_since(self.last).abs() <= SLACK
    }
}

/// What a direction comes from: cosines of two pictures lie on another scale than those of words and a
/// picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sought<'a> {
    /// A text.
    #[default]
    Words,
    /// A picture of somebody.
    Picture,
    /// A track of this device.
    Track(&'a Own),
}

/// What is asked for a text, or for somebody whom others may be like.
pub struct Asked<'a> {
    /// Its direction.
    pub text: &'a Embedding,
    /// What it comes from.
    pub sought: Sought<'a>,
    /// False alarms a day that its author can bear on the whole site, where it says so.
    pub budget_per_day: Option<f64>,
    /// Whether it is watched for on a camera.
    pub counts: &'a dyn Fn(&CameraId) -> bool,
    /// Whether it is watched for on any: what is not has no part in a budget.
    pub is_watched: bool,
}

/// What a score must reach, and what follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Cutoff {
    /// The score from which a track fits, -1 to 1; see [`super::Place::score`].
    pub threshold: f32,
    /// The distribution of the text's scores on tracks that do not match, where it was counted.
    pub null: Option<Arc<Null>>,
    /// What its author is promised, where anything is.
    pub promise: Option<Promise>,
}

impl Cutoff {
    /// Nobody fits.
    pub fn never() -> Self {
        Self { threshold: 1.0, null: None, promise: None }
    }
}

/// What to expect of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Promise {
    /// The text's part of the budget on this device, in false alarms a day.
    pub budget_share: f64,
    /// False alarms a day to expect of this device. More than the share where so few cannot be shown
    /// from so few tracks.
    pub expected_per_day: f64,
    /// Tracks of the last 24 hours that would have fitted, as far as they are remembered; of more than
    /// [`Promise::MOST_MATCHED`] these.
    pub matched_24h: u64,
    /// Tracks of the site that this rests on.
    pub tracks: usize,
    /// The share of them that fit the text better than nearly everybody of the bundle's cohort does:
    /// how usual here is what it describes.
    pub common: f64,
}

impl Promise {
    /// Most tracks of a day that are counted.
    pub const MOST_MATCHED: usize = 256;
}

/// What a text scores here, as far as its policy wants to know.
#[derive(Clone, Debug)]
pub enum Study {
    /// The threshold already: it depends on nothing else.
    Threshold(f32),
    /// The distribution of its scores.
    Counted(Box<Counted>),
}

impl Study {
    /// The distribution of the text's scores on tracks that do not match, where it was counted.
    pub fn null(&self) -> Option<&Arc<Null>> {
        match self {
            Study::Threshold(_) => None,
            Study::Counted(counted) => Some(&counted.null),
        }
    }
}

/// How many of some tracks score what one in ten was promised to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Upper {
    /// Those that do.
    pub above: u64,
    /// All of them.
    pub tracks: u64,
}

impl Upper {
    /// The share that was promised.
    pub const PROMISED: f64 = 0.1;
}

/// Decides what score a text must reach. In two steps, since texts may share a budget: each is studied
/// alone, which takes milliseconds, then all are cut together, which takes next to nothing.
pub trait Policy: Send {
    /// What this text scores.
    ///
    /// # Errors
    /// Where the text was embedded by another bundle than the policy judges by.
    fn study(&self, asked: &Asked<'_>, now: Timestamp) -> Result<Study>;

    /// What each of the texts must reach, in their order.
    fn cut(&self, studies: &[&Study], _now: Timestamp) -> Vec<Cutoff> {
        let alone = |study: &&Study| match study {
            Study::Threshold(threshold) => {
                Cutoff { threshold: *threshold, null: None, promise: None }
            }
            Study::Counted(counted) => {
                Cutoff { threshold: 1.0, null: Some(counted.null.clone()), promise: None }
            }
        };
        studies.iter().map(alone).collect()
    }

    /// Of the site's tracks that are new since this text was studied, how many score as high as the
    /// study promised of few; none where the policy promises nothing.
    ///
    /// # Errors
    /// Where the text was embedded by another bundle than the policy judges by.
    fn upper(&self, _asked: &Asked<'_>, _before: &Study) -> Result<Vec<(CameraId, Upper)>> {
        Ok(Vec::new())
    }

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
    /// own tracks. These texts share what they have: what one cannot use helps another.
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
                let cohort = self.cohort(bundle)?;
                let width = bundle.manifest().config.embed;
                Box::new(Budget::new(cohort, (generation, width), per_day, history)?)
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
    fn study(&self, _: &Asked<'_>, _: Timestamp) -> Result<Study> {
        Ok(Study::Threshold(self.cosine))
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
    fn study(&self, asked: &Asked<'_>, _: Timestamp) -> Result<Study> {
        if asked.text.generation() != self.generation {
            return Err(Error::internal(
                "policy zscore",
                "text and cohort come from two bundles, whose scores are never compared",
            ));
        }
        let spread = self.cohort.spread(asked.text)?;
        let cosine = spread.mean + self.deviations * spread.deviation.max(MIN_DEVIATION);
        let threshold = COHORT_CERTAINTY * cosine;
        Ok(Study::Threshold(threshold.clamp(-1.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &Embedding) -> Asked<'_> {
        Asked {
            text,
            sought: Sought::Words,
            budget_per_day: None,
            counts: &|_| true,
            is_watched: true,
        }
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
            match policy.study(&asked(&text), Timestamp::UNIX_EPOCH).unwrap() {
                Study::Threshold(threshold) => threshold,
                Study::Counted(_) => unreachable!(),
            }
        };
        // Everybody scores 0.8 on the first, which says nothing; 0.2 is much on the second.
        assert!((threshold([1.0, 0.0, 0.0]) - 0.8 * COHORT_CERTAINTY).abs() < 1e-3);
        let second = threshold([0.0, 1.0, 0.0]);
        assert!((0.1..0.13).contains(&(second / COHORT_CERTAINTY)), "{second}");
        let other = Embedding::new(vec![1.0, 0.0, 0.0], Generation([2; 16])).unwrap();
        assert!(policy.study(&asked(&other), Timestamp::UNIX_EPOCH).is_err());
    }
}
