//! Open set: the person may not be there at all, as it is with almost every person who passes a camera.
//!
//! For half of the identities every picture of them is taken out of the gallery, for queries about them
//! alone; whatever such a query finds is a false positive. From the other half one learns how often the
//! right person is found. The figures are those of open-set identification (Liao et al., Open-set Person
//! Re-identification, arXiv 1408.0872; ISO/IEC 19795-1): a query *finds* somebody where the best score in
//! its gallery is above a threshold.
//!
//! - False positive identification rate (FPIR): the share of the queries about absent persons that find
//!   somebody.
//! - Detection and identification rate (DIR): the share of the queries about present persons that find
//!   somebody and whose best picture shows the right one.
//!
//! The threshold for a level of FPIR is the lowest at which no larger share of the queries about absent
//! persons is above it.

use std::collections::BTreeSet;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Judged;

/// Levels of FPIR that are reported.
pub const LEVELS: [f64; 3] = [0.1, 0.01, 0.001];

/// False positives that a level must allow before a threshold is read from them: of three, 95 of 100
/// repetitions would count 1 to 8.
const LEAST_FALSE: usize = 3;

/// Points of the curve that a report keeps, at most.
const MOST_POINTS: usize = 200;

/// What the open-set protocol measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenSet {
    /// Queries about persons whose pictures were taken out.
    pub absent_queries: usize,
    /// Persons whose pictures were taken out.
    pub absent_identities: usize,
    /// Queries about persons who are in the gallery.
    pub present_queries: usize,
    /// The chance, in percent, that a query about a present person has a higher best score than one
    /// about an absent one; 50 is guessing. The area under the receiver operating characteristic.
    #[serde(rename = "AUROC")]
    pub auroc: f64,
    /// One entry for each of [`LEVELS`].
    pub levels: Vec<Level>,
    /// FPIR and DIR, both shares of one, over all thresholds, strictest first.
    #[serde(skip)]
    pub curve: Vec<(f64, f64)>,
}

/// A working point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// The largest FPIR that is accepted, percent.
    #[serde(rename = "FPIR")]
    pub fpir: f64,
    /// DIR there, percent; none where there are too few queries to know the threshold.
    #[serde(rename = "DIR")]
    pub dir: Option<f64>,
    /// A score above this finds somebody.
    pub threshold: Option<f32>,
    /// Queries about absent persons that are above it.
    pub false_positives: Option<usize>,
    /// Why there are no figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// Applies the protocol to queries that were judged with the whole gallery. The absent half of the
/// identities is drawn from `seed`; of an odd number the smaller half is absent. `None` where a half is
/// empty.
pub fn open_set(queries: &[Judged], seed: u64) -> Option<OpenSet> {
    let absent = absent(queries.iter().map(|query| query.person), seed);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for query in queries {
        match absent.contains(&query.person) {
            // Without its pictures, the best wrong one is the best there is.
            true => without.push(query.wrong),
            false => with.push((query.right.max(query.wrong), query.first == 1)),
        }
    }
    if without.is_empty() || with.is_empty() {
        return None;
    }
    without.sort_by(|a, b| b.total_cmp(a));
    Some(OpenSet {
        absent_queries: without.len(),
        absent_identities: absent.len(),
        present_queries: with.len(),
        auroc: 100.0 * auroc(&without, &with),
        levels: LEVELS.map(|level| at_level(level, &without, &with)).to_vec(),
        curve: curve(&without, &with),
    })
}

/// The half of the persons whose pictures are taken out.
pub fn absent(persons: impl IntoIterator<Item = i64>, seed: u64) -> BTreeSet<i64> {
    let mut persons: Vec<i64> = persons.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    persons.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    persons.truncate(persons.len() / 2);
    persons.into_iter().collect()
}

/// The share of present queries that are above a threshold and right.
fn found(threshold: f32, with: &[(f32, bool)]) -> f64 {
    let found = with.iter().filter(|(best, is_right)| *is_right && *best > threshold).count();
    found as f64 / with.len() as f64
}

/// `without` is sorted, highest first.
fn at_level(level: f64, without: &[f32], with: &[(f32, bool)]) -> Level {
    let fpir = 100.0 * level;
    // 0.1 * 30 is a little less than 3 in floating point.
    let allowed = (level * without.len() as f64 + 1e-9) as usize;
    let Some(threshold) = without.get(allowed).copied().filter(|_| allowed >= LEAST_FALSE) else {
        let needed = (LEAST_FALSE as f64 / level).ceil();
        let missing = format!(
            "{} queries about absent persons are too few: {needed} are needed, so that \
             {LEAST_FALSE} may be above the threshold",
            without.len()
        );
        let missing = Some(missing);
        return Level { fpir, dir: None, threshold: None, false_positives: None, missing };
    };
    Level {
        fpir,
        dir: Some(100.0 * found(threshold, with)),
        threshold: Some(threshold),
        false_positives: Some(without.iter().filter(|best| **best > threshold).count()),
        missing: None,
    }
}

/// Mann and Whitney's statistic; equal scores count half. `without` is sorted, highest first.
fn auroc(without: &[f32], with: &[(f32, bool)]) -> f64 {
    let wins = with.iter().map(|(best, _)| {
        let above = without.partition_point(|other| other > best);
        let not_below = without.partition_point(|other| other >= best);
        (without.len() - not_below) as f64 + 0.5 * (not_below - above) as f64
    });
    wins.sum::<f64>() / (without.len() as f64 * with.len() as f64)
}

/// `without` is sorted, highest first.
fn curve(without: &[f32], with: &[(f32, bool)]) -> Vec<(f64, f64)> {
    let step = without.len().div_ceil(MOST_POINTS).max(1);
    // Dense where few false positives are allowed: that is where one works.
    let counts = (0..without.len()).filter(|n| *n < MOST_POINTS / 2 || n % step == 0);
    let point = |n: usize| {
        let threshold = without.get(n).copied().unwrap_or(f32::NEG_INFINITY);
        let above = without.partition_point(|best| *best > threshold);
        (above as f64 / without.len() as f64, found(threshold, with))
    };
    let mut points: Vec<(f64, f64)> = counts.map(point).collect();
    points.push((1.0, found(f32::NEG_INFINITY, with)));
    points.dedup();
    points
}
