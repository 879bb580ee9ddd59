//! What happens in view, on its way to the candidate's thread: bounded, and whoever puts something in never waits for
//! a candidate that is slow. Views give way, ends do not.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    alert::AlertId,
    frame::CameraId,
    score::{Armed, Seen},
    sighting::SightingId,
    track::TrackId,
    watch::View,
};

/// Views that may wait.
const MAX_VIEWS: usize = 32;

/// Ends that may wait: reached only where the candidate hangs.
const MAX_ENDS: usize = 1024;

/// A track of a camera.
pub(super) type Key = (CameraId, TrackId);

/// What happened.
pub(super) enum Event {
    /// The serving bundle took a view.
    View(Box<Looked>),
    /// A person is gone, and what was told of them.
    End(Key, Vec<(AlertId, SightingId)>),
    /// A camera is not watched any more, or is down.
    EndCamera(CameraId),
}

/// A view, and what it said to the serving bundle.
pub(super) struct Looked {
    pub(super) seen: Seen,
    pub(super) view: View,
    /// Whether it is the first of its track.
    pub(super) is_first: bool,
    /// What was watched for.
    pub(super) armed: Arc<Armed>,
    /// The alerts that the track fits.
    pub(super) fits: Vec<AlertId>,
}

impl Looked {
    pub(super) fn key(&self) -> Key {
        (self.seen.camera.clone(), self.view.track)
    }
}

#[derive(Default)]
struct Inner {
    events: VecDeque<Event>,
    views: usize,
    /// Tracks of which a view had to make room.
    cut: BTreeSet<Key>,
    /// Whether somebody was erased of whom the candidate's thread may still know.
    erased: bool,
    closed: bool,
}

#[derive(Default)]
pub(super) struct Inbox {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Inbox {
    /// Puts an event in; whether a view had to make room for it.
    pub(super) fn push(&self, event: Event) -> bool {
        let mut inner = self.inner();
        if inner.closed {
            return false;
        }
        let is_view = matches!(event, Event::View(_));
        let (waiting, most) = match is_view {
            true => (inner.views, MAX_VIEWS),
            false => (inner.events.len() - inner.views, MAX_ENDS),
        };
        if waiting >= most {
            let of_its_kind = |other: &Event| matches!(other, Event::View(_)) == is_view;
            let oldest = inner.events.iter().position(of_its_kind);
            if let Some(Event::View(looked)) = oldest.and_then(|at| inner.events.remove(at)) {
                inner.cut.insert(looked.key());
                inner.views -= 1;
            }
        }
        inner.views += usize::from(is_view);
        inner.events.push_back(event);
        drop(inner);
        self.changed.notify_one();
        is_view && waiting >= most
    }

    /// The next event; waits at most `patience` for one.
    pub(super) fn pop(&self, patience: Duration) -> Option<Event> {
        let mut inner = self
            .changed
            .wait_timeout_while(self.inner(), patience, |inner| {
                inner.events.is_empty() && !inner.closed
            })
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let event = inner.events.pop_front();
        if matches!(event, Some(Event::View(_))) {
            inner.views -= 1;
        }
        event
    }

    /// Somebody is erased: what waits is let go, and the thread hears of it.
    pub(super) fn erase(&self) {
        let mut inner = self.inner();
        inner.events.clear();
        inner.views = 0;
        inner.erased = !inner.closed;
    }

    /// Does this unless somebody was erased since [`Inbox::gone`] was asked, and keeps anybody from being erased meanwhile.
    pub(super) fn unless_erased(&self, then: impl FnOnce()) {
        let inner = self.inner();
        if !inner.erased {
            then();
        }
    }

    /// Whether somebody was erased since this was asked last, and the tracks of which a view is missing since then.
    pub(super) fn gone(&self) -> (bool, BTreeSet<Key>) {
        let mut inner = self.inner();
        (std::mem::take(&mut inner.erased), std::mem::take(&mut inner.cut))
    }

    /// Nothing more is taken in, and what waits is let go.
    pub(super) fn close(&self) {
        let mut inner = self.inner();
        *inner = Inner { closed: true, ..Inner::default() };
        drop(inner);
        self.changed.notify_all();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
