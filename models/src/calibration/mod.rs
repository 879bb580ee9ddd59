//! From a raw cosine to the probability of a false alarm, and from a budget back to a threshold.
//!
//! Every text has its own range of scores, so each gets its own null distribution: what the text scores
//! on tracks that nobody looks for. It comes from tracks of the site itself, among which there may be
//! some that truly match; those are told from the others by the bump they make above the bulk
//! ([`mixture`]). Up to its ninetieth percentile the distribution is the sample's own; beyond, it is a
//! generalised Pareto tail, so that a few thousand tracks carry a budget of a few alarms a day
//! ([`tail`]).
//!
//! The scores must be of the statistic that decides, for a track the largest over its looks: the null
//! distribution of anything else promises too much.

mod mixture;
mod tail;

pub use mixture::Matches;
use tail::Tail;

use crate::{Error, Result};

/// Fewest tracks: below, a null distribution is a guess.
pub const MIN_TRACKS: usize = 32;

/// Share of the tracks above which the tail model holds.
const TAIL_SHARE: f64 = 0.1;

/// Points at which the body of the distribution is kept.
const KNOTS: usize = 33;

/// Least spread between the tenth and the ninetieth percentile that counts: a text that scores the
/// same on everybody stands out on nobody by noise.
const MIN_SPREAD: f32 = 2e-4;

/// What a text scored on one track.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// The cosine, the largest over the track's looks.
    pub score: f32,
    /// How much the track counts, 0 to 1; 1 for a track of the site.
    pub weight: f32,
}

/// The distribution of a text's scores on tracks that nobody looks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Null {
    /// Quantiles from probability 0 to 1 - [`TAIL_SHARE`], evenly spaced, never falling.
    body: [f32; KNOTS],
    /// `None` where the text scores the same on everybody.
    tail: Option<Tail>,
    matches: Option<Matches>,
    tracks: f64,
}

impl Null {
    /// Fits the distribution to what a text scored. Tracks that seem to match are left out by as much
    /// as they do.
    ///
    /// # Errors
    /// [`Error::Invalid`] for fewer than [`MIN_TRACKS`] tracks with a weight, or a score that is no
    /// number.
    pub fn fit(sample: &[Scored]) -> Result<Self> {
        let mut sorted = usable(sample)?;
        sorted.sort_by(|a, b| a.score.total_cmp(&b.score));
        let tracks = sorted.iter().map(|scored| f64::from(scored.weight)).sum();
        let matches = mixture::find(&sorted);
        if let Some(matches) = &matches {
            for scored in &mut sorted {
                scored.weight *= (1.0 - matches.posterior(scored.score)) as f32;
            }
        }
        let body = body(&sorted);
        let spread = body[KNOTS - 1] - body[KNOTS / 9];
        let tail = (spread >= MIN_SPREAD).then(|| Tail::fit(&sorted, body[KNOTS - 1]));
        Ok(Self { body, tail, matches, tracks })
    }

    /// How likely a track that does not match scores as much, 0 to 1; never rises with the score.
    pub fn probability(&self, score: f32) -> f64 {
        let Some(tail) = &self.tail else { return 1.0 };
        if score.is_nan() {
            return 1.0;
        }
        if score >= self.body[KNOTS - 1] {
            return TAIL_SHARE * tail.survival(score);
        }
        let above = self.body.partition_point(|knot| *knot <= score);
        if above == 0 {
            return 1.0;
        }
        let (low, high) = (self.body[above - 1], self.body[above]);
        let inside = f64::from(score - low) / f64::from(high - low).max(f64::MIN_POSITIVE);
        1.0 - (above as f64 - 1.0 + inside) / STEPS
    }

    /// The least score that a track which does not match reaches with no more than this probability;
    /// never falls as the probability does. 1 where no score is as rare.
    pub fn threshold(&self, probability: f64) -> f32 {
        let Some(tail) = &self.tail else { return 1.0 };
        if probability.is_nan() || probability <= 0.0 {
            return 1.0;
        }
        let score = if probability < TAIL_SHARE {
            tail.quantile(probability / TAIL_SHARE)
        } else {
            let at = (1.0 - probability.min(1.0)) * STEPS;
            let (knot, inside) = (at.floor(), at.fract() as f32);
            let low = self.body[(knot as usize).min(KNOTS - 1)];
            let high = self.body[(knot as usize + 1).min(KNOTS - 1)];
            low + inside * (high - low)
        };
        score.clamp(-1.0, 1.0)
    }

    /// Whether the text scores differently on different tracks at all.
    pub fn tells_apart(&self) -> bool {
        self.tail.is_some()
    }

    /// The tracks that seem to match, where any do.
    pub fn matches(&self) -> Option<&Matches> {
        self.matches.as_ref()
    }

    /// How many tracks it rests on, by weight.
    pub fn tracks(&self) -> f64 {
        self.tracks
    }
}

/// Steps of probability between the first knot and the last, as if they went on to probability 1.
const STEPS: f64 = (KNOTS - 1) as f64 / (1.0 - TAIL_SHARE);

/// What counts, checked.
fn usable(sample: &[Scored]) -> Result<Vec<Scored>> {
    let wrong = |scored: &&Scored| !scored.score.is_finite() || !scored.weight.is_finite();
    if let Some(wrong) = sample.iter().find(wrong) {
        return Err(Error::invalid("calibration", format!("{wrong:?} is no score")));
    }
    let usable: Vec<Scored> = sample.iter().filter(|scored| scored.weight > 0.0).copied().collect();
    if usable.len() < MIN_TRACKS {
        let reason = format!("{} tracks are too few: at least {MIN_TRACKS}", usable.len());
        return Err(Error::invalid("calibration", reason));
    }
    Ok(usable)
}

/// The quantiles of a sorted sample at the knots, each track standing in the middle of its weight.
fn body(sorted: &[Scored]) -> [f32; KNOTS] {
    let total: f64 = sorted.iter().map(|scored| f64::from(scored.weight)).sum();
    let mut body = [sorted[0].score; KNOTS];
    let (mut below, mut next) = (0.0, 0);
    let (mut last, mut last_at) = (sorted[0].score, 0.0);
    for scored in sorted {
        let at = (below + 0.5 * f64::from(scored.weight)) / total;
        while next < KNOTS && next as f64 / STEPS <= at {
            let inside = (next as f64 / STEPS - last_at) / (at - last_at).max(f64::MIN_POSITIVE);
            body[next] = last + inside.clamp(0.0, 1.0) as f32 * (scored.score - last);
            next += 1;
        }
        below += f64::from(scored.weight);
        (last, last_at) = (scored.score, at);
    }
    body[next..].fill(last);
    body
}

#[cfg(test)]
mod tests;
