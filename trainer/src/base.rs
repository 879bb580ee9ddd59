//! A base model on disk: what training starts from and what stays frozen.
//!
//! A folder with `base.safetensors` (OpenAI's names, and those of the stem), `config.json` (shapes,
//! without prompts and adapters) and `origin.json` (where it comes from and what it may be used for).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use spotter_models::{
    Digest,
    towers::{Config, Weights},
};

use crate::{
    bounded,
    error::{Error, Result},
};

/// The weights.
pub const WEIGHTS_FILE: &str = "base.safetensors";
/// Their shapes.
pub const CONFIG_FILE: &str = "config.json";
/// Where they come from.
pub const ORIGIN_FILE: &str = "origin.json";

/// Where a base model comes from, and what its authors allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// What people call it.
    pub name: String,
    /// The layout it was read from, or `spotter-trainer` where it was trained here.
    pub layout: String,
    /// Hash of the file it was read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_sha256: Option<Digest>,
    /// Licence of the weights.
    pub licence: String,
    /// Licence and name of the data they were trained on.
    pub data: String,
    /// What its authors say it is for, and what not.
    pub intended_use: String,
}

/// A base model that was read and checked.
#[derive(Debug)]
pub struct Base {
    folder: PathBuf,
    weights: Weights,
    config: Config,
    origin: Origin,
    sha256: Digest,
    config_sha256: Digest,
}

impl Base {
    /// Reads a folder.
    ///
    /// # Errors
    /// Where a file is missing, broken, or does not fit the others.
    pub fn open(folder: &Path) -> Result<Self> {
        let (config, config_sha256) = read_json_hashed::<Config>(&folder.join(CONFIG_FILE))?;
        config.validate()?;
        let origin = read_json(&folder.join(ORIGIN_FILE))?;
        let path = folder.join(WEIGHTS_FILE);
        let bytes = bounded::weights(&path)?;
        let weights = Weights::from_bytes(&path, &bytes)?;
        weights.check(&config)?;
        let sha256 = Digest::of(&bytes);
        Ok(Self { folder: folder.to_owned(), weights, config, origin, sha256, config_sha256 })
    }

    /// Writes a folder, which must not exist; it appears whole or not at all.
    ///
    /// # Errors
    /// Where the parts do not fit together or the folder cannot be written.
    pub fn write(folder: &Path, weights: &Weights, config: &Config, origin: &Origin) -> Result<()> {
        Self::write_with(folder, config, origin, |path| {
            weights.check(config)?;
            Ok(weights.write(path)?)
        })
    }

    /// As [`Base::write`], rounded to half precision: half as large, and a change far below what
    /// training itself leaves to chance.
    ///
    /// # Errors
    /// As [`Base::write`], and where a value is too large for half precision.
    pub fn write_half(
        folder: &Path,
        weights: &Weights,
        config: &Config,
        origin: &Origin,
    ) -> Result<()> {
        Self::write_with(folder, config, origin, |path| {
            weights.check(config)?;
            Ok(weights.to_half()?.write_half(path)?)
        })
    }

    fn write_with(
        folder: &Path,
        config: &Config,
        origin: &Origin,
        write: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        if folder.symlink_metadata().is_ok() {
            let what = folder.display().to_string();
            return Err(Error::invalid(what, "exists already; choose a new name or remove it"));
        }
        let mut name = folder.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = folder.with_file_name(name);
        let io = |error| Error::from(spotter_models::Error::io(&part)(error));
        if part.exists() {
            std::fs::remove_dir_all(&part).map_err(io)?;
        }
        std::fs::create_dir_all(&part).map_err(io)?;
        write(&part.join(WEIGHTS_FILE))?;
        write_json(&part.join(CONFIG_FILE), config)?;
        write_json(&part.join(ORIGIN_FILE), origin)?;
        for name in [WEIGHTS_FILE, CONFIG_FILE, ORIGIN_FILE] {
            std::fs::File::open(part.join(name)).and_then(|file| file.sync_all()).map_err(io)?;
        }
        std::fs::rename(&part, folder).map_err(io)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Their shapes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where they come from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Hash of the weights' file.
    pub fn sha256(&self) -> Digest {
        self.sha256
    }

    /// Hash of the shapes' file: the same weights with other shapes or factors are another model.
    pub fn config_sha256(&self) -> Digest {
        self.config_sha256
    }
}

/// Reads a JSON file; an error names the field.
///
/// # Errors
/// Where it cannot be read or is not what is meant.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    read_json_hashed(path).map(|(value, _)| value)
}

/// As [`read_json`], with the file's hash.
///
/// # Errors
/// As [`read_json`].
pub fn read_json_hashed<T: DeserializeOwned>(path: &Path) -> Result<(T, Digest)> {
    let bytes = bounded::read(path, bounded::JSON)?;
    let mut json = serde_json::Deserializer::from_slice(&bytes);
    let value = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| spotter_models::Error::corrupt(path, error.to_string()))?;
    Ok((value, Digest::of(&bytes)))
}

/// Writes a JSON file, indented.
///
/// # Errors
/// Where it cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| spotter_models::Error::internal("JSON", error))?;
    bytes.push(b'\n');
    Ok(std::fs::write(path, bytes).map_err(spotter_models::Error::io(path))?)
}
