//! The scales that policies lay scores on.

use std::sync::Arc;

use spotter_models::{calibration::Null, cohort::Cohort};

use super::Scene;
use crate::{
    error::Result,
    score::{Passed, Reference},
};

/// A policy's scale: for each scene and each of its texts, the value of a score. Larger is rarer.
pub struct Scale {
    /// What it is called in the table.
    pub name: String,
    /// By scene, then text.
    values: Vec<Vec<Text>>,
    /// Where it cuts by its own promise, with this many false alarms a scene over all its texts;
    /// `None` for a scale that promises nothing.
    pub own_cut: Option<f64>,
}

/// One text's scores on a scale.
enum Text {
    Cosine,
    Deviations {
        mean: f64,
        deviation: f64,
    },
    /// Rarity among tracks that do not match, over what the budget of its scene allows.
    Rarity {
        null: Arc<Null>,
        allowed: f64,
    },
}

impl Scale {
    /// The value of a text's score.
    pub fn value(&self, scene: usize, text: usize, score: f32) -> f64 {
        match &self.values[scene][text] {
            Text::Cosine => f64::from(score),
            Text::Deviations { mean, deviation } => (f64::from(score) - mean) / deviation,
            Text::Rarity { null, allowed } => allowed / null.probability(score).max(1e-12),
        }
    }
}

/// The cosine as it is: one threshold for all texts.
pub fn cosine(scenes: &[Scene]) -> Scale {
    let values = scenes.iter().map(|scene| scene.alerts.iter().map(|_| Text::Cosine).collect());
    Scale { name: "fixed".into(), values: values.collect(), own_cut: None }
}

/// Standard deviations above the mean over the cohort.
///
/// # Errors
/// Where texts and cohort differ in size.
pub fn deviations(scenes: &[Scene], cohort: &Cohort) -> Result<Scale> {
    let mut values = Vec::new();
    for scene in scenes {
        let mut texts = Vec::new();
        for alert in &scene.alerts {
            let spread = cohort.spread(&alert.text)?;
            let deviation = f64::from(spread.deviation.max(1e-4));
            texts.push(Text::Deviations { mean: f64::from(spread.mean), deviation });
        }
        values.push(texts);
    }
    Ok(Scale { name: "zscore".into(), values, own_cut: None })
}

/// Rarity among the tracks of the other scenes, which stand for the site's past, and of the cohort. Cuts
/// where `budget` false alarms a scene are promised, shared evenly by its texts.
///
/// # Errors
/// Where tracks and texts come from several bundles, or there are too few.
pub fn calibrated(scenes: &[Scene], cohort: &Cohort, budget: f64) -> Result<Scale> {
    let mut values = Vec::new();
    for (index, scene) in scenes.iter().enumerate() {
        let others = scenes.iter().enumerate().filter(|(other, _)| *other != index);
        let past: Vec<Passed> = others.flat_map(|(_, other)| other.passed.clone()).collect();
        let Some(first) = scene.alerts.first() else {
            values.push(Vec::new());
            continue;
        };
        let (generation, width) = (first.text.generation(), first.text.values().len());
        let reference = Reference::new(generation, width, Some(cohort), &past)?;
        // Nobody knows before how many will pass; about as many as elsewhere.
        let tracks = past.len() as f64 / (scenes.len() - 1).max(1) as f64;
        let allowed = budget / (scene.alerts.len() as f64 * tracks.max(1.0));
        let mut texts = Vec::new();
        for alert in &scene.alerts {
            let scores = reference.score(&alert.text)?;
            let null = Arc::new(reference.null(&scores, |_| true)?);
            texts.push(Text::Rarity { null, allowed });
        }
        values.push(texts);
    }
    Ok(Scale { name: format!("budget={budget}"), values, own_cut: Some(1.0) })
}
