//! Inner products of many vectors on one core: what matching and searching spend their time on.
//!
//! [`Packed`] holds vectors in 8 bits and multiplies them with queries; [`Planes`] holds one bit for
//! each component and multiplies it with a query of [`QUERY_BITS`] bits. Both compute in integers, so
//! every path gives the same number as the plain one, to the last bit. Which path runs is chosen once,
//! by what the processor has: AVX-512 with VNNI and VPOPCNTDQ, AVX2, or plain Rust. No other module
//! has code that the compiler does not check.

mod packed;
mod plain;
mod planes;
mod quantise;
mod rotate;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use packed::{Packed, Query};
pub use planes::{PLANE_ROWS, PlaneQuery, Planes, QUERY_BITS};
pub use quantise::{Codes, FineCodes, quantise};
pub use rotate::Rotation;

/// Bytes to which a row of 8-bit components is filled up: one register of AVX-512.
pub const ROW_BYTES: usize = 64;

/// A way to compute; all give the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// AVX-512 with VNNI and VPOPCNTDQ.
    Avx512,
    /// AVX2.
    Avx2,
    /// Whatever the compiler makes of plain Rust.
    Plain,
}

impl Path {
    /// The ways that this processor knows, the fastest first.
    pub fn known() -> Vec<Path> {
        let mut known = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vnni")
                && is_x86_feature_detected!("avx512vpopcntdq");
            if wide {
                known.push(Path::Avx512);
            }
            if is_x86_feature_detected!("avx2") {
                known.push(Path::Avx2);
            }
        }
        known.push(Path::Plain);
        known
    }

    /// The fastest one, found once.
    pub fn best() -> Path {
        static BEST: std::sync::OnceLock<Path> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Path::known().first().copied().unwrap_or(Path::Plain))
    }
}
