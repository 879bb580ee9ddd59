//! Search among those whom a bundle saw that serves no more: with its own reading of the text, and judged by what its own
//! tracks score. Opened for a question and closed after: the memory is the cameras' the rest of the time.

use std::cmp::Ordering;

use spotter_models::Generation;

use super::{Clerk, requests::Judged};
use crate::{
    alert::ready::TextReader,
    error::Result,
    frame::CameraId,
    gallery::Filter,
    score::{Asked, Policy, Sought},
};

/// What a bundle reads texts and judges tracks by that serves no more.
pub struct Past {
    /// Reads texts.
    pub reader: Box<dyn TextReader + Send>,
    /// Judges by the tracks that the bundle saw.
    pub policy: Box<dyn Policy>,
}

/// Opens a bundle that serves no more.
pub type OpenPast = Box<dyn Fn(Generation) -> Result<Past> + Send>;

impl Clerk {
    /// Those who fit a text among whom other bundles saw, and how many tracks could not be searched, as their bundle is
    /// not installed any more or does not open.
    pub(super) fn search_past(
        &self,
        text: &str,
        filter: &Filter,
        limit: usize,
    ) -> Result<(Vec<Judged>, usize)> {
        let serving = self.model.reader.generation();
        let (mut found, mut not_searched) = (Vec::new(), 0);
        for (generation, tracks) in self.gallery()?.generations() {
            if generation == serving {
                continue;
            }
            match self.search_as(generation, text, (filter, limit)) {
                Ok(judged) => found.extend(judged),
                Err(error) => {
                    tracing::debug!(%generation, %error, "Whom this bundle saw was not searched.");
                    not_searched += tracks;
                }
            }
        }
        Ok((found, not_searched))
    }

    fn search_as(
        &self,
        generation: Generation,
        text: &str,
        (filter, limit): (&Filter, usize),
    ) -> Result<Vec<Judged>> {
        let Past { mut reader, policy } = (self.past)(generation)?;
        let text = reader.read(text)?.embedding;
        let counts =
            |camera: &CameraId| filter.cameras.is_empty() || filter.cameras.contains(camera);
        let asked = Asked {
            text: &text,
            sought: Sought::Words,
            budget_per_day: None,
            counts: &counts,
            is_watched: true,
        };
        let study = policy.study(&asked, self.shared.now().at)?;
        let hits = self.gallery()?.search(&text, filter, limit)?;
        let mut judged = self.judged(hits, &text, study.null())?;
        judged.iter_mut().for_each(|judged| judged.bundle = Some(generation));
        Ok(judged)
    }
}

/// Puts those whom one bundle found and those whom others did into one order, the best first. Scores of two bundles are
/// never compared: how likely they come about by chance is.
pub(super) fn in_order(found: &mut Vec<Judged>, past: Vec<Judged>) {
    if past.is_empty() {
        return;
    }
    found.extend(past);
    let by_chance = |judged: &Judged| judged.false_alarm_probability.unwrap_or(1.0);
    found.sort_by(|one, other| {
        by_chance(one).partial_cmp(&by_chance(other)).unwrap_or(Ordering::Equal)
    });
}
