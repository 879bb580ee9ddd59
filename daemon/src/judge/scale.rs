//! The scales that policies lay scores on.

use spotter_models::cohort::Cohort;

use super::{Scene, Statistic, table::best_cut};
use crate::error::Result;

/// A policy's scale: for each scene and each of its texts, the value of a score. Larger is rarer.
pub struct Scale {
    /// What it is called in the table.
    pub name: String,
    /// What it measures, with the unit.
    pub measures: &'static str,
    /// What is laid on it.
    pub statistic: Statistic,
    /// By scene, then text.
    values: Vec<Vec<Text>>,
    /// Where it cuts of itself, with this many false alarms a scene over all its texts, and what it
    /// knows that from; `None` for a scale whose best cut is looked for in hindsight.
    pub own_cut: Option<(f64, &'static str)>,
}

/// One text's scores on a scale: so many units above a zero.
struct Text {
    zero: f64,
    unit: f64,
}

impl Scale {
    /// How far scores lie above thresholds, by scene and text, which are cut there, and what these are
    /// known from.
    pub(super) fn above(
        name: String,
        (statistic, measures): (Statistic, &'static str),
        thresholds: Vec<Vec<f64>>,
        known_from: &'static str,
    ) -> Self {
        let text = |zero: f64| Text { zero, unit: 1.0 };
        let texts = |of_scene: Vec<f64>| of_scene.into_iter().map(text).collect();
        let values = thresholds.into_iter().map(texts).collect();
        Self { name, measures, statistic, values, own_cut: Some((0.0, known_from)) }
    }

    /// The value of a text's score.
    pub fn value(&self, scene: usize, text: usize, score: f32) -> f64 {
        let Text { zero, unit } = &self.values[scene][text];
        (f64::from(score) - zero) / unit
    }
}

/// The score as it is: one threshold for all texts.
pub fn cosine(scenes: &[Scene], statistic: Statistic) -> Scale {
    let texts = |scene: &Scene| -> Vec<Text> {
        scene.alerts.iter().map(|_| Text { zero: 0.0, unit: 1.0 }).collect()
    };
    let values = scenes.iter().map(texts).collect();
    let (name, measures) = match statistic {
        Statistic::Looks => ("fixed", "score, cosine"),
        Statistic::View => ("fixed, single looks", "best score of a single look, cosine"),
    };
    Scale { name: name.into(), measures, statistic, values, own_cut: None }
}

/// One threshold for all texts of a scene: the best for the other scenes, in hindsight there.
pub fn elsewhere(scenes: &[Scene], budget: f64) -> Scale {
    let fixed = cosine(scenes, Statistic::Looks);
    let zeros = scenes.iter().enumerate().map(|(index, scene)| {
        let zero = best_cut(scenes, &fixed, budget, |other| other != index);
        vec![zero; scene.alerts.len()]
    });
    Scale::above(
        "fixed, learned".into(),
        (Statistic::Looks, "score above the other recordings' best threshold, cosine"),
        zeros.collect(),
        "best of the others",
    )
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
            let unit = f64::from(spread.deviation.max(1e-4));
            texts.push(Text { zero: f64::from(spread.mean), unit });
        }
        values.push(texts);
    }
    Ok(Scale {
        name: "zscore".into(),
        measures: "score above the cohort's mean, standard deviations",
        statistic: Statistic::Looks,
        values,
        own_cut: None,
    })
}
