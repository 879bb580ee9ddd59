//! The detectors' files, which `make setup` fetches.

use std::path::PathBuf;

/// A detector's file and its bytes.
pub fn model_bytes(model: &str) -> (PathBuf, Vec<u8>) {
    let file = format!("{model}.onnx");
    let assets = std::env::var_os("SPOTTER_ASSETS").map(PathBuf::from);
    let cached = spotter_models::assets::cache_dir().map(|cache| cache.join("assets"));
    let path = [assets, cached].into_iter().flatten().map(|folder| folder.join(&file));
    let path = path.into_iter().find(|path| path.is_file());
    let path = path.unwrap_or_else(|| panic!("{file} is not here: run `make setup`"));
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}
