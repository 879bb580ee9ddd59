//! What the site has learnt at night: the folder that `spotter-trainer adapt` writes, which the daemon reads only.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use spotter_models::{
    Generation,
    bundle::{Store, delta::Delta},
};

use crate::{
    bounded,
    engine::Engine,
    error::{Error, Result},
    feedback::Shelf,
};

/// Most bytes of a file of the folder that is read for what it says.
const MAX_BYTES: u64 = 1 << 20;

/// Most reasons of a refusal that are told, and the longest of them in characters.
const MAX_REASONS: usize = 8;
const MAX_REASON: usize = 500;

/// Where candidates come from.
#[derive(Clone, Debug)]
pub struct Staging {
    /// The folder that adaptations are written to.
    pub folder: PathBuf,
    /// The pack that the vendor's bundle was folded from.
    pub pack: PathBuf,
}

/// Where an adaptation stands and how the last one ended, as its topic says.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Adaptation {
    /// As the trainer has it: `reading`, `training`, `judging`, `passed`, `refused`, `stopped`, `failed`.
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Last>,
}

/// The last one that ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Last {
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate: Option<String>,
    created_at: String,
    confirmed: u64,
    rejected: u64,
    reasons: Vec<String>,
}

#[derive(Deserialize)]
struct Status {
    state: String,
    #[serde(default)]
    steps: Option<[u64; 2]>,
}

#[derive(Deserialize)]
struct Report {
    passed: bool,
    reasons: Vec<String>,
    created_at: String,
    #[serde(default)]
    candidate: Option<Generation>,
    verdicts: Verdicts,
}

#[derive(Deserialize)]
struct Verdicts {
    confirmed: u64,
    rejected: u64,
}

impl Staging {
    /// The candidate that passed and that this store has neither promoted nor turned down yet. An adaptation that is
    /// under way has none.
    pub(super) fn candidate(&self, store: &Store) -> Option<Generation> {
        let report: Report = self.read("report.json")?;
        let candidate = report.candidate.filter(|_| report.passed)?;
        store.is_fresh(candidate).ok()?.then_some(candidate)
    }

    /// Folds a candidate onto the pack, has it compute its probe, and installs it.
    ///
    /// # Errors
    /// As [`Store::apply`], where another one lies there by now, or somebody was erased whom it
    /// learnt from.
    pub(super) fn take(
        &self,
        candidate: Generation,
        store: &Store,
        (engine, shelf): (&Engine, &Shelf),
    ) -> Result<Generation> {
        let delta = self.folder.join("delta");
        let place = || delta.display().to_string();
        let opened = Delta::open(&delta)?;
        let lies = opened.record().result;
        if lies != candidate {
            let reason = format!("gives {lies}, and the report beside it says {candidate}");
            return Err(Error::config(place(), reason));
        }
        let learnt = opened.record().provenance.get("sightings").and_then(|list| list.as_array());
        let mut learnt = learnt.into_iter().flatten().filter_map(|name| name.as_str());
        if let Some(gone) = learnt.find(|name| !shelf.knows(name)) {
            let reason = format!(
                "learnt from sighting {gone}, of which nothing is kept any more: it was erased or is too old; the next \
                 night learns anew"
            );
            return Err(Error::config(place(), reason));
        }
        Ok(store.apply(&delta, &self.pack, |bundle| engine.towers(bundle).map(drop))?)
    }

    /// Where an adaptation stands, if there ever was one.
    pub(super) fn adaptation(&self) -> Option<Adaptation> {
        let Status { state, steps } = self.read("status.json")?;
        let last = self.read::<Report>("report.json").map(|report| Last {
            passed: report.passed,
            candidate: report.candidate.map(|candidate| candidate.to_string()),
            created_at: report.created_at,
            confirmed: report.verdicts.confirmed,
            rejected: report.verdicts.rejected,
            reasons: report.reasons.iter().take(MAX_REASONS).map(|reason| short(reason)).collect(),
        });
        let [step, steps] = steps.map_or([None, None], |both| both.map(Some));
        Some(Adaptation { state: state.chars().take(32).collect(), step, steps, last })
    }

    /// A file of the folder; one that is not there, or is being written, says nothing.
    fn read<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Option<T> {
        let bytes = bounded::read(&self.folder.join(name), MAX_BYTES).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

fn short(reason: &str) -> String {
    reason.chars().take(MAX_REASON).collect()
}
