//! A recording read frame by frame as fast as it is taken: every frame, in order, the same each time.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    decoder::DecoderChoice,
    pipeline::{Counts, Lower, Opening, Pipeline, Pulled, Stream},
    reason::Reason,
    spec::{Pace, SourceSpec},
    timeline::{Gap, Timeline},
};
use crate::{
    clock::Clock,
    error::{Error, Result},
    frame::{CameraId, Frame},
};

/// How long one frame may take before the file counts as stuck.
const STUCK: Duration = Duration::from_secs(30);

/// The frames of a file.
///
/// A broken middle is skipped as far as the decoder can. Where the file cannot be read on, the error
/// comes behind the last good frame and ends the iteration; where it ends long before the length that its
/// container names, that error is [`Reason::BrokenOff`]. [`Counts::warnings`] tells of damage besides.
pub struct Reader {
    camera: CameraId,
    place: String,
    pipeline: Pipeline,
    timeline: Timeline,
    over: bool,
}

impl Reader {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Source`] where it is not there, or the decoder cannot run.
    pub fn open(
        camera: CameraId,
        path: &Path,
        decoder: &DecoderChoice,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let spec = SourceSpec::File { path: path.to_path_buf(), pace: Pace::AsFast, repeat: false };
        let opening = Opening {
            camera: &camera,
            spec: &spec,
            decoder,
            decodes: true,
            lower: Lower::default(),
            connect_timeout: STUCK,
        };
        let pipeline = Pipeline::open(&opening, clock)
            .map_err(|reason| Error::Source { camera: camera.to_string(), reason })?;
        let timeline = Timeline::new(Gap::Frame);
        Ok(Self { place: spec.place(), camera, pipeline, timeline, over: false })
    }

    /// Codec and decoder, known once the first frame came.
    pub fn stream(&self) -> Option<Stream> {
        self.pipeline.stream()
    }

    /// Frames and warnings so far.
    pub fn counts(&self) -> Counts {
        self.pipeline.counts()
    }

    fn fail(&mut self, reason: Reason) -> Option<Result<Frame>> {
        self.over = true;
        Some(Err(Error::Source { camera: self.camera.to_string(), reason }))
    }
}

impl Iterator for Reader {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Result<Frame>> {
        if self.over {
            return None;
        }
        match self.pipeline.pull(&mut self.timeline, STUCK) {
            Pulled::Frame(frame) => Some(Ok(frame)),
            // Only where frames are not decoded.
            Pulled::Unit(..) => None,
            Pulled::Ended => {
                self.over = true;
                None
            }
            Pulled::Failed(reason) => self.fail(reason),
            Pulled::Nothing => self.fail(Reason::Stuck { place: self.place.clone(), after: STUCK }),
        }
    }
}
