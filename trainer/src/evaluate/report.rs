//! A model against a data set, summed up.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use spotter_models::Digest;

use super::{
    Choice, Embedder, Ids, Intervals, Judged, ModelRecord, OpenSet, Part, Ranking, SEED, Scored,
    bootstrap,
    embed::{self, Row},
    judge, openset,
};
use crate::{
    dataset::Dataset,
    error::{Error, Result},
};

/// Fewer identities than this do not tell how others would do, whatever the interval says.
const FEW_IDENTITIES: usize = 30;

/// How many reasons are named for what was left out.
const MOST_REASONS: usize = 3;

/// What was judged, and how well it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Shares of the queries, percent.
    pub metrics: Ranking,
    /// 95 % intervals of the same, by [`bootstrap`]; none with a single identity.
    pub intervals: Option<Intervals>,
    /// Persons who are not there; none with a single identity.
    pub open_set: Option<OpenSet>,
    /// R@1 of a model that guesses, percent: the mean share of right pictures.
    pub chance: f64,
    /// How much was judged.
    pub counts: Counts,
    /// With what.
    pub data: DataRecord,
    /// Which model.
    pub model: ModelRecord,
    /// What a reader has to know.
    pub notes: Vec<String>,
}

/// How much was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Captions that asked.
    pub queries: usize,
    /// Pictures that could answer.
    pub pictures: usize,
    /// Persons whom queries are about.
    pub identities: usize,
    /// Pictures that could not be read.
    pub broken_pictures: usize,
    /// Captions without words, and captions of persons none of whose pictures could be read.
    pub broken_captions: usize,
}

/// The data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// What its folder is called.
    pub name: String,
    /// Hash of its annotations.
    pub fingerprint: Digest,
    /// Which split of it.
    pub split: Part,
    /// Whether equal captions of one person asked once.
    pub distinct: bool,
    /// Only these persons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Ids>,
}

/// A caption that asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Whom it is about.
    pub person: i64,
    /// What it says.
    pub caption: String,
}

/// A report, and what it was made from.
pub struct Outcome {
    /// The figures.
    pub report: Report,
    /// Every caption that asked.
    pub queries: Vec<Query>,
    /// Records whose pictures are the gallery.
    pub gallery: Vec<usize>,
    /// Whom each picture of the gallery shows.
    pub shown: Vec<i64>,
    /// Embeddings of the captions.
    pub texts: Vec<Vec<f32>>,
    /// Embeddings of the pictures.
    pub images: Vec<Vec<f32>>,
    /// How each query went.
    pub scored: Scored,
}

/// Judges a model. `step` is called after each picture.
///
/// # Errors
/// Where nothing is chosen, nothing of it can be read, or the model fails.
pub fn evaluate(
    embedder: &mut dyn Embedder,
    dataset: &Dataset,
    choice: &Choice,
    step: &mut dyn FnMut(),
) -> Result<Outcome> {
    let records = dataset.records();
    let chosen = choice.records(dataset)?;
    let mut pictures = chosen.iter().map(|record| {
        step();
        dataset.picture(*record)
    });
    let images = Kept::new(embed::images(embedder, &mut pictures)?);
    let queries = queries(dataset, &chosen, choice.distinct);
    let captions: Vec<&str> = queries.iter().map(|query| query.caption.as_str()).collect();
    let texts = Kept::new(embed::texts(embedder, &captions)?);
    let gallery: Vec<usize> = images.pick(&chosen);
    let queries: Vec<Query> = texts.pick(&queries);
    let shown: Vec<i64> =
        gallery.iter().filter_map(|at| records.get(*at)).map(|record| record.person).collect();
    let about: Vec<i64> = queries.iter().map(|query| query.person).collect();
    if gallery.is_empty() {
        let why = images.reasons.first().cloned().unwrap_or_default();
        let reason = format!("no picture of what was chosen can be read; the first: {why}");
        return Err(Error::invalid(format!("data set {}", dataset.name()), reason));
    }
    let scored = judge(&texts.rows, &about, &images.rows, &shown)?;
    let counts = Counts {
        queries: scored.queries.len(),
        pictures: gallery.len(),
        identities: scored.judged().iter().map(|j| j.person).collect::<BTreeSet<_>>().len(),
        broken_pictures: images.reasons.len(),
        broken_captions: texts.reasons.len() + queries.len() - scored.queries.len(),
    };
    let data = DataRecord {
        name: dataset.name().to_owned(),
        fingerprint: dataset.fingerprint(),
        split: choice.split,
        distinct: choice.distinct,
        ids: choice.ids.clone(),
    };
    let mut report = sum_up(&scored.judged(), counts, data, embedder.record())?;
    if !dataset.problems().is_empty() {
        report.notes.push(format!(
            "Wrong in the data, and left out unless it says kept: {}",
            dataset.problems()
        ));
    }
    report.notes.extend(left_out("picture", &images.reasons));
    report.notes.extend(left_out("caption", &texts.reasons));
    let (texts, images) = (texts.rows, images.rows);
    Ok(Outcome { report, queries, gallery, shown, texts, images, scored })
}

/// Every caption of the chosen records; `distinct` drops those that a person has already.
fn queries(dataset: &Dataset, chosen: &[usize], distinct: bool) -> Vec<Query> {
    let mut seen = HashSet::new();
    let records = chosen.iter().filter_map(|at| dataset.records().get(*at));
    let captions =
        records.flat_map(|record| record.captions.iter().map(|caption| (record.person, caption)));
    captions
        .filter(|(person, caption)| !distinct || seen.insert((*person, caption.as_str())))
        .map(|(person, caption)| Query { person, caption: caption.clone() })
        .collect()
}

/// The embeddings that there are, and why the others are missing.
struct Kept {
    rows: Vec<Vec<f32>>,
    indexes: Vec<usize>,
    reasons: Vec<String>,
}

impl Kept {
    fn new(rows: Vec<Row>) -> Self {
        let mut kept = Self { rows: Vec::new(), indexes: Vec::new(), reasons: Vec::new() };
        for (index, row) in rows.into_iter().enumerate() {
            match row {
                Ok(row) => {
                    kept.rows.push(row);
                    kept.indexes.push(index);
                }
                Err(error) => kept.reasons.push(error.to_string()),
            }
        }
        kept
    }

    /// Those of `all` whose embeddings there are.
    fn pick<T: Clone>(&self, all: &[T]) -> Vec<T> {
        self.indexes.iter().filter_map(|index| all.get(*index).cloned()).collect()
    }
}

fn left_out(what: &str, reasons: &[String]) -> Option<String> {
    let named: Vec<&str> = reasons.iter().take(MOST_REASONS).map(String::as_str).collect();
    let count = reasons.len();
    let more = if count > MOST_REASONS { "; …" } else { "" };
    let plural = if count == 1 { " was" } else { "s were" };
    (count > 0).then(|| format!("{count} {what}{plural} left out: {}{more}", named.join("; ")))
}

fn sum_up(
    judged: &[Judged],
    counts: Counts,
    data: DataRecord,
    model: ModelRecord,
) -> Result<Report> {
    let metrics = Ranking::of(judged).ok_or_else(super::ranking::nobody)?;
    let mut notes = Vec::new();
    if counts.identities < FEW_IDENTITIES {
        notes.push(format!(
            "With {} {} the figures say little about other persons, and the intervals are \
             too narrow; {FEW_IDENTITIES} or more are wanted.",
            counts.identities,
            if counts.identities == 1 { "identity" } else { "identities" },
        ));
    }
    let chance = judged.iter().map(|query| query.chance).sum::<f64>() / judged.len() as f64;
    Ok(Report {
        metrics,
        intervals: bootstrap::intervals(judged, bootstrap::RESAMPLES, SEED),
        open_set: openset::open_set(judged, SEED),
        chance: 100.0 * chance,
        counts,
        data,
        model,
        notes,
    })
}
