//! From an alert that may be armed to one that can be looked for: its texts, embedded.
//!
//! Slow, since it runs a model, and called by the thread that owns store and text tower, in
//! batches, so that ten thousand alerts neither block new messages nor wait for the disk one by
//! one.

use std::{collections::BTreeMap, sync::Arc};

use spotter_models::{Generation, Kind};

use super::{
    Code, Refusal, Spec, Store, View, Wall,
    book::{Changes, Status},
    store::Text,
};
use crate::error::{Error, Result};

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
}

/// An alert that can be looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// The alert.
    pub view: Arc<View>,
    /// Its text.
    pub text: Text,
    /// What the person should not have, in the order of the alert.
    pub without: Vec<Text>,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Alerts that can be looked for.
    pub ready: Vec<Ready>,
    /// Alerts that the bundle cannot read, which are rejected now.
    pub changes: Changes,
    /// Texts that had to be computed; the others were known.
    pub computed: usize,
}

/// Embeds the texts of armed alerts, those that are not known for this bundle; alerts in any other
/// state are passed over.
///
/// # Errors
/// Where the tower or the disk fails. What was computed until then is kept where the disk allows
/// it.
pub fn ready(
    store: &mut Store,
    reader: &mut dyn TextReader,
    views: &[Arc<View>],
    now: Wall,
) -> Result<Batch> {
    let mut batch = Batch::default();
    let mut fresh = BTreeMap::new();
    let mut failure = None;
    let mut unreadable = Vec::new();
    for view in views.iter().filter(|view| view.status == Status::Armed) {
        let Some(spec) = &view.spec else { continue };
        match texts(store, reader, spec, &mut fresh) {
            Ok((text, without)) => {
                batch.ready.push(Ready { view: view.clone(), text, without });
            }
            Err(error) if is_about_the_text(&error) => {
                let reason = format!("cannot be looked for: {error}");
                unreadable.push((view, Refusal::new(Code::Unreadable, reason)));
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    batch.computed = fresh.len();
    if !fresh.is_empty() {
        store.keep_embeddings(&fresh)?;
    }
    for (view, why) in unreadable {
        let changes = store.cannot_arm(view, why, now);
        batch.changes.views.extend(changes.views);
        batch.changes.forgotten.extend(changes.forgotten);
    }
    failure.map_or(Ok(batch), Err)
}

fn is_about_the_text(error: &Error) -> bool {
    matches!(error, Error::Model(error) if matches!(error.kind(), Kind::Config | Kind::Corrupt))
}

fn texts(
    store: &Store,
    reader: &mut dyn TextReader,
    spec: &Spec,
    fresh: &mut BTreeMap<String, Text>,
) -> Result<(Text, Vec<Text>)> {
    let mut read = |text: &String| -> Result<Text> {
        if let Some(known) = store.embedding(text, reader.generation())? {
            return Ok(known);
        }
        // Of the same batch: alerts often share what a person should not have.
        if let Some(known) = fresh.get(text) {
            return Ok(known.clone());
        }
        let new = reader.read(text)?;
        fresh.insert(text.clone(), new.clone());
        Ok(new)
    };
    let text = read(&spec.text)?;
    let without = spec.without.iter().map(&mut read).collect::<Result<_>>()?;
    Ok((text, without))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use spotter_models::Embedding;

    use super::*;
    use crate::alert::{
        AlertId, Policy, Rules,
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
            if text == "!!" {
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
            alert("bad", "!!", true),
            alert("off", "a cap", false),
            alert("z", "blue coat", true),
        ];
        let (_, changes) = store.take(&all, now()).unwrap();
        let mut tower = fake(1);
        tower.fails_after = 1;
        assert!(ready(&mut store, &mut tower, &changes.views, now()).is_err());
        assert_eq!(tower.read, ["Red coat", "hat"]);
        let mut tower = fake(1);
        let batch = ready(&mut store, &mut tower, &changes.views, now()).unwrap();
        assert_eq!(tower.read, ["hat", "!!", "blue coat"]);
        assert_eq!(batch.computed, 2);
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
        let again = ready(&mut store, &mut tower, views.all(), now()).unwrap();
        assert_eq!((tower.read, again.ready.len()), (vec!["!!".to_owned()], 2));
        assert_eq!(again.ready[0].text, batch.ready[0].text);
        let mut tower = fake(2);
        store.try_again(now());
        let views = store.book().readers().load_full();
        let other = ready(&mut store, &mut tower, views.all(), now()).unwrap();
        assert_eq!((tower.read.len(), other.computed), (4, 3), "another bundle");
        assert_eq!(other.ready[0].text.embedding.generation(), Generation([2; 16]));
    }
}
