//! What a candidate would have told, beside what the serving bundle told of the same persons.

use std::collections::{BTreeMap, BTreeSet};

use spotter_models::feedback::Judgement;

use crate::{alert::AlertId, sighting::SightingId};

/// Most sightings whose verdicts are asked for at the end.
const MAX_TOLD: usize = 4096;

/// Most alerts that are counted one by one.
const MAX_ALERTS: usize = 1024;

/// How unlikely a difference is between two bundles that fit equally often before it counts: it is asked once.
const UNLIKELY: f64 = 1e-3;

/// Fewest confirmed sightings that a candidate must miss before that counts against it.
const FEWEST_MISSED: u64 = 3;

/// Who fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By both bundles.
    pub both: u64,
    /// By the serving one only.
    pub only_serving: u64,
    /// By the candidate only.
    pub only_candidate: u64,
}

impl Counts {
    fn add(&mut self, (serving, candidate): (bool, bool)) {
        match (serving, candidate) {
            (true, true) => self.both += 1,
            (true, false) => self.only_serving += 1,
            (false, true) => self.only_candidate += 1,
            (false, false) => {}
        }
    }
}

/// The persons whom both bundles looked at.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// How many.
    pub persons: u64,
    /// Those of whom the candidate missed a view: not compared.
    pub incomplete: u64,
    /// Persons who fit some alert. Whom either finds by other alerts than the other one does counts for both.
    pub found: Counts,
    /// The same for each alert.
    pub alerts: BTreeMap<AlertId, Counts>,
    /// Sightings of the serving bundle and whether the candidate would have told them too.
    told: BTreeMap<SightingId, bool>,
}

/// What staff said meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Confirmed sightings that the candidate would have told too, and those that it would not.
    pub confirmed: (u64, u64),
    /// The same of rejected ones.
    pub rejected: (u64, u64),
}

impl Comparison {
    /// A person is gone whom both bundles looked at. The alerts that they fit by each, and what was told of them.
    pub fn add(
        &mut self,
        (serving, candidate): (&BTreeSet<AlertId>, &BTreeSet<AlertId>),
        told: &[(AlertId, SightingId)],
    ) {
        self.persons += 1;
        for alert in serving.union(candidate) {
            if self.alerts.len() >= MAX_ALERTS && !self.alerts.contains_key(alert) {
                continue;
            }
            let counts = self.alerts.entry(alert.clone()).or_default();
            counts.add((serving.contains(alert), candidate.contains(alert)));
        }
        let (more, fewer) =
            (candidate.difference(serving).count() > 0, serving.difference(candidate).count() > 0);
        match (more, fewer) {
            (true, false) => self.found.only_candidate += 1,
            (false, true) => self.found.only_serving += 1,
            _ if serving.is_empty() && candidate.is_empty() => {}
            _ => self.found.both += 1,
        }
        for (alert, sighting) in told {
            if self.told.len() < MAX_TOLD {
                self.told.insert(*sighting, candidate.contains(alert));
            }
        }
    }

    /// What staff said of what the serving bundle told.
    pub fn said(&self, judged: impl Fn(SightingId) -> Option<Judgement>) -> Said {
        let mut said = Said::default();
        for (sighting, too) in &self.told {
            let counts = match judged(*sighting) {
                Some(Judgement::Confirmed) => &mut said.confirmed,
                Some(Judgement::Rejected) => &mut said.rejected,
                None => continue,
            };
            *(if *too { &mut counts.0 } else { &mut counts.1 }) += 1;
        }
        said
    }

    /// Why the candidate should not serve, where anything says so. `allowed` false alarms may come in the time that this
    /// took by the budgets of all alerts.
    pub fn against(&self, said: Said, allowed: f64) -> Option<String> {
        let Counts { only_serving, only_candidate, both } = self.found;
        let persons = self.persons;
        let (kept, missed) = said.confirmed;
        if missed >= FEWEST_MISSED && missed > kept {
            return Some(format!(
                "it would not have told {missed} of {} sightings that staff confirmed while it was compared",
                kept + missed
            ));
        }
        let allowed = if allowed.is_finite() { allowed.max(0.0).ceil() as u64 } else { 0 };
        let more = only_candidate.saturating_sub(allowed);
        if more > only_serving && at_least(more, more + only_serving) < UNLIKELY {
            return Some(format!(
                "of {persons} persons it would have told {only_candidate} whom the serving bundle did not tell, \
                 {only_serving} it would not have told, {both} both told: too many more for the budgets of the alerts"
            ));
        }
        // What staff rejected is no loss.
        let lost = only_serving.saturating_sub(said.rejected.1).saturating_sub(allowed);
        if lost > only_candidate && at_least(lost, lost + only_candidate) < UNLIKELY {
            return Some(format!(
                "of {persons} persons it would not have told {only_serving} whom the serving bundle told, \
                 {only_candidate} it would have told besides, {both} both told: it loses sightings"
            ));
        }
        None
    }
}

/// How likely at least `count` of `all` fall on one of two sides that are as likely as each other.
fn at_least(count: u64, all: u64) -> f64 {
    // ln of the binomial coefficient, from the rarest case down.
    let mut ways = 0.0_f64;
    let rarest = -(all as f64) * std::f64::consts::LN_2;
    let mut sum = 0.0;
    for number in (count..=all).rev() {
        sum += (ways + rarest).exp();
        ways += (number as f64).ln() - ((all - number + 1) as f64).ln();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alerts(names: &[&str]) -> BTreeSet<AlertId> {
        names.iter().map(|name| AlertId::new(name).unwrap()).collect()
    }

    /// So many persons found by both, by the serving bundle only, by the candidate only.
    fn found(both: u64, only_serving: u64, only_candidate: u64) -> Comparison {
        let mut comparison = Comparison::default();
        let (gate, none) = (alerts(&["gate"]), alerts(&[]));
        (0..both).for_each(|_| comparison.add((&gate, &gate), &[]));
        (0..only_serving).for_each(|_| comparison.add((&gate, &none), &[]));
        (0..only_candidate).for_each(|_| comparison.add((&none, &gate), &[]));
        comparison
    }

    #[test]
    fn the_tail_is_as_tables_have_it() {
        for (count, all, tail) in
            [(0, 9, 1.0), (10, 10, 1.0 / 1024.0), (8, 10, 56.0 / 1024.0), (60, 100, 0.028_444)]
        {
            let got = at_least(count, all);
            assert!((got - tail).abs() < 1e-5, "{count} of {all}: {got}");
        }
        assert!((at_least(5_000, 10_000) - 0.504).abs() < 1e-3);
    }

    #[test]
    fn persons_count_once_and_alerts_each() {
        let mut comparison = Comparison::default();
        comparison.add((&alerts(&[]), &alerts(&[])), &[]);
        comparison.add((&alerts(&["a", "b"]), &alerts(&["a"])), &[]);
        comparison.add((&alerts(&["a"]), &alerts(&["b"])), &[]);
        comparison.add((&alerts(&[]), &alerts(&["a", "b", "c"])), &[]);
        assert_eq!(comparison.persons, 4);
        let expected = Counts { both: 1, only_serving: 1, only_candidate: 1 };
        assert_eq!(comparison.found, expected);
        let of = |name: &str| comparison.alerts[&AlertId::new(name).unwrap()];
        assert_eq!(of("a"), Counts { both: 1, only_serving: 1, only_candidate: 1 });
        assert_eq!(of("b"), Counts { both: 0, only_serving: 1, only_candidate: 2 });
    }

    #[test]
    fn a_candidate_is_refused_where_it_tells_far_more_or_loses_much() {
        let silent = Said::default();
        for (counts, allowed, word) in [
            ((50, 5, 9), 0.0, None),
            ((0, 0, 9), 0.0, None),
            ((0, 0, 10), 0.0, Some("too many more")),
            ((50, 5, 40), 0.0, Some("too many more")),
            ((50, 5, 40), 30.0, None),
            ((50, 40, 5), 2.0, Some("loses sightings")),
            ((50, 40, 5), f64::NAN, Some("loses sightings")),
            ((500, 40, 45), 0.0, None),
        ] {
            let (both, serving, candidate) = counts;
            let against = found(both, serving, candidate).against(silent, allowed);
            match (&against, word) {
                (Some(reason), Some(word)) => assert!(reason.contains(word), "{reason}"),
                (None, None) => {}
                _ => panic!("{counts:?} {allowed}: {against:?}"),
            }
        }
        // Fewer false alarms are what it was trained for.
        let said = Said { rejected: (0, 36), ..silent };
        assert_eq!(found(50, 40, 5).against(said, 0.0), None);
    }

    #[test]
    fn what_staff_confirmed_and_it_would_not_tell_counts_against_it() {
        let mut comparison = Comparison::default();
        let gate = alerts(&["gate"]);
        let told: Vec<SightingId> = (0..5).map(SightingId::from_bits).collect();
        for (number, id) in told.iter().enumerate() {
            let candidate = if number < 2 { gate.clone() } else { alerts(&[]) };
            let alert = AlertId::new("gate").unwrap();
            comparison.add((&gate, &candidate), &[(alert, *id)]);
        }
        let said = comparison.said(|_| Some(Judgement::Confirmed));
        assert_eq!(said, Said { confirmed: (2, 3), rejected: (0, 0) });
        let reason = comparison.against(said, 100.0).unwrap();
        assert!(reason.contains("3 of 5") && reason.contains("confirmed"), "{reason}");
        let said = comparison.said(|id| (id == told[4]).then_some(Judgement::Rejected));
        assert_eq!(said, Said { confirmed: (0, 0), rejected: (0, 1) });
        assert_eq!(comparison.against(said, 100.0), None);
    }
}
