//! The standard protocol of text-based person retrieval (`cskt.md` 2.5): every caption asks, every
//! picture may answer, the same person is right.

use serde::Serialize;

use crate::error::{Error, Result};

/// Shares of the queries in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ranking {
    /// With the right person first.
    #[serde(rename = "R@1")]
    pub r1: f64,
    /// With the right person among the first five.
    #[serde(rename = "R@5")]
    pub r5: f64,
    /// With the right person among the first ten.
    #[serde(rename = "R@10")]
    pub r10: f64,
    /// Mean average precision over the whole ranking.
    #[serde(rename = "mAP")]
    pub map: f64,
    /// Mean inverse negative penalty: how far down the last right picture is.
    #[serde(rename = "mINP")]
    pub minp: f64,
}

/// Judges a matrix of scores, one row of `gallery.len()` for each of `queries`; both hold whom each
/// caption and picture shows. Of equal scores the earlier picture comes first. Queries of persons whom
/// no picture shows are left out.
///
/// # Errors
/// [`Error::Invalid`] where the sizes do not fit, a score is NaN, or no query can be judged.
pub fn rank(scores: &[f32], queries: &[i64], gallery: &[i64]) -> Result<Ranking> {
    if gallery.is_empty() || scores.len() != queries.len() * gallery.len() {
        let reason = format!(
            "{} are not {} queries by {} pictures",
            scores.len(),
            queries.len(),
            gallery.len()
        );
        return Err(Error::invalid("scores", reason));
    }
    if scores.iter().any(|score| score.is_nan()) {
        return Err(Error::invalid("scores", "hold NaN: the model is broken"));
    }
    let mut sums = [0.0; 5];
    let mut judged = 0;
    for (row, person) in scores.chunks_exact(gallery.len()).zip(queries) {
        let Some(figures) = judge(row, *person, gallery) else { continue };
        sums.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
        judged += 1;
    }
    if judged == 0 {
        return Err(Error::invalid("queries", "none is about a person whom a picture shows"));
    }
    let [r1, r5, r10, map, minp] = sums.map(|sum| 100.0 * sum / f64::from(judged));
    Ok(Ranking { r1, r5, r10, map, minp })
}

/// One query: R@1, R@5, R@10, average precision, inverse negative penalty; shares of one.
fn judge(row: &[f32], person: i64, gallery: &[i64]) -> Option<[f64; 5]> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row.get(*b).unwrap_or(&0.0).total_cmp(row.get(*a).unwrap_or(&0.0)));
    let right = order.iter().enumerate().filter(|(_, at)| gallery.get(**at) == Some(&person));
    let ranks: Vec<f64> = right.map(|(rank, _)| (rank + 1) as f64).collect();
    let (first, last) = (ranks.first()?, ranks.last()?);
    let within = |k: f64| f64::from(u8::from(*first <= k));
    let precision = ranks.iter().zip(1u32..).map(|(rank, found)| f64::from(found) / rank);
    let count = ranks.len() as f64;
    Some([within(1.0), within(5.0), within(10.0), precision.sum::<f64>() / count, count / last])
}
