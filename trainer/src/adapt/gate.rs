//! Whether a candidate may take the place of what runs.
//!
//! It is judged on persons that it did not learn from: of the site, against what runs now, and of the bundle's
//! reference set, against the vendor's bundle, so that small losses of many nights do not add up. Both models see the
//! same pictures and captions; that the difference is no chance is told by drawing persons anew, each with all
//! its captions (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8).

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use spotter_models::embedding::dot;

use crate::{
    dataset::Dataset,
    error::{Error, Result},
    evaluate::{Choice, Embedder, Outcome, Part, SEED, bootstrap::RESAMPLES, evaluate},
};

/// What the figures are called.
pub const FIGURES: [&str; 3] = ["R@1", "mAP", "found at 1 % false alarms"];
/// The false-alarm rate, by picture and text, at which the last figure is taken.
const FALSE_ALARMS: f64 = 0.01;

/// What a candidate must hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Most that a figure may fall on the reference set, in points.
    pub reference_loss: f64,
    /// Fewest persons of the site to judge by.
    pub persons: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { reference_loss: 1.0, persons: 8 }
    }
}

/// A model's figures, query by query.
pub struct Marks {
    /// By query: whom it is about, and shares of one for each of [`FIGURES`].
    queries: Vec<(i64, [f64; 3])>,
    /// Pictures.
    pictures: usize,
}

impl Marks {
    /// Judges a model on a set's persons of the split `val`.
    ///
    /// # Errors
    /// Where nothing can be judged, or the model is broken.
    pub fn of(embedder: &mut dyn Embedder, data: &Dataset, step: &mut dyn FnMut()) -> Result<Self> {
        let choice = Choice { split: Part::Val, distinct: true, ids: None };
        let outcome = evaluate(embedder, data, &choice, step)?;
        let found = found(&outcome);
        let judged = outcome.scored.queries.iter().zip(found);
        let queries = judged
            .map(|((_, judged), found)| {
                let [r1, _, _, map, _] = judged.shares();
                (judged.person, [r1, map, found])
            })
            .collect();
        Ok(Self { queries, pictures: outcome.gallery.len() })
    }
}

/// For each query that was judged: the share of the right pictures that score above all but [`FALSE_ALARMS`] of the
/// wrong ones.
fn found(outcome: &Outcome) -> Vec<f64> {
    let share = |index: usize, person: i64| {
        let text = outcome.texts.get(index).map(Vec::as_slice).unwrap_or_default();
        let (mut right, mut wrong) = (Vec::new(), Vec::new());
        for (image, shown) in outcome.images.iter().zip(&outcome.shown) {
            let side = if *shown == person { &mut right } else { &mut wrong };
            side.push(dot(text, image));
        }
        wrong.sort_by(|a, b| b.total_cmp(a));
        let allowed = (FALSE_ALARMS * wrong.len() as f64) as usize;
        let threshold = wrong.get(allowed).copied().unwrap_or(f32::NEG_INFINITY);
        let above = right.iter().filter(|score| **score > threshold).count();
        above as f64 / right.len().max(1) as f64
    };
    outcome.scored.queries.iter().map(|(index, judged)| share(*index, judged.person)).collect()
}

/// How a candidate compares on one set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// What the set is called.
    pub set: String,
    /// Persons, captions and pictures.
    pub persons: usize,
    /// Captions that asked.
    pub captions: usize,
    /// Pictures that might answer.
    pub pictures: usize,
    /// In the order of [`FIGURES`].
    pub figures: Vec<Figure>,
}

/// One figure of two models, in percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// One of [`FIGURES`].
    pub name: String,
    /// Of the model that is compared with.
    pub before: f64,
    /// Of the candidate.
    pub after: f64,
    /// The 95 % interval of the difference; `None` with fewer than two persons.
    pub difference: Option<[f64; 2]>,
}

impl Figure {
    /// By how many points it rose.
    pub fn gain(&self) -> f64 {
        self.after - self.before
    }
}

/// Compares two models on the same set.
///
/// # Errors
/// Where they did not judge the same queries.
pub fn compare(set: &str, before: &Marks, after: &Marks) -> Result<Compared> {
    let persons = |marks: &Marks| marks.queries.iter().map(|query| query.0).collect::<Vec<_>>();
    if persons(before) != persons(after) || before.queries.is_empty() {
        return Err(Error::invalid(set, "the two models did not judge the same captions"));
    }
    let mut clusters: BTreeMap<i64, (f64, [f64; 3])> = BTreeMap::new();
    for ((person, old), (_, new)) in before.queries.iter().zip(&after.queries) {
        let (count, sums) = clusters.entry(*person).or_default();
        *count += 1.0;
        sums.iter_mut().zip(new.iter().zip(old)).for_each(|(sum, (new, old))| *sum += new - old);
    }
    let clusters: Vec<(f64, [f64; 3])> = clusters.into_values().collect();
    let intervals = intervals(&clusters);
    let mean = |marks: &Marks, figure: usize| {
        let sum: f64 = marks.queries.iter().filter_map(|(_, shares)| shares.get(figure)).sum();
        100.0 * sum / marks.queries.len() as f64
    };
    let figures = FIGURES.iter().enumerate().map(|(index, name)| Figure {
        name: (*name).to_owned(),
        before: mean(before, index),
        after: mean(after, index),
        difference: intervals.as_ref().and_then(|all| all.get(index).copied()),
    });
    Ok(Compared {
        set: set.to_owned(),
        persons: clusters.len(),
        captions: before.queries.len(),
        pictures: before.pictures,
        figures: figures.collect(),
    })
}

fn intervals(clusters: &[(f64, [f64; 3])]) -> Option<[[f64; 2]; 3]> {
    if clusters.len() < 2 {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut means: [Vec<f64>; 3] = std::array::from_fn(|_| Vec::with_capacity(RESAMPLES));
    for _ in 0..RESAMPLES {
        let (mut count, mut sums) = (0.0, [0.0; 3]);
        for _ in 0..clusters.len() {
            let Some((n, drawn)) = clusters.get(random.random_range(0..clusters.len())) else {
                continue;
            };
            count += n;
            sums.iter_mut().zip(drawn).for_each(|(sum, more)| *sum += more);
        }
        means.iter_mut().zip(sums).for_each(|(means, sum)| means.push(100.0 * sum / count));
    }
    Some(means.map(|mut means| {
        means.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (share * (means.len() - 1) as f64).round() as usize;
            means.get(place).copied().unwrap_or(f64::NAN)
        };
        [at(0.025), at(0.975)]
    }))
}

/// Why a candidate is refused; empty where it passes. Sentences for people.
pub fn reasons(site: &Compared, reference: &Compared, rules: &Rules) -> Vec<String> {
    let mut reasons = Vec::new();
    if site.persons < rules.persons {
        reasons.push(format!(
            "only {} persons of the site are there to judge by, and {} are needed: wait for more verdicts",
            site.persons, rules.persons
        ));
    }
    for figure in &site.figures {
        if let Some([low, high]) = figure.difference
            && high < 0.0
        {
            reasons.push(format!(
                "on the site's persons {} falls from {:.1} to {:.1} % ({low:.1} to {high:.1} points)",
                figure.name, figure.before, figure.after
            ));
        }
    }
    let gain: f64 = site.figures.iter().map(Figure::gain).sum::<f64>() / FIGURES.len() as f64;
    if gain <= 0.0 {
        reasons.push(format!(
            "on the site's persons it is no better than what runs: {gain:+.2} points in the mean of {}",
            FIGURES.join(", ")
        ));
    }
    for figure in &reference.figures {
        if figure.gain() < -rules.reference_loss {
            reasons.push(format!(
                "on the reference set {} falls from {:.1} to {:.1} %, more than the {:.1} points that it may",
                figure.name, figure.before, figure.after, rules.reference_loss
            ));
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(shares: impl Fn(i64) -> f64) -> Marks {
        let queries = (0..40).map(|n| (n / 2, [shares(n); 3])).collect();
        Marks { queries, pictures: 80 }
    }

    fn compared(before: impl Fn(i64) -> f64, after: impl Fn(i64) -> f64) -> Compared {
        compare("set", &marks(before), &marks(after)).unwrap()
    }

    #[test]
    fn better_on_the_site_and_not_worse_elsewhere_passes() {
        let site = compared(|n| f64::from(n % 2 == 0), |n| f64::from(n % 4 != 1));
        assert_eq!((site.persons, site.captions, site.figures[0].after), (20, 40, 75.0));
        let same = compared(|n| f64::from(n % 2 == 0), |n| f64::from(n % 2 == 0));
        assert_eq!(reasons(&site, &same, &Rules::default()), Vec::<String>::new());
        assert_eq!(same.figures[0].difference, Some([0.0, 0.0]));
    }

    #[test]
    fn each_way_to_be_worse_is_refused_with_its_figures() {
        let same = || compared(|n| f64::from(n % 2 == 0), |n| f64::from(n % 2 == 0));
        let worse = || compared(|n| f64::from(n % 4 != 1), |n| f64::from(n % 2 == 0));
        let better = || compared(|n| f64::from(n % 2 == 0), |n| f64::from(n % 4 != 1));
        let rules = Rules::default();
        let said = |site, reference, rules| reasons(&site, &reference, &rules).join("; ");
        assert!(said(same(), same(), rules).contains("no better"));
        assert!(said(worse(), same(), rules).contains("falls from 75.0 to 50.0 %"));
        assert!(said(better(), worse(), rules).contains("on the reference set R@1 falls"));
        let strict = Rules { persons: 21, ..rules };
        assert!(said(better(), same(), strict).contains("only 20 persons"));
        assert!(compare("set", &marks(|_| 1.0), &Marks { queries: vec![], pictures: 0 }).is_err());
    }
}
