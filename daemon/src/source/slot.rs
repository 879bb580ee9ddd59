//! A place for one frame where the newest wins, and the signal that wakes who takes from many.
//!
//! A camera never waits for a slow consumer and a slow consumer never works on an old frame: putting
//! into a full slot replaces what was there and counts it.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Wakes the consumer of any number of slots. Counts what was put, so that nothing that came between
/// looking and waiting is slept through.
#[derive(Default)]
pub struct Signal {
    puts: Mutex<u64>,
    changed: Condvar,
}

impl Signal {
    /// A signal for a set of slots.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How often it was raised. Take this before looking into the slots, hand it to
    /// [`Signal::wait`] after.
    pub fn seen(&self) -> u64 {
        *lock(&self.puts)
    }

    /// Wakes everyone who waits: done by every put, and by who wants to stop a consumer.
    pub fn raise(&self) {
        let mut puts = lock(&self.puts);
        *puts = puts.wrapping_add(1);
        self.changed.notify_all();
    }

    /// Waits until it is raised beyond `seen`, at most `timeout`; returns the new count.
    pub fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        let puts = lock(&self.puts);
        let (puts, _) = self
            .changed
            .wait_timeout_while(puts, timeout, |puts| *puts == seen)
            .unwrap_or_else(PoisonError::into_inner);
        *puts
    }
}

/// Holds at most one value: the newest.
pub struct Slot<T> {
    value: Mutex<Option<T>>,
    signal: Arc<Signal>,
    put: AtomicU64,
    dropped: AtomicU64,
}

impl<T> Slot<T> {
    /// An empty slot whose puts raise `signal`.
    pub fn new(signal: Arc<Signal>) -> Arc<Self> {
        Arc::new(Self {
            value: Mutex::new(None),
            signal,
            put: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })
    }

    /// Puts a value, replacing one that nobody took, and wakes the consumer.
    pub fn put(&self, value: T) {
        let old = lock(&self.value).replace(value);
        self.put.fetch_add(1, Ordering::Relaxed);
        if old.is_some() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        // The old value is freed here, outside the lock: it may hand a buffer back to its decoder.
        drop(old);
        self.signal.raise();
    }

    /// The signal that its puts raise.
    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Takes the value, if there is one.
    pub fn take(&self) -> Option<T> {
        lock(&self.value).take()
    }

    /// Whether there is something to take.
    pub fn is_full(&self) -> bool {
        lock(&self.value).is_some()
    }

    /// How many values were ever put.
    pub fn put_total(&self) -> u64 {
        self.put.load(Ordering::Relaxed)
    }

    /// How many values were replaced before anybody took them.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn the_newest_wins_and_the_rest_is_counted() {
        let slot = Slot::new(Signal::new());
        assert_eq!(slot.take(), None);
        for value in 0..5 {
            slot.put(value);
        }
        assert!(slot.is_full());
        assert_eq!((slot.take(), slot.take()), (Some(4), None));
        slot.put(9);
        assert_eq!(slot.take(), Some(9));
        assert_eq!((slot.put_total(), slot.dropped_total()), (6, 4));
    }

    #[test]
    fn a_put_between_looking_and_waiting_is_not_slept_through() {
        let signal = Signal::new();
        let slot = Slot::new(signal.clone());
        let seen = signal.seen();
        assert_eq!(slot.take(), None);
        slot.put(1);
        assert_ne!(signal.wait(seen, LONG), seen);
        assert_eq!(slot.take(), Some(1));
        let seen = signal.seen();
        assert_eq!(signal.wait(seen, Duration::ZERO), seen, "nothing new: the timeout ends it");
    }

    #[test]
    fn one_consumer_serves_many_slots_and_misses_no_last_value() {
        const CAMERAS: usize = 4;
        const VALUES: u64 = 10_000;
        let signal = Signal::new();
        let slots: Vec<_> = (0..CAMERAS).map(|_| Slot::new(signal.clone())).collect();
        let mut last = [0; CAMERAS];
        let mut taken = [0_u64; CAMERAS];
        std::thread::scope(|scope| {
            for slot in &slots {
                scope.spawn(move || (1..=VALUES).for_each(|value| slot.put(value)));
            }
            while last != [VALUES; CAMERAS] {
                let seen = signal.seen();
                let mut any = false;
                for (index, slot) in slots.iter().enumerate() {
                    if let Some(value) = slot.take() {
                        assert!(value > last[index], "values never go back");
                        (last[index], any) = (value, true);
                        taken[index] += 1;
                    }
                }
                if !any && last != [VALUES; CAMERAS] {
                    assert_ne!(signal.wait(seen, LONG), seen, "woken, not timed out");
                }
            }
        });
        for (slot, taken) in slots.iter().zip(taken) {
            assert_eq!(slot.dropped_total() + taken, VALUES);
        }
    }
}
