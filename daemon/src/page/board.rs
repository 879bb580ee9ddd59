//! What the page shows: bounded, written by the daemon's parts, read by any number of readers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::{
    alert::{rfc3339, state::StateName},
    sighting::{Event, Sighting},
};

/// Sightings that are kept, the newest.
pub const MAX_SIGHTINGS: usize = 200;
/// Bytes of pictures that are kept; the oldest sightings lose theirs first.
pub const MAX_PICTURE_BYTES: usize = 16 << 20;
/// Alerts that are shown, of however many there are: a page with ten thousand is read by nobody.
pub const MAX_ALERTS: usize = 500;
/// Changes that a slow reader may lag behind before it is told to look at everything again.
const BACKLOG: usize = 64;

/// How a camera is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CameraState {
    /// Its first connection is being made.
    Connecting,
    /// Frames flow.
    Streaming,
    /// No frames; it is tried again.
    Down,
    /// A recording is over.
    Ended,
}

/// A camera as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraShown {
    /// What staff call it.
    pub name: String,
    /// How it is.
    pub state: CameraState,
    /// Why it is down and what to do; without credentials.
    pub reason: Option<String>,
    /// Frames a second, while it streams.
    pub fps: Option<f32>,
    /// Since when it is so.
    pub since: Option<Timestamp>,
}

/// An alert as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertShown {
    /// Its name.
    pub id: String,
    /// The description, as understood where it is armed.
    pub text: String,
    /// What the device makes of it.
    pub state: StateName,
    /// Why it is not armed.
    pub reason: Option<String>,
    /// What a person should know of it although it is armed.
    pub warnings: Vec<String>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// A sighting as it is shown: the newest message about it.
#[derive(Clone, Debug, PartialEq)]
pub struct SightingShown {
    /// Its id, also the name of its picture.
    pub id: String,
    /// The newest message.
    pub sighting: Sighting,
    /// The person as JPEG, while it is kept.
    pub picture: Option<Arc<[u8]>>,
    /// Number of the message that brought the picture, by which a better view is told apart.
    pub picture_seq: u64,
}

/// What monitors ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The models are open and at least one camera was tried.
    pub ready: bool,
    /// The stages that do not move although they have work.
    pub stalled: Vec<String>,
    /// Why the broker cannot be used, while it cannot.
    pub broker_away: Option<String>,
}

/// All that is shown, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The cameras, in the order of the configuration.
    pub cameras: Arc<[CameraShown]>,
    /// The first [`MAX_ALERTS`] alerts.
    pub alerts: Arc<[AlertShown]>,
    /// How many alerts there are.
    pub alerts_total: usize,
    /// The newest sightings, the newest first.
    pub sightings: Vec<Arc<SightingShown>>,
    /// Whether all is well.
    pub health: Arc<Health>,
}

/// What a reader is told as it happens.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A message about a sighting, as JSON.
    Sighting(Arc<str>),
    /// Cameras, alerts or health.
    Other,
}

/// What the page shows. No call waits for a reader.
pub struct Board {
    shown: Mutex<Shown>,
    changes: broadcast::Sender<Change>,
}

#[derive(Default)]
struct Shown {
    cameras: Arc<[CameraShown]>,
    alerts: Arc<[AlertShown]>,
    alerts_total: usize,
    /// The oldest first.
    sightings: VecDeque<Arc<SightingShown>>,
    picture_bytes: usize,
    health: Arc<Health>,
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl Board {
    /// Nothing to show yet, not ready.
    pub fn new() -> Self {
        Self { shown: Mutex::default(), changes: broadcast::Sender::new(BACKLOG) }
    }

    /// How the cameras are. A new frame rate alone is no news to anybody.
    pub fn cameras(&self, cameras: Vec<CameraShown>) {
        let is_news = {
            let mut shown = self.shown();
            let is_news = !same_but_fps(&shown.cameras, &cameras);
            shown.cameras = cameras.into();
            is_news
        };
        self.tell_if(is_news);
    }

    /// The alerts, in the order in which they are to be shown.
    pub fn alerts(&self, mut alerts: Vec<AlertShown>) {
        let total = alerts.len();
        alerts.truncate(MAX_ALERTS);
        let is_news = {
            let mut shown = self.shown();
            let is_news = *shown.alerts != *alerts || shown.alerts_total != total;
            shown.alerts = alerts.into();
            shown.alerts_total = total;
            is_news
        };
        self.tell_if(is_news);
    }

    /// Whether all is well.
    pub fn health(&self, health: Health) {
        let is_news = {
            let mut shown = self.shown();
            let is_news = *shown.health != health;
            shown.health = Arc::new(health);
            is_news
        };
        self.tell_if(is_news);
    }

    /// A message about a sighting. It takes the place of an earlier one with the same id, and keeps
    /// that one's picture where it brings none.
    pub fn sighting(&self, sighting: &Sighting, jpeg: Option<Vec<u8>>) {
        let id = sighting.id.to_string();
        let has_picture = self.shown().put(id.clone(), sighting, jpeg);
        let json = serde_json::json!({
            "id": id,
            "event": event_name(sighting.event),
            "seq": sighting.seq,
            "alert": sighting.alert.as_str(),
            "camera": sighting.camera.as_str(),
            "at": rfc3339(sighting.at),
            "score": sighting.score,
            "threshold": sighting.threshold,
            "picture": has_picture.then(|| format!("/sightings/{id}.jpg")),
        });
        self.tell(Change::Sighting(json.to_string().into()));
    }

    /// Takes sightings and their pictures away; how many these were.
    pub fn forget(&self, is_meant: impl Fn(&Sighting) -> bool) -> usize {
        let gone = {
            let mut shown = self.shown();
            let before = shown.sightings.len();
            shown.sightings.retain(|kept| !is_meant(&kept.sighting));
            let pictures = shown.sightings.iter().map(|kept| bytes(kept.picture.as_deref()));
            shown.picture_bytes = pictures.sum();
            before - shown.sightings.len()
        };
        self.tell_if(gone > 0);
        gone
    }

    /// All that is shown now.
    pub fn snapshot(&self) -> Snapshot {
        let shown = self.shown();
        Snapshot {
            cameras: shown.cameras.clone(),
            alerts: shown.alerts.clone(),
            alerts_total: shown.alerts_total,
            sightings: shown.sightings.iter().rev().cloned().collect(),
            health: shown.health.clone(),
        }
    }

    /// Whether all is well now.
    pub(super) fn current_health(&self) -> Arc<Health> {
        self.shown().health.clone()
    }

    /// The picture of a sighting, while it is kept.
    pub(super) fn picture(&self, id: &str) -> Option<Arc<[u8]>> {
        let shown = self.shown();
        shown.sightings.iter().find(|kept| kept.id == id).and_then(|kept| kept.picture.clone())
    }

    /// What happens from here on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_if(&self, is_news: bool) {
        if is_news {
            self.tell(Change::Other);
        }
    }

    fn tell(&self, change: Change) {
        // The only error is that nobody listens.
        drop(self.changes.send(change));
    }
}

impl Shown {
    /// Returns whether the sighting has a picture.
    fn put(&mut self, id: String, sighting: &Sighting, jpeg: Option<Vec<u8>>) -> bool {
        let place = self.sightings.iter().position(|kept| kept.id == id);
        let before = place.and_then(|place| self.sightings.get(place)).cloned();
        // In front of its own room being made, so that it never pays twice for one picture.
        self.forget_picture(before.as_deref());
        let brought = jpeg.filter(|jpeg| jpeg.len() <= MAX_PICTURE_BYTES).map(Arc::from);
        let (picture, picture_seq) = match (brought, before) {
            (None, Some(before)) => (before.picture.clone(), before.picture_seq),
            (brought, _) => (brought, sighting.seq),
        };
        let has_picture = picture.is_some();
        self.picture_bytes += bytes(picture.as_deref());
        let sighting = sighting.clone();
        let shown = Arc::new(SightingShown { id, sighting, picture, picture_seq });
        // What is told later of a person does not move it: whoever reads would lose the place.
        match place.and_then(|place| self.sightings.get_mut(place)) {
            Some(kept) => *kept = shown,
            None => self.sightings.push_back(shown),
        }
        while self.sightings.len() > MAX_SIGHTINGS {
            let oldest = self.sightings.pop_front();
            self.forget_picture(oldest.as_deref());
        }
        self.make_room();
        has_picture
    }

    fn make_room(&mut self) {
        for index in 0..self.sightings.len() {
            if self.picture_bytes <= MAX_PICTURE_BYTES {
                return;
            }
            let Some(kept) = self.sightings.get_mut(index) else { return };
            self.picture_bytes = self.picture_bytes.saturating_sub(bytes(kept.picture.as_deref()));
            // Copied only where a reader looks at it at this moment.
            Arc::make_mut(kept).picture = None;
        }
    }

    fn forget_picture(&mut self, kept: Option<&SightingShown>) {
        let freed = kept.map_or(0, |kept| bytes(kept.picture.as_deref()));
        self.picture_bytes = self.picture_bytes.saturating_sub(freed);
    }
}

/// The word of an event in payloads.
pub(super) fn event_name(event: Event) -> &'static str {
    match event {
        Event::New => "new",
        Event::Update => "update",
        Event::End => "end",
    }
}

fn bytes(picture: Option<&[u8]>) -> usize {
    picture.map_or(0, <[u8]>::len)
}

fn same_but_fps(before: &[CameraShown], now: &[CameraShown]) -> bool {
    before.len() == now.len()
        && before.iter().zip(now).all(|(before, now)| {
            (&before.name, before.state, &before.reason, before.since)
                == (&now.name, now.state, &now.reason, now.since)
        })
}
