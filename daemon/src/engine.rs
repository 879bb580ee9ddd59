//! What runs the models: the loaded library, and how sessions are opened in it.

use std::path::Path;

use spotter_models::{
    assets::Asset,
    session::{Runtime, SessionOptions},
};

use crate::{
    detect::{self, Detector},
    error::{Error, Result},
};

/// A loaded library and how sessions are opened in it.
#[derive(Clone)]
pub struct Engine {
    /// The library.
    pub runtime: Runtime,
    /// How sessions are opened.
    pub options: SessionOptions,
}

impl Engine {
    /// Opens a detector: a known asset by name, or a file that ends in `.onnx`.
    ///
    /// # Errors
    /// Where there is no such file or it is no detector.
    pub fn detector(&self, model: &str) -> Result<Box<dyn Detector>> {
        let path = Path::new(model);
        let (path, bytes) = if path.extension().is_some_and(|extension| extension == "onnx") {
            (path.to_path_buf(), std::fs::read(path).map_err(Error::io(path))?)
        } else {
            let asset = Asset::find(model)?;
            (asset.path().to_path_buf(), asset.read()?)
        };
        detect::open(&self.runtime, &path, &bytes, &self.options)
    }
}
