//! Many vectors in 8 bits, one after the other in memory.

use super::{Codes, Path, ROW_BYTES, plain, quantise};
use crate::{Error, Result};

/// Rows that are multiplied at a time; a block of them stays in the first cache.
pub(super) const TILE: usize = 4;

/// Vectors of one size as 8-bit numbers with a scale each. Rows are filled up to [`ROW_BYTES`], so a
/// vector of 512 takes 520 bytes.
#[derive(Clone, Debug)]
pub struct Packed {
    size: usize,
    /// Components plus 128: the instruction that multiplies 8-bit numbers wants one side without sign.
    rows: Vec<u8>,
    scales: Vec<f32>,
    /// Longest row as it was given, and the largest distance of one from what is kept.
    longest: f32,
    worst: f32,
}

/// A vector to multiply with the rows of a [`Packed`] of the same size.
#[derive(Clone, Debug)]
pub struct Query {
    size: usize,
    values: Vec<i8>,
    scale: f32,
    /// 128 times the sum of the values: what the rows' offset adds.
    offset: i32,
    length: f32,
    rounding: f32,
}

impl Query {
    /// Rounds a vector to 8 bits.
    pub fn new(values: &[f32]) -> Self {
        let codes = quantise(values);
        let (length, rounding) = (codes.length(), distance(values, &codes));
        let sum: i32 = codes.values.iter().map(|v| i32::from(*v)).sum();
        let mut padded = codes.values;
        padded.resize(values.len().next_multiple_of(ROW_BYTES), 0);
        Self {
            size: values.len(),
            values: padded,
            scale: codes.scale,
            offset: 128 * sum,
            length,
            rounding,
        }
    }

    /// Components, filled up with zeros to a multiple of [`ROW_BYTES`].
    pub(super) fn padded(&self) -> &[i8] {
        &self.values
    }
}

impl Packed {
    /// No vectors, of `size` components.
    pub fn new(size: usize) -> Self {
        Self { size, rows: Vec::new(), scales: Vec::new(), longest: 0.0, worst: 0.0 }
    }

    /// Components of a vector.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Number of vectors.
    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.scales.is_empty()
    }

    /// Bytes of memory that they take.
    pub fn bytes(&self) -> usize {
        self.rows.capacity() + 4 * self.scales.capacity()
    }

    /// Adds a vector as the last one.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a vector of another size.
    pub fn push(&mut self, values: &[f32]) -> Result<()> {
        self.check(values.len())?;
        let codes = quantise(values);
        self.learn(values, &codes);
        self.append(&codes)
    }

    /// Adds a vector that is in 8 bits already.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a vector of another size.
    pub fn push_codes(&mut self, codes: &Codes) -> Result<()> {
        self.check(codes.values.len())?;
        self.longest = self.longest.max(codes.length());
        self.append(codes)
    }

    /// Puts a vector in the place of another one.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a vector of another size or a row that is not there.
    pub fn replace(&mut self, row: usize, values: &[f32]) -> Result<()> {
        self.check(values.len())?;
        let codes = quantise(values);
        let stride = self.stride();
        let place = self.rows.get_mut(row * stride..(row + 1) * stride);
        let (Some(place), Some(scale)) = (place, self.scales.get_mut(row)) else {
            let reason = format!("row {row} of {} rows", self.scales.len());
            return Err(Error::mismatch("packed vectors", reason));
        };
        place.iter_mut().zip(&codes.values).for_each(|(to, from)| *to = biased(*from));
        *scale = codes.scale;
        self.learn(values, &codes);
        Ok(())
    }

    /// Overwrites all vectors with zeros and forgets them.
    pub fn wipe(&mut self) {
        self.rows.fill(0);
        self.rows.clear();
        self.scales.clear();
    }

    /// The vector of a row in 8 bits.
    pub fn codes(&self, row: usize) -> Option<Codes> {
        let stride = self.stride();
        let values = self.rows.get(row * stride..row * stride + self.size)?;
        let scale = *self.scales.get(row)?;
        Some(Codes { values: values.iter().map(|v| (v ^ 0x80) as i8).collect(), scale })
    }

    /// The product of a query with every row, into `out`, which becomes as long as there are rows.
    /// Rows of another size than the query's give nothing: `out` is empty then.
    pub fn scores(&self, query: &Query, out: &mut Vec<f32>) {
        self.scores_of(std::slice::from_ref(query), out);
    }

    /// The products of some queries with every row: those of the first query, then those of the
    /// second, and so on. Empty where a query has another size.
    pub fn scores_of(&self, queries: &[Query], out: &mut Vec<f32>) {
        out.clear();
        let mut sums = Vec::new();
        self.dots(Path::best(), queries, &mut sums);
        if self.is_empty() {
            return;
        }
        for (query, sums) in queries.iter().zip(sums.chunks_exact(self.len())) {
            let pairs = sums.iter().zip(&self.scales);
            out.extend(pairs.map(|(sum, scale)| query.scale * scale * *sum as f32));
        }
    }

    /// The products as whole numbers, without the scales, along a given path that this processor
    /// must know; in the order of [`Packed::scores_of`]. A path that it does not know is replaced by
    /// the plain one.
    pub fn dots(&self, path: Path, queries: &[Query], out: &mut Vec<i32>) {
        out.clear();
        if queries.iter().any(|query| query.size != self.size) {
            return;
        }
        out.resize(queries.len() * self.len(), 0);
        if out.is_empty() {
            return;
        }
        let rows = Rows { bytes: &self.rows, stride: self.stride(), count: self.len() };
        match path {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 | Path::Avx2 if Path::known().contains(&path) => {
                super::x86::dots(path, rows, queries, out);
            }
            _ => plain::dots(rows, queries, out),
        }
        for (query, sums) in queries.iter().zip(out.chunks_exact_mut(self.len())) {
            sums.iter_mut().for_each(|sum| *sum -= query.offset);
        }
    }

    /// How far a score of this query can be from the product of the vectors as they were given: of
    /// every row, whatever it is. By the inequality of Cauchy and Schwarz, so mostly far too wide, but
    /// never too narrow: whoever compares with a limit can confirm in f32 what is within the bound.
    pub fn bound(&self, query: &Query) -> f32 {
        let exact = query.rounding * self.longest + query.length * self.worst;
        // Rounding of the scores themselves and of this sum.
        exact + 1e-6 * (1.0 + (query.length + query.rounding) * (self.longest + self.worst))
    }

    fn stride(&self) -> usize {
        self.size.next_multiple_of(ROW_BYTES)
    }

    fn check(&self, size: usize) -> Result<()> {
        if size == self.size {
            return Ok(());
        }
        let reason = format!("{size} components among vectors of {}", self.size);
        Err(Error::mismatch("packed vectors", reason))
    }

    fn learn(&mut self, values: &[f32], codes: &Codes) {
        let length = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() as f32;
        self.longest = self.longest.max(length);
        self.worst = self.worst.max(distance(values, codes));
    }

    fn append(&mut self, codes: &Codes) -> Result<()> {
        self.rows.extend(codes.values.iter().map(|v| biased(*v)));
        self.rows.resize(self.rows.len().next_multiple_of(ROW_BYTES), biased(0));
        self.scales.push(codes.scale);
        Ok(())
    }
}

/// The rows as the paths see them: `count` times `stride` bytes, the stride a multiple of
/// [`ROW_BYTES`].
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub bytes: &'a [u8],
    pub stride: usize,
    pub count: usize,
}

fn biased(value: i8) -> u8 {
    value as u8 ^ 0x80
}

fn distance(values: &[f32], codes: &Codes) -> f32 {
    let pairs = values.iter().zip(&codes.values);
    let parts =
        pairs.map(|(v, c)| (f64::from(*v) - f64::from(codes.scale) * f64::from(*c)).powi(2));
    parts.sum::<f64>().sqrt() as f32
}
