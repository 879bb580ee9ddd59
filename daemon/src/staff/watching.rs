//! Sightings as they come, for as long as somebody watches.

use std::time::Duration;

use super::{
    Desk, Fault, Heard, Session,
    session::{Happened, Persistence, at_least_once},
};

/// How long the broker keeps sightings while the connection is down.
const KEPT: Duration = Duration::from_secs(3600);
/// Between a loss and the next try. One desk is not many devices: no need to spread the tries.
const PAUSE: Duration = Duration::from_secs(1);

/// What a watching person is told.
#[derive(Debug)]
pub enum Event {
    /// A sighting, a picture or a device's status.
    Heard(Heard),
    /// The connection broke; it is tried again.
    Lost(String),
    /// The connection is there again.
    Back {
        /// Whether the broker kept what was missed.
        resumed: bool,
    },
}

/// A conversation that goes on over broken connections.
pub struct Watching {
    session: Session,
    wants_pictures: bool,
    /// What came while the broker answered the subscription.
    early: std::collections::VecDeque<Heard>,
}

impl Watching {
    /// Connects and subscribes to the sightings, the devices' status and, with `wants_pictures`,
    /// the pictures.
    ///
    /// # Errors
    /// As [`Session::open`]: only the first connection has to come within ten seconds.
    pub async fn start(desk: &Desk, pictures: Pictures) -> Result<Self, Fault> {
        let persistence = Persistence::Returns { kept: KEPT, pause: PAUSE };
        let session = Session::open_as(desk, persistence).await?;
        let wants_pictures = pictures == Pictures::Wanted;
        let mut watching = Self { session, wants_pictures, early: Default::default() };
        let filters = watching.filters().into_iter().map(at_least_once).collect();
        let mut early = std::collections::VecDeque::new();
        watching.session.subscribe(filters, &mut |heard| early.push_back(heard)).await?;
        watching.early = early;
        Ok(watching)
    }

    fn filters(&self) -> Vec<String> {
        let site = self.session.site();
        let mut filters = vec![site.sightings(), site.statuses()];
        if self.wants_pictures {
            filters.push(site.snapshots());
        }
        filters
    }

    /// What happens next, as soon as it does. May be dropped.
    ///
    /// # Errors
    /// [`Fault::Broker`] where the client cannot go on.
    pub async fn next(&mut self) -> Result<Event, Fault> {
        loop {
            if let Some(heard) = self.early.pop_front() {
                return Ok(Event::Heard(heard));
            }
            match self.session.happened.recv().await {
                Some(Happened::Message(publish)) => {
                    if let Some(heard) = self.session.understand(&publish) {
                        return Ok(Event::Heard(heard));
                    }
                }
                Some(Happened::Lost(down)) => return Ok(Event::Lost(down.to_string())),
                Some(Happened::Back { resumed }) => {
                    if !resumed {
                        let filters = self.filters().into_iter().map(at_least_once);
                        let asked = self.session.client.try_subscribe_many(filters);
                        asked.map_err(|error| self.session.fault(error.to_string()))?;
                    }
                    return Ok(Event::Back { resumed });
                }
                None => return Err(self.session.fault("the connection ended")),
            }
        }
    }

    /// Takes leave: the broker keeps nothing for us any more.
    pub async fn close(self) {
        self.session.close().await;
    }
}

/// Whether pictures are wanted: they are a thousand times as large as sightings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pictures {
    /// They are not subscribed to.
    Unwanted,
    /// They are.
    Wanted,
}
