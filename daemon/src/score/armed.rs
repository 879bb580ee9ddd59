//! The texts that are watched for, as one immutable set: whoever matches takes it once and keeps it for
//! a whole look.

use std::{sync::Arc, time::Duration};

use spotter_models::{
    Embedding, Generation,
    embedding::dot,
    kernel::{Packed, Query},
};

use super::{Cutoff, Place};
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
    /// The text as understood.
    pub understood: String,
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
    /// The texts' directions in 8 bits and what each must reach, for one pass over all of them.
    rows: Option<Packed>,
    thresholds: Vec<f32>,
    generation: Option<Generation>,
}

impl Armed {
    /// Takes alerts whose texts come from one bundle.
    ///
    /// # Errors
    /// Where they come from several.
    pub fn new(alerts: Vec<ArmedAlert>) -> Result<Self> {
        let generation = alerts.first().map(|alert| alert.text.generation());
        Self::read_by(generation, alerts)
    }

    /// The same, of texts that were all read by this bundle; it may be none of them.
    ///
    /// # Errors
    /// Where one was read by another.
    pub fn of(generation: Generation, alerts: Vec<ArmedAlert>) -> Result<Self> {
        Self::read_by(Some(generation), alerts)
    }

    fn read_by(generation: Option<Generation>, alerts: Vec<ArmedAlert>) -> Result<Self> {
        let width = alerts.first().map_or(0, |alert| alert.text.values().len());
        let mut rows = Packed::new(width);
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
            rows.push(alert.text.values())?;
        }
        let thresholds = alerts.iter().map(|alert| alert.cutoff.threshold).collect();
        Ok(Self { alerts, rows: Some(rows), thresholds, generation })
    }

    /// The bundle that read them; unknown of an empty set that nobody read.
    pub fn generation(&self) -> Option<Generation> {
        self.generation
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
    pub fn fitting(&self, place: &Place) -> Result<Vec<(&ArmedAlert, f32)>> {
        let track = place.direction();
        let Some(rows) = self.rows.as_ref().filter(|rows| !rows.is_empty()) else {
            return Ok(Vec::new());
        };
        if Some(track.generation()) != self.generation || track.values().len() != rows.size() {
            return Err(Error::internal(
                "matching",
                "texts and tracks come from two bundles, whose scores are never compared",
            ));
        }
        let query = Query::new(track.values());
        let mut rough = Vec::new();
        rows.scores(&query, &mut rough);
        // In 8 bits nearly all fall through; who may reach the threshold is looked at exactly.
        let bound = rows.bound(&query);
        let mut fitting = Vec::new();
        for ((alert, threshold), rough) in self.alerts.iter().zip(&self.thresholds).zip(rough) {
            if place.certainty() * (rough + bound) < *threshold {
                continue;
            }
            let cosine = dot(alert.text.values(), track.values());
            let score = place.certainty() * cosine;
            if score < *threshold {
                continue;
            }
            let mut excluded = false;
            for other in &alert.without {
                excluded |= other.cosine(track)? > cosine;
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
    use crate::{clock::Mono, score::Looks};

    const A: Generation = Generation([1; 16]);

    fn embedding(x: f32, y: f32) -> Embedding {
        Embedding::new(vec![x, y], A).unwrap()
    }

    /// Where a track lies that was seen once and well.
    fn place(track: &Embedding) -> Place {
        let mut looks = Looks::new(track.generation());
        looks.add(track, 1.0, Mono::default()).unwrap();
        looks.place().unwrap()
    }

    fn alert(id: &str, text: Embedding, without: Vec<Embedding>, threshold: f32) -> ArmedAlert {
        let id = AlertId::new(id).unwrap();
        let cutoff = Cutoff { threshold, null: None, promise: None };
        let phrases = Arc::default();
        let understood = String::new();
        ArmedAlert { id, revision: Some(1), spec: None, understood, text, without, phrases, cutoff }
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
            armed.fitting(&place(track)).unwrap().iter().map(|(a, _)| a.id.to_string()).collect()
        };
        assert_eq!(ids(&coat), ["coat", "coat-no-hat"]);
        assert_eq!(ids(&hat), ["coat"]);
    }

    #[test]
    fn what_is_looked_at_in_8_bits_first_fits_as_if_it_were_not() {
        let mut seed = 7u32;
        let mut random = |length: usize| -> Embedding {
            let mut value = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
            };
            Embedding::new((0..length).map(|_| value()).collect(), A).unwrap()
        };
        let track = random(96);
        let seen = place(&track);
        // Thresholds that lie on the very score, just above it, and anywhere.
        let alerts: Vec<ArmedAlert> = (0..600)
            .map(|number| {
                let text = random(96);
                let exact = seen.certainty() * dot(text.values(), track.values());
                let threshold = match number % 3 {
                    0 => exact,
                    1 => exact + 1e-6,
                    _ => 0.1,
                };
                alert(&format!("a-{number}"), text, vec![], threshold)
            })
            .collect();
        let armed = Armed::new(alerts).unwrap();
        let fitting: Vec<&str> =
            armed.fitting(&seen).unwrap().iter().map(|(alert, _)| alert.id.as_str()).collect();
        let expected: Vec<&str> = armed
            .alerts()
            .iter()
            .filter(|alert| seen.score(&alert.text).unwrap() >= alert.cutoff.threshold)
            .map(|alert| alert.id.as_str())
            .collect();
        assert_eq!(fitting, expected);
        assert!((200..500).contains(&fitting.len()), "{}", fitting.len());
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
        assert!(armed.fitting(&place(&other)).is_err());
        assert!(Armed::default().fitting(&place(&other)).unwrap().is_empty());
    }
}
