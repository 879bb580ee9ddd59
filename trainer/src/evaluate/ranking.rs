//! The standard protocol of text-based person retrieval (`cskt.md` 2.5): every caption asks, every
//! picture may answer, the same person is right.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Shares of the queries in percent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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

impl Ranking {
    /// Means over queries; `None` where there are none.
    pub fn of<'a>(queries: impl IntoIterator<Item = &'a Judged>) -> Option<Self> {
        let (mut sums, mut count) = ([0.0; 5], 0u32);
        for query in queries {
            sums.iter_mut().zip(query.shares()).for_each(|(sum, share)| *sum += share);
            count += 1;
        }
        (count > 0).then(|| Self::from(sums.map(|sum| 100.0 * sum / f64::from(count))))
    }
}

impl From<[f64; 5]> for Ranking {
    /// R@1, R@5, R@10, mAP, mINP.
    fn from([r1, r5, r10, map, minp]: [f64; 5]) -> Self {
        Self { r1, r5, r10, map, minp }
    }
}

/// How one query went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Whom it is about.
    pub person: i64,
    /// Rank of the first right picture; 1 is the best.
    pub first: usize,
    /// Average precision, 0 to 1.
    pub precision: f64,
    /// How many pictures are right, divided by the rank of the last of them.
    pub penalty: f64,
    /// Right pictures divided by all pictures: the R@1 of a model that guesses.
    pub chance: f64,
    /// Score of the best right picture.
    pub right: f32,
    /// Score of the best wrong picture; minus infinity where every picture is right.
    pub wrong: f32,
}

impl Judged {
    /// Judges one row of scores, one for each picture of `gallery`, which holds whom each shows. Of
    /// equal scores the earlier picture comes first. `None` where no picture shows the person.
    pub fn new(row: &[f32], person: i64, gallery: &[i64]) -> Option<Self> {
        let order = order(row);
        let score = |at: Option<&usize>| at.and_then(|at| row.get(*at)).copied();
        let is_right = |at: &usize| gallery.get(*at) == Some(&person);
        let ranked = order.iter().zip(1usize..).filter(|(at, _)| is_right(at));
        let ranks: Vec<usize> = ranked.map(|(_, rank)| rank).collect();
        let (first, last) = (*ranks.first()?, *ranks.last()?);
        let precision = ranks.iter().zip(1u32..).map(|(rank, n)| f64::from(n) / *rank as f64);
        let count = ranks.len() as f64;
        Some(Self {
            person,
            first,
            precision: precision.sum::<f64>() / count,
            penalty: count / last as f64,
            chance: count / gallery.len() as f64,
            right: score(order.get(first - 1)).unwrap_or(f32::NEG_INFINITY),
            wrong: score(order.iter().find(|at| !is_right(at))).unwrap_or(f32::NEG_INFINITY),
        })
    }

    /// What it adds to R@1, R@5, R@10, mAP, mINP; shares of one.
    pub fn shares(&self) -> [f64; 5] {
        let within = |k: usize| f64::from(u8::from(self.first <= k));
        [within(1), within(5), within(10), self.precision, self.penalty]
    }
}

/// Indexes of a row's scores, best first; of equal ones the earlier.
pub fn order(row: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row.get(*b).unwrap_or(&0.0).total_cmp(row.get(*a).unwrap_or(&0.0)));
    order
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
    let rows = scores.chunks_exact(gallery.len()).zip(queries);
    let judged: Vec<Judged> =
        rows.filter_map(|(row, person)| Judged::new(row, *person, gallery)).collect();
    Ranking::of(&judged).ok_or_else(nobody)
}

/// Nothing can be judged.
pub(super) fn nobody() -> Error {
    Error::invalid("queries", "none is about a person whom a picture shows")
}
