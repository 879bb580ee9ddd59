//! What comes in from the broker.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arc_swap::ArcSwap;

use super::{
    Desk, Shared, Status,
    neighbours::Neighbours,
    requests::{About, Request},
};
use crate::{
    alert::{
        AlertId, Code, Refusal,
        book::{Outcome, Retained, Status as AlertStatus},
        store::{Inbound as Stored, Topic},
    },
    error::Result,
    mqtt::{Handler, Inbound, Presence, Received, Response, Topics},
    outbox::{Class, Message, Outbox},
};

/// Who holds the desired state.
pub enum Truth {
    /// The site's broker: what it holds no longer is withdrawn.
    Broker,
    /// This device: its own broker keeps nothing over a restart, and gets back what it lost.
    Device {
        /// Names of this device.
        topics: Topics,
        /// The way to the broker.
        outbox: Arc<Outbox>,
    },
}

/// The desk's side of the link. Messages are on disk when [`Handler::receive`] returns.
pub struct Inbox {
    shared: Arc<Shared>,
    status: Arc<ArcSwap<Status>>,
    truth: Truth,
    /// Whether the retained set was read since this process started.
    has_read_set: bool,
    neighbours: Neighbours,
}

impl Inbox {
    /// Hands what comes in to the desk; `status` is what the device says of itself, as it is when it
    /// is asked for.
    pub fn new(desk: &Desk, status: Arc<ArcSwap<Status>>, truth: Truth) -> Self {
        let (shared, neighbours) = (desk.shared.clone(), Neighbours::default());
        Self { shared, status, truth, has_read_set: false, neighbours }
    }

    /// Takes what other devices say of themselves.
    fn meet(&mut self, received: &[&Received]) {
        let statuses = received.iter().filter_map(|received| match &received.topic {
            Inbound::Status(device) => Some((device, &received.payload)),
            _ => None,
        });
        let mut has_changed = false;
        for (device, payload) in statuses {
            has_changed |= self.neighbours.take(device, payload);
        }
        if has_changed {
            self.share_budget();
        }
    }

    fn share_budget(&self) {
        self.shared.history.others(self.neighbours.per_day());
        self.shared.signal.raise();
    }

    /// Withdraws what the broker holds no longer.
    fn reconcile(&self, present: &BTreeSet<Inbound>) -> Result<()> {
        let mut retained = Retained { alerts: BTreeSet::new(), approvals: BTreeSet::new() };
        for (topic, id) in present.iter().filter_map(about) {
            match topic {
                Topic::Alert => retained.alerts.insert(id),
                Topic::Approval => retained.approvals.insert(id),
            };
        }
        let now = self.shared.now();
        let (withdrawn, changes) = self.shared.store().reconcile(&retained, now)?;
        if withdrawn.len() > 1 && retained.alerts.is_empty() {
            // As from a broker that was started without its store: the same in the protocol as if staff
            // had withdrawn each.
            tracing::error!(
                alerts = withdrawn.len(),
                "The broker has no alert any more, so nobody is looked for. If nobody withdrew them, the \
                 broker lost its store: publish them again, and let it keep them (persistence)."
            );
        }
        for id in withdrawn {
            tracing::warn!(alert = %id, "An alert was withdrawn while the broker was away.");
        }
        self.shared.leave(changes);
        Ok(())
    }

    /// Gives the broker what this device holds and the broker does not.
    fn give_back(&self, present: &BTreeSet<Inbound>) -> Result<()> {
        let Truth::Device { topics, outbox } = &self.truth else { return Ok(()) };
        let held = self.shared.store().messages();
        let missing = held.into_iter().filter_map(|held| {
            let name = held.id.to_string();
            let desired = match held.topic {
                Topic::Alert => Inbound::Alert(name),
                Topic::Approval => Inbound::Approval(name),
            };
            let topic = (!present.contains(&desired)).then(|| topics.desired(&desired))??;
            let mut message = Message::new(Class::State, topic, held.payload);
            message.retain = true;
            Some(message)
        });
        let missing: Vec<Message> = missing.collect();
        if !missing.is_empty() {
            outbox.commit(&missing)?;
            tracing::info!(alerts = missing.len(), "The embedded broker got its alerts back.");
        }
        Ok(())
    }
}

/// Which alert a topic is about; the topic's ids are valid already.
fn about(topic: &Inbound) -> Option<(Topic, AlertId)> {
    let (kind, id) = match topic {
        Inbound::Alert(id) => (Topic::Alert, id),
        Inbound::Approval(id) => (Topic::Approval, id),
        _ => return None,
    };
    Some((kind, AlertId::new(id).ok()?))
}

/// A question of staff. One that says nowhere, or nowhere allowed, wants no answer; a command without a
/// response topic is carried out. What a broker kept is no command: nobody says it now.
fn question(received: &Received) -> Option<Request> {
    let about = match received.topic {
        Inbound::Preview => About::Preview,
        Inbound::Search => About::Search,
        Inbound::Command if !received.retained => About::Command,
        _ => return None,
    };
    let reply = match &received.response {
        Response::To(reply) => Some(reply.clone()),
        Response::Forbidden(topic) => {
            tracing::warn!(topic, ?about, "A question wants its answer where no device may write.");
            return None;
        }
        Response::None if about == About::Command => None,
        Response::None => {
            tracing::debug!(?about, "A question without a response topic.");
            return None;
        }
    };
    let (payload, correlation) = (received.payload.clone(), received.correlation.clone());
    Some(Request { about, payload, reply, correlation })
}

fn stored(received: &Received) -> Option<Stored> {
    let (topic, id) = about(&received.topic)?;
    Some(Stored { topic, id, payload: received.payload.clone() })
}

/// Says why messages were refused, and gives the alerts that were not taken up at all: whose last
/// message found the device full. Of the others, the state says it.
fn refusals(messages: &[Stored], outcomes: Vec<Outcome>) -> BTreeMap<AlertId, Refusal> {
    let mut not_taken = BTreeMap::new();
    for (message, outcome) in messages.iter().zip(outcomes) {
        let Outcome::Refused(refusal) = outcome else {
            not_taken.remove(&message.id);
            continue;
        };
        let (alert, reason) = (&message.id, &refusal.reason);
        match message.topic {
            Topic::Alert => tracing::warn!(%alert, reason, "A message for an alert was refused."),
            Topic::Approval => tracing::warn!(%alert, reason, "An approval was refused."),
        }
        if message.topic == Topic::Alert && refusal.code == Code::Full {
            not_taken.insert(message.id.clone(), refusal);
        }
    }
    not_taken
}

impl Handler for Inbox {
    fn receive(&mut self, received: &[&Received]) -> Result<()> {
        self.meet(received);
        self.shared.hear(received);
        received.iter().filter_map(|each| question(each)).for_each(|asked| self.shared.ask(asked));
        let messages: Vec<Stored> = received.iter().filter_map(|each| stored(each)).collect();
        let now = self.shared.now();
        let (outcomes, changes) = self.shared.store().take(&messages, now)?;
        let not_taken = refusals(&messages, outcomes);
        self.shared.leave(changes);
        self.shared.refuse(not_taken);
        Ok(())
    }

    fn stored(&mut self) -> BTreeSet<Inbound> {
        let known = self.shared.snapshot();
        let withdrawn = |status: &AlertStatus| matches!(status, AlertStatus::Withdrawn(..));
        let wanted = known.all().iter().filter(|view| !withdrawn(&view.status));
        let alert = |id: &AlertId| Inbound::Alert(id.to_string());
        wanted.map(|view| alert(&view.id)).collect()
    }

    fn retained_set_complete(&mut self, present: &BTreeSet<Inbound>) -> Result<()> {
        match self.truth {
            Truth::Broker => self.reconcile(present)?,
            Truth::Device { .. } => self.give_back(present)?,
        }
        let is_kept = |device: &str| present.contains(&Inbound::Status(device.to_owned()));
        if self.neighbours.keep_only(is_kept) {
            self.share_budget();
        }
        // The first time, all of it was told at the start. Later the broker has lost our session, and
        // perhaps with it what we had told.
        if std::mem::replace(&mut self.has_read_set, true) {
            self.shared.tell_all_again();
        }
        Ok(())
    }

    fn status(&mut self, presence: Presence) -> Vec<u8> {
        let now = self.shared.now();
        let per_day = self.shared.history.per_day(now.at, |_| true);
        self.status.load().device(presence, per_day, now)
    }
}
