//! Which picture is shown with which caption, and when.

use clap::ValueEnum;
use rand::{Rng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::augment::Draws;

/// A record and one of its captions, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// The record's index in the set.
    pub record: usize,
    /// The caption's index in the record.
    pub caption: usize,
}

/// What an epoch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// Every picture with every one of its captions, as published.
    #[default]
    Pairs,
    /// Every picture once, with a caption that is drawn anew in each epoch.
    Pictures,
}

/// The order of all epochs. It has no state: an epoch's order follows from the seed and its number.
#[derive(Clone, Debug)]
pub struct Order {
    /// Records with the number of their captions.
    records: Vec<(usize, usize)>,
    sampler: Sampler,
    seed: u64,
}

impl Order {
    /// Of these records of a set; indexes beyond it are left out.
    pub fn new(dataset: &Dataset, records: &[usize], sampler: Sampler, seed: u64) -> Self {
        let captions =
            |index: &usize| Some((*index, dataset.records().get(*index)?.captions.len()));
        Self { records: records.iter().filter_map(captions).collect(), sampler, seed }
    }

    /// How many pairs an epoch has.
    pub fn len(&self) -> usize {
        match self.sampler {
            Sampler::Pairs => self.records.iter().map(|(_, captions)| captions).sum(),
            Sampler::Pictures => self.records.len(),
        }
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pairs of an epoch in their order.
    pub fn epoch(&self, epoch: u64) -> Vec<Pair> {
        let mut random = Draws::Order.generator(self.seed, epoch, 0);
        let records = self.records.iter().filter(|(_, captions)| *captions > 0);
        let mut pairs: Vec<Pair> = match self.sampler {
            Sampler::Pairs => records
                .flat_map(|&(record, captions)| {
                    (0..captions).map(move |caption| Pair { record, caption })
                })
                .collect(),
            Sampler::Pictures => records
                .map(|&(record, captions)| Pair {
                    record,
                    caption: random.random_range(0..captions),
                })
                .collect(),
        };
        pairs.shuffle(&mut random);
        pairs
    }
}
