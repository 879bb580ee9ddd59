//! When a score is a sighting. A policy, because no fixed cut-off on CLIP scores suits every text.

use spotter_models::Embedding;

use crate::error::{Error, Result};

/// Decides what score a text must reach.
pub trait Policy: Send {
    /// The cosine from which a track fits this text.
    fn threshold(&self, text: &Embedding) -> f32;
}

/// The same cut-off for every text: for experiments and comparisons, not for a site.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    cosine: f32,
}

impl Fixed {
    /// # Errors
    /// [`Error::Config`] where the cut-off is no cosine.
    pub fn new(cosine: f32) -> Result<Self> {
        if (-1.0..=1.0).contains(&cosine) {
            Ok(Self { cosine })
        } else {
            Err(Error::config("policy fixed", format!("{cosine} is no cosine: use -1 to 1")))
        }
    }
}

impl Policy for Fixed {
    fn threshold(&self, _: &Embedding) -> f32 {
        self.cosine
    }
}

/// Reads `fixed=X`.
///
/// # Errors
/// [`Error::Config`] with the forms that exist.
pub fn parse(text: &str) -> Result<Box<dyn Policy>> {
    let cosine = text.strip_prefix("fixed=").and_then(|number| number.parse().ok());
    match cosine {
        Some(cosine) => Ok(Box::new(Fixed::new(cosine)?)),
        None => Err(Error::config(
            format!("policy {text:?}"),
            "is not known; use fixed=X with X a cosine from -1 to 1",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cosines_are_cut_offs() {
        assert!(parse("fixed=0.3").is_ok());
        for text in ["fixed=2", "fixed=NaN", "fixed=", "0.3", "budget"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
