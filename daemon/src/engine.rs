//! What runs the models: the loaded library, and how sessions are opened in it.

use std::path::Path;

use spotter_models::{
    assets::Asset,
    bundle::Bundle,
    manifest::Precision,
    probe::Probe,
    session::{Runtime, SessionOptions, TextTower, VisionTower},
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
    /// Opens a bundle's towers, which compute here what whoever made the bundle had them compute.
    ///
    /// # Errors
    /// Where the bundle has none of the precision, the towers are broken or the provider cannot run here, and as
    /// [`spotter_models::probe::Report::check`].
    pub fn towers(&self, bundle: &Bundle) -> spotter_models::Result<(VisionTower, TextTower)> {
        let mut vision = VisionTower::open(&self.runtime, bundle, self.precision, &self.options)?;
        let mut text = TextTower::open(&self.runtime, bundle, self.precision, &self.options)?;
        Probe::of(bundle)?.run(&mut vision, &mut text)?.check(self.precision)?;
        Ok((vision, text))
    }

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
