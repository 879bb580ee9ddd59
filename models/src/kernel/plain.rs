//! The same products in plain Rust: the only path on other processors, and what the others are
//! tested against.

use super::{
    PLANE_ROWS, QUERY_BITS,
    packed::{Query, Rows},
};

/// Products of biased rows with queries, query by query.
pub(super) fn dots(rows: Rows<'_>, queries: &[Query], out: &mut [i32]) {
    for (query, out) in queries.iter().zip(out.chunks_exact_mut(rows.count)) {
        for (row, out) in rows.bytes.chunks_exact(rows.stride).zip(out) {
            *out = row.iter().zip(query.padded()).map(|(r, q)| i32::from(*r) * i32::from(*q)).sum();
        }
    }
}

/// Sums of the query's components where a row's bit is set, for blocks of [`PLANE_ROWS`] rows.
/// `query` has [`QUERY_BITS`] planes of `words` words, the lowest first.
pub(super) fn masked(blocks: &[u64], query: &[u64], words: usize, out: &mut [u32]) {
    for (block, out) in
        blocks.chunks_exact(words * PLANE_ROWS).zip(out.chunks_exact_mut(PLANE_ROWS))
    {
        out.fill(0);
        for (word, rows) in block.chunks_exact(PLANE_ROWS).enumerate() {
            for bit in 0..QUERY_BITS {
                let plane = query.get(bit * words + word).copied().unwrap_or(0);
                for (out, row) in out.iter_mut().zip(rows) {
                    *out += (row & plane).count_ones() << bit;
                }
            }
        }
    }
}
