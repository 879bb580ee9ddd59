//! Views on their way to the vision tower: bounded, the oldest makes room.
//!
//! A plain bounded channel would also drop the word that a track has ended, after which its sightings
//! would stay open for ever. So the two have different rules here: views give way, ends never do.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{frame::CameraId, score::Seen, track::TrackId, watch::View};

/// Ends that may wait. Reached only where the tower hangs while hundreds of people pass; the matcher
/// closes what a lost end leaves open.
const MAX_ENDS: usize = 4096;

/// What the analysis tells the embedder.
pub enum Item {
    /// A view to embed.
    View(Seen, View),
    /// A track is gone; comes after the last of its views.
    End(CameraId, TrackId),
    /// A camera is not watched any more; comes after the last of its views.
    EndCamera(CameraId),
}

struct State {
    items: VecDeque<Item>,
    views: usize,
    closed: bool,
}

/// A bounded queue with one rule for views and another for ends.
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    max_views: usize,
}

impl Queue {
    /// Holds at most `max_views` views.
    pub fn new(max_views: usize) -> Self {
        Self {
            state: Mutex::new(State { items: VecDeque::new(), views: 0, closed: false }),
            changed: Condvar::new(),
            max_views: max_views.max(1),
        }
    }

    /// Adds an item. Returns the view that had to make room, so that its track is looked at again.
    pub fn push(&self, item: Item) -> Option<(CameraId, TrackId)> {
        let mut state = self.lock();
        let mut evicted = None;
        if matches!(item, Item::View(..)) {
            if state.views >= self.max_views {
                let oldest = state.items.iter().position(|i| matches!(i, Item::View(..)));
                if let Some(Item::View(seen, view)) = oldest.and_then(|at| state.items.remove(at)) {
                    evicted = Some((seen.camera, view.track));
                    state.views -= 1;
                }
            }
            state.views += 1;
        }
        if state.items.len() - state.views > MAX_ENDS {
            let oldest = state.items.iter().position(|i| matches!(i, Item::End(..)));
            oldest.and_then(|at| state.items.remove(at));
        }
        state.items.push_back(item);
        drop(state);
        self.changed.notify_one();
        evicted
    }

    /// The next item; waits at most `patience` for one. `None` where none came.
    pub fn pop(&self, patience: Duration) -> Option<Item> {
        let mut state = self
            .changed
            .wait_timeout_while(self.lock(), patience, |s| s.items.is_empty() && !s.closed)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let item = state.items.pop_front();
        if matches!(item, Some(Item::View(..))) {
            state.views -= 1;
        }
        item
    }

    /// How many views wait.
    pub fn views(&self) -> usize {
        self.lock().views
    }

    /// Takes out the views that are meant, without a trace; how many these were.
    pub fn forget(&self, is_meant: impl Fn(&Seen, &View) -> bool) -> usize {
        let mut state = self.lock();
        let before = state.items.len();
        state.items.retain(|item| match item {
            Item::View(seen, view) => !is_meant(seen, view),
            Item::End(..) | Item::EndCamera(_) => true,
        });
        let gone = before - state.items.len();
        state.views -= gone;
        gone
    }

    /// Nothing more will come: whoever waits is woken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Whether it is closed and everything was taken.
    pub fn is_done(&self) -> bool {
        let state = self.lock();
        state.closed && state.items.is_empty()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lock().items.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
