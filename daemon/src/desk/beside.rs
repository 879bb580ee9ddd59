//! What is armed, as a bundle reads and judges it that does not serve.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Desk, Model, Shared, calibrate::asking};
use crate::{
    alert::{
        AlertId, View,
        book::Status as AlertStatus,
        ready::{self, Persons, Ready},
    },
    clock::{Mono, Stop},
    error::Result,
    score::{Armed, ArmedAlert, Study},
};

/// The same alerts, by another bundle. Those that are like somebody are left out: that person's own pictures would
/// have to be read anew.
pub struct Beside {
    shared: Arc<Shared>,
    watched: BTreeMap<AlertId, Beheld>,
}

struct Beheld {
    ready: Ready,
    study: Study,
    since: Mono,
}

impl Desk {
    /// For who watches for the same by another bundle.
    pub fn beside(&self) -> Beside {
        Beside { shared: self.shared.clone(), watched: BTreeMap::new() }
    }
}

impl Beside {
    /// Arms by this model what is armed now, and says since when each alert is; nothing where neither the alerts nor
    /// what thresholds rest on changed. Alerts that cannot be read by it are left out.
    ///
    /// # Errors
    /// Where the file of the alerts cannot be read or a text is of another bundle.
    pub fn arm(
        &mut self,
        model: &mut Model,
        stop: &Stop,
    ) -> Result<Option<(Armed, BTreeMap<AlertId, Mono>)>> {
        let known = self.shared.snapshot();
        let is_armed = |view: &&Arc<View>| {
            view.status == AlertStatus::Armed
                && view.spec.as_ref().is_none_or(|spec| spec.like.is_none())
        };
        let armed: Vec<Arc<View>> = known.all().iter().filter(is_armed).cloned().collect();
        let is_same = |beheld: &Beheld, view: &View| beheld.ready.view.revision == view.revision;
        let fresh = armed
            .iter()
            .filter(|view| self.watched.get(&view.id).is_none_or(|beheld| !is_same(beheld, view)));
        let fresh: Vec<Arc<View>> = fresh.cloned().collect();
        let ids: BTreeSet<&AlertId> = armed.iter().map(|view| &view.id).collect();
        let before = self.watched.len();
        self.watched.retain(|id, _| ids.contains(id));
        let has_gone = self.watched.len() < before;
        let has_moved = model.policy.follow(self.shared.now().at)?;
        if fresh.is_empty() && !has_gone && !has_moved {
            return Ok(None);
        }
        self.read(model, &fresh, stop)?;
        if has_moved {
            self.study_all(model, stop)?;
        }
        self.cut(model).map(Some)
    }

    fn read(&mut self, model: &mut Model, views: &[Arc<View>], stop: &Stop) -> Result<()> {
        let known = ready::known(&self.shared.store(), model.reader.generation(), views)?;
        let reader = model.reader.as_mut();
        let reading = ready::read(reader, views, (known, Persons::new()), || stop.asked());
        ready::keep_read(&mut self.shared.store(), &reading);
        for ready in reading.into_ready() {
            let study = self.study(model, &ready)?;
            let since = self.shared.clock.now();
            self.watched.insert(ready.view.id.clone(), Beheld { ready, study, since });
        }
        Ok(())
    }

    fn study_all(&mut self, model: &Model, stop: &Stop) -> Result<()> {
        let ids: Vec<AlertId> = self.watched.keys().cloned().collect();
        for id in ids {
            if stop.asked() {
                break;
            }
            let Some(beheld) = self.watched.get(&id) else { continue };
            let study = self.study(model, &beheld.ready)?;
            if let Some(beheld) = self.watched.get_mut(&id) {
                beheld.study = study;
            }
        }
        Ok(())
    }

    fn study(&self, model: &Model, ready: &Ready) -> Result<Study> {
        let (spec, at) = (ready.view.spec.as_deref(), self.shared.now().at);
        let places = self.shared.places.load();
        asking(&places, (&ready.text.embedding, None), spec, |asked| model.policy.study(asked, at))
    }

    fn cut(&self, model: &Model) -> Result<(Armed, BTreeMap<AlertId, Mono>)> {
        let studies: Vec<&Study> = self.watched.values().map(|beheld| &beheld.study).collect();
        let cutoffs = model.policy.cut(&studies, self.shared.now().at);
        let armed = self.watched.values().zip(cutoffs).map(|(beheld, cutoff)| ArmedAlert {
            id: beheld.ready.view.id.clone(),
            revision: beheld.ready.view.revision,
            spec: beheld.ready.view.spec.clone(),
            understood: beheld.ready.text.understood.clone(),
            text: beheld.ready.text.embedding.clone(),
            without: beheld.ready.without.iter().map(|text| text.embedding.clone()).collect(),
            phrases: Arc::default(),
            cutoff,
        });
        let armed = Armed::of(model.reader.generation(), armed.collect())?;
        let since = self.watched.iter().map(|(id, beheld)| (id.clone(), beheld.since));
        Ok((armed, since.collect()))
    }
}
