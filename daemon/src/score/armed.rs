//! The texts that are watched for, as one immutable set: whoever matches takes it once and keeps it for
//! a whole look.

use std::{sync::Arc, time::Duration};

use spotter_models::{Embedding, Generation};

use super::Cutoff;
use crate::{
    alert::{AlertId, Spec, Wall, place::Places},
    error::{Error, Result},
    frame::CameraId,
    sighting::Phrase,
};

/// One text that is watched for.
#[derive(Clone, Debug)]
pub struct ArmedAlert {
    /// The alert.
    pub id: AlertId,
    /// Its revision; `None` for a text from a file.
    pub revision: Option<u64>,
    /// What its author said of it; `None` for a text from a file, which counts always and everywhere.
    pub spec: Option<Arc<Spec>>,
    /// The text's direction.
    pub text: Embedding,
    /// Directions of what must not be there.
    pub without: Vec<Embedding>,
    /// The parts of the text that explain a match, with their directions. Empty until they are read,
    /// which comes after the arming, and for a text of one part.
    pub phrases: Arc<[(String, Embedding)]>,
    /// What its score must reach.
    pub cutoff: Cutoff,
}

impl ArmedAlert {
    /// Shortest time between two new sightings.
    pub fn cooldown(&self) -> Duration {
        self.spec.as_ref().map_or(Duration::ZERO, |spec| spec.cooldown)
    }

    /// How well a track fits each part of the text, best first.
    ///
    /// # Errors
    /// Where the track was embedded by another bundle.
    pub fn explain(&self, track: &Embedding) -> Result<Vec<Phrase>> {
        let score = |(text, direction): &(String, Embedding)| {
            Ok(Phrase { text: text.clone(), score: direction.cosine(track)? })
        };
        let mut phrases = self.phrases.iter().map(score).collect::<Result<Vec<_>>>()?;
        phrases.sort_by(|one, other| other.score.total_cmp(&one.score));
        Ok(phrases)
    }

    /// Whether the alert counts here and now; `bbox` is left, top, width, height in shares of the frame.
    pub fn applies(&self, places: &Places, camera: &CameraId, bbox: [f32; 4], now: Wall) -> bool {
        self.spec.as_ref().is_none_or(|spec| {
            spec.schedule.as_ref().is_none_or(|schedule| schedule.is_open(now))
                && places.covers(spec, camera, bbox)
        })
    }
}

/// All texts that are watched for.
#[derive(Debug, Default)]
pub struct Armed {
    alerts: Vec<ArmedAlert>,
    /// The texts' directions one after the other, for one pass over all of them.
    rows: Vec<f32>,
    width: usize,
    generation: Option<Generation>,
}

impl Armed {
    /// Takes alerts whose texts come from one bundle.
    ///
    /// # Errors
    /// Where they come from several.
    pub fn new(alerts: Vec<ArmedAlert>) -> Result<Self> {
        let generation = alerts.first().map(|alert| alert.text.generation());
        let width = alerts.first().map_or(0, |alert| alert.text.values().len());
        let mut rows = Vec::with_capacity(alerts.len() * width);
        for alert in &alerts {
            let same = |text: &Embedding| {
                Some(text.generation()) == generation && text.values().len() == width
            };
            let others = alert.without.iter().chain(alert.phrases.iter().map(|(_, phrase)| phrase));
            if !same(&alert.text) || !others.into_iter().all(same) {
                return Err(Error::internal(
                    format!("alert {}", alert.id),
                    "its text was embedded by another bundle than the others",
                ));
            }
            rows.extend_from_slice(alert.text.values());
        }
        Ok(Self { alerts, rows, width, generation })
    }

    /// The alerts.
    pub fn alerts(&self) -> &[ArmedAlert] {
        &self.alerts
    }

    /// Alerts that a track fits, with their scores: the text's threshold is reached, and nothing that
    /// must not be there fits better than the text itself.
    ///
    /// # Errors
    /// Where the track was embedded by another bundle.
    pub fn fitting(&self, track: &Embedding) -> Result<Vec<(&ArmedAlert, f32)>> {
        if self.alerts.is_empty() {
            return Ok(Vec::new());
        }
        if Some(track.generation()) != self.generation || track.values().len() != self.width {
            return Err(Error::internal(
                "matching",
                "texts and tracks come from two bundles, whose scores are never compared",
            ));
        }
        let mut fitting = Vec::new();
        for (alert, row) in self.alerts.iter().zip(self.rows.chunks_exact(self.width)) {
            let score = spotter_models::embedding::dot(row, track.values());
            if score < alert.cutoff.threshold {
                continue;
            }
            let mut excluded = false;
            for other in &alert.without {
                excluded |= other.cosine(track)? > score;
            }
            if !excluded {
                fitting.push((alert, score));
            }
        }
        Ok(fitting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Generation = Generation([1; 16]);

    fn embedding(x: f32, y: f32) -> Embedding {
        Embedding::new(vec![x, y], A).unwrap()
    }

    fn alert(id: &str, text: Embedding, without: Vec<Embedding>, threshold: f32) -> ArmedAlert {
        let id = AlertId::new(id).unwrap();
        let cutoff = Cutoff { threshold, null: None, promise: None };
        let phrases = Arc::default();
        ArmedAlert { id, revision: Some(1), spec: None, text, without, phrases, cutoff }
    }

    #[test]
    fn the_best_phrase_explains_first() {
        let mut alert = alert("a", embedding(1.0, 0.0), vec![], 0.5);
        assert!(alert.explain(&embedding(1.0, 0.0)).unwrap().is_empty());
        let phrase = |text: &str, direction| (text.to_owned(), direction);
        alert.phrases =
            [phrase("hat", embedding(0.0, 1.0)), phrase("coat", embedding(0.8, 0.6))].into();
        let explained = alert.explain(&embedding(1.0, 0.0)).unwrap();
        let texts: Vec<&str> = explained.iter().map(|phrase| phrase.text.as_str()).collect();
        assert_eq!(texts, ["coat", "hat"]);
        assert!((explained[0].score - 0.8).abs() < 1e-6 && explained[1].score.abs() < 1e-6);
        let other = Embedding::new(vec![1.0, 0.0], Generation([2; 16])).unwrap();
        assert!(alert.explain(&other).is_err());
        alert.phrases = [phrase("hat", other)].into();
        assert!(Armed::new(vec![alert]).is_err(), "a phrase of another bundle");
    }

    #[test]
    fn what_must_not_be_there_decides_against_a_fit() {
        let coat = embedding(1.0, 0.0);
        let hat = embedding(0.6, 0.8);
        let armed = Armed::new(vec![
            alert("coat", coat.clone(), vec![], 0.5),
            alert("coat-no-hat", coat.clone(), vec![hat.clone()], 0.5),
            alert("far", embedding(-1.0, 0.0), vec![], 0.5),
        ])
        .unwrap();
        let ids = |track: &Embedding| -> Vec<String> {
            armed.fitting(track).unwrap().iter().map(|(a, _)| a.id.to_string()).collect()
        };
        assert_eq!(ids(&coat), ["coat", "coat-no-hat"]);
        assert_eq!(ids(&hat), ["coat"]);
    }

    #[test]
    fn bundles_never_mix() {
        let other = Embedding::new(vec![1.0, 0.0], Generation([2; 16])).unwrap();
        let mixed = vec![
            alert("a", embedding(1.0, 0.0), vec![], 0.5),
            alert("b", other.clone(), vec![], 0.5),
        ];
        assert!(Armed::new(mixed).is_err());
        let armed = Armed::new(vec![alert("a", embedding(1.0, 0.0), vec![], 0.5)]).unwrap();
        assert!(armed.fitting(&other).is_err());
        assert!(Armed::default().fitting(&other).unwrap().is_empty());
    }
}
