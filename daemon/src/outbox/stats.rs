//! What the outbox holds and what it had to give up.

use std::collections::BTreeMap;

use super::message::{Class, DropReason};

/// Rows and bytes of each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    of: [Amount; 3],
}

/// A number of messages and the bytes that they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub messages: u64,
    /// Their bytes, with what a row costs.
    pub bytes: u64,
}

impl Tally {
    fn slot(class: Class) -> usize {
        match class {
            Class::State => 0,
            Class::Event => 1,
            Class::Picture => 2,
        }
    }

    /// What waits of a class.
    pub fn of(&self, class: Class) -> Amount {
        self.of.get(Self::slot(class)).copied().unwrap_or_default()
    }

    /// Everything that waits.
    pub fn total(&self) -> Amount {
        self.of.iter().fold(Amount::default(), |sum, amount| Amount {
            messages: sum.messages + amount.messages,
            bytes: sum.bytes + amount.bytes,
        })
    }

    pub(super) fn add(&mut self, class: Class, messages: u64, bytes: u64) {
        if let Some(amount) = self.of.get_mut(Self::slot(class)) {
            amount.messages += messages;
            amount.bytes += bytes;
        }
    }

    pub(super) fn remove(&mut self, class: Class, bytes: u64) {
        if let Some(amount) = self.of.get_mut(Self::slot(class)) {
            amount.messages = amount.messages.saturating_sub(1);
            amount.bytes = amount.bytes.saturating_sub(bytes);
        }
    }
}

/// How the outbox is, and what it did since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// What waits now.
    pub waiting: Tally,
    /// Messages committed.
    pub committed: u64,
    /// Messages that the broker has.
    pub done: u64,
    /// Messages given up, by class and reason.
    pub dropped: BTreeMap<(Class, DropReason), u64>,
    /// Times that the disk refused a write for want of room.
    pub disk_full: u64,
    /// Whether the disk's room is short now: the reserve is in use and pictures are not taken.
    pub is_short: bool,
}

impl Stats {
    /// Counts messages given up, here and in the metrics.
    pub(super) fn drop_messages(&mut self, class: Class, reason: DropReason, messages: u64) {
        if messages == 0 {
            return;
        }
        *self.dropped.entry((class, reason)).or_default() += messages;
        metrics::counter!(
            "spotter_outbox_dropped_total", "class" => class.as_str(), "reason" => reason.as_str()
        )
        .increment(messages);
    }

    /// Messages given up for a reason, of every class.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped.iter().filter(|((_, why), _)| *why == reason).map(|(_, count)| count).sum()
    }
}
