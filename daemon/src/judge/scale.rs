//! The scales that policies lay scores on.

use spotter_models::cohort::Cohort;

use super::{Scene, Statistic, table::best_cut};
use crate::{
    error::Result,
    score::{Passed, Reference, Sharer, thresholds},
};

/// A policy's scale: for each scene and each of its texts, the value of a score. Larger is rarer.
pub struct Scale {
    /// What it is called in the table.
    pub name: String,
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
    let name = match statistic {
        Statistic::Looks => "fixed",
        Statistic::View => "fixed, single looks",
    };
    Scale { name: name.into(), statistic, values, own_cut: None }
}

/// One threshold for all texts of a scene: the best for the other scenes, in hindsight there.
pub fn elsewhere(scenes: &[Scene], budget: f64) -> Scale {
    let fixed = cosine(scenes, Statistic::Looks);
    let values = scenes.iter().enumerate().map(|(index, scene)| {
        let zero = best_cut(scenes, &fixed, budget, |other| other != index);
        scene.alerts.iter().map(|_| Text { zero, unit: 1.0 }).collect()
    });
    Scale {
        name: "fixed, learned".into(),
        statistic: Statistic::Looks,
        values: values.collect(),
        own_cut: Some((0.0, "best of the others")),
    }
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
    let statistic = Statistic::Looks;
    Ok(Scale { name: "zscore".into(), statistic, values, own_cut: None })
}

/// How far a score lies above its text's threshold, for `budget` false alarms a scene that its texts
/// share. Learned from the tracks of the other scenes, which stand for the site's past, and the cohort;
/// nobody tells which of these tracks match.
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
        let tracks = (past.len() as f64 / (scenes.len() - 1).max(1) as f64).max(1.0);
        let mut nulls = Vec::new();
        for alert in &scene.alerts {
            nulls.push(reference.null(&reference.score(&alert.text)?, |_| true)?);
        }
        let even = budget / nulls.len() as f64;
        let sharers: Vec<Sharer> =
            nulls.iter().map(|null| Sharer { null, tracks, even, shown: 0.0 }).collect();
        let above = |threshold: f32| Text { zero: f64::from(threshold), unit: 1.0 };
        values.push(thresholds(&sharers).into_iter().map(above).collect());
    }
    Ok(Scale {
        name: format!("budget={budget}"),
        statistic: Statistic::Looks,
        values,
        own_cut: Some((0.0, "promise")),
    })
}
