//! What the desk has yet to work on: names, not contents, so that whatever is worked on late is worked
//! on as it is then. A withdrawal that comes in meanwhile is never undone by an older state.

use std::collections::{BTreeMap, BTreeSet};

use crate::alert::{AlertId, Refusal, book::Changes};

/// Alerts that changed, and messages that were not taken up.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Work {
    changed: BTreeSet<AlertId>,
    /// Newer than what changed of the same alert.
    refused: BTreeMap<AlertId, Refusal>,
}

/// A part of it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Part {
    pub(super) changed: Vec<AlertId>,
    pub(super) refused: BTreeMap<AlertId, Refusal>,
}

impl Work {
    /// Adds what changed in the book.
    pub(super) fn change(&mut self, changes: Changes) {
        let changed = changes.views.iter().map(|view| view.id.clone()).chain(changes.forgotten);
        for id in changed {
            self.refused.remove(&id);
            self.changed.insert(id);
        }
    }

    /// Adds messages that were refused and are not in the book.
    pub(super) fn refuse(&mut self, refused: BTreeMap<AlertId, Refusal>) {
        self.refused.extend(refused);
    }

    /// Adds alerts that did not change and are to be told again.
    pub(super) fn again(&mut self, ids: impl IntoIterator<Item = AlertId>) {
        self.changed.extend(ids);
    }

    /// Takes at most `limit` alerts, and all that was refused of those that do not wait any longer.
    pub(super) fn take(&mut self, limit: usize) -> Part {
        let next = std::iter::from_fn(|| self.changed.pop_first());
        let changed: Vec<AlertId> = next.take(limit).collect();
        let waits = &self.changed;
        let refused = self.refused.extract_if(.., |id, _| !waits.contains(id)).collect();
        Part { changed, refused }
    }

    /// Takes back what was not worked on; what came meanwhile is newer.
    pub(super) fn give_back(&mut self, part: Part) {
        for (id, refusal) in part.refused {
            if !self.changed.contains(&id) {
                self.refused.entry(id).or_insert(refusal);
            }
        }
        self.changed.extend(part.changed);
    }
}

impl Part {
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.refused.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Code;

    fn id(name: &str) -> AlertId {
        AlertId::new(name).unwrap()
    }

    fn changed(names: &[&str]) -> Changes {
        Changes { views: Vec::new(), forgotten: names.iter().map(|name| id(name)).collect() }
    }

    fn refused(name: &str) -> BTreeMap<AlertId, Refusal> {
        BTreeMap::from([(id(name), Refusal::new(Code::Full, "full"))])
    }

    #[test]
    fn what_is_taken_in_parts_comes_once_and_in_full() {
        let mut work = Work::default();
        work.change(changed(&["c", "a"]));
        work.again([id("b"), id("c")]);
        let first = work.take(2);
        assert_eq!(first.changed, [id("a"), id("b")]);
        work.give_back(Part { changed: vec![id("b")], ..Part::default() });
        assert_eq!(work.take(9).changed, [id("b"), id("c")]);
        assert!(work.take(9).is_empty());
    }

    #[test]
    fn of_a_change_and_a_refusal_the_newer_one_is_told_last() {
        let mut work = Work::default();
        work.refuse(refused("a"));
        work.change(changed(&["a"]));
        assert_eq!(work.take(9), Part { changed: vec![id("a")], ..Part::default() });
        work.change(changed(&["a", "b"]));
        work.refuse(refused("b"));
        let (first, second) = (work.take(1), work.take(1));
        assert_eq!((first.refused.len(), second.refused.len()), (0, 1), "not before its change");
        // Not told after all; in the meantime it was taken up.
        work.change(changed(&["b"]));
        work.give_back(second);
        assert_eq!(work.take(9), Part { changed: vec![id("b")], ..Part::default() });
    }
}
