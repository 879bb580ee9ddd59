//! Who fits a query best: all records' bits first, then the stored vectors of the best of them.

use std::{cmp::Ordering, sync::Arc};

use jiff::Timestamp;
use spotter_models::{
    embedding::dot,
    kernel::{Path, PlaneQuery, Query, Rotation},
};

use super::{
    record::RecordId,
    segment::{Code, Segment},
    selection::RowFilter,
};
use crate::{error::Result, frame::CameraId};

/// Somebody who was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The record.
    pub id: RecordId,
    /// Cosine of the query and the stored vector, -1 to 1.
    pub score: f32,
    /// Who saw it.
    pub camera: CameraId,
    /// Its number at that camera.
    pub track: u64,
    /// When it was seen first.
    pub first: Timestamp,
    /// When it was seen last.
    pub last: Timestamp,
    /// Quality of the best view, 0 to 1.
    pub quality: f32,
    /// Whether there is a portrait to ask for.
    pub has_picture: bool,
}

/// Fewest records whose vectors are compared, where there are as many.
const RERANK_MIN: usize = 1024;
/// Of how many records one vector more is compared.
const RERANK_SHARE: usize = 400;
/// Vectors that are compared before the error of the bits is judged by them.
const FIRST: usize = 256;
/// How many standard deviations of that error still count as possible.
const MARGIN: f32 = 3.0;

/// A record that may be among the best.
#[derive(Clone, Copy)]
struct Candidate {
    score: f32,
    segment: u32,
    row: u32,
}

fn by_score(a: &Candidate, b: &Candidate) -> Ordering {
    b.score.total_cmp(&a.score)
}

/// The best so far by estimate: at most twice `keep`, cut back when full.
struct Best {
    keep: usize,
    floor: f32,
    list: Vec<Candidate>,
}

impl Best {
    fn offer(&mut self, candidate: Candidate) {
        if candidate.score <= self.floor {
            return;
        }
        self.list.push(candidate);
        if self.list.len() >= 2 * self.keep {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.list.len() > self.keep {
            self.list.select_nth_unstable_by(self.keep - 1, by_score);
            self.list.truncate(self.keep);
            let lowest = self.list.iter().map(|candidate| candidate.score);
            self.floor = lowest.fold(f32::INFINITY, f32::min);
        }
    }
}

/// How far estimates were off.
#[derive(Default)]
struct Errors {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Errors {
    fn add(&mut self, error: f64) {
        self.count += 1.0;
        self.sum += error;
        self.squares += error * error;
    }

    /// Around their mean: the best by estimate are those that were estimated too high.
    fn deviation(&self) -> f32 {
        let mean = self.sum / self.count.max(1.0);
        (self.squares / self.count.max(1.0) - mean * mean).max(0.0).sqrt() as f32
    }
}

/// A query against some files of one generation.
pub(super) struct Search<'a> {
    pub(super) query: &'a [f32],
    pub(super) filter: &'a RowFilter,
    pub(super) limit: usize,
    pub(super) segments: &'a [Arc<Segment>],
}

impl Search<'_> {
    /// The best records, best first, with their scores; the newest first where scores are equal. A
    /// file's rows are locked only while that file is looked through.
    pub(super) fn run(&self, rotation: &Rotation) -> Result<Vec<(Arc<Segment>, usize, f32)>> {
        let total: usize = self.segments.iter().map(|segment| segment.rows().list.len()).sum();
        let keep = RERANK_MIN.max(16 * self.limit).max(total / RERANK_SHARE);
        let mut best = Best { keep, floor: f32::NEG_INFINITY, list: Vec::new() };
        self.scan(rotation, &mut best);
        best.cut();
        best.list.sort_unstable_by(by_score);
        let exact = self.rerank(&best.list)?;
        let found = exact.into_iter().filter_map(|candidate| {
            let segment = self.segments.get(candidate.segment as usize)?;
            Some((segment.clone(), candidate.row as usize, candidate.score))
        });
        Ok(found.collect())
    }

    /// Offers every record with an estimate of its score.
    fn scan(&self, rotation: &Rotation, best: &mut Best) {
        let mut rotated = Vec::new();
        rotation.apply(self.query, &mut rotated);
        let (planes_query, bytes_query) = (PlaneQuery::new(&rotated), Query::new(self.query));
        let (scale, shift) = planes_query.linear();
        let low = 2.0 * planes_query.low();
        let (mut sums, mut scores) = (Vec::new(), Vec::new());
        for (number, segment) in self.segments.iter().enumerate() {
            let rows = segment.rows();
            scores.clear();
            match &rows.code {
                Code::Exact(packed) => packed.scores(&bytes_query, &mut scores),
                Code::Bits(bits) => {
                    bits.planes.masked(Path::best(), &planes_query, &mut sums);
                    let base = dot(self.query, &bits.centre);
                    let parts = sums.iter().zip(&bits.factors).zip(&bits.ones);
                    scores.extend(parts.map(|((sum, factor), ones)| {
                        base + factor * (scale * *sum as f32 + low * f32::from(*ones) + shift)
                    }));
                }
            }
            for (index, score) in scores.iter().enumerate() {
                let may = *score > best.floor;
                if may && rows.list.get(index).is_some_and(|row| self.filter.takes(row)) {
                    let (segment, row) = (number as u32, index as u32);
                    best.offer(Candidate { score: *score, segment, row });
                }
            }
        }
    }

    /// Replaces estimates by cosines with the stored vectors, from the best on, until nobody who is
    /// left can be among the best any more.
    fn rerank(&self, candidates: &[Candidate]) -> Result<Vec<Candidate>> {
        let mut exact: Vec<Candidate> = Vec::with_capacity(candidates.len());
        let mut errors = Errors::default();
        let mut buffer = Vec::new();
        for chunk in candidates.chunks(FIRST) {
            let lowest_needed = self.needed(&mut exact);
            let best_left = chunk.first().map_or(f32::NEG_INFINITY, |candidate| candidate.score);
            if lowest_needed.is_some_and(|needed| best_left + MARGIN * errors.deviation() < needed)
            {
                break;
            }
            for candidate in chunk {
                if let Some(score) = self.cosine(candidate, &mut buffer)? {
                    errors.add(f64::from(score - candidate.score));
                    exact.push(Candidate { score, ..*candidate });
                }
            }
        }
        let newest = |candidate: &Candidate| {
            let segment = self.segments.get(candidate.segment as usize)?;
            let row = *segment.rows().list.get(candidate.row as usize)?;
            Some((row.last(), segment.id(&row)))
        };
        self.needed(&mut exact);
        exact.truncate(self.limit.saturating_mul(2).max(64));
        exact.sort_by(|a, b| by_score(a, b).then_with(|| newest(b).cmp(&newest(a))));
        exact.truncate(self.limit);
        Ok(exact)
    }

    /// The score of the last that would be given now, once there are enough; the best `limit` come
    /// first afterwards.
    fn needed(&self, exact: &mut [Candidate]) -> Option<f32> {
        if exact.len() <= self.limit {
            return None;
        }
        let (_, last, _) = exact.select_nth_unstable_by(self.limit.saturating_sub(1), by_score);
        Some(last.score)
    }

    /// The cosine of the query and a stored vector; `None` where it was erased meanwhile.
    fn cosine(&self, candidate: &Candidate, buffer: &mut Vec<u8>) -> Result<Option<f32>> {
        let Some(segment) = self.segments.get(candidate.segment as usize) else { return Ok(None) };
        let row = segment.rows().list.get(candidate.row as usize).copied();
        let Some(row) = row.filter(|row| row.is_live()) else { return Ok(None) };
        segment.cosine(row.offset, self.query, buffer).map_err(crate::Error::io(&segment.path))
    }
}
