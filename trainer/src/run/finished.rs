//! A finished run, and whether its files are still those that the training left.

use std::path::{Path, PathBuf};

use spotter_models::{
    Digest,
    towers::{Config, Weights},
};

use super::folder::{ADAPTERS, BASE, CONFIG, Ended, Origin, RECIPE, RESULT, RUN, unchecked};
use crate::{
    base::{Base, CONFIG_FILE, WEIGHTS_FILE, read_json, read_json_hashed},
    bounded,
    error::{Error, Result},
    recipe::Recipe,
};

/// A finished run, read for evaluation and export.
#[derive(Debug)]
pub struct Finished {
    /// Its recipe.
    pub recipe: Recipe,
    /// What it was made from.
    pub origin: Origin,
    /// How it ended.
    pub ended: Ended,
    /// Shapes of the model.
    pub config: Config,
    /// The frozen base, or the one that was trained.
    pub base: Base,
    /// All of the model's tensors.
    pub weights: Weights,
    /// Hash of the trained tensors' file, where those are apart from the base.
    pub adapters_sha256: Option<Digest>,
}

impl Finished {
    /// What of it cannot be checked, as an older version made it; `None`: all was found unchanged.
    pub fn unchecked(&self) -> Option<String> {
        unchecked(&self.origin, &self.ended)
    }

    /// Reads a run's folder.
    ///
    /// # Errors
    /// Where it is not finished, its base is not where it was or changed, or its trained tensors or shapes
    /// are not those that `result.json` states.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_with(folder, None)
    }

    /// As [`Finished::open`], with the base's folder where that was moved.
    ///
    /// # Errors
    /// As [`Finished::open`], and where `base` is another one than the run was made from.
    pub fn open_with(folder: &Path, base: Option<&Path>) -> Result<Self> {
        let Some(ended) = Ended::read(folder)? else {
            let reason = "is no finished run; let `spotter-trainer train` go on with it";
            return Err(Error::invalid(folder.display().to_string(), reason));
        };
        let recipe = Recipe::read(&folder.join(RECIPE))?;
        let origin: Origin = read_json(&folder.join(RUN))?;
        let (config, config_sha256) = read_json_hashed::<Config>(&folder.join(CONFIG))?;
        check_unchanged(ended.config_sha256, &folder.join(CONFIG), config_sha256)?;
        if recipe.method.trains_backbone() {
            if base.is_some() {
                let reason =
                    "the backbone was trained too and lies in the run's folder; leave it out";
                return Err(Error::invalid("--base", reason));
            }
            let base = Base::open(&folder.join(BASE))?;
            check_unchanged(ended.sha256, &base.folder().join(WEIGHTS_FILE), base.sha256())?;
            // Both are written from the same shapes.
            let shapes = base.folder().join(CONFIG_FILE);
            check_unchanged(ended.config_sha256, &shapes, base.config_sha256())?;
            let weights = base.weights().clone();
            return Ok(Self {
                recipe,
                origin,
                ended,
                config,
                base,
                weights,
                adapters_sha256: None,
            });
        }
        let base = find_base(folder, &origin, base)?;
        let mut weights = base.weights().clone();
        let path = folder.join(ADAPTERS);
        let bytes = bounded::weights(&path)?;
        let sha256 = Digest::of(&bytes);
        check_unchanged(ended.sha256, &path, sha256)?;
        for (name, tensor) in Weights::from_bytes(&path, &bytes)?.iter() {
            weights.insert(name, tensor.clone());
        }
        weights.check(&config)?;
        let adapters_sha256 = Some(sha256);
        Ok(Self { recipe, origin, ended, config, base, weights, adapters_sha256 })
    }
}

/// The base that a run was made from: where somebody says it is, else where it lies as seen from the run,
/// else where it was. What lies there is told by its hash.
fn find_base(folder: &Path, origin: &Origin, given: Option<&Path>) -> Result<Base> {
    let open = |path: &Path| {
        let base = Base::open(path)?;
        if Some(base.sha256()) == origin.base_sha256 {
            return match origin.base_config_sha256 {
                Some(stated) if stated != base.config_sha256() => Err(Error::invalid(
                    path.join(CONFIG_FILE).display().to_string(),
                    format!(
                        "was changed since the run was made from this base model: its SHA-256 is {}, and \
                         {RUN} states {stated}; get it back from a copy",
                        base.config_sha256()
                    ),
                )),
                _ => Ok(base),
            };
        }
        let wanted = origin.base_sha256.map(|hash| format!(", {hash}")).unwrap_or_default();
        let reason = format!(
            "holds another base model, SHA-256 {}, than the run was made from{wanted}",
            base.sha256()
        );
        Err(Error::invalid(path.display().to_string(), reason))
    };
    if let Some(given) = given {
        return open(given);
    }
    let near = origin.base_from_run.as_ref().map(|path| folder.join(path));
    let mut places: Vec<PathBuf> = near.into_iter().chain(origin.base.clone()).collect();
    // One place by two names needs to be looked at, and told, once.
    places.dedup_by_key(|place| place.canonicalize().unwrap_or_else(|_| place.clone()));
    let mut found = Vec::new();
    for place in &places {
        match open(place) {
            Ok(base) => return Ok(base),
            Err(error) => found.push(error.to_string()),
        }
    }
    let found = if found.is_empty() { "run.json names none".into() } else { found.join("; ") };
    let reason =
        format!("its base model is not found: {found}; name its folder with --base FOLDER");
    Err(Error::invalid(folder.display().to_string(), reason))
}

/// Refuses a file that is not the one that the training ended with.
fn check_unchanged(stated: Option<Digest>, path: &Path, found: Digest) -> Result<()> {
    match stated {
        Some(stated) if stated != found => {
            let reason = format!(
                "was changed since the training ended: its SHA-256 is {found}, and {RESULT} states \
                 {stated}; get the file back from a copy, or run the same `spotter-trainer train` again, \
                 which writes it anew from the checkpoint"
            );
            Err(spotter_models::Error::corrupt(path, reason).into())
        }
        _ => Ok(()),
    }
}
