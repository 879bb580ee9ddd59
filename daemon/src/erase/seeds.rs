//! Whom alerts are like: what is kept of persons with the alerts.

use std::path::PathBuf;

use super::{Meaning, Trace};
use crate::{
    alert::{
        AlertId, Policy, Rules, Store, Wall,
        store::{self, Seed},
    },
    error::Result,
    gallery::Selection,
};

/// What alerts keep of persons: of a running daemon, or of its file.
pub trait Seeds: Send {
    /// Everybody whom alerts are like.
    ///
    /// # Errors
    /// Where the file cannot be read.
    fn seeds(&self) -> Result<Vec<(AlertId, Seed)>>;

    /// Deletes what is kept of the persons of these alerts, for good, and withdraws the alerts.
    ///
    /// # Errors
    /// Where the file cannot be written.
    fn erase(&self, alerts: &[AlertId]) -> Result<()>;

    /// How many files are damaged, of whose persons nobody can say who they are.
    fn damaged(&self) -> usize;

    /// Deletes these files; how many there were.
    ///
    /// # Errors
    /// Where one cannot be deleted.
    fn erase_damaged(&self) -> Result<usize>;
}

/// Of a file that no daemon has open.
pub(super) struct OfFile {
    pub(super) path: PathBuf,
    pub(super) now: Wall,
}

impl OfFile {
    fn open(&self) -> Result<Store> {
        Store::open(&self.path, Rules::new(Policy::default())?, self.now)
    }

    fn is_damaged(&self) -> bool {
        matches!(store::seeds_of(&self.path), Ok(None))
    }
}

impl Seeds for OfFile {
    fn seeds(&self) -> Result<Vec<(AlertId, Seed)>> {
        Ok(store::seeds_of(&self.path)?.unwrap_or_default())
    }

    fn erase(&self, alerts: &[AlertId]) -> Result<()> {
        self.open()?.erase_seeds(alerts, self.now).map(drop)
    }

    fn damaged(&self) -> usize {
        let aside = store::set_aside(&self.path).is_some();
        usize::from(aside) + usize::from(self.is_damaged())
    }

    fn erase_damaged(&self) -> Result<usize> {
        let damaged = self.damaged();
        if self.is_damaged() {
            // Puts it aside: the alerts come back from the broker.
            drop(self.open()?);
        }
        store::delete_set_aside(&self.path)?;
        Ok(damaged)
    }
}

/// The alerts whose person is meant, by any of what is known of them.
pub(super) fn doomed(
    seeds: Vec<(AlertId, Seed)>,
    selection: &Selection,
    meaning: &Meaning,
) -> Vec<AlertId> {
    let is_meant = |(_, seed): &(AlertId, Seed)| {
        let traces = traces(seed);
        // Also of somebody who is too old for the gallery by now.
        let is_named = *selection == Selection::Record(seed.record);
        match is_named {
            true => traces.iter().all(|trace| meaning.is_free(trace)),
            false => traces.iter().any(|trace| meaning.means(trace)),
        }
    };
    seeds.into_iter().filter(is_meant).map(|(id, _)| id).collect()
}

/// A person as the track was seen, and as each sighting told of it.
fn traces(seed: &Seed) -> Vec<Trace> {
    let trace = |sighting| Trace {
        camera: seed.camera.clone(),
        track: Some(seed.track),
        first: seed.first,
        last: seed.last,
        sighting,
    };
    let told = seed.sightings.iter().map(|id| trace(Some(*id)));
    told.chain([trace(None)]).collect()
}
