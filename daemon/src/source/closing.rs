//! Stops pipelines off the source's thread.
//!
//! Stopping waits for threads inside GStreamer, and one that listens to a server which never stops
//! talking may not end before the server does. So each dead pipeline gets a thread of its own, and a
//! camera that has too many of them opens no other until one is gone.

use std::{sync::Arc, time::Duration};

use super::pipeline::Pipeline;
use crate::{clock::Stop, frame::CameraId};

/// Pipelines of one camera that may be closing when another is opened.
const MOST: usize = 2;

/// The pipelines of one camera that are being stopped.
pub(super) struct Closing {
    camera: CameraId,
    /// Each asked when its pipeline is gone.
    gone: Vec<Arc<Stop>>,
}

impl Closing {
    pub(super) fn new(camera: CameraId) -> Self {
        Self { camera, gone: Vec::new() }
    }

    /// Stops a pipeline, without waiting for it.
    pub(super) fn close(&mut self, pipeline: Pipeline) {
        let gone = Arc::new(Stop::default());
        let ask = gone.ask_on_drop();
        // Without a thread the closure is dropped here, and the pipeline stops here.
        let thread =
            std::thread::Builder::new().name(format!("closing-{}", self.camera)).spawn(move || {
                drop(pipeline);
                drop(ask);
            });
        if let Err(error) = thread {
            tracing::warn!(camera = %self.camera, %error, "No thread to close a pipeline in.");
        }
        self.gone.push(gone);
    }

    /// Waits until all are gone, at most `patience`; returns how many are not.
    pub(super) fn wait(&mut self, patience: Duration) -> usize {
        // The first one that does not end in time has used up the time of the others.
        let mut patience = patience;
        self.gone.retain(|gone| {
            let here = !gone.wait(patience);
            if here {
                patience = Duration::ZERO;
            }
            here
        });
        self.gone.len()
    }

    /// Whether no other pipeline may be opened.
    pub(super) fn is_full(&mut self) -> bool {
        self.wait(Duration::ZERO) >= MOST
    }
}
