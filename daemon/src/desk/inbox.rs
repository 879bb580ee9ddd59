//! What comes in from the broker.

use std::collections::BTreeSet;

use super::{Desk, Shared, Status};
use crate::{
    alert::{
        AlertId,
        book::{Outcome, Retained, Status as AlertStatus},
        store::{Inbound as Stored, Topic},
    },
    error::Result,
    mqtt::{Handler, Inbound, Presence, Received},
};

/// The desk's side of the link. Messages are on disk when [`Handler::receive`] returns.
pub struct Inbox {
    shared: std::sync::Arc<Shared>,
    status: Status,
}

impl Inbox {
    /// Hands what comes in to the desk; `status` is what the device says of itself.
    pub fn new(desk: &Desk, status: Status) -> Self {
        Self { shared: desk.shared.clone(), status }
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

impl Handler for Inbox {
    fn receive(&mut self, received: &Received) -> Result<()> {
        let Some((topic, id)) = about(&received.topic) else {
            tracing::debug!(topic = ?received.topic, "A request that this version does not answer.");
            return Ok(());
        };
        let message = Stored { topic, id, payload: received.payload.clone() };
        let now = self.shared.now();
        let (outcomes, changes) = self.shared.store().take(&[message], now)?;
        for outcome in outcomes {
            if let Outcome::Refused(refusal) = outcome {
                tracing::warn!(reason = %refusal.reason, "A message for an alert was refused.");
            }
        }
        self.shared.leave(changes);
        Ok(())
    }

    fn stored(&mut self) -> BTreeSet<Inbound> {
        let known = self.shared.store().book().readers().load_full();
        let withdrawn = |status: &AlertStatus| matches!(status, AlertStatus::Withdrawn(..));
        let wanted = known.all().iter().filter(|view| !withdrawn(&view.status));
        let alert = |id: &AlertId| Inbound::Alert(id.to_string());
        wanted.map(|view| alert(&view.id)).collect()
    }

    fn retained_set_complete(&mut self, present: &BTreeSet<Inbound>) -> Result<()> {
        let mut retained = Retained { alerts: BTreeSet::new(), approvals: BTreeSet::new() };
        for (topic, id) in present.iter().filter_map(about) {
            match topic {
                Topic::Alert => retained.alerts.insert(id),
                Topic::Approval => retained.approvals.insert(id),
            };
        }
        let now = self.shared.now();
        let (withdrawn, changes) = self.shared.store().reconcile(&retained, now)?;
        for id in withdrawn {
            tracing::warn!(alert = %id, "An alert was withdrawn while the broker was away.");
        }
        self.shared.leave(changes);
        Ok(())
    }

    fn status(&mut self, presence: Presence) -> Vec<u8> {
        self.status.device(presence, self.shared.now())
    }
}
