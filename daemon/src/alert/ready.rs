//! From an alert that may be armed to one that can be looked for: its texts, embedded.
//!
//! In three steps, since the middle one runs a model and is slow: [`known`] looks up, [`read`] computes
//! without the store, so that ten thousand alerts do not block new messages, [`keep`] writes what was
//! computed, with one wait for the disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use spotter_models::{Generation, Kind};

use super::{
    AlertId, Code, Refusal, Spec, Store, View, Wall,
    book::{Changes, Status},
    store::Text,
};
use crate::{error::Result, score::Own};

/// A bundle's tokenizer and text tower.
pub trait TextReader {
    /// The bundle.
    fn generation(&self) -> Generation;

    /// Embeds a text.
    ///
    /// # Errors
    /// Of [`Kind::Config`] or [`Kind::Corrupt`] where this text cannot be read, as when it has no
    /// words; of any other kind where no text can.
    fn read(&mut self, text: &str) -> Result<Text, spotter_models::Error>;

    /// Embeds texts, a result for each in their order. At best all at once: a tower's weights are more
    /// to read than a text is to compute.
    fn read_all(&mut self, texts: &[&str]) -> Vec<Result<Text, spotter_models::Error>> {
        texts.iter().map(|text| self.read(text)).collect()
    }
}

/// Texts that are computed at a time.
const TEXTS_AT_ONCE: usize = 16;

/// An alert that can be looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// The alert.
    pub view: Arc<View>,
    /// Its text.
    pub text: Text,
    /// What the person should not have, in the order of the alert.
    pub without: Vec<Text>,
    /// The track that it is like, where it is like one.
    pub own: Option<Own>,
}

/// Somebody whom an alert is like, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Person {
    /// As which it is told, with the direction of the track.
    pub text: Text,
    /// The track.
    pub own: Own,
}

/// Why somebody is not known whom an alert is like.
#[derive(Clone, Debug, PartialEq)]
pub enum Lost {
    /// The alert cannot be armed.
    Refused(Refusal),
    /// The person was erased.
    Erased,
    /// Not now; to be tried again.
    Failed(String),
}

/// Whom alerts are like, by alert.
pub type Persons = BTreeMap<AlertId, Result<Person, Lost>>;

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Alerts that can be looked for.
    pub ready: Vec<Ready>,
    /// Alerts that the bundle cannot read, which are rejected now.
    pub changes: Changes,
    /// Alerts whose texts the tower could not read now, to be tried again.
    pub failed: Vec<AlertId>,
}

/// Alerts with their texts read, in memory.
#[derive(Debug, Default)]
pub struct Reading {
    ready: Vec<Ready>,
    unreadable: Vec<(Arc<View>, Refusal)>,
    /// Alerts whose person was erased.
    erased: Vec<Arc<View>>,
    /// Texts that had to be computed; the others were known.
    fresh: BTreeMap<String, Text>,
    /// How many alerts were worked on, from the first one.
    pub done: usize,
    failed: Vec<AlertId>,
    /// Why the first of them failed.
    pub failure: Option<String>,
}

/// What is known already of the texts of these alerts.
///
/// # Errors
/// Where the file cannot be read.
pub fn known(
    store: &Store,
    generation: Generation,
    views: &[Arc<View>],
) -> Result<BTreeMap<String, Text>> {
    let mut known = BTreeMap::new();
    for text in views.iter().filter_map(armed).flat_map(texts) {
        if !known.contains_key(text)
            && let Some(read) = store.embedding(text, generation)?
        {
            known.insert(text.clone(), read);
        }
    }
    Ok(known)
}

/// Embeds the texts of armed alerts, those that are not `known`; `persons` has whom the others are like.
/// Alerts in any other state are passed over, and one that the tower fails over holds up no other. Ends before the next texts that have to
/// be computed once it is `enough`, but not before the first. Needs no store, so that messages come in
/// meanwhile.
pub fn read(
    reader: &mut dyn TextReader,
    views: &[Arc<View>],
    (mut known, mut persons): (BTreeMap<String, Text>, Persons),
    mut enough: impl FnMut() -> bool,
) -> Reading {
    let mut reading = Reading::default();
    let mut faults: BTreeMap<String, Fault> = BTreeMap::new();
    for (index, view) in views.iter().enumerate() {
        if let Some(spec) = armed(view)
            && spec.like.is_some()
        {
            reading.meet(view, persons.remove(&view.id));
        } else if let Some(spec) = armed(view) {
            let is_tried = |text: &str| known.contains_key(text) || faults.contains_key(text);
            if !texts(spec).all(|text| is_tried(text)) {
                let has_tried = !reading.fresh.is_empty() || !faults.is_empty();
                if has_tried && enough() {
                    break;
                }
                let unknown = unknown(views.get(index..).unwrap_or_default(), is_tried);
                reading.compute(reader, &unknown, &mut known, &mut faults);
            }
            reading.settle(view, spec, &known, &faults);
        }
        reading.done += 1;
    }
    reading
}

/// The next texts that are to be computed: those of the first alert, and of as many others as are
/// computed at a time.
fn unknown(views: &[Arc<View>], is_known: impl Fn(&str) -> bool) -> BTreeSet<&String> {
    let mut unknown = BTreeSet::new();
    for spec in views.iter().filter_map(armed) {
        if unknown.len() >= TEXTS_AT_ONCE {
            break;
        }
        unknown.extend(texts(spec).filter(|text| !is_known(text)));
    }
    unknown
}

/// Why a text was not read.
#[derive(Clone, Debug)]
struct Fault {
    /// Whether it never will be.
    is_about_the_text: bool,
    reason: String,
}

impl Reading {
    /// The alerts that can be looked for.
    pub fn into_ready(self) -> Vec<Ready> {
        self.ready
    }

    fn compute(
        &mut self,
        reader: &mut dyn TextReader,
        unknown: &BTreeSet<&String>,
        known: &mut BTreeMap<String, Text>,
        faults: &mut BTreeMap<String, Fault>,
    ) {
        let unknown: Vec<&str> = unknown.iter().map(|text| text.as_str()).collect();
        for texts in unknown.chunks(TEXTS_AT_ONCE) {
            for (text, read) in texts.iter().zip(reader.read_all(texts)) {
                match read {
                    Ok(read) => {
                        known.insert((*text).to_owned(), read.clone());
                        self.fresh.insert((*text).to_owned(), read);
                    }
                    Err(error) => {
                        let is_about_the_text =
                            matches!(error.kind(), Kind::Config | Kind::Corrupt);
                        let fault = Fault { is_about_the_text, reason: error.to_string() };
                        faults.insert((*text).to_owned(), fault);
                    }
                }
            }
        }
    }

    /// Says what became of an alert whose texts were read, or tried.
    fn settle(
        &mut self,
        view: &Arc<View>,
        spec: &Spec,
        known: &BTreeMap<String, Text>,
        faults: &BTreeMap<String, Fault>,
    ) {
        if let Some(fault) = texts(spec).find_map(|text| faults.get(text)) {
            if fault.is_about_the_text {
                let reason = format!("cannot be looked for: {}", fault.reason);
                self.unreadable.push((view.clone(), Refusal::new(Code::Unreadable, reason)));
            } else {
                self.failed.push(view.id.clone());
                self.failure.get_or_insert_with(|| fault.reason.clone());
            }
            return;
        }
        let mut read = texts(spec).filter_map(|text| known.get(text).cloned());
        if let Some(text) = read.next() {
            let without = read.collect();
            self.ready.push(Ready { view: view.clone(), text, without, own: None });
        }
    }

    /// Says what became of an alert that is like somebody.
    fn meet(&mut self, view: &Arc<View>, person: Option<Result<Person, Lost>>) {
        match person {
            Some(Ok(Person { text, own })) => {
                let (view, without) = (view.clone(), Vec::new());
                self.ready.push(Ready { view, text, without, own: Some(own) });
            }
            Some(Err(Lost::Refused(why))) => self.unreadable.push((view.clone(), why)),
            Some(Err(Lost::Erased)) => self.erased.push(view.clone()),
            Some(Err(Lost::Failed(reason))) => {
                self.failed.push(view.id.clone());
                self.failure.get_or_insert(reason);
            }
            None => self.failed.push(view.id.clone()),
        }
    }
}

/// Texts that explain others: their embeddings, as far as these are known by now.
#[derive(Debug, Default)]
pub struct Explaining {
    /// What was known or is now.
    pub known: BTreeMap<String, Text>,
    /// Texts that had to be computed.
    pub fresh: BTreeMap<String, Text>,
    /// Texts that cannot be read, and why; they explain nothing.
    pub unreadable: BTreeMap<String, String>,
}

/// Embeds the phrases of alerts, those that are not `known`. Ends before the next ones that have to be
/// computed once it is `enough`, but not before the first. Needs no store.
pub fn read_phrases(
    reader: &mut dyn TextReader,
    phrases: &BTreeSet<String>,
    known: BTreeMap<String, Text>,
    mut enough: impl FnMut() -> bool,
) -> Explaining {
    let mut explaining = Explaining { known, ..Explaining::default() };
    let unknown: Vec<&str> = phrases
        .iter()
        .map(String::as_str)
        .filter(|phrase| !explaining.known.contains_key(*phrase))
        .collect();
    for (round, texts) in unknown.chunks(TEXTS_AT_ONCE).enumerate() {
        if round > 0 && enough() {
            break;
        }
        for (text, read) in texts.iter().zip(reader.read_all(texts)) {
            match read {
                Ok(read) => {
                    explaining.known.insert((*text).to_owned(), read.clone());
                    explaining.fresh.insert((*text).to_owned(), read);
                }
                Err(error) => {
                    explaining.unreadable.insert((*text).to_owned(), error.to_string());
                }
            }
        }
    }
    explaining
}

/// Keeps what was computed and rejects what cannot be read, unless it changed meanwhile. A disk that
/// takes nothing is no reason not to arm: the next start computes the texts again.
pub fn keep(store: &mut Store, reading: Reading, now: Wall) -> Batch {
    keep_read(store, &reading);
    let Reading { ready, failed, unreadable, erased, .. } = reading;
    let mut batch = Batch { ready, changes: Changes::default(), failed };
    for (view, why) in unreadable {
        let changes = store.cannot_arm(&view, why, now);
        batch.changes.views.extend(changes.views);
        batch.changes.forgotten.extend(changes.forgotten);
    }
    for view in erased {
        let changes = store.is_like_erased(&view, now);
        batch.changes.views.extend(changes.views);
        batch.changes.forgotten.extend(changes.forgotten);
    }
    batch
}

/// Keeps what was computed, so that it is known from now on.
pub fn keep_read(store: &mut Store, reading: &Reading) {
    if !reading.fresh.is_empty()
        && let Err(error) = store.keep_embeddings(&reading.fresh)
    {
        tracing::warn!(%error, "Texts that were read are not on disk: read again at the next start.");
    }
}

/// What an alert that is to be looked for asks for.
fn armed(view: &Arc<View>) -> Option<&Spec> {
    view.spec.as_deref().filter(|_| view.status == Status::Armed)
}

fn texts(spec: &Spec) -> impl Iterator<Item = &String> {
    let text = spec.like.is_none().then_some(&spec.text);
    text.into_iter().chain(&spec.without)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use spotter_models::Embedding;

    use super::*;
    use crate::alert::{
        Policy, Rules,
        store::{Inbound, Topic},
    };

    struct Fake {
        generation: Generation,
        read: Vec<String>,
        /// Texts after which the tower fails.
        fails_after: usize,
    }

    impl TextReader for Fake {
        fn generation(&self) -> Generation {
            self.generation
        }

        fn read(&mut self, text: &str) -> Result<Text, spotter_models::Error> {
            self.read.push(text.to_owned());
            if self.read.len() > self.fails_after {
                return Err(spotter_models::Error::internal("text tower", "out of memory"));
            }
            if text == "odd coat" {
                return Err(spotter_models::Error::invalid("text", "has no words"));
            }
            let values = vec![text.len() as f32, 1.0];
            let embedding = Embedding::new(values, self.generation)?;
            Ok(Text { understood: text.to_lowercase(), lost: None, embedding })
        }
    }

    fn fake(generation: u8) -> Fake {
        Fake { generation: Generation([generation; 16]), read: Vec::new(), fails_after: usize::MAX }
    }

    /// The three steps one after the other, how many texts were computed, and why no more.
    fn ready(
        store: &mut Store,
        tower: &mut Fake,
        views: &[Arc<View>],
    ) -> (Batch, usize, Option<String>) {
        let known = known(store, tower.generation(), views).unwrap();
        let mut reading = read(tower, views, (known, Persons::new()), || false);
        let (computed, failure) = (reading.fresh.len(), reading.failure.take());
        (keep(store, reading, now()), computed, failure)
    }

    fn now() -> Wall {
        Wall { at: "2026-11-24T12:00:00Z".parse().unwrap(), synced: Some(true) }
    }

    fn alert(name: &str, text: &str, enabled: bool) -> Inbound {
        let payload = json!({"schema": 1, "text": text, "without": ["hat"], "revision": 1,
            "enabled": enabled, "expires_at": "2026-11-25T06:00:00Z"});
        let id = AlertId::new(name).unwrap();
        Inbound { topic: Topic::Alert, id, payload: payload.to_string().into_bytes() }
    }

    #[test]
    fn a_text_is_computed_once_for_each_bundle_and_a_bad_one_rejects_its_alert_alone() {
        let folder = tempfile::tempdir().unwrap();
        let rules = Rules::new(Policy::default()).unwrap();
        let path = folder.path().join("alerts.db");
        let mut store = Store::open(&path, rules.clone(), now()).unwrap();
        let all = [
            alert("a", "Red coat", true),
            alert("bad", "odd coat", true),
            alert("off", "a cap", false),
            alert("z", "blue coat", true),
        ];
        let (_, changes) = store.take(&all, now()).unwrap();
        let mut tower = fake(1);
        tower.fails_after = 1;
        let two = [changes.views[0].clone(), changes.views[3].clone()];
        let (batch, computed, failure) = ready(&mut store, &mut tower, &two);
        assert!(failure.unwrap().contains("out of memory"));
        assert_eq!(tower.read, ["Red coat", "blue coat", "hat"], "each is tried");
        let failed: Vec<&str> = batch.failed.iter().map(AlertId::as_str).collect();
        assert_eq!((failed, computed), (vec!["a", "z"], 1));
        let mut tower = fake(1);
        let (batch, computed, _) = ready(&mut store, &mut tower, &changes.views);
        assert_eq!(tower.read, ["blue coat", "hat", "odd coat"]);
        assert_eq!(computed, 2);
        let names: Vec<&str> = batch.ready.iter().map(|ready| ready.view.id.as_str()).collect();
        assert_eq!(names, ["a", "z"]);
        assert_eq!(batch.ready[0].without[0].understood, "hat");
        let rejected = &batch.changes.views[..];
        assert!(
            matches!(&rejected[0].status, Status::Rejected(why) if why.code == Code::Unreadable)
        );
        assert_eq!(rejected.len(), 1);
        drop(store);
        // After a restart nothing is computed again but what cannot be read.
        let mut store = Store::open(&path, rules, now()).unwrap();
        let views = store.book().readers().load_full();
        let mut tower = fake(1);
        let (again, ..) = ready(&mut store, &mut tower, views.all());
        assert_eq!((tower.read, again.ready.len()), (vec!["odd coat".to_owned()], 2));
        assert_eq!(again.ready[0].text, batch.ready[0].text);
        let mut tower = fake(2);
        store.try_again(now());
        let views = store.book().readers().load_full();
        let (other, computed, _) = ready(&mut store, &mut tower, views.all());
        assert_eq!((tower.read.len(), computed), (4, 3), "another bundle");
        assert_eq!(other.ready[0].text.embedding.generation(), Generation([2; 16]));
    }

    #[test]
    fn phrases_are_read_once_in_rounds_and_outlive_the_pruning() {
        let folder = tempfile::tempdir().unwrap();
        let rules = Rules::new(Policy::default()).unwrap();
        let mut store = Store::open(&folder.path().join("alerts.db"), rules, now()).unwrap();
        store.take(&[alert("a", "Woman in a red coat", true)], now()).unwrap();
        let mut tower = fake(1);
        let mut phrases: BTreeSet<String> = (0..40).map(|n| format!("coat {n:02}")).collect();
        phrases.insert("odd coat".into());
        let some = read_phrases(&mut tower, &phrases, BTreeMap::new(), || true);
        assert_eq!((some.fresh.len(), some.known.len()), (16, 16), "enough after one round");
        let all = read_phrases(&mut tower, &phrases, some.known, || false);
        assert_eq!((all.fresh.len(), all.known.len()), (24, 40));
        assert!(all.unreadable["odd coat"].contains("no words"));
        let parts = BTreeSet::from(["red coat".to_owned(), "coat 00".to_owned()]);
        let read = read_phrases(&mut tower, &parts, all.known, || false);
        store.keep_embeddings(&read.known).unwrap();
        store.prune_embeddings(&[tower.generation()]).unwrap();
        let kept = |text: &str| store.embedding(text, tower.generation()).unwrap().is_some();
        assert!(kept("red coat") && !kept("coat 00"), "a part of an alert's text stays");
    }

    #[test]
    fn reading_ends_when_it_is_enough_and_goes_on_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let rules = Rules::new(Policy::default()).unwrap();
        let mut store = Store::open(&folder.path().join("alerts.db"), rules, now()).unwrap();
        let all: Vec<Inbound> = (0..40)
            .map(|number| alert(&format!("a-{number:02}"), &format!("coat {number}"), number != 7))
            .collect();
        let (_, changes) = store.take(&all, now()).unwrap();
        let mut tower = fake(1);
        let (mut views, mut rounds) = (&changes.views[..], Vec::new());
        while !views.is_empty() {
            let known = known(&store, tower.generation(), views).unwrap();
            // Enough from the beginning: one text is read all the same, or nothing ever were.
            let reading = read(&mut tower, views, (known, Persons::new()), || true);
            let done = reading.done;
            views = &views[done..];
            rounds.push((done, keep(&mut store, reading, now()).ready.len()));
        }
        // 16 texts, the hat among them; then 16 alerts, one of them off; then the rest.
        assert_eq!(rounds, [(16, 15), (16, 16), (8, 8)]);
        assert_eq!(tower.read.len(), 40, "39 coats and the hat, each once");
    }
}
