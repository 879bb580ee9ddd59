//! All alerts of a device.
//!
//! For messages with a revision the book is a function of their set: any order, any number of
//! duplicates give the same alerts. A plain text and an empty payload mean "from now on" and stand
//! outside of that rule, as does the limit on the number of alerts, which takes who comes first.
//!
//! One owner changes it, message by message, and then settles: only then do readers, who never
//! wait, see the changes. Between the two the owner writes them to disk, or reverts them where it
//! cannot.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;

pub use super::entry::{Outcome, Status, Withdrawal};
use super::{
    AlertId, Code, Refusal, Rules, Spec, Wall,
    approval::Approval,
    entry::{Content, Entry, Kind},
    schema::Message,
};

/// One alert as readers see it.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Its name.
    pub id: AlertId,
    /// The revision that counts; `None` for a plain text.
    pub revision: Option<u64>,
    /// What became of it.
    pub status: Status,
    /// What it asks for; `None` where it is withdrawn or cannot be read.
    pub spec: Option<Arc<Spec>>,
    /// When it ends, where that is known.
    pub expires_at: Option<Timestamp>,
    /// Who approved it, where somebody did.
    pub approved_by: Option<String>,
    /// What a person should know although it is taken.
    pub warnings: Vec<String>,
}

/// All alerts at one moment, sorted by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    alerts: Vec<Arc<View>>,
}

impl Snapshot {
    /// All alerts, also those that are over.
    pub fn all(&self) -> &[Arc<View>] {
        &self.alerts
    }

    /// The alerts that are watched for.
    pub fn armed(&self) -> impl Iterator<Item = &Arc<View>> {
        self.alerts.iter().filter(|view| view.status == Status::Armed)
    }

    /// One alert.
    pub fn get(&self, id: &AlertId) -> Option<&Arc<View>> {
        let place = self.alerts.binary_search_by(|view| view.id.cmp(id)).ok()?;
        self.alerts.get(place)
    }
}

/// What became different since the book was settled last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Alerts as they are now.
    pub views: Vec<Arc<View>>,
    /// Alerts that are over and not remembered any more.
    pub forgotten: Vec<AlertId>,
}

/// The names for which the broker holds a retained message, when they have all been read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Under the alerts topic.
    pub alerts: BTreeSet<AlertId>,
    /// Under the approvals topic.
    pub approvals: BTreeSet<AlertId>,
}

/// All alerts of a device.
pub struct Book {
    rules: Rules,
    entries: BTreeMap<AlertId, Held>,
    live: usize,
    /// Those that are not live, the one that ended first in front.
    ended: BTreeSet<(u64, AlertId)>,
    clock: u64,
    /// What was there before the changes that are not settled.
    undo: BTreeMap<AlertId, Option<Held>>,
    readers: Arc<ArcSwap<Snapshot>>,
}

/// An alert with what readers see of it; no view where only approvals are known.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) entry: Entry,
    view: Option<Arc<View>>,
}

impl Book {
    /// An empty book.
    pub fn new(rules: Rules) -> Self {
        Self::restore(rules, BTreeMap::new(), Wall { at: Timestamp::UNIX_EPOCH, synced: None })
    }

    /// A book as it was kept.
    pub(super) fn restore(rules: Rules, entries: BTreeMap<AlertId, Entry>, now: Wall) -> Self {
        let mut book = Self {
            clock: entries.values().map(|entry| entry.changed).max().unwrap_or(0),
            rules,
            entries: BTreeMap::new(),
            live: 0,
            ended: BTreeSet::new(),
            undo: BTreeMap::new(),
            readers: Arc::default(),
        };
        for (id, mut entry) in entries {
            entry.judge(&book.rules);
            let view = book.view(&id, &entry, now);
            book.set(&id, Some(Held { entry, view }));
        }
        // Under a smaller limit than before; goes to disk with the next change.
        book.forget();
        book.show();
        book
    }

    /// Where readers find the newest settled snapshot.
    pub fn readers(&self) -> Arc<ArcSwap<Snapshot>> {
        self.readers.clone()
    }

    /// The rules that are applied.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Takes a payload of the alerts topic.
    pub fn take(&mut self, id: &AlertId, payload: &[u8], now: Wall) -> Outcome {
        let mut entry = self.entry(id);
        let outcome = entry.take(payload, Message::parse(payload), &self.rules, now);
        if matches!(outcome, Outcome::Duplicate | Outcome::Stale { .. } | Outcome::Nothing) {
            return outcome;
        }
        let was_live = self.is_live(id);
        let is_live = entry.status(&self.rules, now).is_some_and(|status| status.is_live());
        if is_live && !was_live && self.live >= self.rules.policy().max_alerts {
            return Outcome::Refused(self.full());
        }
        self.put(id, Some(entry), now);
        self.forget();
        outcome
    }

    /// Takes a payload of the approvals topic; an empty one takes back what was approved.
    pub fn approve(&mut self, id: &AlertId, payload: &[u8], now: Wall) -> Outcome {
        let mut entry = self.entry(id);
        if payload.is_empty() {
            if entry.approvals.is_empty() {
                return Outcome::Nothing;
            }
            entry.approvals = Default::default();
        } else {
            let approval = match Approval::parse(payload) {
                Ok(approval) => approval,
                Err(refusal) => return Outcome::Refused(refusal),
            };
            let newest = entry.revision();
            if newest.is_some_and(|newest| approval.revision < newest) {
                return Outcome::Stale { newest };
            }
            if !entry.approvals.add(approval) {
                return Outcome::Duplicate;
            }
        }
        self.put(id, Some(entry), now);
        self.forget();
        Outcome::Changed
    }

    /// Lets time pass: alerts expire, and those that came before the clock was set get the time of
    /// their receipt. Cheap enough for every second.
    pub fn tick(&mut self, now: Wall) {
        let believed = now.believed();
        let due = |held: &Held| {
            let stamp = believed && held.entry.top.as_ref().is_some_and(|t| t.received.is_none());
            stamp
                || held.entry.status(&self.rules, now).as_ref()
                    != held.view.as_ref().map(|v| &v.status)
        };
        let due: Vec<AlertId> =
            self.entries.iter().filter(|(_, held)| due(held)).map(|(id, _)| id.clone()).collect();
        for id in due {
            let mut entry = self.entry(&id);
            if let Some(top) = &mut entry.top
                && believed
            {
                top.received.get_or_insert(now.at);
            }
            self.put(&id, Some(entry), now);
        }
        self.forget();
    }

    /// Compares with what the broker holds, once all of it was read: an alert that is not there is
    /// withdrawn until its message comes again, an approval that is not there does not count any
    /// more. Gives the alerts that were withdrawn.
    pub fn reconcile(&mut self, retained: &Retained, now: Wall) -> Vec<AlertId> {
        let mut withdrawn = Vec::new();
        let ids: Vec<AlertId> = self.entries.keys().cloned().collect();
        for id in ids {
            let mut entry = self.entry(&id);
            let wanted = |content: &Content| !matches!(content, Content::Withdrawn { .. });
            let mut changed = false;
            if let Some(top) = &mut entry.top
                && !retained.alerts.contains(&id)
                && !top.missing
                && wanted(&top.content)
            {
                top.missing = true;
                changed = true;
                withdrawn.push(id.clone());
            }
            if !entry.approvals.is_empty() && !retained.approvals.contains(&id) {
                entry.approvals = Default::default();
                changed = true;
            }
            if changed {
                self.put(&id, Some(entry), now);
            }
        }
        self.forget();
        withdrawn
    }

    /// The running bundle cannot look for what this alert asks for. Holds until the alert changes
    /// or [`Book::try_again`]; says whether what was seen still counts.
    pub fn cannot_arm(&mut self, seen: &View, why: Refusal, now: Wall) -> bool {
        let mut entry = self.entry(&seen.id);
        let counts = match (entry.spec(), &seen.spec) {
            (Some(spec), Some(seen)) => Arc::ptr_eq(spec, seen),
            _ => false,
        };
        if counts {
            entry.fault = Some(why);
            self.put(&seen.id, Some(entry), now);
            self.forget();
        }
        counts
    }

    /// The person whom this alert is like was erased: nobody is looked for, until the alert changes.
    pub fn erase(&mut self, id: &AlertId, now: Wall) {
        let mut entry = self.entry(id);
        if entry.top.is_some() {
            entry.is_erased = true;
            self.put(id, Some(entry), now);
            self.forget();
        }
    }

    /// Another bundle runs: what the last one could not look for is tried again.
    pub fn try_again(&mut self, now: Wall) {
        self.each(now, |entry, _| entry.fault.take().is_some());
    }

    /// What these alerts could not be looked for by may be there now: they are tried again.
    pub fn try_these(&mut self, ids: &[AlertId], now: Wall) {
        for id in ids {
            let mut entry = self.entry(id);
            if entry.fault.take().is_some() {
                self.put(id, Some(entry), now);
            }
        }
        self.forget();
    }

    /// Decides over all alerts by other rules.
    pub fn use_rules(&mut self, rules: Rules, now: Wall) {
        self.rules = rules;
        self.each(now, |entry, rules| {
            entry.judge(rules);
            true
        });
    }

    /// Shows the changes to readers.
    pub fn settle(&mut self) -> Changes {
        let mut changes = Changes::default();
        for (id, before) in std::mem::take(&mut self.undo) {
            let before = before.and_then(|held| held.view);
            match self.entries.get(&id).and_then(|held| held.view.clone()) {
                Some(view) if before.as_ref() != Some(&view) => changes.views.push(view),
                None if before.is_some() => changes.forgotten.push(id),
                _ => {}
            }
        }
        if changes != Changes::default() {
            self.show();
        }
        changes
    }

    fn show(&self) {
        let alerts = self.entries.values().filter_map(|held| held.view.clone()).collect();
        self.readers.store(Arc::new(Snapshot { alerts }));
    }

    /// Undoes what was not settled, where it could not be kept.
    pub fn revert(&mut self) {
        for (id, before) in std::mem::take(&mut self.undo) {
            self.set(&id, before);
        }
    }

    /// The alerts that changed since the book was settled, as they have to be kept; `None` where
    /// one is to be forgotten.
    pub(super) fn unsettled(&self) -> impl Iterator<Item = (&AlertId, Option<&Entry>)> {
        self.undo.keys().map(|id| (id, self.entries.get(id).map(|held| &held.entry)))
    }

    /// The messages that make what is wanted and approved now: of each alert the one that counts, and
    /// the newest approval. What cannot be read and what is withdrawn is not among them.
    pub(super) fn messages(&self) -> impl Iterator<Item = (&AlertId, Vec<u8>, Vec<u8>)> {
        self.entries.iter().map(|(id, held)| {
            let top = held.entry.top.as_ref().filter(|top| !top.missing);
            let alert = top.filter(|top| matches!(top.content, Content::Wanted { .. }));
            let alert = alert.map(|top| top.payload.to_vec()).unwrap_or_default();
            (id, alert, held.entry.approvals.newest())
        })
    }

    fn each(&mut self, now: Wall, change: impl Fn(&mut Entry, &Rules) -> bool) {
        let ids: Vec<AlertId> = self.entries.keys().cloned().collect();
        for id in ids {
            let mut entry = self.entry(&id);
            if change(&mut entry, &self.rules) {
                self.put(&id, Some(entry), now);
            }
        }
        self.forget();
    }

    fn entry(&self, id: &AlertId) -> Entry {
        self.entries.get(id).map(|held| held.entry.clone()).unwrap_or_default()
    }

    fn is_live(&self, id: &AlertId) -> bool {
        let view = self.entries.get(id).and_then(|held| held.view.as_ref());
        view.is_some_and(|view| view.status.is_live())
    }

    fn full(&self) -> Refusal {
        let reason = format!(
            "this device holds {} alerts, as many as it may; withdraw one and publish this \
             one again",
            self.live
        );
        Refusal::new(Code::Full, reason)
    }

    /// Forgets what ended first where too much is remembered.
    fn forget(&mut self) {
        while self.ended.len() > self.rules.policy().max_ended {
            let Some((_, id)) = self.ended.first().cloned() else { return };
            self.remember(&id);
            self.set(&id, None);
        }
    }

    /// Changes one alert, so that it can be undone.
    fn put(&mut self, id: &AlertId, entry: Option<Entry>, now: Wall) {
        self.remember(id);
        let held = entry.filter(|e| e.top.is_some() || !e.approvals.is_empty()).map(|mut entry| {
            let view = self.view(id, &entry, now);
            // A duplicate must not keep an ended alert from being forgotten.
            let before = self.entries.get(id);
            if before.is_none_or(|before| before.view != view) {
                self.clock += 1;
                entry.changed = self.clock;
            }
            Held { entry, view }
        });
        self.set(id, held);
    }

    fn remember(&mut self, id: &AlertId) {
        if !self.undo.contains_key(id) {
            self.undo.insert(id.clone(), self.entries.get(id).cloned());
        }
    }

    /// Replaces one alert and keeps the counts.
    fn set(&mut self, id: &AlertId, held: Option<Held>) {
        let is_live = |held: &Held| held.view.as_ref().is_some_and(|view| view.status.is_live());
        if let Some(old) = self.entries.remove(id) {
            if is_live(&old) {
                self.live = self.live.saturating_sub(1);
            } else {
                self.ended.remove(&(old.entry.changed, id.clone()));
            }
        }
        let Some(new) = held else { return };
        if is_live(&new) {
            self.live += 1;
        } else {
            self.ended.insert((new.entry.changed, id.clone()));
        }
        self.entries.insert(id.clone(), new);
    }

    fn view(&self, id: &AlertId, entry: &Entry, now: Wall) -> Option<Arc<View>> {
        let status = entry.status(&self.rules, now)?;
        let plain = entry.top.as_ref().is_some_and(|top| top.kind == Kind::Plain);
        Some(Arc::new(View {
            id: id.clone(),
            revision: if plain { None } else { entry.revision() },
            status,
            spec: entry.spec().cloned(),
            expires_at: entry.expires_at(&self.rules),
            approved_by: entry.approved_by().map(str::to_owned),
            warnings: entry.warnings(),
        }))
    }
}
