//! Whom alerts and questions are like: from a name to a track of this device, and to its vector by the
//! running bundle.
//!
//! Vectors stay on the box that made them. Another box says who keeps the person.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use spotter_models::{Embedding, Error as ModelError};

use super::{Clerk, Shared};
use crate::{
    alert::{
        AlertId, Code, Like, Refusal, View, Wall, Who,
        book::Status as AlertStatus,
        ready::{Lost, Person, Persons},
        store::{self, Seed, Text},
    },
    clock::Mono,
    erase::Seeds,
    error::{Error, Result},
    gallery::{Gallery, RecordId, Selection},
    picture,
    score::Own,
};

/// How long after a sighting its person may still come into the gallery: the longest that anybody stays in
/// view.
const MAY_COME: SignedDuration = SignedDuration::from_hours(1);

/// How often that is looked for.
const LOOKED_FOR_EVERY: Duration = Duration::from_secs(5);

/// Somebody who was found, with the vector where it is of the running bundle.
type Found = (Seed, Option<Embedding>);

impl Clerk {
    /// Whom those of these armed alerts are like that are like somebody, as many as there is time for until
    /// then; of how many alerts from the first one this is all, at least one.
    pub(super) fn persons(&mut self, views: &[Arc<View>], until: Mono) -> (usize, Persons) {
        let mut persons = Persons::new();
        let mut done = 0;
        for view in views {
            if let Some(like) = liked(view) {
                if done > 0 && self.shared.clock.now() >= until {
                    break;
                }
                let person = self.person(&view.id, like);
                let is_unknown =
                    matches!(&person, Err(Lost::Refused(why)) if why.code == Code::NoPerson);
                if is_unknown && may_come(like, self.shared.now().at) {
                    self.expected.insert(view.id.clone());
                }
                persons.insert(view.id.clone(), person);
            }
            done += 1;
        }
        self.model.lens.close();
        (done, persons)
    }

    /// Whom an alert is like: as it is kept with the alert, or as the gallery has the person, who is kept with
    /// the alert from now on.
    fn person(&mut self, id: &AlertId, like: &Like) -> Result<Person, Lost> {
        let failed = |error: Error| Lost::Failed(error.to_string());
        let generation = self.model.reader.generation();
        let kept = self.shared.store().seed(id, like, generation).map_err(failed)?;
        let (seed, embedding) = match kept {
            Some(store::Kept::Erased) => return Err(Lost::Erased),
            Some(store::Kept::Seed(seed, embedding)) => {
                let is_known = embedding.is_some();
                let embedding = self.vector(&seed, embedding)?;
                if is_known {
                    return Ok(person(like, seed.as_ref(), embedding));
                }
                (*seed, embedding)
            }
            None => {
                let (seed, embedding) = self.found(like)?;
                let embedding = self.vector(&seed, embedding)?;
                (seed, embedding)
            }
        };
        self.shared.store().keep_seed(id, like, (&seed, &embedding)).map_err(failed)?;
        Ok(person(like, &seed, embedding))
    }

    /// Whom somebody asks about, without anything being kept.
    ///
    /// # Errors
    /// [`Error::Config`] with the reason that an alert's state would have.
    pub(super) fn asked_about(&mut self, like: &Like) -> Result<(Person, RecordId)> {
        let told = |lost: Lost| match lost {
            Lost::Refused(why) => Error::config("like", why.reason),
            Lost::Erased => Error::config("like", "names somebody who was erased"),
            Lost::Failed(reason) => Error::internal("like", reason),
        };
        let found = self.found(like).and_then(|(seed, embedding)| {
            let embedding = self.vector(&seed, embedding)?;
            Ok((person(like, &seed, embedding), seed.record))
        });
        self.model.lens.close();
        found.map_err(told)
    }

    /// The track in this device's gallery.
    fn found(&self, like: &Like) -> Result<Found, Lost> {
        let refused = |code, reason: String| Err(Lost::Refused(Refusal::new(code, reason)));
        if let Some(device) = &like.device
            && like.is_elsewhere(self.topics.device())
        {
            let what = match like.who {
                Who::Sighting(_) => "of this sighting",
                Who::Track(_) => "of this number",
            };
            return refused(
                Code::Elsewhere,
                format!("the person {what} is on device {device}, which alone can look for them"),
            );
        }
        let Some(gallery) = self.gallery.clone() else {
            let reason = "this device remembers nobody who passed (gallery.keep is false)";
            return refused(Code::NoPerson, reason.to_owned());
        };
        match find(&gallery, like) {
            Ok(Some((seed, embedding))) => {
                let of_running = embedding.generation() == self.model.reader.generation();
                Ok((seed, of_running.then_some(embedding)))
            }
            Ok(None) => refused(Code::NoPerson, nobody(like, self.shared.now().at)),
            Err(error) => Err(Lost::Failed(error.to_string())),
        }
    }

    /// The vector by the running bundle: the one that is known, or what its tower makes of the picture.
    fn vector(&mut self, seed: &Seed, known: Option<Embedding>) -> Result<Embedding, Lost> {
        if let Some(known) = known {
            return Ok(known);
        }
        let lost = |reason: &str| {
            let reason = format!(
                "the model was changed since the person was seen, and {reason}: name a newer sighting, or \
                 describe the person"
            );
            Err(Lost::Refused(Refusal::new(Code::Unreadable, reason)))
        };
        let Some(jpeg) = &seed.picture else { return lost("no picture of the person is kept") };
        let crop = match picture::decode(jpeg) {
            Ok(crop) => crop,
            Err(_) => return lost("the picture of the person cannot be read"),
        };
        match self.model.lens.embed(&crop) {
            Ok(embedding) => Ok(embedding),
            Err(Error::Model(ModelError::Corrupt { .. })) => lost("its picture shows nothing"),
            Err(error) => Err(Lost::Failed(error.to_string())),
        }
    }

    /// Looks again for those who were in view when an alert named them, and are in the gallery once they left.
    pub(super) fn look_again(&mut self, now: Wall) {
        let at = self.shared.clock.now();
        if self.expected.is_empty() || at < self.looked_for_at {
            return;
        }
        self.looked_for_at = at + LOOKED_FOR_EVERY;
        let known = self.shared.snapshot();
        let gallery = self.gallery.clone();
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for id in &self.expected {
            let view = known.get(id);
            let like = view.filter(|view| waits(view)).and_then(|view| like_of(view));
            let Some((like, gallery)) = like.zip(gallery.as_ref()) else {
                gone.push(id.clone());
                continue;
            };
            match find(gallery, like) {
                Ok(None) if may_come(like, now.at) => {}
                // Or nobody comes any more, which is told as another reason.
                Ok(_) => come.push(id.clone()),
                Err(error) => {
                    tracing::warn!(alert = %id, %error, "Its person is not looked for yet.")
                }
            }
        }
        for id in gone.iter().chain(&come) {
            self.expected.remove(id);
        }
        if !come.is_empty() {
            let changes = self.shared.store().try_these(&come, now);
            self.shared.leave(changes);
        }
    }
}

fn liked(view: &View) -> Option<&Like> {
    like_of(view).filter(|_| view.status == AlertStatus::Armed)
}

fn like_of(view: &View) -> Option<&Like> {
    view.spec.as_ref()?.like.as_ref()
}

/// Whether an alert is rejected only since nobody is kept whom it is like.
fn waits(view: &View) -> bool {
    matches!(&view.status, AlertStatus::Rejected(why) if why.code == Code::NoPerson)
}

/// Whether the person of a sighting may still be in view.
fn may_come(like: &Like, now: Timestamp) -> bool {
    match like.who {
        Who::Sighting(id) => now.duration_since(id.at()) <= MAY_COME,
        Who::Track(_) => false,
    }
}

fn nobody(like: &Like, now: Timestamp) -> String {
    match like.who {
        Who::Sighting(_) if may_come(like, now) => {
            "nobody of this sighting is kept here yet: who is in view is kept once they have left, and looked \
             for from then on"
        }
        Who::Sighting(_) => {
            "nobody of this sighting is kept here: it was another device's, or too long ago, or was erased"
        }
        Who::Track(_) => "nobody of that number is kept here any more",
    }
    .to_owned()
}

/// Somebody as the gallery has them, with the vector by whichever bundle that was.
fn find(gallery: &Gallery, like: &Like) -> Result<Option<(Seed, Embedding)>> {
    let record = match like.who {
        Who::Track(id) => RecordId(id),
        Who::Sighting(id) => {
            let found = gallery.persons(&Selection::Sighting(id), true)?;
            let Some(person) = found.into_iter().next_back() else { return Ok(None) };
            person.id
        }
    };
    let Some(found) = gallery.record(record)? else { return Ok(None) };
    let picture = gallery.picture(record)?;
    let seed = Seed {
        record,
        camera: found.camera,
        track: found.track,
        first: found.first,
        last: found.last,
        sightings: found.sightings,
        picture,
    };
    Ok(Some((seed, found.pooled)))
}

fn person(like: &Like, seed: &Seed, embedding: Embedding) -> Person {
    let understood = format!("somebody like {like}");
    let Seed { camera, track, last, .. } = seed;
    Person {
        text: Text { understood, lost: None, embedding },
        own: Own { camera: camera.clone(), track: *track, last: *last },
    }
}

/// What the alerts of a running daemon keep of persons.
pub(super) struct Kept {
    pub(super) shared: Arc<Shared>,
    /// The file that they lie in.
    pub(super) file: PathBuf,
}

impl Seeds for Kept {
    fn seeds(&self) -> Result<Vec<(AlertId, Seed)>> {
        self.shared.store().seeds()
    }

    fn erase(&self, alerts: &[AlertId]) -> Result<()> {
        let changes = self.shared.store().erase_seeds(alerts, self.shared.now())?;
        self.shared.leave(changes);
        Ok(())
    }

    fn damaged(&self) -> usize {
        usize::from(store::set_aside(&self.file).is_some())
    }

    fn erase_damaged(&self) -> Result<usize> {
        store::delete_set_aside(&self.file).map(usize::from)
    }
}
