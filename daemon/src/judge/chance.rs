//! What texts score by chance, and the thresholds that follow for a budget.

use spotter_models::{calibration::Null, cohort::Cohort};

use super::{Scale, Scene, Statistic};
use crate::{
    error::Result,
    score::{Passed, Reference, Sharer, thresholds},
};

/// For each scene, what its texts score on the tracks of the other scenes, which stand for the site's
/// past, and the cohort; nobody tells which of these tracks match.
pub struct Chance {
    scenes: Vec<OfScene>,
}

struct OfScene {
    /// By text.
    nulls: Vec<Null>,
    /// How many tracks are expected.
    tracks: f64,
}

impl Chance {
    /// Learns it.
    ///
    /// # Errors
    /// Where tracks and texts come from several bundles, or there are too few.
    pub fn learn(scenes: &[Scene], cohort: &Cohort) -> Result<Self> {
        let of = |index| OfScene::learn(scenes, index, cohort);
        Ok(Self { scenes: (0..scenes.len()).map(of).collect::<Result<_>>()? })
    }

    /// How far a score lies above its text's threshold, for `budget` false alarms a scene that its texts
    /// share.
    pub fn scale(&self, budget: f64) -> Scale {
        let zeros = self
            .scenes
            .iter()
            .map(|scene| thresholds(&scene.sharers(budget)).into_iter().map(f64::from).collect());
        Scale::above(
            format!("budget={budget}"),
            (Statistic::Looks, "score above the text's own threshold, cosine"),
            zeros.collect(),
            "promise",
        )
    }

    /// False alarms a scene that are promised for a budget: less than it where no threshold allows
    /// exactly as many.
    pub fn promised(&self, budget: f64) -> f64 {
        let of = |scene: &OfScene| -> f64 {
            let sharers = scene.sharers(budget);
            let cuts = thresholds(&sharers);
            sharers.iter().zip(cuts).map(|(sharer, cut)| sharer.alarms(cut)).sum()
        };
        self.scenes.iter().map(of).sum::<f64>() / self.scenes.len().max(1) as f64
    }
}

impl OfScene {
    fn learn(scenes: &[Scene], index: usize, cohort: &Cohort) -> Result<Self> {
        let others = scenes.iter().enumerate().filter(|(other, _)| *other != index);
        let past: Vec<Passed> = others.flat_map(|(_, other)| other.passed.clone()).collect();
        // Nobody knows before how many will pass; about as many as elsewhere.
        let tracks = (past.len() as f64 / (scenes.len() - 1).max(1) as f64).max(1.0);
        let alerts = &scenes[index].alerts;
        let Some(first) = alerts.first() else { return Ok(Self { nulls: Vec::new(), tracks }) };
        let (generation, width) = (first.text.generation(), first.text.values().len());
        let reference = Reference::new(generation, width, Some(cohort), &past)?;
        let null = |alert: &super::Alert| reference.null(&reference.score(&alert.text)?, |_| true);
        Ok(Self { nulls: alerts.iter().map(null).collect::<Result<_>>()?, tracks })
    }

    fn sharers(&self, budget: f64) -> Vec<Sharer<'_>> {
        let even = budget / self.nulls.len().max(1) as f64;
        let sharer = |null| Sharer { null, tracks: self.tracks, even, shown: 0.0 };
        self.nulls.iter().map(sharer).collect()
    }
}
