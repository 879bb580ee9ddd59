//! What runs the models: the loaded library, and how sessions are opened in it.

use std::path::Path;

use spotter_models::{
    assets::Asset,
    manifest::Precision,
    session::{Runtime, SessionOptions},
};

use crate::{
    detect::{self, Detector},
    error::{Error, Result},
    health,
};

/// Side of the picture that a detector must search before it is used, in pixels.
const TRIAL_PX: u32 = 320;

/// A loaded library and how sessions are opened in it.
#[derive(Clone)]
pub struct Engine {
    /// The library.
    pub runtime: Runtime,
    /// How sessions are opened.
    pub options: SessionOptions,
    /// The number format of the towers; a detector has but one.
    pub precision: Precision,
}

impl Engine {
    /// Opens a detector: a known asset by name, or a file that ends in `.onnx`. It has searched a grey
    /// picture by then: a damaged one that computes nothing but NaN would find nobody and say nothing.
    ///
    /// # Errors
    /// Where there is no such file, it is no detector, or what it computes are no scores and boxes.
    pub fn detector(&self, model: &str) -> Result<Box<dyn Detector>> {
        let path = Path::new(model);
        let (path, bytes) = if path.extension().is_some_and(|extension| extension == "onnx") {
            (path.to_path_buf(), std::fs::read(path).map_err(Error::io(path))?)
        } else {
            let asset = Asset::find(model)?;
            (asset.path().to_path_buf(), asset.read()?)
        };
        let mut detector = detect::open(&self.runtime, &path, &bytes, &self.options)?;
        let dropped =
            detector.detect(&health::grey(TRIAL_PX, TRIAL_PX)?, TRIAL_PX, TRIAL_PX)?.dropped;
        let wrong = dropped.bad_score + dropped.not_finite;
        if wrong > 0 {
            let reason = format!(
                "computes {wrong} scores or boxes that are none on a grey picture: the file is \
                 damaged, copy it again"
            );
            return Err(spotter_models::Error::corrupt(&path, reason).into());
        }
        Ok(detector)
    }
}
