//! The products with the vector instructions of x86.
//!
//! All code of this crate that the compiler does not check is here. Each function with instructions
//! of its own is reached only through [`dots`] and [`masked`], which are given a path that
//! [`Path::known`] has found.

use std::arch::x86_64::*;

use super::{
    PLANE_ROWS, Path, QUERY_BITS, ROW_BYTES,
    packed::{Query, Rows, TILE},
    plain,
};

/// As [`plain::dots`]; `path` must be one that the processor knows.
pub(super) fn dots(path: Path, rows: Rows<'_>, queries: &[Query], out: &mut [i32]) {
    // The loads below rely on these lengths.
    let whole = rows.stride.is_multiple_of(ROW_BYTES)
        && rows.bytes.len() == rows.count * rows.stride
        && queries.iter().all(|query| query.padded().len() == rows.stride)
        && out.len() == queries.len() * rows.count;
    if !whole {
        return plain::dots(rows, queries, out);
    }
    match path {
        // SAFETY: the caller has found AVX-512 F, BW and VNNI on this processor; lengths are checked
        // above.
        Path::Avx512 => unsafe { dots_512(rows, queries, out) },
        // SAFETY: the caller has found AVX2 on this processor; lengths are checked above.
        Path::Avx2 => unsafe { dots_256(rows, queries, out) },
        Path::Plain => plain::dots(rows, queries, out),
    }
}

/// As [`plain::masked`]; `path` must be one that the processor knows.
pub(super) fn masked(path: Path, blocks: &[u64], query: &[u64], words: usize, out: &mut [u32]) {
    let count = out.len() / PLANE_ROWS;
    let whole = out.len().is_multiple_of(PLANE_ROWS)
        && blocks.len() == count * words * PLANE_ROWS
        && query.len() == words * QUERY_BITS;
    if !whole {
        return plain::masked(blocks, query, words, out);
    }
    match path {
        // SAFETY: the caller has found AVX-512 F and VPOPCNTDQ; lengths are checked above.
        Path::Avx512 => unsafe { masked_512(blocks, query, words, out) },
        // SAFETY: the caller has found AVX2; lengths are checked above.
        Path::Avx2 => unsafe { masked_256(blocks, query, words, out) },
        Path::Plain => plain::masked(blocks, query, words, out),
    }
}

/// # Safety
/// Needs AVX-512 F, BW and VNNI; `rows` whole, queries as long as a row, and `out` queries times rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn dots_512(rows: Rows<'_>, queries: &[Query], out: &mut [i32]) {
    let mut first = 0;
    while first < rows.count {
        let tile = TILE.min(rows.count - first);
        let mut query = 0;
        while query < queries.len() {
            let several = if queries.len() - query >= 4 && tile == TILE { 4 } else { 1 };
            let columns = queries.get(query..query + several).unwrap_or_default();
            // SAFETY: rows `first` to `first + tile` and these queries exist, by the loops.
            match (columns, tile) {
                ([a, b, c, d], TILE) => unsafe {
                    let sums = tile_512([a, b, c, d], rows, first);
                    for (offset, sums) in sums.iter().enumerate() {
                        put(out, (query + offset) * rows.count + first, sums);
                    }
                },
                ([a], TILE) => unsafe {
                    let sums = [0, 1, 2, 3].map(|row| row_512(a, rows, first + row));
                    put(out, query * rows.count + first, &add_up(sums));
                },
                _ => {
                    for row in first..first + tile {
                        for (offset, column) in columns.iter().enumerate() {
                            // SAFETY: as above.
                            let sum = unsafe { row_512(column, rows, row) };
                            let sum = _mm512_reduce_add_epi32(sum);
                            put(out, (query + offset) * rows.count + row, &[sum]);
                        }
                    }
                }
            }
            query += several;
        }
        first += tile;
    }
}

fn put(out: &mut [i32], at: usize, sums: &[i32]) {
    if let Some(place) = out.get_mut(at..at + sums.len()) {
        place.copy_from_slice(sums);
    }
}

/// [`TILE`] rows from `first` on against `N` queries.
///
/// # Safety
/// Needs AVX-512 F, BW and VNNI, the rows to be there and queries as long as a row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[expect(
    clippy::needless_range_loop,
    reason = "fixed lengths, so that nothing is left of the loops"
)]
unsafe fn tile_512<const N: usize>(
    queries: [&Query; N],
    rows: Rows<'_>,
    first: usize,
) -> [[i32; TILE]; N] {
    let mut sums = [[_mm512_setzero_si512(); TILE]; N];
    let stride = rows.stride;
    let columns: [*const i8; N] = queries.map(|query| query.padded().as_ptr());
    // SAFETY: the caller says that the rows are there.
    let base = unsafe { rows.bytes.as_ptr().add(first * stride) };
    let mut at = 0;
    while at < stride {
        // Loops of a fixed length: they become straight code, and all sums stay in registers.
        let mut parts = [_mm512_setzero_si512(); TILE];
        for row in 0..TILE {
            // SAFETY: 64 bytes at a multiple of 64 within a row.
            parts[row] = unsafe { _mm512_loadu_si512(base.add(row * stride + at).cast()) };
        }
        for query in 0..N {
            // SAFETY: a query is as long as a row.
            let column = unsafe { _mm512_loadu_si512(columns[query].add(at).cast()) };
            for row in 0..TILE {
                sums[query][row] = _mm512_dpbusd_epi32(sums[query][row], parts[row], column);
            }
        }
        at += ROW_BYTES;
    }
    let mut out = [[0; TILE]; N];
    for query in 0..N {
        out[query] = add_up(sums[query]);
    }
    out
}

/// The sum of each register.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_up(sums: [__m512i; TILE]) -> [i32; TILE] {
    let [a, b, c, d] = sums;
    let (a, b, c, d) = (fold(a), fold(b), fold(c), fold(d));
    let four = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let four = _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256::<1>(four));
    let mut out = [0; TILE];
    // SAFETY: the array has room for four numbers.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), four) };
    out
}

#[inline]
#[target_feature(enable = "avx512f")]
fn fold(sum: __m512i) -> __m256i {
    _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum))
}

/// The products of one row, to be added up. Memory gives rows that are read one after the other nearly twice
/// as fast as several at a time.
///
/// # Safety
/// As [`tile_512`], of one row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn row_512(query: &Query, rows: Rows<'_>, row: usize) -> __m512i {
    let mut sum = _mm512_setzero_si512();
    // SAFETY: the caller says that the row is there.
    let base = unsafe { rows.bytes.as_ptr().add(row * rows.stride) };
    let mut at = 0;
    while at < rows.stride {
        // SAFETY: 64 bytes at a multiple of 64 within the row and the query.
        sum = unsafe {
            let part = _mm512_loadu_si512(base.add(at).cast());
            _mm512_dpbusd_epi32(
                sum,
                part,
                _mm512_loadu_si512(query.padded().as_ptr().add(at).cast()),
            )
        };
        at += ROW_BYTES;
    }
    sum
}

/// # Safety
/// Needs AVX2; `rows` whole, queries as long as a row, and `out` queries times rows.
#[target_feature(enable = "avx2")]
unsafe fn dots_256(rows: Rows<'_>, queries: &[Query], out: &mut [i32]) {
    for row in 0..rows.count {
        for (index, query) in queries.iter().enumerate() {
            let mut sums = [_mm256_setzero_si256(); 2];
            // SAFETY: the row is there; 32 bytes at a multiple of 32 within row and query.
            unsafe {
                let base = rows.bytes.as_ptr().add(row * rows.stride);
                let column = query.padded().as_ptr();
                let mut at = 0;
                while at < rows.stride {
                    for (half, sum) in sums.iter_mut().enumerate() {
                        let at = at + 16 * half;
                        let part = _mm256_cvtepu8_epi16(_mm_loadu_si128(base.add(at).cast()));
                        let column = _mm256_cvtepi8_epi16(_mm_loadu_si128(column.add(at).cast()));
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(part, column));
                    }
                    at += 32;
                }
            }
            let [a, b] = sums;
            put(out, index * rows.count + row, &[sum_256(_mm256_add_epi32(a, b))]);
        }
    }
}

#[target_feature(enable = "avx2")]
fn sum_256(sums: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
}

/// # Safety
/// Needs AVX-512 F and VPOPCNTDQ; `blocks` and `out` whole blocks of rows, `query` of `words` words
/// for each bit.
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
unsafe fn masked_512(blocks: &[u64], query: &[u64], words: usize, out: &mut [u32]) {
    let block_words = words * PLANE_ROWS;
    for (block, out) in blocks.chunks_exact(block_words).zip(out.chunks_exact_mut(PLANE_ROWS)) {
        let mut sums = [_mm512_setzero_si512(); QUERY_BITS];
        let start: *const u64 = block.as_ptr();
        for word in 0..words {
            // SAFETY: a block has eight rows' words for each word.
            let rows = unsafe { _mm512_loadu_si512(start.add(word * PLANE_ROWS).cast()) };
            for (bit, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the query has `words` words for each bit.
                let plane = unsafe { *query.get_unchecked(bit * words + word) };
                let both = _mm512_and_si512(rows, _mm512_set1_epi64(plane as i64));
                *sum = _mm512_add_epi64(*sum, _mm512_popcnt_epi64(both));
            }
        }
        let [a, b, c, d] = sums;
        let low = _mm512_add_epi64(a, _mm512_slli_epi64::<1>(b));
        let high = _mm512_add_epi64(c, _mm512_slli_epi64::<1>(d));
        let all = _mm512_cvtepi64_epi32(_mm512_add_epi64(low, _mm512_slli_epi64::<2>(high)));
        // SAFETY: `out` has room for eight numbers.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), all) };
    }
}

/// # Safety
/// Needs AVX2; otherwise as [`masked_512`].
#[target_feature(enable = "avx2")]
unsafe fn masked_256(blocks: &[u64], query: &[u64], words: usize, out: &mut [u32]) {
    let block_words = words * PLANE_ROWS;
    for (block, out) in blocks.chunks_exact(block_words).zip(out.chunks_exact_mut(PLANE_ROWS)) {
        for (half, out) in out.chunks_exact_mut(PLANE_ROWS / 2).enumerate() {
            let mut all = _mm256_setzero_si256();
            for word in 0..words {
                let at = word * PLANE_ROWS + half * PLANE_ROWS / 2;
                // SAFETY: a block has eight rows' words for each word.
                let rows = unsafe { _mm256_loadu_si256(block.as_ptr().add(at).cast()) };
                for bit in 0..QUERY_BITS {
                    // SAFETY: the query has `words` words for each bit.
                    let plane = unsafe { *query.get_unchecked(bit * words + word) };
                    let both = _mm256_and_si256(rows, _mm256_set1_epi64x(plane as i64));
                    let shift = _mm_cvtsi32_si128(bit as i32);
                    all = _mm256_add_epi64(all, _mm256_sll_epi64(count_256(both), shift));
                }
            }
            let mut lanes = [0u64; 4];
            // SAFETY: the array has room for four numbers.
            unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), all) };
            out.iter_mut().zip(lanes).for_each(|(out, lane)| *out = lane as u32);
        }
    }
}

/// Bits that are set in each 64-bit part, by a table of half bytes.
#[target_feature(enable = "avx2")]
fn count_256(bits: __m256i) -> __m256i {
    let table = _mm256_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3,
        3, 4,
    );
    let mask = _mm256_set1_epi8(0x0f);
    let low = _mm256_shuffle_epi8(table, _mm256_and_si256(bits, mask));
    let high = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(bits), mask));
    _mm256_sad_epu8(_mm256_add_epi8(low, high), _mm256_setzero_si256())
}
