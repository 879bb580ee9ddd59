//! Which verdicts are likely to be wrong.
//!
//! Staff err, and press the wrong button. Whether a track fits a text is hidden; two noisy witnesses tell of it: the
//! verdict, which is wrong with some probability, and the running model's score, whose distribution is normal
//! among those that fit and among those that do not. All of it is fitted by EM (Dawid and Skene, Applied Statistics
//! 28, 1979, with a normal witness beside the named one); a verdict that the two together make unlikely is not
//! learnt from (the co-divide of RDE, arXiv 2308.09911, 3.2, which fits a mixture to losses, without the verdicts).

use serde::{Deserialize, Serialize};

/// What is known of the verdicts of a site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Doubt {
    /// Estimated share of wrong verdicts.
    pub wrong: f64,
    /// Probability that a confirmed sighting has a higher score than a rejected one; 0.5 where the model cannot
    /// tell them apart. `None` where all verdicts are the same.
    pub agreement: Option<f64>,
    /// Its standard error.
    pub agreement_error: f64,
    /// How far apart the scores of those that fit and of those that do not are, in deviations.
    pub distance: f64,
    /// The probability of each that the person fits.
    #[serde(skip)]
    pub fits: Vec<f64>,
}

/// Steps of EM; it moves little after ten.
const STEPS: usize = 60;
/// A deviation is never taken to be smaller than this share of all scores' deviation.
const NARROWEST: f64 = 0.3;

impl Doubt {
    /// Judges pairs of a score (larger: more alike) and what staff said.
    pub fn of(pairs: &[(f64, bool)]) -> Self {
        let (agreement, agreement_error) = agreement(pairs);
        let whole = Normal::of(pairs.iter().map(|(score, _)| (*score, 1.0)), 0.0);
        let floor = NARROWEST * whole.deviation;
        // To begin with, staff are right in four of five.
        let mut wrong = 0.2;
        let mut fits: Vec<f64> =
            pairs.iter().map(|(_, said)| if *said { 1.0 - wrong } else { wrong }).collect();
        let mut distance = 0.0;
        for _ in 0..STEPS {
            let weighted = |fit: bool| {
                let weight = move |p: &f64| if fit { *p } else { 1.0 - *p };
                pairs.iter().zip(&fits).map(move |((score, _), p)| (*score, weight(p)))
            };
            let (yes, no) = (Normal::of(weighted(true), floor), Normal::of(weighted(false), floor));
            // Scores that run against the verdicts tell nothing here: `agreement` is for that.
            if yes.mean <= no.mean {
                break;
            }
            distance = (yes.mean - no.mean) / (0.5 * (yes.deviation + no.deviation)).max(1e-12);
            let prior = mean(fits.iter().copied()).clamp(0.02, 0.98);
            fits = pairs
                .iter()
                .map(|(score, said)| {
                    let witness = |fit: bool| if fit == *said { 1.0 - wrong } else { wrong };
                    let yes = prior * yes.density(*score) * witness(true);
                    let no = (1.0 - prior) * no.density(*score) * witness(false);
                    yes / (yes + no).max(f64::MIN_POSITIVE)
                })
                .collect();
            let errors =
                pairs.iter().zip(&fits).map(|((_, said), p)| if *said { 1.0 - p } else { *p });
            wrong = mean(errors).clamp(0.01, 0.45);
        }
        Self { wrong, agreement, agreement_error, distance, fits }
    }

    /// Whether the verdicts may be believed: beyond chance they agree with what the model knows. Where somebody took
    /// confirm for reject they do not, and persons that are kept to judge by would praise the wrong model.
    pub fn is_credible(&self) -> bool {
        self.agreement.is_none_or(|agreement| agreement - 2.0 * self.agreement_error > 0.5)
    }

    /// Whether the verdict of this pair is more likely to be wrong than right.
    pub fn is_doubtful(&self, pair: usize, said: bool) -> bool {
        self.fits.get(pair).is_some_and(|p| (*p >= 0.5) != said)
    }
}

struct Normal {
    mean: f64,
    deviation: f64,
}

impl Normal {
    fn of(weighted: impl Iterator<Item = (f64, f64)> + Clone, floor: f64) -> Self {
        let sum: f64 = weighted.clone().map(|(_, weight)| weight).sum::<f64>().max(1e-9);
        let mean = weighted.clone().map(|(x, weight)| x * weight).sum::<f64>() / sum;
        let square = weighted.map(|(x, weight)| (x - mean).powi(2) * weight).sum::<f64>() / sum;
        Self { mean, deviation: square.sqrt().max(floor).max(1e-9) }
    }

    fn density(&self, x: f64) -> f64 {
        let z = (x - self.mean) / self.deviation;
        (-0.5 * z * z).exp() / self.deviation
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count.max(1))
}

/// The area under the ROC curve of the scores for the verdicts, and its standard error (Hanley and McNeil, Radiology
/// 143, 1982).
fn agreement(pairs: &[(f64, bool)]) -> (Option<f64>, f64) {
    let yes = pairs.iter().filter(|(_, said)| *said).count() as f64;
    let no = pairs.len() as f64 - yes;
    if yes == 0.0 || no == 0.0 {
        return (None, 0.0);
    }
    let mut sorted: Vec<&(f64, bool)> = pairs.iter().collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut area) = (0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        let positive = tied.iter().filter(|(_, said)| *said).count() as f64;
        let negative = tied.len() as f64 - positive;
        area += positive * (below + 0.5 * negative);
        below += negative;
    }
    let a = area / (yes * no);
    let (q1, q2) = (a / (2.0 - a), 2.0 * a * a / (1.0 + a));
    let spread = a * (1.0 - a) + (yes - 1.0) * (q1 - a * a) + (no - 1.0) * (q2 - a * a);
    (Some(a), (spread / (yes * no)).max(0.0).sqrt())
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Pairs with a truth, of which every fifth verdict is wrong.
    fn pairs(distance: f64, wrong: f64) -> Vec<((f64, bool), bool)> {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let normal = |random: &mut ChaCha8Rng| -> f64 {
            (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0
        };
        (0..1000)
            .map(|number| {
                let fits = number % 2 == 0;
                let score = normal(&mut random) + if fits { distance } else { 0.0 };
                let said = fits != (random.random::<f64>() < wrong);
                ((score, said), fits)
            })
            .collect()
    }

    fn split(pairs: Vec<((f64, bool), bool)>) -> (Vec<(f64, bool)>, Vec<bool>) {
        pairs.into_iter().unzip()
    }

    #[test]
    fn wrong_verdicts_are_found_where_scores_tell_and_none_where_they_do_not() {
        let (given, truth) = split(pairs(3.0, 0.2));
        let doubt = Doubt::of(&given);
        assert!((0.15..0.25).contains(&doubt.wrong), "{}", doubt.wrong);
        let kept = |index: &usize| !doubt.is_doubtful(*index, given[*index].1);
        let left: Vec<usize> = (0..given.len()).filter(kept).collect();
        let wrong = left.iter().filter(|index| given[**index].1 != truth[**index]).count();
        assert!(left.len() > 750 && wrong * 20 < left.len(), "{wrong} of {}", left.len());
        // The model knows nothing: staff are believed.
        let (given, _) = split(pairs(0.0, 0.2));
        let doubt = Doubt::of(&given);
        let doubted = (0..given.len()).filter(|i| doubt.is_doubtful(*i, given[*i].1)).count();
        assert!(doubted < 20, "{doubted}");
        assert!(!doubt.is_credible());
    }

    #[test]
    fn verdicts_that_were_all_turned_round_are_seen() {
        for (distance, wrong, is_credible) in
            [(1.5, 0.8, false), (1.5, 0.5, false), (1.5, 0.2, true), (0.5, 0.2, true)]
        {
            let (given, _) = split(pairs(distance, wrong));
            assert_eq!(Doubt::of(&given).is_credible(), is_credible, "{distance} {wrong}");
        }
        // Nothing can be said of one kind of verdict, or of none.
        assert!(Doubt::of(&[(0.1, true), (0.2, true)]).is_credible());
        assert!(Doubt::of(&[]).agreement.is_none());
    }
}
