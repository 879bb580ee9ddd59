//! The embeddings of texts, so that a text is computed again only when it or the bundle changes.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, params};
use spotter_models::{Embedding, Generation};

use super::{Store, failed};
use crate::{
    alert::{Spec, phrases::phrases},
    error::Result,
};

/// A text as a bundle read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// The text as the tokenizer cleaned it.
    pub understood: String,
    /// The words that did not fit the model's limit; `None` where all did.
    pub lost: Option<String>,
    /// Its direction, tagged with the bundle that computed it.
    pub embedding: Embedding,
}

/// The form in which texts are compared: what differs only in white space is computed once.
fn key(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A vector as it is kept; `None` for bytes that are none.
pub(super) fn vector(bytes: &[u8], generation: Generation) -> Option<Embedding> {
    let (values, rest) = bytes.as_chunks::<4>();
    let values = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let embedding = Embedding::new(values, generation).ok()?;
    rest.is_empty().then_some(embedding)
}

impl Store {
    /// What a bundle made of a text, where it was computed before.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn embedding(&self, text: &str, generation: Generation) -> Result<Option<Text>> {
        let sql =
            "SELECT understood, lost, vector FROM embedding WHERE text = ?1 AND generation = ?2";
        let found = self.db.prepare_cached(sql).and_then(|mut select| {
            select
                .query_row(params![key(text), &generation.0[..]], |row| {
                    let vector: Vec<u8> = row.get(2)?;
                    Ok((row.get(0)?, row.get(1)?, vector))
                })
                .optional()
        });
        let found = found.map_err(|error| failed(&self.path, error))?;
        Ok(found.and_then(|(understood, lost, vector)| {
            // A row that is damaged is as good as none: the text is computed again.
            let embedding = self::vector(&vector, generation)?;
            Some(Text { understood, lost, embedding })
        }))
    }

    /// Keeps what the running bundle made of texts, together: one wait for the disk.
    ///
    /// # Errors
    /// Where the file cannot be written; the alerts can be armed all the same.
    pub fn keep_embeddings(&mut self, read: &BTreeMap<String, Text>) -> Result<()> {
        let kept = (|| {
            let transaction = self.db.transaction()?;
            {
                let sql = "INSERT OR REPLACE INTO embedding VALUES (?1, ?2, ?3, ?4, ?5)";
                let mut insert = transaction.prepare_cached(sql)?;
                for (text, Text { understood, lost, embedding }) in read {
                    let vector: Vec<u8> =
                        embedding.values().iter().flat_map(|value| value.to_le_bytes()).collect();
                    let generation = embedding.generation();
                    insert.execute(params![
                        key(text),
                        &generation.0[..],
                        understood,
                        lost,
                        vector
                    ])?;
                }
            }
            transaction.commit()
        })();
        kept.map_err(|error| failed(&self.path, error))
    }

    /// Forgets texts that no alert holds any more and bundles other than these: the running one and
    /// the one to which a rollback would return. Gives how many rows went.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn prune_embeddings(&mut self, keep: &[Generation]) -> Result<usize> {
        let texts = self.texts();
        let pruned = (|| {
            let transaction = self.db.transaction()?;
            let mut gone = Vec::new();
            {
                let mut select = transaction.prepare("SELECT text, generation FROM embedding")?;
                let mut rows = select.query([])?;
                while let Some(row) = rows.next()? {
                    let (text, generation): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
                    let kept = keep.iter().any(|keep| keep.0[..] == generation[..]);
                    if !kept || !texts.contains(&text) {
                        gone.push((text, generation));
                    }
                }
                let sql = "DELETE FROM embedding WHERE text = ?1 AND generation = ?2";
                let mut delete = transaction.prepare(sql)?;
                for (text, generation) in &gone {
                    delete.execute(params![text, generation])?;
                }
            }
            transaction.commit()?;
            Ok(gone.len())
        })();
        pruned.map_err(|error| failed(&self.path, error))
    }

    /// The texts of all alerts and their phrases, as they are compared.
    fn texts(&self) -> BTreeSet<String> {
        let snapshot = self.book.readers().load_full();
        let specs = snapshot.all().iter().filter_map(|view| view.spec.as_deref());
        let texts = |spec: &Spec| -> Vec<String> {
            let texts = std::iter::once(&spec.text).chain(&spec.without).map(|text| key(text));
            texts.chain(phrases(&spec.text)).collect()
        };
        specs.flat_map(texts).collect()
    }
}
