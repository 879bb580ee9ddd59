//! What goes by itself: by age, by number and for room, never what is held.

use std::time::Duration;

use spotter_models::feedback::Judgement;

use super::{
    Shelf,
    shelf::{Entry, Inner},
};
use crate::{alert::Wall, erase::Meaning, error::Result, gallery::Gallery};

/// Why something goes.
#[derive(Clone, Copy)]
enum Why {
    Age,
    Room,
}

impl Why {
    fn name(self) -> &'static str {
        match self {
            Why::Age => "age",
            Why::Room => "room",
        }
    }
}

impl Shelf {
    /// Removes what is too old, and the oldest beyond the most that is kept: crops that wait before verdicts.
    /// What a hold keeps stays. Where nobody can say what is held, nothing goes.
    pub fn upkeep(&self, wall: Wall, gallery: Option<&Gallery>) {
        if self.is_due(wall) {
            let held = Meaning::held(gallery, &self.traces());
            if let Err(error) = held.and_then(|held| self.drop_old(wall, &held)) {
                tracing::error!(%error, "Old verdicts and crops are not deleted.");
            }
        }
        self.measure();
    }

    /// Whether anything would go if nothing was held: only then is it looked up what is.
    fn is_due(&self, wall: Wall) -> bool {
        let inner = self.inner();
        inner.entries.values().any(|entry| self.is_old(entry, wall))
            || !self.beyond(&inner, |_| true).is_empty()
    }

    /// Whether it is too old; nothing is by a clock that is not believed.
    fn is_old(&self, entry: &Entry, wall: Wall) -> bool {
        let (since, most) = match &entry.verdict {
            Some(kept) => (kept.at, self.limits.retention),
            None => (entry.facts.told, self.limits.pending),
        };
        let age = Duration::try_from(wall.at.duration_since(since));
        wall.believed() && age.is_ok_and(|age| age > most)
    }

    fn drop_old(&self, wall: Wall, held: &Meaning) -> Result<()> {
        let mut inner = self.inner();
        let is_free = |entry: &Entry| held.is_free(&entry.facts.trace());
        let old = inner.entries.iter();
        let old = old.filter(|(_, entry)| self.is_old(entry, wall) && is_free(entry));
        let doomed: Vec<(String, Why)> = old.map(|(name, _)| (name.clone(), Why::Age)).collect();
        self.doom(&mut inner, &doomed)?;
        let doomed = self.beyond(&inner, is_free);
        self.doom(&mut inner, &doomed)
    }

    /// The oldest beyond number and bytes, of those who may go.
    fn beyond(&self, inner: &Inner, may_go: impl Fn(&Entry) -> bool) -> Vec<(String, Why)> {
        let count = |judged: bool| {
            inner.entries.values().filter(|entry| entry.verdict.is_some() == judged).count()
        };
        let mut doomed = Vec::new();
        let mut bytes = inner.bytes();
        for (judged, most) in [(false, self.limits.max_pending), (true, self.limits.max_verdicts)] {
            let mut surplus = count(judged).saturating_sub(most);
            let mut list: Vec<(&String, &Entry)> = inner
                .entries
                .iter()
                .filter(|(_, entry)| entry.verdict.is_some() == judged && may_go(entry))
                .collect();
            list.sort_by_key(|(_, entry)| entry.verdict.as_ref().map(|kept| kept.at));
            for (name, entry) in list {
                let is_over = bytes > self.limits.max_bytes && entry.bytes() > 0;
                if surplus == 0 && !is_over {
                    continue;
                }
                surplus = surplus.saturating_sub(1);
                bytes -= entry.bytes();
                doomed.push((name.clone(), Why::Room));
            }
        }
        doomed
    }

    fn doom(&self, inner: &mut Inner, doomed: &[(String, Why)]) -> Result<()> {
        for (name, why) in doomed {
            let is_verdict = inner.entries.get(name).is_some_and(|entry| entry.verdict.is_some());
            self.remove(inner, name)?;
            super::dropped(if is_verdict { "verdict" } else { "crops" }, why.name());
        }
        Ok(())
    }

    /// Says how full it is, for who measures.
    pub fn measure(&self) {
        let inner = self.inner();
        for (judgement, name) in
            [(Judgement::Confirmed, "confirmed"), (Judgement::Rejected, "rejected")]
        {
            let is_so = |entry: &&Entry| {
                entry.verdict.as_ref().is_some_and(|kept| kept.judgement == judgement)
            };
            let count = inner.entries.values().filter(is_so).count();
            metrics::gauge!("spotter_feedback_verdicts", "verdict" => name).set(count as f64);
        }
        let waiting = inner.entries.values().filter(|entry| entry.verdict.is_none()).count();
        metrics::gauge!("spotter_feedback_pending").set(waiting as f64);
        metrics::gauge!("spotter_feedback_bytes").set(inner.bytes() as f64);
    }
}
