//! The way to the thread that knows who is in view.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use super::Meaning;
use crate::error::{Error, Result};

/// How long the thread may take: it looks twice a second, and a view may take it long on a slow box.
const WITHIN: Duration = Duration::from_secs(20);

/// An erasure that reaches who is in view.
pub struct Job {
    /// Who is meant.
    pub meaning: Arc<Meaning>,
    /// Only count them.
    pub dry_run: bool,
    /// Told how many were meant.
    pub done: SyncSender<usize>,
}

/// Where the thread takes them from.
pub struct Jobs(Receiver<Job>);

/// Who has the thread erase somebody.
pub struct InView(SyncSender<Job>);

/// Both ends.
pub fn in_view() -> (InView, Jobs) {
    // Whoever asks waits for the answer: no second one is on its way.
    let (sender, receiver) = sync_channel(1);
    (InView(sender), Jobs(receiver))
}

impl Jobs {
    /// The next one, if any waits.
    pub fn next(&self) -> Option<Job> {
        self.0.try_recv().ok()
    }
}

impl InView {
    /// Has those who are meant forgotten as far as they were seen; how many tracks and waiting views
    /// these were. Returns once it is done.
    ///
    /// # Errors
    /// [`Error::Internal`] where the thread does not answer, or the daemon is being ended.
    pub fn erase(&self, meaning: &Arc<Meaning>, dry_run: bool) -> Result<usize> {
        let (done, wait) = sync_channel(1);
        let fail = |error: &dyn std::fmt::Display| {
            let what = "those in view";
            Error::internal(what, format!("nobody erases them, so nothing was erased ({error})"))
        };
        let job = Job { meaning: meaning.clone(), dry_run, done };
        self.0.send(job).map_err(|error| fail(&error))?;
        wait.recv_timeout(WITHIN).map_err(|error| fail(&error))
    }
}
