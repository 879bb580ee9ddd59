//! What is known of one track: its looks, pooled.

use spotter_models::{Embedding, Generation};

use crate::error::{Error, Result};

/// The quality-weighted sum of a track's embeddings. Its direction is the track's place in the
/// common space: one blurred or half-hidden look does not decide.
pub struct Looks {
    generation: Generation,
    sum: Vec<f32>,
    count: u32,
}

impl Looks {
    /// Nothing seen yet.
    pub fn new(generation: Generation) -> Self {
        Self { generation, sum: Vec::new(), count: 0 }
    }

    /// Adds a look; `quality` is its weight, 0 to 1.
    ///
    /// # Errors
    /// Where the look comes from another bundle than those before it.
    pub fn add(&mut self, look: &Embedding, quality: f32) -> Result<()> {
        if look.generation() != self.generation {
            return Err(Error::internal(
                "pooling",
                format!("a look of {} among looks of {}", look.generation(), self.generation),
            ));
        }
        self.sum.resize(look.values().len(), 0.0);
        // The poorest look still counts for something: alone, it is all there is.
        let weight = if quality.is_finite() { quality.clamp(0.05, 1.0) } else { 0.05 };
        for (sum, value) in self.sum.iter_mut().zip(look.values()) {
            *sum += weight * value;
        }
        self.count += 1;
        Ok(())
    }

    /// How many looks there were.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The track's direction.
    ///
    /// # Errors
    /// Where there is no look yet, or the looks cancel out.
    pub fn pooled(&self) -> Result<Embedding> {
        Ok(Embedding::new(self.sum.clone(), self.generation)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Generation = Generation([1; 16]);

    #[test]
    fn better_looks_weigh_more() {
        let mut looks = Looks::new(A);
        looks.add(&Embedding::new(vec![1.0, 0.0], A).unwrap(), 1.0).unwrap();
        looks.add(&Embedding::new(vec![0.0, 1.0], A).unwrap(), 0.5).unwrap();
        let pooled = looks.pooled().unwrap();
        assert!((pooled.values()[0] / pooled.values()[1] - 2.0).abs() < 1e-6);
        assert_eq!(looks.count(), 2);
    }

    #[test]
    fn other_generations_and_nothing_at_all_are_errors() {
        let mut looks = Looks::new(A);
        assert!(looks.pooled().is_err());
        let other = Embedding::new(vec![1.0, 0.0], Generation([2; 16])).unwrap();
        assert!(looks.add(&other, 1.0).is_err());
    }
}
