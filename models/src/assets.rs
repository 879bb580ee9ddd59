//! Third-party files that the repository does not hold: which they are, and where they lie here.
//!
//! `assets.toml` lists them. A file is trusted for its hash, never for its place.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{Digest, Error, Result, digest::hash_stream};

/// The list, which `make setup` reads too.
const LIST: &str = include_str!("../assets.toml");

/// Where a package puts them.
const PACKAGED: &str = "/usr/share/spotter/models";

/// Largest file that is taken, in bytes: a detector for small machines has a few megabytes.
const MAX_BYTES: u64 = 512 << 20;

/// The user's cache folder of Spotter: `$XDG_CACHE_HOME/spotter`, else `~/.cache/spotter`.
pub fn cache_dir() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    named("XDG_CACHE_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("spotter"))
}

/// Where assets are looked for, in this order: `$SPOTTER_ASSETS`, the cache folder's `assets`, the
/// folder of the package.
pub fn places() -> Vec<PathBuf> {
    let named = std::env::var_os("SPOTTER_ASSETS").filter(|v| !v.is_empty()).map(PathBuf::from);
    let cached = cache_dir().map(|cache| cache.join("assets"));
    named.into_iter().chain(cached).chain([PathBuf::from(PACKAGED)]).collect()
}

/// An entry of `assets.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What configurations call it.
    pub name: String,
    /// Its file's name.
    pub file: String,
    /// Hash of its content.
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
    /// SPDX expression of its licence.
    pub licence: String,
    /// Who made it, for people.
    pub origin: String,
    /// The https address of exactly these bytes, if one is known.
    pub source: Option<String>,
}

/// All entries of `assets.toml`.
///
/// # Errors
/// [`Error::Internal`] where the list that was compiled in cannot be read: a broken build.
pub fn list() -> Result<Vec<Record>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct List {
        asset: Vec<Record>,
    }
    let list: List = toml::from_str(LIST).map_err(|error| Error::internal("assets.toml", error))?;
    Ok(list.asset)
}

/// A third-party file on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    record: Record,
    path: PathBuf,
}

impl Asset {
    /// Finds the file of an asset in [`places`]; its content is checked by [`Asset::read`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not in the list, [`Error::Unavailable`] where the file
    /// is nowhere.
    pub fn find(name: &str) -> Result<Self> {
        Self::find_in(name, &places())
    }

    /// [`Asset::find`] in other places.
    ///
    /// # Errors
    /// As [`Asset::find`].
    pub fn find_in(name: &str, places: &[PathBuf]) -> Result<Self> {
        let mut records = list()?;
        let Some(index) = records.iter().position(|record| record.name == name) else {
            let names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
            return Err(Error::invalid(
                format!("asset `{name}`"),
                format!("is not known; there are {}", names.join(", ")),
            ));
        };
        let record = records.swap_remove(index);
        let path = places.iter().map(|place| place.join(&record.file)).find(|path| path.is_file());
        match path {
            Some(path) => Ok(Self { record, path }),
            None => {
                let looked: Vec<String> =
                    places.iter().map(|place| place.display().to_string()).collect();
                Err(Error::Unavailable {
                    what: format!("asset `{name}` ({})", record.file),
                    reason: format!(
                        "not found in {}; run `make setup`, or put the file into a folder and name \
                         that in SPOTTER_ASSETS",
                        looked.join(", ")
                    ),
                })
            }
        }
    }

    /// Its entry in the list.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its content, checked.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where size or hash are not those of the list, [`Error::Io`].
    pub fn read(&self) -> Result<Vec<u8>> {
        let Record { sha256, bytes: expected, .. } = &self.record;
        let corrupt = |what: String| {
            Error::corrupt(&self.path, format!("{what}; remove the file and run `make setup`"))
        };
        let file = File::open(&self.path).map_err(Error::io(&self.path))?;
        let length = file.metadata().map_err(Error::io(&self.path))?.len();
        if length != *expected || length > MAX_BYTES {
            return Err(corrupt(format!("has {length} bytes, not {expected}")));
        }
        let mut content = Vec::new();
        let (digest, _) = hash_stream(file, length, |part| {
            content.extend_from_slice(part);
            Ok(())
        })
        .map_err(Error::io(&self.path))?;
        if digest != *sha256 {
            return Err(corrupt(format!("has sha256 {digest}, not {sha256}")));
        }
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn the_list_is_complete_and_has_plain_file_names() {
        let list = list().unwrap();
        let names: Vec<&str> = list.iter().map(|record| record.name.as_str()).collect();
        assert_eq!(names, ["deimv2-femto", "deimv2-atto", "yolox-nano"]);
        for record in &list {
            assert!(record.bytes > 0 && record.bytes <= MAX_BYTES);
            assert!(!record.file.contains('/') && record.file.ends_with(".onnx"));
            assert!(!record.licence.is_empty() && !record.origin.is_empty());
            let source = record.source.as_deref();
            assert!(source.is_none_or(|source| source.starts_with("https://")));
            assert!(source.is_none_or(|source| source.ends_with(".onnx")));
        }
    }

    #[test]
    fn the_first_place_that_has_the_file_wins() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let places = [first.path().to_path_buf(), second.path().to_path_buf()];
        let error = Asset::find_in("yolox-nano", &places).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.to_string().contains(&first.path().display().to_string()), "{error}");
        assert!(error.to_string().contains("make setup"), "{error}");
        for place in places.iter().rev() {
            let path = place.join("yolox_nano_416.onnx");
            std::fs::write(&path, "").unwrap();
            assert_eq!(Asset::find_in("yolox-nano", &places).unwrap().path(), path);
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = Asset::find_in("yolo", &[]).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains("yolox-nano"), "{error}");
    }

    #[test]
    fn a_file_of_another_size_or_content_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("yolox_nano_416.onnx");
        for (length, word) in [(10, "10 bytes"), (3_660_092, "sha256"), (3_660_093, "bytes")] {
            File::create(&path).unwrap().set_len(length).unwrap();
            let asset = Asset::find_in("yolox-nano", &[folder.path().to_path_buf()]).unwrap();
            let error = asset.read().unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
            assert!(error.to_string().contains(word), "{error}");
            assert!(error.to_string().contains("make setup"), "{error}");
        }
    }
}
