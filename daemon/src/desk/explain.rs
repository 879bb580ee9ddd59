//! The parts of armed texts, which explain a match: read after all else.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use spotter_models::Embedding;

use super::Clerk;
use crate::{
    alert::{AlertId, phrases::phrases, ready},
    error::Result,
};

/// How long phrases are read at a time; shorter, as whoever changes an alert meanwhile waits for it.
const EXPLAINING: Duration = Duration::from_millis(250);
/// Alerts whose phrases are read at a time.
const EXPLAINED: usize = 256;
/// How often phrases are handed over while there are more to read: each time, all alerts are copied.
const EXPLAINED_EVERY: Duration = Duration::from_secs(10);

impl Clerk {
    /// Reads the phrases of some alerts that are armed; says whether there were any. What fails is told
    /// in the log and not tried again before the alert changes: a match counts without its explanation.
    pub(super) fn explain(&mut self) -> bool {
        if self.unexplained.is_empty() {
            return false;
        }
        if let Err(error) = self.try_explain() {
            tracing::warn!(%error, "Some matches will not be explained by parts of their texts.");
            self.unexplained.clear();
        }
        true
    }

    fn try_explain(&mut self) -> Result<()> {
        let text =
            |id: &AlertId| self.ready.get(id)?.ready.view.spec.as_ref().map(|s| s.text.clone());
        let some: Vec<(AlertId, Vec<String>)> = self
            .unexplained
            .iter()
            .take(EXPLAINED)
            .map(|id| (id.clone(), text(id).map(|text| phrases(&text)).unwrap_or_default()))
            .collect();
        let all: BTreeSet<String> = some.iter().flat_map(|(_, phrases)| phrases.clone()).collect();
        let mut known = BTreeMap::new();
        {
            let store = self.shared.store();
            for phrase in &all {
                if let Some(text) = store.embedding(phrase, self.model.reader.generation())? {
                    known.insert(phrase.clone(), text);
                }
            }
        }
        let until = self.shared.clock.now() + EXPLAINING;
        let enough = || self.shared.clock.now() >= until;
        let read = ready::read_phrases(self.model.reader.as_mut(), &all, known, enough);
        if let Some((phrase, error)) = read.unreadable.first_key_value() {
            tracing::warn!(phrase, error, "A part of a text cannot be read and explains nothing.");
        }
        if let Err(error) = self.shared.store().keep_embeddings(&read.fresh) {
            tracing::warn!(%error, "Phrases that were read are not on disk.");
        }
        let is_tried = |phrase: &String| {
            read.known.contains_key(phrase) || read.unreadable.contains_key(phrase)
        };
        for (id, phrases) in some {
            if phrases.iter().all(is_tried) {
                let known = phrases.into_iter().filter_map(|phrase| {
                    let embedding = read.known.get(&phrase)?.embedding.clone();
                    Some((phrase, embedding))
                });
                let known: Arc<[(String, Embedding)]> = known.collect();
                self.unexplained.remove(&id);
                self.phrases.insert(id, known);
            }
        }
        let now = self.shared.clock.now();
        let begun = *self.explained_at.get_or_insert(now);
        if self.unexplained.is_empty() || now.since(begun) >= EXPLAINED_EVERY {
            self.publish_armed()?;
            self.explained_at = (!self.unexplained.is_empty()).then_some(now);
        }
        Ok(())
    }
}
