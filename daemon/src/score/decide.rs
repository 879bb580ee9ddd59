//! When a score is a sighting. A policy, because no fixed cut-off on CLIP scores suits every text.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use spotter_models::{Embedding, Generation, bundle::Bundle, cohort::Cohort};

use crate::error::{Error, Result};

/// The policy of a configuration that names none.
const DEFAULT: Choice = Choice::Fixed(0.3);

/// Largest number of deviations that is taken for meant.
const MAX_DEVIATIONS: f32 = 100.0;

/// Least spread that counts: a text that scores the same on everybody stands out on nobody by noise.
const MIN_DEVIATION: f32 = 1e-4;

/// Decides what score a text must reach.
pub trait Policy: Send {
    /// The cosine from which a track fits this text, -1 to 1.
    ///
    /// # Errors
    /// Where the text was embedded by another bundle than the policy judges by.
    fn threshold(&self, text: &Embedding) -> Result<f32>;
}

/// A policy as it is written: `fixed=X` or `zscore=Z`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Choice {
    /// The same cosine for every text: for experiments and comparisons, not for a site.
    Fixed(f32),
    /// So many standard deviations above what the text scores on average against the bundle's
    /// background cohort.
    ZScore(f32),
}

impl Choice {
    /// The policy for the texts of this bundle.
    ///
    /// # Errors
    /// [`Error::Config`] where it judges by a background cohort and the bundle has none; what
    /// [`Cohort::of`] finds.
    pub fn open(self, bundle: &Bundle) -> Result<Box<dyn Policy>> {
        match self {
            Choice::Fixed(cosine) => Ok(Box::new(Fixed { cosine })),
            Choice::ZScore(deviations) => match Cohort::of(bundle)? {
                Some(cohort) => {
                    let generation = bundle.generation();
                    Ok(Box::new(ZScore { cohort, generation, deviations }))
                }
                None => Err(Error::config(
                    format!("policy {self}"),
                    format!(
                        "needs a background cohort, and bundle {} has none: put one in with \
                         `spotterd bundle cohort`, or use fixed=X",
                        bundle.manifest().name
                    ),
                )),
            },
        }
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
            .and_then(|(name, number)| Some((name, number.trim().parse::<f32>().ok()?)));
        match known {
            Some(("fixed", cosine)) if (-1.0..=1.0).contains(&cosine) => Ok(Choice::Fixed(cosine)),
            Some(("fixed", _)) => Err(refuse("is no cosine: use -1 to 1")),
            Some(("zscore", z)) if (-MAX_DEVIATIONS..=MAX_DEVIATIONS).contains(&z) => {
                Ok(Choice::ZScore(z))
            }
            Some(("zscore", _)) => Err(refuse("is no number of deviations: use -100 to 100")),
            _ => Err(refuse(
                "is not known; use fixed=X with X a cosine from -1 to 1, or zscore=Z with Z the \
                 standard deviations above what a text scores by chance, such as zscore=3",
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
            Choice::Fixed(cosine) => write!(f, "fixed={cosine}"),
            Choice::ZScore(deviations) => write!(f, "zscore={deviations}"),
        }
    }
}

struct Fixed {
    cosine: f32,
}

impl Policy for Fixed {
    fn threshold(&self, _: &Embedding) -> Result<f32> {
        Ok(self.cosine)
    }
}

/// Each text has its own range of scores; its mean and spread over persons whom no alert means say
/// what is much for it. How likely a false alarm is then, nobody has counted: that needs tracks of the
/// site.
struct ZScore {
    cohort: Cohort,
    generation: Generation,
    deviations: f32,
}

impl Policy for ZScore {
    fn threshold(&self, text: &Embedding) -> Result<f32> {
        if text.generation() != self.generation {
            return Err(Error::internal(
                "policy zscore",
                "text and cohort come from two bundles, whose scores are never compared",
            ));
        }
        let spread = self.cohort.spread(text)?;
        let threshold = spread.mean + self.deviations * spread.deviation.max(MIN_DEVIATION);
        Ok(threshold.clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_policy_is_refused_with_the_forms_that_are() {
        for text in ["fixed=0.3", "fixed=-1", "zscore=3", "zscore=-0.5"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        for text in [
            "fixed=2",
            "fixed=NaN",
            "fixed=",
            "0.3",
            "budget",
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
            policy.threshold(&Embedding::new(values.to_vec(), generation).unwrap()).unwrap()
        };
        // Everybody scores 0.8 on the first, which says nothing; 0.2 is much on the second.
        assert!((threshold([1.0, 0.0, 0.0]) - 0.8).abs() < 1e-3);
        let second = threshold([0.0, 1.0, 0.0]);
        assert!((0.1..0.13).contains(&second), "{second}");
        let other = Embedding::new(vec![1.0, 0.0, 0.0], Generation([2; 16])).unwrap();
        assert!(policy.threshold(&other).is_err());
    }
}
