//! One bit for each component, against a query of a few bits: the first look at a million vectors.

use super::{Path, plain};

/// Rows whose words lie side by side: one register of AVX-512 holds a word of each.
pub const PLANE_ROWS: usize = 8;
/// Bits of a query's component.
pub const QUERY_BITS: usize = 4;
const WORD: usize = 64;

/// Bits of many vectors. Rows lie in blocks of [`PLANE_ROWS`], word by word, so that sums come out
/// side by side and nothing has to be added across a register.
#[derive(Clone, Debug, Default)]
pub struct Planes {
    words: usize,
    rows: usize,
    blocks: Vec<u64>,
}

/// A query as bit planes. Component `i` is about `low + step * code(i)`, codes from 0 to 15.
#[derive(Clone, Debug)]
pub struct PlaneQuery {
    words: usize,
    planes: Vec<u64>,
    low: f32,
    step: f32,
    /// Sum of all components as they are in the planes.
    total: f32,
}

impl PlaneQuery {
    /// Rounds a vector to [`QUERY_BITS`] bits between its smallest and largest component.
    pub fn new(values: &[f32]) -> Self {
        let words = values.len().div_ceil(WORD);
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let top = ((1 << QUERY_BITS) - 1) as f32;
        let low = if low.is_finite() { low } else { 0.0 };
        let step = if high > low { (high - low) / top } else { 0.0 };
        let mut planes = vec![0u64; words * QUERY_BITS];
        let mut total = 0.0;
        for (index, value) in values.iter().enumerate() {
            let code =
                if step > 0.0 { ((value - low) / step).round().clamp(0.0, top) } else { 0.0 };
            total += low + step * code;
            let code = code as u64;
            for bit in 0..QUERY_BITS {
                if let Some(word) = planes.get_mut(bit * words + index / WORD) {
                    *word |= (code >> bit & 1) << (index % WORD);
                }
            }
        }
        Self { words, planes, low, step, total }
    }

    /// The sum of components with signs, where [`Planes::masked`] gave `masked` for a row that has
    /// `ones` bits set: those that are set count plus, the others minus.
    pub fn signed(&self, masked: u32, ones: u32) -> f32 {
        let (scale, shift) = self.linear();
        scale * masked as f32 + 2.0 * self.low * ones as f32 + shift
    }

    /// [`PlaneQuery::signed`] is `scale * masked + 2 * low * ones + shift`: `(scale, shift)`.
    pub fn linear(&self) -> (f32, f32) {
        (2.0 * self.step, -self.total)
    }

    /// The smallest component.
    pub fn low(&self) -> f32 {
        self.low
    }
}

impl Planes {
    /// No rows, of `size` components, which is filled up to a multiple of 64.
    pub fn new(size: usize) -> Self {
        Self { words: size.div_ceil(WORD), rows: 0, blocks: Vec::new() }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes that the rows take.
    pub fn bytes(&self) -> usize {
        8 * self.blocks.capacity()
    }

    /// Adds a row: the bit of a component is set where it is above 0. Gives how many are set.
    pub fn push(&mut self, values: &[f32]) -> u32 {
        let place = self.rows % PLANE_ROWS;
        if place == 0 {
            self.blocks.resize(self.blocks.len() + self.words * PLANE_ROWS, 0);
        }
        let start = self.blocks.len() - self.words * PLANE_ROWS;
        let mut ones = 0;
        for (word, part) in values.chunks(WORD).take(self.words).enumerate() {
            let bits =
                part.iter().enumerate().fold(0, |bits, (i, v)| bits | u64::from(*v > 0.0) << i);
            ones += u64::count_ones(bits);
            if let Some(to) = self.blocks.get_mut(start + word * PLANE_ROWS + place) {
                *to = bits;
            }
        }
        self.rows += 1;
        ones
    }

    /// Overwrites a row with zeros.
    pub fn wipe(&mut self, row: usize) {
        let start = row / PLANE_ROWS * self.words * PLANE_ROWS + row % PLANE_ROWS;
        for word in 0..self.words {
            if let Some(to) = self.blocks.get_mut(start + word * PLANE_ROWS) {
                *to = 0;
            }
        }
    }

    /// For every row, the sum of the query's codes (0 to 15) where its bit is set. `out` gets as many
    /// as there are rows; none where the query has another size.
    pub fn masked(&self, path: Path, query: &PlaneQuery, out: &mut Vec<u32>) {
        out.clear();
        if query.words != self.words || self.rows == 0 || self.words == 0 {
            return;
        }
        out.resize(self.rows.next_multiple_of(PLANE_ROWS), 0);
        match path {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 | Path::Avx2 if Path::known().contains(&path) => {
                super::x86::masked(path, &self.blocks, &query.planes, self.words, out);
            }
            _ => plain::masked(&self.blocks, &query.planes, self.words, out),
        }
        out.truncate(self.rows);
    }
}
