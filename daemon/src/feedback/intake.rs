//! What becomes of a message of the feedback topic, and the answer to it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Flusher, Outcome, Said, Shelf, Wish};
use crate::{
    alert::Wall,
    clock::Clock,
    error::Result,
    gallery::{Gallery, Selection},
    page::Board,
};

/// The device's side of the feedback topic.
pub struct Intake {
    /// Where verdicts are kept.
    pub shelf: Arc<Shelf>,
    /// Crops on their way there.
    pub flusher: Option<Flusher>,
    /// Knows of sightings whose crops are gone.
    pub gallery: Option<Arc<Gallery>>,
    /// Knows of the newest ones.
    pub board: Arc<Board>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Intake {
    /// Takes what staff say. `None` where the sighting is another device's, which answers; what cannot be read
    /// is answered by every device.
    pub fn take(&self, payload: &[u8]) -> Option<Value> {
        let wish = match Wish::parse(payload) {
            Ok(wish) => wish,
            Err(refusal) => {
                count("refused");
                tracing::warn!(reason = refusal.reason, "Feedback was refused.");
                return Some(json!({"error": refusal.reason}));
            }
        };
        let mut answer = self.judged(&wish)?;
        answer["sighting"] = json!(wish.sighting);
        answer["verdict"] = json!(wish.said.name());
        Some(answer)
    }

    fn judged(&self, wish: &Wish) -> Option<Value> {
        if let Some(Err(error)) = self.flusher.as_ref().map(Flusher::flush) {
            tracing::warn!(%error, "The newest crops may not be in a verdict.");
        }
        let (sighting, by) = (wish.sighting, wish.by.as_str());
        let now = Wall::new(self.clock.wall(), None).at;
        match self.shelf.judge(wish, now) {
            Ok(Outcome::Kept { pictures, replaced, left_out }) => {
                count("kept");
                self.shelf.measure();
                let verdict = wish.said.name();
                tracing::info!(%sighting, verdict, by, pictures, replaced, "Feedback is kept.");
                Some(json!({"result": "kept", "kept_pictures": pictures, "replaced": replaced,
                    "left_out": left_out}))
            }
            Ok(Outcome::Taken) => Some(taken(wish)),
            Ok(Outcome::Unknown) => self.unknown(wish),
            Err(error) => {
                count("failed");
                tracing::error!(%sighting, %error, "Feedback is not kept.");
                let reason = format!("is not kept: {error}");
                Some(json!({"result": "refused", "reason": reason}))
            }
        }
    }

    /// Of a sighting of which nothing is kept: silent where it is not this device's.
    fn unknown(&self, wish: &Wish) -> Option<Value> {
        let is_own = self.is_own(wish).unwrap_or_else(|error| {
            tracing::warn!(%error, "Whose a sighting is cannot be looked up.");
            false
        });
        if !is_own {
            return None;
        }
        if wish.said == Said::Taken {
            return Some(taken(wish));
        }
        if !self.shelf.limits.keep {
            count("refused");
            let reason = "this device keeps no feedback ([feedback] keep)";
            return Some(json!({"result": "refused", "reason": reason}));
        }
        count("too_old");
        let reason = "the crops of that sighting are gone, by age, for room or erased: nothing can be \
                      learnt from it ([feedback] pending_hours, max_bytes)";
        Some(json!({"result": "too-old", "reason": reason}))
    }

    fn is_own(&self, wish: &Wish) -> Result<bool> {
        let shown = self.board.snapshot().sightings;
        if shown.iter().any(|shown| shown.sighting.id == wish.sighting) {
            return Ok(true);
        }
        let Some(gallery) = &self.gallery else { return Ok(false) };
        let persons = gallery.persons(&Selection::Sighting(wish.sighting), true)?;
        Ok(!persons.is_empty())
    }
}

fn taken(wish: &Wish) -> Value {
    count("taken");
    tracing::info!(sighting = %wish.sighting, by = wish.by, "Somebody is on the way.");
    json!({"result": "taken"})
}

fn count(result: &'static str) {
    metrics::counter!("spotter_feedback_total", "result" => result).increment(1);
}
