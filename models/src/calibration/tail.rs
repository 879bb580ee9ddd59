//! Beyond the ninetieth percentile: a generalised Pareto distribution of the excesses.
//!
//! Excesses over a high threshold follow it whatever the distribution (Pickands, 1975). Its two
//! parameters come from probability-weighted moments (Hosking and Wallis, Technometrics 29, 1987), which
//! are steadier than likelihood for some hundred excesses; the shape is drawn towards what scores of
//! picture-and-text models have at that height, by as much as there are few.

use super::Scored;

/// Shape that excesses of such scores have on average, and how many excesses that is worth.
const PRIOR_SHAPE: f64 = -0.05;
const PRIOR_WEIGHT: f64 = 200.0;

/// Shapes beyond these are noise: a bound close above the data, or a tail without a variance.
const SHAPES: (f64, f64) = (-0.4, 0.2);

/// Least scale: a sample whose upper part is one value still has a tail that falls.
const MIN_SCALE: f64 = 1e-6;

/// A tail from `start` on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tail {
    start: f32,
    /// Negative: bounded above. In units of nothing.
    shape: f64,
    /// In units of the scores.
    scale: f64,
}

impl Tail {
    /// Fits the part of a sorted sample that lies above `start`.
    pub(super) fn fit(sorted: &[Scored], start: f32) -> Self {
        let excesses = sorted.iter().filter(|scored| scored.score > start);
        let excesses: Vec<(f64, f64)> = excesses
            .map(|scored| (f64::from(scored.score - start), f64::from(scored.weight)))
            .collect();
        let total: f64 = excesses.iter().map(|(_, weight)| weight).sum();
        let (mut mean, mut upper, mut below) = (0.0, 0.0, 0.0);
        for (excess, weight) in &excesses {
            // Hosking and Wallis' plotting position, for weights.
            let position = (below + 0.65 * weight) / total;
            mean += weight * excess / total;
            upper += weight * excess * (1.0 - position) / total;
            below += weight;
        }
        let difference = mean - 2.0 * upper;
        let own = if difference > 0.0 { 2.0 - mean / difference } else { PRIOR_SHAPE };
        let own = own.clamp(SHAPES.0, SHAPES.1);
        let shape = (total * own + PRIOR_WEIGHT * PRIOR_SHAPE) / (total + PRIOR_WEIGHT);
        Self { start, shape, scale: (mean * (1.0 - shape)).max(MIN_SCALE) }
    }

    /// The share of the excesses that reach a score at or above the start.
    pub(super) fn survival(&self, score: f32) -> f64 {
        let excess = f64::from(score - self.start).max(0.0) / self.scale;
        if self.shape.abs() < 1e-9 {
            return (-excess).exp();
        }
        (1.0 + self.shape * excess).max(0.0).powf(-1.0 / self.shape)
    }

    /// The score that this share of the excesses reaches.
    pub(super) fn quantile(&self, share: f64) -> f32 {
        let excess = if self.shape.abs() < 1e-9 {
            -share.ln()
        } else {
            (share.powf(-self.shape) - 1.0) / self.shape
        };
        (f64::from(self.start) + self.scale * excess) as f32
    }
}
