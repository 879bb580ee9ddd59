//! Bundles that were trained on who is erased: their weights cannot be erased in part.

use std::{collections::BTreeSet, path::Path};

use serde::{Deserialize, Serialize};
use spotter_models::bundle::Store;

use super::Meaning;
use crate::sighting::SightingId;

/// A bundle of the store that somebody who is erased was learnt from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trained {
    /// Its generation.
    pub bundle: String,
    /// What people call it.
    pub name: String,
    /// Whether it is the one that is used.
    pub current: bool,
    /// The sightings, as its `provenance.sightings` names them.
    pub sightings: Vec<String>,
}

/// Those of a store whose deltas name a sighting that is erased, or that is meant though nothing else is known
/// of it any more. A store that cannot be read names none, which the log says.
pub(super) fn trained(store: &Path, erased: &BTreeSet<String>, meaning: &Meaning) -> Vec<Trained> {
    let store = Store::new(store);
    // What cannot be said of bundles keeps nobody from being erased.
    let current = store.current().unwrap_or_default();
    let deltas = store.deltas().unwrap_or_else(|error| {
        tracing::error!(%error, "Nobody can say which bundles were trained on whom.");
        Vec::new()
    });
    let mut found = Vec::new();
    for (generation, record) in deltas {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(%generation, %error, "Nobody can say on whom a bundle was trained.");
                continue;
            }
        };
        let named = record.provenance.get("sightings").and_then(|list| list.as_array());
        let named = named.into_iter().flatten().filter_map(|name| name.as_str());
        let is_meant = |name: &&str| {
            let id = name.parse::<SightingId>().ok();
            erased.contains(*name) || id.is_some_and(|id| meaning.names(id))
        };
        let sightings: Vec<String> = named.filter(is_meant).map(str::to_owned).collect();
        if !sightings.is_empty() {
            let (bundle, name) = (generation.to_string(), record.name);
            let current = current == Some(generation);
            found.push(Trained { bundle, name, current, sightings });
        }
    }
    found
}
