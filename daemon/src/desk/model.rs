//! What the desk reads and judges by, and how it changes to that of another bundle.
//!
//! The texts that were armed by the bundle before are watched for until all of them are armed by the other one: then
//! all change at once.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
};

use super::{Clerk, Desk, Shared, drift::Drifts};
use crate::{
    alert::{
        AlertId, Rules,
        book::Status as AlertStatus,
        ready::{self, Persons, TextReader},
    },
    clock::Stop,
    error::Result,
    lens::Lens,
    score::{Armed, ArmedAlert, Policy},
};

/// Texts that are read at a time beside the desk.
const TEXTS_AT_ONCE: usize = 64;

/// All that is of one bundle.
pub struct Model {
    /// Reads texts.
    pub reader: Box<dyn TextReader + Send>,
    /// Reads pictures.
    pub lens: Box<dyn Lens>,
    /// What score a text must reach.
    pub policy: Box<dyn Policy>,
}

/// The set that is watched for while another bundle's is made.
pub(super) struct Held {
    armed: Arc<Armed>,
    /// Alerts that were not worked on since.
    pending: BTreeSet<AlertId>,
}

impl Desk {
    /// Reads and judges by another bundle from now on, under these rules. Once every alert is armed by it, the armed
    /// set is another and [of it](Armed::generation).
    pub fn adopt(&self, model: Model, rules: Rules) {
        let mut incoming = self.shared.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        *incoming = Some(model);
        drop(incoming);
        self.use_rules(rules);
    }

    /// For who reads the texts of armed alerts ahead, beside the desk.
    pub fn texts(&self) -> Texts {
        Texts(self.shared.clone())
    }
}

/// The texts of armed alerts.
pub struct Texts(Arc<Shared>);

impl Texts {
    /// Reads them and keeps what was read for the desk, so that it has nothing to read when it adopts the bundle.
    /// What cannot be read is left to the desk, which says so. Ends early where the daemon does.
    ///
    /// # Errors
    /// Where the file of the alerts cannot be read.
    pub fn read_ahead(&self, reader: &mut dyn TextReader, stop: &Stop) -> Result<()> {
        for views in self.0.snapshot().all().chunks(TEXTS_AT_ONCE) {
            if stop.asked() {
                break;
            }
            let known = ready::known(&self.0.store(), reader.generation(), views)?;
            let reading = ready::read(reader, views, (known, Persons::new()), || stop.asked());
            ready::keep_read(&mut self.0.store(), &reading);
        }
        Ok(())
    }
}

impl Clerk {
    /// Takes over another bundle, where one waits.
    pub(super) fn adopt(&mut self) {
        let incoming = self.shared.incoming.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(model) = incoming else { return };
        let armed = match self.held.take() {
            Some(held) => held.armed,
            None => self.shared.armed.load_full(),
        };
        self.model = model;
        self.ready.clear();
        self.stale.clear();
        self.moved.clear();
        self.unexplained.clear();
        self.phrases.clear();
        self.drifts = Drifts::default();
        // What the bundle before could not read, this one may.
        let changes = self.shared.store().try_again(self.shared.now());
        self.shared.leave(changes);
        let known = self.shared.snapshot();
        let pending: BTreeSet<AlertId> = known.all().iter().map(|view| view.id.clone()).collect();
        self.shared.work().again(pending.iter().cloned());
        self.held = Some(Held { armed, pending });
        if let Err(error) = self.publish_armed() {
            tracing::error!(%error, "The texts of another bundle are not watched for yet.");
        }
    }

    /// These alerts are armed by the bundle, or cannot be.
    pub(super) fn worked_on<'a>(&mut self, ids: impl IntoIterator<Item = &'a AlertId>) {
        if let Some(held) = &mut self.held {
            ids.into_iter().for_each(|id| drop(held.pending.take(id)));
        }
    }

    /// While another bundle's set is made: the one that was, without what is not watched for any more.
    pub(super) fn until_all_are_armed(&mut self) -> Result<Option<Armed>> {
        let Some(held) = &self.held else { return Ok(None) };
        if held.pending.is_empty() {
            self.held = None;
            return Ok(None);
        }
        let known = self.shared.snapshot();
        let stays = |alert: &&ArmedAlert| {
            known.get(&alert.id).is_some_and(|view| {
                view.status == AlertStatus::Armed && view.revision == alert.revision
            })
        };
        let staying: Vec<ArmedAlert> = held.armed.alerts().iter().filter(stays).cloned().collect();
        Ok(Some(match held.armed.generation() {
            Some(generation) => Armed::of(generation, staying)?,
            None => Armed::new(staying)?,
        }))
    }
}
