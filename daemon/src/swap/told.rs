//! What staff are told of the model.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use spotter_models::{Generation, bundle::Bundle};

use super::{staging::Adaptation, trial::Compared};
use crate::{
    alert::{Wall, rfc3339},
    error::Error,
    feedback::Verdicts,
};

/// A bundle that was to serve and could not.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Which.
    pub bundle: Generation,
    /// Why, for people.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl Refused {
    pub(super) fn new(bundle: Generation, why: &Error, at: Timestamp) -> Self {
        Self { bundle, reason: why.to_string(), at }
    }
}

/// The retained payload of the model's topic.
#[derive(Serialize)]
struct Told<'a> {
    schema: u32,
    state: &'static str,
    bundle: String,
    name: &'a str,
    created_at: &'a str,
    parent: Option<String>,
    evaluation: BTreeMap<&'a str, Figures<'a>>,
    promoted_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    opening: Option<String>,
    refused: Option<ToldRefused>,
    /// What came of the last candidate that looked along.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<&'a Compared>,
    /// What staff said of its sightings, as far as verdicts are kept.
    verdicts: Verdicts,
    #[serde(skip_serializing_if = "Option::is_none")]
    adaptation: Option<&'a Adaptation>,
    clock_synced: bool,
}

#[derive(Serialize)]
struct ToldRefused {
    bundle: String,
    reason: String,
    at: String,
}

/// Figures of one set of data, by name.
type Figures<'a> = BTreeMap<&'a str, f64>;

/// Longest reason that is told, in characters.
const MAX_REASON: usize = 1000;

/// What is told of the serving bundle, of one that is being opened, of the last one that was refused and of the last one
/// that looked along.
pub(super) fn payload(
    (bundle, since): (&Bundle, Timestamp),
    (opening, refused, shadow): (Option<Generation>, Option<&Refused>, Option<&Compared>),
    (verdicts, adaptation): (Verdicts, Option<&Adaptation>),
    now: Wall,
) -> Vec<u8> {
    let manifest = bundle.manifest();
    let told = Told {
        schema: 1,
        state: if opening.is_some() { "opening" } else { "serving" },
        bundle: bundle.generation().to_string(),
        name: &manifest.name,
        created_at: &manifest.created_at,
        parent: manifest.parent.map(|parent| parent.to_string()),
        evaluation: figures(&manifest.evaluation),
        promoted_at: rfc3339(since),
        opening: opening.map(|generation| generation.to_string()),
        refused: refused.map(|refused| ToldRefused {
            bundle: refused.bundle.to_string(),
            reason: refused.reason.chars().take(MAX_REASON).collect(),
            at: rfc3339(refused.at),
        }),
        shadow,
        verdicts,
        adaptation,
        clock_synced: now.believed(),
    };
    // It holds nothing that JSON cannot: the fallback is never written.
    serde_json::to_vec(&told).unwrap_or_default()
}

/// The figures in a manifest's record of evaluations, which has much besides.
fn figures(evaluation: &Map<String, Value>) -> BTreeMap<&str, Figures<'_>> {
    let sets = evaluation.iter().filter_map(|(set, record)| {
        let metrics = record.get("metrics")?.as_object()?.iter();
        let numbers = metrics.filter_map(|(name, value)| Some((name.as_str(), value.as_f64()?)));
        Some((set.as_str(), numbers.collect()))
    });
    sets.collect()
}
