//! What is known of one track: its looks, pooled.

use spotter_models::{Embedding, Generation};

use crate::{
    clock::Mono,
    error::{Error, Result},
};

/// What a track is taken to have shown before it was looked at: a look of this quality that fits no
/// text. So one poor look cannot reach what several good ones can. Chosen by experiment, see
/// `docs/design/decision.md`.
const DOUBT: f32 = 0.2;

/// Most looks at a track that are remembered one by one; crops are chosen more sparingly than that.
const MAX_LOOKS: usize = 16;

/// One look at a track.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Where the view lies in the common space.
    pub embedding: Embedding,
    /// How much could be seen, 0 to 1: its weight among the others.
    pub quality: f32,
    /// When, by our clock; of a recording, the stream's time.
    pub at: Mono,
}

/// Where a track lies in the common space, and how far its looks bear that out.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    direction: Embedding,
    certainty: f32,
}

impl Place {
    /// The quality-weighted mean of the looks, as a direction.
    pub fn direction(&self) -> &Embedding {
        &self.direction
    }

    /// More than 0, less than 1: the length of the quality-weighted mean of the looks, drawn towards 0
    /// while little was seen. Looks that disagree make a short mean.
    pub fn certainty(&self) -> f32 {
        self.certainty
    }

    /// What decides on a text: the cosine by as much as it is borne out, -1 to 1.
    ///
    /// # Errors
    /// Where the text comes from another bundle.
    pub fn score(&self, text: &Embedding) -> Result<f32> {
        Ok(self.certainty * self.direction.cosine(text)?)
    }
}

/// The quality-weighted sum of a track's embeddings: one blurred or half-hidden look does not decide.
#[derive(Clone, Debug)]
pub struct Looks {
    generation: Generation,
    sum: Vec<f32>,
    /// The weights' sum.
    weight: f32,
    count: u32,
    /// The first [`MAX_LOOKS`] of them.
    each: Vec<Look>,
}

impl Looks {
    /// Nothing seen yet.
    pub fn new(generation: Generation) -> Self {
        Self { generation, sum: Vec::new(), weight: 0.0, count: 0, each: Vec::new() }
    }

    /// The bundle that they come from.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Adds a look at some time; `quality` is its weight, 0 to 1.
    ///
    /// # Errors
    /// Where the look comes from another bundle than those before it.
    pub fn add(&mut self, look: &Embedding, quality: f32, at: Mono) -> Result<()> {
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
        self.weight += weight;
        self.count += 1;
        if self.each.len() < MAX_LOOKS {
            self.each.push(Look { embedding: look.clone(), quality, at });
        }
        Ok(())
    }

    /// The looks one by one, as far as they are remembered.
    pub fn each(&self) -> &[Look] {
        &self.each
    }

    /// Where the track lay after each of its looks: what a text was compared with, and so what its
    /// largest score is taken over.
    ///
    /// # Errors
    /// Where looks cancel out or come from several bundles.
    pub fn after_each(looks: &[Look]) -> Result<Vec<Place>> {
        let Some(first) = looks.first() else { return Ok(Vec::new()) };
        let mut pooled = Looks::new(first.embedding.generation());
        let after = |look: &Look| {
            pooled.add(&look.embedding, look.quality, look.at)?;
            pooled.place()
        };
        looks.iter().map(after).collect()
    }

    /// How many looks there were.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Where the track lies by now.
    ///
    /// # Errors
    /// Where there is no look yet, or the looks cancel out.
    pub fn place(&self) -> Result<Place> {
        let direction = Embedding::new(self.sum.clone(), self.generation)?;
        let length = self.sum.iter().map(|value| value * value).sum::<f32>().sqrt();
        Ok(Place { direction, certainty: length / (self.weight + DOUBT) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Mono = Mono(std::time::Duration::ZERO);
    const A: Generation = Generation([1; 16]);

    #[test]
    fn better_looks_weigh_more() {
        let mut looks = Looks::new(A);
        looks.add(&Embedding::new(vec![1.0, 0.0], A).unwrap(), 1.0, NOW).unwrap();
        looks.add(&Embedding::new(vec![0.0, 1.0], A).unwrap(), 0.5, NOW).unwrap();
        let place = looks.place().unwrap();
        let pooled = place.direction().values();
        assert!((pooled[0] / pooled[1] - 2.0).abs() < 1e-6);
        assert_eq!(looks.count(), 2);
    }

    #[test]
    fn a_track_is_where_its_looks_so_far_put_it() {
        let mut looks = Looks::new(A);
        let add = |looks: &mut Looks, x: f32, y: f32, quality| {
            looks.add(&Embedding::new(vec![x, y], A).unwrap(), quality, NOW).unwrap();
            looks.place().unwrap()
        };
        let then = [add(&mut looks, 1.0, 0.0, 0.4), add(&mut looks, 0.0, 1.0, 0.9)];
        assert_eq!(Looks::after_each(looks.each()).unwrap(), then);
        assert_eq!(Looks::after_each(&[]).unwrap(), []);
        (0..100).for_each(|_| drop(add(&mut looks, 1.0, 1.0, 0.5)));
        assert_eq!((looks.each().len(), looks.count()), (MAX_LOOKS, 102), "bounded");
    }

    #[test]
    fn what_was_seen_well_and_often_and_agrees_is_borne_out() {
        let certainty = |looks: &[(f32, f32, f32)]| {
            let mut all = Looks::new(A);
            for (x, y, quality) in looks {
                all.add(&Embedding::new(vec![*x, *y], A).unwrap(), *quality, NOW).unwrap();
            }
            all.place().unwrap().certainty()
        };
        let poor = certainty(&[(1.0, 0.0, 0.1)]);
        let good = certainty(&[(1.0, 0.0, 0.9)]);
        let often = certainty(&[(1.0, 0.0, 0.9); 5]);
        let apart = certainty(&[(1.0, 0.0, 0.9), (0.6, 0.8, 0.9)]);
        let together = certainty(&[(1.0, 0.0, 0.9), (0.96, 0.28, 0.9)]);
        assert!(poor < good && good < often && often < 1.0, "{poor} {good} {often}");
        assert!(apart < together, "{apart} {together}");
        let mut looks = Looks::new(A);
        looks.add(&Embedding::new(vec![1.0, 0.0], A).unwrap(), 0.8, NOW).unwrap();
        let text = Embedding::new(vec![0.6, 0.8], A).unwrap();
        assert!((looks.place().unwrap().score(&text).unwrap() - 0.8 * 0.6).abs() < 1e-6);
    }

    #[test]
    fn other_generations_and_nothing_at_all_are_errors() {
        let mut looks = Looks::new(A);
        assert!(looks.place().is_err());
        let other = Embedding::new(vec![1.0, 0.0], Generation([2; 16])).unwrap();
        assert!(looks.add(&other, 1.0, NOW).is_err());
    }
}
