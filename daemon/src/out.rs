//! PUBLISH: sightings and their pictures into the outbox, never past it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use spotter_models::Rgb;

use crate::{
    error::Error,
    mqtt::Topics,
    outbox::{Class, Message, Outbox},
    page::Board,
    picture,
    sighting::{Event, Sighting},
    watch::View,
};

/// Quality of a snapshot's JPEG: clothes and colours stay clear, a crop takes some ten kilobytes.
const JPEG_QUALITY: u8 = 85;
/// How long a sighting is worth being delivered; a guard who comes back on Monday wants the weekend's.
const EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Batches that wait in memory while the disk takes none.
const MAX_BACKLOG: usize = 4096;

/// Writes to the outbox. What the disk does not take now is kept in order and tried again with the
/// next sighting, or while there is none.
pub struct Outlet {
    outbox: Arc<Outbox>,
    topics: Topics,
    board: Arc<Board>,
    backlog: VecDeque<Vec<Message>>,
}

impl Outlet {
    /// Writes as this device, and shows the same on the local page.
    pub fn new(outbox: Arc<Outbox>, topics: Topics, board: Arc<Board>) -> Self {
        Self { outbox, topics, board, backlog: VecDeque::new() }
    }

    /// Takes sightings; `view` is what they were seen in. It becomes a picture of those that are not
    /// over, and for those that are new one of the place as well. Without sightings, tries again what
    /// the disk did not take.
    pub fn tell(&mut self, sightings: &[Sighting], view: Option<&View>) {
        if sightings.is_empty() {
            return self.flush();
        }
        let mut batch = Vec::new();
        let crop = view.and_then(|view| encoded(Ok(&view.crop)));
        let context = view.filter(|_| sightings.iter().any(|s| s.event == Event::New));
        let context = context.and_then(|view| {
            let picture = view.scene.as_ref()?.context(&view.bbox);
            encoded(picture.as_ref())
        });
        for sighting in sightings {
            batch.push(self.event(sighting));
            self.board.sighting(sighting, crop.clone());
            if sighting.event != Event::End {
                batch.extend(crop.as_ref().map(|jpeg| self.picture(sighting, jpeg, "crop")));
            }
            if sighting.event == Event::New {
                batch.extend(context.as_ref().map(|jpeg| self.picture(sighting, jpeg, "context")));
            }
        }
        self.backlog.push_back(batch);
        self.flush();
    }

    /// Takes messages back that the disk did not take.
    pub fn forget(&mut self, is_meant: impl Fn(&Message) -> bool) {
        self.backlog.iter_mut().for_each(|batch| batch.retain(|message| !is_meant(message)));
        self.backlog.retain(|batch| !batch.is_empty());
    }

    /// Tries again what the disk did not take.
    fn flush(&mut self) {
        while let Some(batch) = self.backlog.front() {
            match self.outbox.commit(batch) {
                Ok(_) => {
                    self.backlog.pop_front();
                }
                Err(error) => {
                    tracing::error!(%error, waiting = self.backlog.len(), "A sighting is not on disk yet.");
                    break;
                }
            }
        }
        while self.backlog.len() > MAX_BACKLOG {
            self.backlog.pop_front();
            metrics::counter!("spotter_sightings_lost_total").increment(1);
            tracing::error!("A sighting was lost: the disk has taken none for too long.");
        }
    }

    fn event(&self, sighting: &Sighting) -> Message {
        let mut message = Message::new(Class::Event, self.topics.sightings(), sighting.to_json());
        message.camera = Some(sighting.camera.clone());
        message.expires_after = Some(EXPIRY);
        message.reference = Some(format!("{}:{}", sighting.id, sighting.seq));
        message.header.content_type = Some("application/json".into());
        message
    }

    fn picture(&self, sighting: &Sighting, jpeg: &[u8], kind: &str) -> Message {
        let mut message = Message::new(Class::Picture, self.topics.snapshots(), jpeg);
        message.camera = Some(sighting.camera.clone());
        message.expires_after = Some(EXPIRY);
        message.header.content_type = Some("image/jpeg".into());
        message.header.properties = vec![
            ("sighting".into(), sighting.id.to_string()),
            ("seq".into(), sighting.seq.to_string()),
            ("kind".into(), kind.into()),
        ];
        message
    }
}

/// A picture as JPEG; a sighting goes out without one rather than not at all.
fn encoded(picture: std::result::Result<&Rgb, &Error>) -> Option<Vec<u8>> {
    let jpeg = match picture {
        Ok(picture) => picture::jpeg(picture, JPEG_QUALITY).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    jpeg.map_err(|error| tracing::warn!(error, "A sighting lacks a picture.")).ok()
}
