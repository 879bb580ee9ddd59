//! How far figures would move with other persons: intervals by resampling.
//!
//! The cluster bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and
//! 13): as many identities as there are, drawn with replacement, each with all its queries, because
//! queries about one person succeed or fail together. The gallery stays. The interval reaches from the
//! 2.5th to the 97.5th percentile of the means of the draws.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::Judged;

/// Draws for the intervals of a report.
pub const RESAMPLES: usize = 1000;

/// Lower and upper ends in percent; 95 of 100 such intervals hold the true figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// Of R@1.
    #[serde(rename = "R@1")]
    pub r1: [f64; 2],
    /// Of R@5.
    #[serde(rename = "R@5")]
    pub r5: [f64; 2],
    /// Of R@10.
    #[serde(rename = "R@10")]
    pub r10: [f64; 2],
    /// Of mAP.
    #[serde(rename = "mAP")]
    pub map: [f64; 2],
    /// Of mINP.
    #[serde(rename = "mINP")]
    pub minp: [f64; 2],
}

/// Sums over the queries of one identity.
#[derive(Clone, Copy, Default)]
struct Cluster {
    queries: f64,
    sums: [f64; 5],
}

impl Cluster {
    fn add(&mut self, other: &Self) {
        self.queries += other.queries;
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, more)| *sum += more);
    }
}

/// Intervals of the means over `queries`; the same for the same `seed`. `None` with fewer than two
/// identities, of which nothing can be said about others.
pub fn intervals(queries: &[Judged], resamples: usize, seed: u64) -> Option<Intervals> {
    let mut clusters: BTreeMap<i64, Cluster> = BTreeMap::new();
    for query in queries {
        let one = Cluster { queries: 1.0, sums: query.shares() };
        clusters.entry(query.person).or_default().add(&one);
    }
    let clusters: Vec<Cluster> = clusters.into_values().collect();
    if clusters.len() < 2 || resamples == 0 {
        return None;
    }
    let mut source = ChaCha8Rng::seed_from_u64(seed);
    let mut means: [Vec<f64>; 5] = std::array::from_fn(|_| Vec::with_capacity(resamples));
    for _ in 0..resamples {
        let mut drawn = Cluster::default();
        for _ in 0..clusters.len() {
            let at = source.random_range(0..clusters.len());
            clusters.get(at).iter().for_each(|cluster| drawn.add(cluster));
        }
        for (means, sum) in means.iter_mut().zip(drawn.sums) {
            means.push(100.0 * sum / drawn.queries);
        }
    }
    let [r1, r5, r10, map, minp] = means.map(|mut means| {
        means.sort_by(f64::total_cmp);
        [percentile(&means, 0.025), percentile(&means, 0.975)]
    });
    Some(Intervals { r1, r5, r10, map, minp })
}

/// A percentile of sorted values, between the two nearest in proportion.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len().saturating_sub(1)) as f64;
    let value = |at: f64| sorted.get(at as usize).copied().unwrap_or(f64::NAN);
    let (below, above) = (value(place.floor()), value(place.ceil()));
    below + (above - below) * place.fract()
}
