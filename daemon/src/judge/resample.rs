//! Intervals by resampling recordings.
//!
//! The cluster bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993): what is drawn
//! again are whole recordings, since persons and texts of one are no independent cases.

use rand::{Rng, SeedableRng, rngs::SmallRng};

/// Resamplings for an interval.
const RESAMPLINGS: usize = 2_000;

/// The middle 95 % of a resampled figure.
pub type Interval = [f64; 2];

/// The intervals of figures that `figures` computes of drawn scenes, given by their numbers.
pub(super) fn intervals<const N: usize>(
    scenes: usize,
    figures: impl Fn(&[usize]) -> [f64; N],
) -> [Interval; N] {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut all = [const { Vec::new() }; N];
    for _ in 0..RESAMPLINGS {
        let drawn: Vec<usize> = (0..scenes).map(|_| rng.random_range(0..scenes)).collect();
        for (values, value) in all.iter_mut().zip(figures(&drawn)) {
            values.push(value);
        }
    }
    all.map(middle)
}

fn middle(mut values: Vec<f64>) -> Interval {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (share * values.len() as f64) as usize;
        values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
    };
    [at(0.025), at(0.975)]
}
