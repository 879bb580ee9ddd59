//! What is there to learn from, for people.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use spotter_models::{
    Generation,
    feedback::{Feedback, Judgement, Verdict},
};

use super::Shelf;
use crate::error::Result;

/// A verdict in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// What is on disk.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Views of the track that were not good enough, by cause.
    pub left_out: BTreeMap<String, u32>,
}

/// All that is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The verdicts, the oldest sighting first.
    pub verdicts: Vec<Listed>,
    /// How many say that the person fits.
    pub confirmed: usize,
    /// How many say that it does not.
    pub rejected: usize,
    /// How many have no picture, so that nothing is learnt from them.
    pub without_pictures: usize,
    /// Sightings whose crops wait for a verdict.
    pub pending: usize,
    /// Their crops.
    pub pending_pictures: usize,
    /// Sightings to which somebody said to be on the way, with who.
    pub taken: BTreeMap<String, String>,
    /// Bytes of all pictures.
    pub bytes: u64,
    /// Views that were not good enough, over all sightings that are known, by cause.
    pub left_out: BTreeMap<String, u64>,
    /// Verdicts that cannot be read, with the reason.
    pub broken: BTreeMap<String, String>,
}

/// What staff said of one bundle's sightings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdicts {
    /// That the person fits.
    pub confirmed: u64,
    /// That it does not.
    pub rejected: u64,
}

impl Shelf {
    /// What staff said of a bundle's sightings.
    pub fn said(&self, bundle: Generation) -> Verdicts {
        let mut said = Verdicts::default();
        for entry in self.inner().entries.values().filter(|entry| entry.facts.bundle == bundle) {
            match entry.verdict.as_ref().map(|kept| kept.judgement) {
                Some(Judgement::Confirmed) => said.confirmed += 1,
                Some(Judgement::Rejected) => said.rejected += 1,
                None => {}
            }
        }
        said
    }

    /// What staff said last of a sighting.
    pub fn judged(&self, sighting: &str) -> Option<Judgement> {
        Some(self.inner().entries.get(sighting)?.verdict.as_ref()?.judgement)
    }

    /// How many of a bundle's sightings that were told since then, for alerts that count, staff rejected.
    pub fn rejected(
        &self,
        bundle: Generation,
        since: Timestamp,
        counts: impl Fn(&str) -> bool,
    ) -> u64 {
        let inner = self.inner();
        let rejected = inner.entries.values().filter(|entry| {
            let is_rejected =
                entry.verdict.as_ref().is_some_and(|kept| kept.judgement == Judgement::Rejected);
            is_rejected
                && entry.facts.bundle == bundle
                && entry.facts.told >= since
                && counts(&entry.facts.alert)
        });
        rejected.count() as u64
    }

    /// What is kept.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn summary(&self) -> Result<Summary> {
        let mut summary = Summary::default();
        let inner = self.inner();
        for (name, entry) in &inner.entries {
            if entry.verdict.is_none() {
                summary.pending += 1;
                summary.pending_pictures += entry.facts.pictures.len();
            }
            for (cause, count) in &entry.facts.left_out {
                *summary.left_out.entry(cause.clone()).or_default() += u64::from(*count);
            }
            if let Some(taken) = &entry.facts.taken {
                summary.taken.insert(name.clone(), taken.by.clone());
            }
        }
        summary.bytes = inner.bytes();
        if inner.entries.values().all(|entry| entry.verdict.is_none()) && !self.is_marked() {
            return Ok(summary);
        }
        let (verdicts, broken) = Feedback::open(&self.folder)?.all()?;
        let reason = |broken: spotter_models::feedback::Broken| {
            (broken.path.display().to_string(), broken.reason)
        };
        summary.broken = broken.into_iter().map(reason).collect();
        for verdict in verdicts {
            match verdict.verdict {
                Judgement::Confirmed => summary.confirmed += 1,
                Judgement::Rejected => summary.rejected += 1,
            }
            summary.without_pictures += usize::from(verdict.pictures.is_empty());
            let entry = inner.entries.get(&verdict.sighting);
            let left_out = entry.map(|entry| entry.facts.left_out.clone()).unwrap_or_default();
            summary.verdicts.push(Listed { verdict, left_out });
        }
        Ok(summary)
    }

    fn is_marked(&self) -> bool {
        self.folder.join("feedback.json").is_file()
    }
}
