//! Embeddings of captions and pictures to the outcome of every query.

use spotter_models::embedding::dot;

use super::{Judged, ranking::nobody};
use crate::error::{Error, Result};

/// How many bins a histogram of cosines has, from -1 to 1.
const BINS: usize = 400;

/// How often pairs of captions and pictures have a score, in equal bins from -1 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Of a caption and a picture of one person.
    pub right: Vec<u64>,
    /// Of two persons.
    pub wrong: Vec<u64>,
}

impl Histogram {
    fn new() -> Self {
        Self { right: vec![0; BINS], wrong: vec![0; BINS] }
    }

    fn add(&mut self, score: f32, is_right: bool) {
        let at = ((score + 1.0) / 2.0 * BINS as f32) as usize;
        let counts = if is_right { &mut self.right } else { &mut self.wrong };
        counts.get_mut(at.min(BINS - 1)).into_iter().for_each(|count| *count += 1);
    }

    fn merge(&mut self, other: &Self) {
        self.right.iter_mut().zip(&other.right).for_each(|(sum, more)| *sum += more);
        self.wrong.iter_mut().zip(&other.wrong).for_each(|(sum, more)| *sum += more);
    }

    /// The score in the middle of a bin.
    pub fn centre(bin: usize) -> f64 {
        (bin as f64 + 0.5) / BINS as f64 * 2.0 - 1.0
    }
}

/// What ranking the gallery for every query gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The index of each query that could be judged, and how it went.
    pub queries: Vec<(usize, Judged)>,
    /// Scores of all pairs.
    pub histogram: Histogram,
}

impl Scored {
    /// How the queries went.
    pub fn judged(&self) -> Vec<Judged> {
        self.queries.iter().map(|(_, judged)| *judged).collect()
    }
}

/// Ranks `images` for each of `texts` by the cosine of their unit embeddings. `queries` and `gallery`
/// hold whom each text and image is about. Rows of scores are made and judged one by one, so memory
/// does not grow with their product. Queries of persons whom no picture shows are left out.
///
/// # Errors
/// [`Error::Invalid`] where counts or sizes differ, a score is NaN, or no query can be judged.
pub fn judge(
    texts: &[Vec<f32>],
    queries: &[i64],
    images: &[Vec<f32>],
    gallery: &[i64],
) -> Result<Scored> {
    let size = images.first().map_or(0, Vec::len);
    let is_even = texts.iter().chain(images).all(|row| row.len() == size);
    if texts.len() != queries.len() || images.len() != gallery.len() || size == 0 || !is_even {
        let reason = format!(
            "{} and {} rows do not fit {} queries and {} pictures",
            texts.len(),
            images.len(),
            queries.len(),
            gallery.len()
        );
        return Err(Error::invalid("embeddings", reason));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = texts.len().div_ceil(threads).max(1);
    let parts: Vec<Result<Scored>> = std::thread::scope(|scope| {
        let judge_part = |(number, texts): (usize, &'_ [Vec<f32>])| {
            let queries = queries.get(number * part..).unwrap_or_default();
            judge_rows(number * part, texts, queries, images, gallery)
        };
        let started: Vec<_> = texts
            .chunks(part)
            .enumerate()
            .map(|part| scope.spawn(move || judge_part(part)))
            .collect();
        let broken = || Error::invalid("ranking", "a thread broke off");
        started.into_iter().map(|part| part.join().unwrap_or_else(|_| Err(broken()))).collect()
    });
    let mut all = Scored { queries: Vec::new(), histogram: Histogram::new() };
    for part in parts {
        let part = part?;
        all.queries.extend(part.queries);
        all.histogram.merge(&part.histogram);
    }
    if all.queries.is_empty() {
        return Err(nobody());
    }
    Ok(all)
}

/// [`judge`] for queries from `first` on, on one thread.
fn judge_rows(
    first: usize,
    texts: &[Vec<f32>],
    queries: &[i64],
    images: &[Vec<f32>],
    gallery: &[i64],
) -> Result<Scored> {
    let mut scored = Scored { queries: Vec::new(), histogram: Histogram::new() };
    let mut row = vec![0.0; images.len()];
    for ((index, text), person) in (first..).zip(texts).zip(queries) {
        for (score, image) in row.iter_mut().zip(images) {
            *score = dot(text, image);
        }
        if row.iter().any(|score| score.is_nan()) {
            return Err(Error::invalid("scores", "hold NaN: the model is broken"));
        }
        for (score, shown) in row.iter().zip(gallery) {
            scored.histogram.add(*score, shown == person);
        }
        scored.queries.extend(Judged::new(&row, *person, gallery).map(|judged| (index, judged)));
    }
    Ok(scored)
}
