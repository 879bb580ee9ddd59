//! How the scores of pairs lie on a policy's scale.

use serde::Serialize;

use super::{Scale, Values};

/// Bins of a histogram.
const BINS: usize = 40;

/// Counts of pairs of a text and a track over equally wide bins of a policy's scale, by what the track
/// is to the text.
#[derive(Clone, Debug, Serialize)]
pub struct Histogram {
    /// The policy.
    pub policy: String,
    /// What its scale measures.
    pub scale: &'static str,
    /// Where the first bin begins.
    pub from: f64,
    /// How wide each is.
    pub width: f64,
    /// Tracks of persons whom the text means.
    pub matches: Vec<u64>,
    /// Tracks of persons who fit it nearly.
    pub near: Vec<u64>,
    /// All others.
    pub others: Vec<u64>,
}

impl Histogram {
    pub(super) fn new(scale: &Scale, values: &Values) -> Self {
        let finite = values.pairs().filter(|value| value.is_finite());
        let (from, to) = finite
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), value| (a.min(value), b.max(value)));
        let (from, to) = if from <= to { (from, to) } else { (0.0, 1.0) };
        let width = ((to - from) / BINS as f64).max(1e-6);
        let count = |values: &[f64]| {
            let mut counts = vec![0; BINS];
            for value in values.iter().filter(|value| value.is_finite()) {
                // The largest value ends the last bin.
                counts[(((value - from) / width) as usize).min(BINS - 1)] += 1;
            }
            counts
        };
        Self {
            policy: scale.name.clone(),
            scale: scale.measures,
            from,
            width,
            matches: count(&values.matches),
            near: count(&values.near),
            others: count(&values.others),
        }
    }
}
