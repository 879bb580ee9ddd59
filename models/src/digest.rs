//! SHA-256 of files: how bundles and assets are recognised.

use std::io::Read;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::{Error, Result};

/// A SHA-256 hash, written as 64 hexadecimal digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The hash itself.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl std::str::FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse_hex(text).map(Self).ok_or_else(|| {
            Error::invalid("sha256", format!("`{text}` is not 64 hexadecimal digits in lower case"))
        })
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Reads `2 * N` hexadecimal digits. Only lower case, so that one value has one spelling and can be
/// the name of a folder.
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// Reads to the end, hands every piece to `sink`, and returns the hash and the number of bytes.
///
/// Stops after `limit` + 1 bytes: enough to see that there are too many.
pub(crate) fn hash_stream(
    reader: impl Read,
    limit: u64,
    mut sink: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<(Digest, u64)> {
    let mut reader = reader.take(limit.saturating_add(1));
    let mut hasher = sha2::Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        let count = match reader.read(&mut piece) {
            Ok(0) => return Ok((Digest(hasher.finalize().into()), total)),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let part = piece.get(..count).unwrap_or_default();
        hasher.update(part);
        sink(part)?;
        total += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of "abc" in FIPS 180-2.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn hashes_are_written_and_read() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        assert_eq!(ABC.parse::<Digest>().unwrap(), Digest::of(b"abc"));
        for wrong in ["", "ab", &ABC[1..], &ABC.to_uppercase(), &format!("{ABC}00"), "é"] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_stream_is_hashed_and_stops_beyond_its_limit() {
        let mut seen = Vec::new();
        let mut sink = |part: &[u8]| {
            seen.extend_from_slice(part);
            Ok(())
        };
        assert_eq!(hash_stream(&b"abc"[..], 3, &mut sink).unwrap(), (Digest::of(b"abc"), 3));
        assert_eq!(seen, b"abc");
        let (_, bytes) = hash_stream(std::io::repeat(0), 700_000, |_| Ok(())).unwrap();
        assert_eq!(bytes, 700_001);
    }
}
