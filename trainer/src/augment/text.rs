//! Changes to captions, as token ids.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::within;
use crate::error::{Error, Result};

/// How captions are changed: some words are touched, and each of these is hidden, replaced or left out
/// (RDE, Qin et al., CVPR 2024). The default changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextAugment {
    /// Probability that a word is touched.
    pub touched: f64,
    /// Share of the touched words that become the unknown word.
    pub hidden: f64,
    /// Share that become another word of the training captions.
    pub replaced: f64,
    /// Share that are left out.
    pub dropped: f64,
}

impl Default for TextAugment {
    fn default() -> Self {
        Self { touched: 0.0, ..Self::rde() }
    }
}

impl TextAugment {
    /// RDE's: a fifth is touched.
    pub fn rde() -> Self {
        Self { touched: 0.2, hidden: 0.6, replaced: 0.2, dropped: 0.2 }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the first that cannot be.
    pub fn validate(&self) -> Result<()> {
        for (name, value) in [
            ("text.touched", self.touched),
            ("text.hidden", self.hidden),
            ("text.replaced", self.replaced),
            ("text.dropped", self.dropped),
        ] {
            within(name, value, 0.0, 1.0)?;
        }
        let sum = self.hidden + self.replaced + self.dropped;
        // Decimal fractions that make 1 may exceed it by a rounding.
        if sum > 1.0 + 1e-9 {
            let reason = format!("hidden, replaced and dropped make {sum}, more than 1");
            return Err(Error::invalid("text", reason));
        }
        Ok(())
    }

    /// The changed words. `unknown` is the id of a hidden word, `vocabulary` the ids to replace by
    /// (where it is empty, nothing is replaced). At least one word stays of a caption that has any.
    pub fn apply(
        &self,
        words: &[u32],
        unknown: u32,
        vocabulary: &[u32],
        random: &mut impl Rng,
    ) -> Vec<u32> {
        if self.touched <= 0.0 {
            return words.to_vec();
        }
        let mut out = Vec::with_capacity(words.len());
        for &word in words {
            if random.random::<f64>() >= self.touched {
                out.push(word);
                continue;
            }
            let kind = random.random::<f64>();
            if kind < self.hidden {
                out.push(unknown);
            } else if kind < self.hidden + self.replaced && !vocabulary.is_empty() {
                out.push(vocabulary[random.random_range(0..vocabulary.len())]);
            } else if kind < self.hidden + self.replaced || kind >= self.kept_from() {
                out.push(word);
            }
        }
        match out.is_empty() {
            true => words.to_vec(),
            false => out,
        }
    }

    /// Draws from here on leave a touched word as it is.
    fn kept_from(&self) -> f64 {
        self.hidden + self.replaced + self.dropped
    }
}
