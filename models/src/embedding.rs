//! Unit vectors in the common space of texts and pictures.

use serde::{Deserialize, Serialize};

use crate::{Digest, Error, Result, digest::parse_hex};

/// Which bundle computed something: the content hash of its manifest, written as 32 hexadecimal
/// digits in lower case. Scores of two generations are never compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Generation(pub [u8; 16]);

impl Generation {
    /// The generation of a manifest: the first half of the SHA-256 of its file.
    pub fn of_manifest(bytes: &[u8]) -> Self {
        let digest = Digest::of(bytes);
        let (halves, _) = digest.bytes().as_chunks::<16>();
        Self(halves.first().copied().unwrap_or_default())
    }
}

impl std::str::FromStr for Generation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse_hex(text).map(Self).ok_or_else(|| {
            Error::invalid(
                "generation",
                format!("`{text}` is not 32 hexadecimal digits in lower case"),
            )
        })
    }
}

impl TryFrom<String> for Generation {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Generation> for String {
    fn from(generation: Generation) -> Self {
        generation.to_string()
    }
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Generation({self})")
    }
}

/// A vector of unit length, tagged with the generation that computed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    values: Vec<f32>,
    generation: Generation,
}

impl Embedding {
    /// Normalises `values`.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the values are empty, not finite or all zero: such a vector has no
    /// direction and would match everything or nothing.
    pub fn new(mut values: Vec<f32>, generation: Generation) -> Result<Self> {
        let length = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
        if !length.is_finite() || length < 1e-12 {
            return Err(Error::invalid(
                "embedding",
                format!("{} values of length {length} have no direction", values.len()),
            ));
        }
        values.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
        Ok(Self { values, generation })
    }

    /// The components.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Which bundle computed it.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The cosine of the angle between two embeddings, -1 to 1.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where they come from different generations or sizes.
    pub fn cosine(&self, other: &Embedding) -> Result<f32> {
        if self.generation != other.generation || self.values.len() != other.values.len() {
            return Err(Error::mismatch(
                "embedding",
                format!(
                    "{} of {} values against {} of {}: scores of two bundles are never compared",
                    self.generation,
                    self.values.len(),
                    other.generation,
                    other.values.len()
                ),
            ));
        }
        Ok(dot(&self.values, &other.values))
    }
}

/// Sum of products in eight lanes, which the compiler turns into vector instructions.
///
/// Of two unit vectors of one generation this is their cosine; who calls it answers for that.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut sums = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Generation = Generation([1; 16]);

    #[test]
    fn vectors_without_a_direction_are_refused() {
        for values in [vec![], vec![0.0; 4], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0]] {
            assert!(Embedding::new(values, A).is_err());
        }
    }

    #[test]
    fn cosine_of_unit_vectors() {
        let a = Embedding::new((1..=19).map(|v| v as f32).collect(), A).unwrap();
        let b = Embedding::new((1..=19).rev().map(|v| v as f32).collect(), A).unwrap();
        assert!((a.cosine(&a).unwrap() - 1.0).abs() < 1e-6);
        // 1*19 + 2*18 + … = 1330, and each squared length is 2470.
        assert!((a.cosine(&b).unwrap() - 1330.0 / 2470.0).abs() < 1e-6);
    }

    #[test]
    fn a_generation_is_half_the_hash_of_its_manifest() {
        let generation = Generation::of_manifest(b"abc");
        assert_eq!(generation.to_string(), "ba7816bf8f01cfea414140de5dae2223");
        assert_eq!("ba7816bf8f01cfea414140de5dae2223".parse::<Generation>().unwrap(), generation);
        for wrong in ["", "../../etc", "BA7816BF8F01CFEA414140DE5DAE2223", "ba7816bf8f01cfea"] {
            assert!(wrong.parse::<Generation>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn generations_never_mix() {
        let a = Embedding::new(vec![1.0, 0.0], A).unwrap();
        let b = Embedding::new(vec![1.0, 0.0], Generation([2; 16])).unwrap();
        assert!(a.cosine(&b).is_err());
    }
}
