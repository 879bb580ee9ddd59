//! What staff ask: who was here that fits a text, and what an alert would bring before it is armed.
//!
//! A question is answered on its response topic, once, by every device of the site; the pictures of an
//! answer follow it one by one. Nothing is armed, and no embedding leaves the box.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use spotter_models::{Embedding, Generation, calibration::Null};

use super::{Clerk, calibrate::doubts, past};
use crate::{
    alert::{
        Like, Spec, Wall, Who,
        lint::{Finding, Severity},
        ready::Person,
        rfc3339,
        schema::Message as AlertMessage,
    },
    error::{Error, Result},
    frame::CameraId,
    gallery::{self, Filter, Gallery, Hit, RecordId, Selection},
    lens::Portrayed,
    mqtt::ReplyTopic,
    outbox::{Class, Message},
    picture,
    score::{Asked, Cutoff, Look, Looks, Sought},
};

/// Largest question that is read, in bytes; a search may have a picture in it.
const MAX_BYTES: usize = 8 * 1024;
const MAX_SEARCH_BYTES: usize = 512 * 1024;
/// Tracks of an answer where the question says nothing, and at most.
const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;
/// Longest text of a question, in characters.
const MAX_TEXT: usize = 1000;
/// How long an answer is worth being delivered.
const EXPIRY: Duration = Duration::from_secs(120);
/// Tracks of the last day that are looked at for a preview.
const PREVIEWED: usize = 200;

/// A question that waits.
pub(super) struct Request {
    pub(super) about: About,
    pub(super) payload: Vec<u8>,
    /// `None` for a command that wants no answer.
    pub(super) reply: Option<ReplyTopic>,
    pub(super) correlation: Option<Vec<u8>>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Preview,
    Search,
    Command,
}

/// A search, as it is asked. Fields that are not known are passed over.
#[derive(Deserialize)]
struct Search {
    text: Option<String>,
    /// Somebody who was seen: more like them.
    like: Option<Value>,
    /// A picture of a person, JPEG or PNG in base64.
    picture: Option<String>,
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    cameras: Vec<String>,
    limit: Option<usize>,
    #[serde(default = "yes")]
    pictures: bool,
}

fn yes() -> bool {
    true
}

/// An answer's fields, and the pictures that go with it, by track.
pub(super) type Answer = (Value, Vec<(RecordId, Vec<u8>)>);

/// A track of an answer.
#[derive(Serialize)]
struct Found {
    /// The track's number in this device's gallery.
    id: u64,
    camera: CameraId,
    first_seen: String,
    last_seen: String,
    score: f32,
    /// How likely somebody who does not fit scores as much; `null` where nothing is calibrated.
    false_alarm_probability: Option<f64>,
    picture: bool,
    /// The bundle that the scores are of, where it is not the one that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<String>,
}

/// A track that was found, judged as it would have been while it was in view.
pub(super) struct Judged {
    hit: Hit,
    /// The largest score over its looks.
    reached: f32,
    pub(super) false_alarm_probability: Option<f64>,
    /// The bundle that saw it, where it is not the one that serves.
    pub(super) bundle: Option<Generation>,
}

impl Judged {
    /// Found by another track, not by a text.
    fn alike(hit: Hit) -> Self {
        Self { reached: hit.score, hit, false_alarm_probability: None, bundle: None }
    }
}

impl Clerk {
    /// Answers a question; what is wrong with it is its answer.
    pub(super) fn answer(&mut self, request: &Request) {
        let answered = match request.about {
            About::Search => self.search(&request.payload),
            About::Preview => self.preview(&request.payload),
            About::Command => self.command(&request.payload),
        };
        let (mut answer, pictures) =
            answered.unwrap_or_else(|error| (json!({"error": error.to_string()}), Vec::new()));
        let shared = [("schema", json!(1)), ("device", json!(self.topics.device()))];
        if let Value::Object(fields) = &mut answer {
            fields.extend(shared.map(|(name, value)| (name.to_owned(), value)));
            fields.insert("pictures".into(), json!(pictures.len()));
        }
        let Some(topic) = &request.reply else { return };
        let reply = |class, payload| reply(topic, &request.correlation, class, payload);
        let mut messages = vec![reply(Class::Event, answer.to_string().into_bytes())];
        for (id, jpeg) in pictures {
            let mut picture = reply(Class::Picture, jpeg);
            picture.header.content_type = Some("image/jpeg".into());
            picture.header.properties = vec![
                ("device".into(), self.topics.device().to_owned()),
                ("id".into(), id.0.to_string()),
            ];
            messages.push(picture);
        }
        if let Err(error) = self.outbox.commit(&messages) {
            tracing::error!(%error, "A question of staff was not answered.");
        }
    }

    pub(super) fn gallery(&self) -> Result<&Gallery> {
        self.gallery.as_deref().ok_or_else(|| {
            Error::config("gallery.keep", "is false: this device remembers nobody who passed")
        })
    }

    fn search(&mut self, payload: &[u8]) -> Result<Answer> {
        let search: Search = read_up_to(payload, MAX_SEARCH_BYTES)?;
        let limit = search.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
        let cameras = search.cameras.iter().map(|name| CameraId::new(name));
        let filter = Filter {
            from: time("from", search.from)?,
            to: time("to", search.to)?,
            cameras: cameras.collect::<Result<_>>()?,
        };
        if filter.from.zip(filter.to).is_some_and(|(from, to)| from >= to) {
            return Err(Error::config("from", "is not before to"));
        }
        let asked = [search.text.is_some(), search.like.is_some(), search.picture.is_some()];
        if asked.iter().filter(|is_asked| **is_asked).count() > 1 {
            let reason = "text, like and picture are three ways to say whom: give one of them";
            return Err(Error::config("the question", reason));
        }
        if let Some(like) = search.like {
            let like = Like::parse(like).map_err(|why| Error::config("like", why.reason))?;
            return self.like(&like, &filter, (limit, search.pictures));
        }
        if let Some(picture) = search.picture {
            return self.like_picture(&picture, &filter, (limit, search.pictures));
        }
        let wanted = search.text.unwrap_or_default();
        let text = wanted.as_str();
        if text.trim().is_empty() || text.chars().count() > MAX_TEXT {
            let reason = format!("is needed: a description of 1 to {MAX_TEXT} characters");
            return Err(Error::config("text", reason));
        }
        let spec = Spec::of_text(text);
        let findings = self.findings(&spec)?;
        let read = self.model.reader.read(text)?;
        let counts =
            |camera: &CameraId| filter.cameras.is_empty() || filter.cameras.contains(camera);
        let text = &read.embedding;
        let sought = Sought::Words;
        let asked = Asked { text, sought, budget_per_day: None, counts: &counts, is_watched: true };
        let study = self.model.policy.study(&asked, self.shared.now().at)?;
        let hits = self.gallery()?.search(&read.embedding, &filter, limit)?;
        let mut judged = self.judged(hits, &read.embedding, study.null())?;
        let (past, not_searched) = self.search_past(&wanted, &filter, limit)?;
        past::in_order(&mut judged, past);
        judged.truncate(limit);
        let mut about = json!({"text": read.understood, "findings": findings});
        if not_searched > 0 {
            about["not_searched"] = json!(not_searched);
        }
        self.results(about, &judged, search.pictures)
    }

    /// Who is like somebody whom this device keeps; nobody where it does not: only the box that holds the track
    /// can say what is like it.
    fn like(
        &mut self,
        like: &Like,
        filter: &Filter,
        (limit, with_pictures): (usize, bool),
    ) -> Result<Answer> {
        if like.is_elsewhere(self.topics.device()) {
            return self.results(json!({}), &[], false);
        }
        let id = match like.who {
            Who::Track(id) => Some(RecordId(id)),
            Who::Sighting(id) => {
                let persons = self.gallery()?.persons(&Selection::Sighting(id), true)?;
                persons.last().map(|person| person.id)
            }
        };
        let kept = id.map(|id| self.gallery()?.record(id)).transpose()?.flatten();
        let Some(id) = id.filter(|_| kept.is_some()) else {
            if like.device.is_none() {
                return self.results(json!({}), &[], false);
            }
            let reason = match like.who {
                Who::Track(id) => {
                    format!("has no {id}: nobody of that number is kept here any more")
                }
                Who::Sighting(_) => {
                    "names a sighting of which nobody is kept here: who is in view is kept once they have \
                     left, and nobody for ever"
                        .to_owned()
                }
            };
            return Err(Error::config("like", reason));
        };
        let hits = self.gallery()?.like(id, filter, limit)?;
        let alike: Vec<Judged> = hits.into_iter().map(Judged::alike).collect();
        let about = json!({"like": {"device": self.topics.device(), "id": id.0}});
        self.results(about, &alike, with_pictures)
    }

    /// Who is like the person of a picture that somebody sent. It is forgotten after.
    fn like_picture(
        &mut self,
        picture: &str,
        filter: &Filter,
        (limit, with_pictures): (usize, bool),
    ) -> Result<Answer> {
        let bytes = BASE64.decode(picture).map_err(|error| {
            Error::config("picture", format!("is no JPEG or PNG file in base64: {error}"))
        })?;
        // Before a model is opened for nothing.
        self.gallery()?;
        let portrayed = self.model.lens.portray(&picture::decode(&bytes)?);
        self.model.lens.close();
        let Portrayed { embedding, persons } = portrayed?;
        let counts =
            |camera: &CameraId| filter.cameras.is_empty() || filter.cameras.contains(camera);
        let (text, sought) = (&embedding, Sought::Picture);
        let asked = Asked { text, sought, budget_per_day: None, counts: &counts, is_watched: true };
        let study = self.model.policy.study(&asked, self.shared.now().at)?;
        let hits = self.gallery()?.search(&embedding, filter, limit)?;
        let judged = self.judged(hits, &embedding, study.null())?;
        let warnings: Vec<String> = of_picture(persons).into_iter().collect();
        self.results(json!({"persons": persons, "warnings": warnings}), &judged, with_pictures)
    }

    /// What there is to say of a text.
    ///
    /// # Errors
    /// Where the policy refuses it: nobody is searched for by what no alert may ask.
    fn findings(&self, spec: &Spec) -> Result<Vec<Finding>> {
        let rules = self.shared.store().book().rules().clone();
        let refuse = |reason: String| Error::config("text", reason);
        rules.admit_texts(spec).map_err(|why| refuse(why.reason))?;
        let findings = rules.lint(spec);
        match findings.iter().find(|finding| finding.severity == Severity::Refused) {
            Some(finding) => Err(refuse(finding.message.clone())),
            None => Ok(findings),
        }
    }

    /// What decided on kept tracks: the largest score over the looks at each, not the cosine that they
    /// were found by.
    pub(super) fn judged(
        &self,
        hits: Vec<Hit>,
        text: &Embedding,
        null: Option<&Arc<Null>>,
    ) -> Result<Vec<Judged>> {
        let mut judged = Vec::with_capacity(hits.len());
        for hit in hits {
            // Erased meanwhile.
            let Some(record) = self.gallery()?.record(hit.id)? else { continue };
            let looks: Vec<Look> = record.looks.into_iter().map(gallery::Look::timeless).collect();
            let mut reached = -1.0;
            for place in Looks::after_each(&looks)? {
                reached = place.score(text)?.max(reached);
            }
            let false_alarm_probability = null.map(|null| null.probability(reached));
            judged.push(Judged { hit, reached, false_alarm_probability, bundle: None });
        }
        Ok(judged)
    }

    fn results(&self, mut about: Value, judged: &[Judged], with_pictures: bool) -> Result<Answer> {
        let found =
            judged.iter().map(|Judged { hit, false_alarm_probability, bundle, .. }| Found {
                id: hit.id.0,
                camera: hit.camera.clone(),
                first_seen: rfc3339(hit.first),
                last_seen: rfc3339(hit.last),
                score: hit.score,
                false_alarm_probability: *false_alarm_probability,
                picture: hit.has_picture,
                bundle: bundle.map(|bundle| bundle.to_string()),
            });
        about["results"] = json!(found.collect::<Vec<_>>());
        let kept = self.gallery.as_deref();
        about["searched"] = json!(kept.map_or(0, |gallery| gallery.counts().records));
        about["bundle"] = json!(self.model.reader.generation().to_string());
        let mut pictures = Vec::new();
        let hits = judged.iter().map(|judged| &judged.hit);
        for hit in hits.filter(|hit| with_pictures && hit.has_picture) {
            pictures.extend(self.gallery()?.picture(hit.id)?.map(|jpeg| (hit.id, jpeg)));
        }
        Ok((about, pictures))
    }

    fn preview(&mut self, payload: &[u8]) -> Result<Answer> {
        let spec = match AlertMessage::parse(payload) {
            AlertMessage::Alert { spec, .. } | AlertMessage::Plain(spec) => spec,
            AlertMessage::Unreadable { refusal, .. } => {
                return Err(Error::config("alert", refusal.reason));
            }
            AlertMessage::Withdrawn { .. } | AlertMessage::Empty => {
                return Err(Error::config("alert", "says nothing that could be looked for"));
            }
        };
        let findings = self.findings(&spec)?;
        let (text, own, record) = match &spec.like {
            Some(like) => {
                let (Person { text, own }, record) = self.asked_about(like)?;
                (text, Some(own), Some(record))
            }
            None => (self.model.reader.read(&spec.text)?, None, None),
        };
        let here: BTreeSet<CameraId> = self.shared.places.load().watching(&spec).cloned().collect();
        let counts = |camera: &CameraId| here.contains(camera);
        let now = self.shared.now();
        let study = self.study_here((&text.embedding, own.as_ref()), &spec, now)?;
        let cutoff = self.cutoff_beside(&study, now);
        let mut hits = self.would_fire(&text.embedding, &cutoff, &counts, now)?;
        hits.retain(|judged| Some(judged.hit.id) != record);
        let promise = cutoff.promise;
        let about = json!({
            "text": text.understood,
            "findings": findings,
            "warnings": doubts(&cutoff, own.is_some()),
            "threshold": cutoff.threshold,
            "budget_share": promise.map(|promise| promise.budget_share),
            "expected_per_day": promise.map(|promise| promise.expected_per_day),
            "matched_24h": hits.len(),
        });
        let limit = hits.len().min(DEFAULT_LIMIT);
        self.results(about, hits.get(..limit).unwrap_or_default(), true)
    }

    /// The tracks of the last 24 hours that a text would have told, best first; none where nobody is
    /// kept, which is no reason to keep back the rest of a preview.
    fn would_fire(
        &self,
        text: &Embedding,
        cutoff: &Cutoff,
        counts: &dyn Fn(&CameraId) -> bool,
        now: Wall,
    ) -> Result<Vec<Judged>> {
        let from = now.at.saturating_sub(SignedDuration::from_hours(24)).ok();
        let filter = Filter { from, ..Filter::default() };
        let Some(gallery) = self.gallery.as_deref() else { return Ok(Vec::new()) };
        let mut hits = gallery.search(text, &filter, PREVIEWED)?;
        hits.retain(|hit| counts(&hit.camera));
        let mut judged = self.judged(hits, text, cutoff.null.as_ref())?;
        judged.retain(|judged| judged.reached >= cutoff.threshold);
        Ok(judged)
    }
}

pub(super) fn reply(
    topic: &ReplyTopic,
    correlation: &Option<Vec<u8>>,
    class: Class,
    payload: Vec<u8>,
) -> Message {
    let mut message = Message::new(class, topic.as_str(), payload);
    message.expires_after = Some(EXPIRY);
    message.header.content_type = Some("application/json".into());
    message.header.correlation = correlation.clone();
    message
}

fn time(name: &str, text: Option<String>) -> Result<Option<Timestamp>> {
    let parse = |text: String| {
        text.parse()
            .map_err(|_| Error::config(name, "is no time: write it as 2026-11-25T06:00:00Z"))
    };
    text.map(parse).transpose()
}

/// What a person should know of a picture in which so many persons were found.
fn of_picture(persons: usize) -> Option<String> {
    match persons {
        0 => Some(
            "nobody was found in the picture, so all of it was compared: cut the person out, and let the \
             picture show little else"
                .to_owned(),
        ),
        1 => None,
        more => Some(format!("{more} persons are in the picture: the largest was compared")),
    }
}

pub(super) fn read<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T> {
    read_up_to(payload, MAX_BYTES)
}

fn read_up_to<'a, T: Deserialize<'a>>(payload: &'a [u8], most: usize) -> Result<T> {
    let refuse = |reason: String| Error::config("the question", reason);
    if payload.len() > most {
        return Err(refuse(format!("has {} bytes; at most {most} are read", payload.len())));
    }
    serde_json::from_slice(payload)
        .map_err(|error| refuse(format!("is no JSON object that can be read: {error}")))
}
