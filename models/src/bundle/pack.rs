//! A pack: what a bundle is folded from, a fraction of its size.
//!
//! A folder with `pack.json` (what the manifest will say), the base's and the trained tensors, the probe
//! and, where there are any, the cohort and the vocabulary. A pack can be committed or sent where a bundle would be too
//! large; the towers are folded where they are used, always to the same bundle.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::write::{Draft, fill, make_room, write};
use crate::{
    Digest, Error, Generation, Result,
    bundle::aside::{self, Aside},
    cohort::Cohort,
    manifest::{
        self, COHORT_FILE, DataRecord, Licence, Lineage, Manifest, PROBE_FILE, Precision,
        VOCABULARY_FILE,
    },
    preprocess::Preprocess,
    probe::Probe,
    towers::{Config, Weights, is_trained},
    vocabulary::{self, Vocabulary},
};

/// What the manifest will say.
const PACK_FILE: &str = "pack.json";
/// The frozen tensors.
const BASE_FILE: &str = "base.safetensors";
/// The trained tensors.
const ADAPTERS_FILE: &str = "adapters.safetensors";
/// Largest `pack.json` that is read, in bytes.
const MAX_BYTES: usize = 4 << 20;
/// Largest file of weights that is read, in bytes.
const MAX_WEIGHT_BYTES: u64 = 4 << 30;

/// The parts of a [`Draft`] that are neither weights nor embeddings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    name: String,
    created_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<Generation>,
    lineage: Lineage,
    licence: Licence,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<DataRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    intended_use: Option<String>,
    evaluation: serde_json::Map<String, serde_json::Value>,
    config: Config,
    preprocess: Preprocess,
    has_cohort: bool,
    /// Absent in packs that were made before there were vocabularies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    has_vocabulary: bool,
}

/// Writes a pack into the new folder `dir`, which appears complete or not at all. `base` and `adapters`
/// are the bytes of the weights' files that the draft was made from; the lineage gets their hashes.
///
/// # Errors
/// As [`write`], and [`Error::Mismatch`] where the files do not hold the draft's weights.
pub fn pack(dir: &Path, draft: &Draft<'_>, base: &[u8], adapters: Option<&[u8]>) -> Result<()> {
    make_room(dir)?;
    if weights(dir, base, adapters)? != *draft.weights {
        return Err(Error::mismatch("pack", "the files of weights do not hold the draft's"));
    }
    let said = Said {
        name: draft.name.clone(),
        created_at: draft.created_at.clone(),
        parent: draft.parent,
        lineage: Lineage { base: Some(Digest::of(base)), adapters: adapters.map(Digest::of) },
        licence: draft.licence.clone(),
        data: draft.data.clone(),
        intended_use: draft.intended_use.clone(),
        evaluation: draft.evaluation.clone(),
        config: draft.config.clone(),
        preprocess: draft.preprocess,
        has_cohort: draft.cohort.is_some(),
        has_vocabulary: draft.vocabulary.is_some(),
    };
    let aside = Aside::create(aside::beside(dir)?)?;
    aside.bytes(BASE_FILE, base)?;
    if let Some(adapters) = adapters {
        aside.bytes(ADAPTERS_FILE, adapters)?;
    }
    aside.bytes(PROBE_FILE, &draft.probe.to_bytes()?)?;
    if let Some(cohort) = draft.cohort {
        aside.bytes(COHORT_FILE, &cohort.to_bytes()?)?;
    }
    if let Some(vocabulary) = draft.vocabulary {
        aside.bytes(VOCABULARY_FILE, &vocabulary.to_bytes()?)?;
    }
    aside.bytes(PACK_FILE, &said.to_bytes()?)?;
    aside.finish(dir)
}

/// Whether a folder holds a pack.
pub fn is_pack(folder: &Path) -> bool {
    folder.join(PACK_FILE).is_file()
}

/// Writes a copy of a pack into the new folder `dir`, with this vocabulary in place of its own, if it
/// has one. Its other files are copied as they are; [`fold`] checks them.
///
/// # Errors
/// [`Error::Invalid`] where `dir` exists, [`Error::Corrupt`] where a file of the pack is missing,
/// [`Error::Unavailable`] where `dir` cannot be written, [`Error::Io`].
pub fn pack_with_vocabulary(dir: &Path, source: &Path, vocabulary: &Vocabulary) -> Result<()> {
    make_room(dir)?;
    let mut said = Said::read(source)?;
    said.has_vocabulary = true;
    let mut names = vec![BASE_FILE, PROBE_FILE];
    names.extend(said.lineage.adapters.map(|_| ADAPTERS_FILE));
    names.extend(said.has_cohort.then_some(COHORT_FILE));
    let aside = Aside::create(aside::beside(dir)?)?;
    for name in names {
        aside.bytes(name, &read(&source.join(name), MAX_WEIGHT_BYTES)?)?;
    }
    aside.bytes(VOCABULARY_FILE, &vocabulary.to_bytes()?)?;
    aside.bytes(PACK_FILE, &said.to_bytes()?)?;
    aside.finish(dir)
}

impl Said {
    fn read(pack: &Path) -> Result<Self> {
        let path = pack.join(PACK_FILE);
        let bytes = read(&path, MAX_BYTES as u64)?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        serde_path_to_error::deserialize(&mut json)
            .map_err(|error| Error::corrupt(&path, format!("is no pack: {error}")))
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut json =
            serde_json::to_vec_pretty(self).map_err(|error| Error::internal(PACK_FILE, error))?;
        json.push(b'\n');
        Ok(json)
    }
}

/// Folds a pack's towers into the bundle `out`, a new folder. The same pack and precisions give the
/// same bundle.
///
/// # Errors
/// [`Error::Corrupt`] where a file of the pack is missing, changed or does not fit the others;
/// those of [`write`].
pub fn fold(pack: &Path, out: &Path, precisions: &[Precision]) -> Result<Generation> {
    write(out, &Pack::open(pack)?.draft(precisions))
}

/// An open pack whose weights are those that its lineage names.
#[derive(Clone, Debug)]
pub struct Pack {
    path: PathBuf,
    said: Said,
    weights: Weights,
    /// Names in the file of trained tensors.
    trained: BTreeSet<String>,
    probe: Probe,
    cohort: Option<Cohort>,
    vocabulary: Option<Vocabulary>,
}

impl Pack {
    /// Opens a pack.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a file of it is missing, changed or does not fit the others.
    pub fn open(pack: &Path) -> Result<Self> {
        let path = pack.join(PACK_FILE);
        let said = Said::read(pack)?;
        said.config.validate().map_err(|error| Error::corrupt(&path, error.to_string()))?;
        let checked = |name: &str, hash: Digest| -> Result<Vec<u8>> {
            let path = pack.join(name);
            let bytes = read(&path, MAX_WEIGHT_BYTES)?;
            match Digest::of(&bytes) == hash {
                true => Ok(bytes),
                false => Err(Error::corrupt(
                    path,
                    "is not the file that pack.json names; copy the pack again",
                )),
            }
        };
        let Some(hash) = said.lineage.base else {
            return Err(Error::corrupt(path, "names no base"));
        };
        let mut weights = Weights::from_bytes(&pack.join(BASE_FILE), &checked(BASE_FILE, hash)?)?;
        let mut trained = BTreeSet::new();
        if let Some(hash) = said.lineage.adapters {
            let bytes = checked(ADAPTERS_FILE, hash)?;
            for (name, tensor) in Weights::from_bytes(&pack.join(ADAPTERS_FILE), &bytes)?.iter() {
                trained.insert(name.to_owned());
                weights.insert(name, tensor.clone());
            }
        }
        let probe = pack.join(PROBE_FILE);
        let probe = Probe::parse(&probe, &read(&probe, MAX_WEIGHT_BYTES)?)?;
        let cohort = pack.join(COHORT_FILE);
        let cohort = match said.has_cohort {
            true => Some(Cohort::parse(&cohort, &read(&cohort, MAX_WEIGHT_BYTES)?)?),
            false => None,
        };
        let words = pack.join(VOCABULARY_FILE);
        let vocabulary = match said.has_vocabulary {
            true => Some(Vocabulary::parse(&words, &read(&words, vocabulary::MAX_BYTES as u64)?)?),
            false => None,
        };
        let path = pack.to_path_buf();
        Ok(Self { path, said, weights, trained, probe, cohort, vocabulary })
    }

    /// Shapes of its towers.
    pub fn config(&self) -> &Config {
        &self.said.config
    }

    /// All of its tensors.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Persons whom no alert means, where it has them.
    pub fn cohort(&self) -> Option<&Cohort> {
        self.cohort.as_ref()
    }

    /// How its crops become inputs.
    pub fn preprocess(&self) -> Preprocess {
        self.said.preprocess
    }

    /// Hashes of the files of its weights.
    pub fn lineage(&self) -> &Lineage {
        &self.said.lineage
    }

    /// The generation that [`fold`] gives with these precisions; nothing is written.
    ///
    /// # Errors
    /// As [`fold`].
    pub fn generation(&self, precisions: &[Precision]) -> Result<Generation> {
        fill(&self.draft(precisions), |_, _| Ok(()))
    }

    /// What a bundle is made from.
    pub(super) fn draft<'a>(&'a self, precisions: &'a [Precision]) -> Draft<'a> {
        let said = &self.said;
        Draft {
            name: said.name.clone(),
            created_at: said.created_at.clone(),
            parent: said.parent,
            lineage: said.lineage.clone(),
            licence: said.licence.clone(),
            data: said.data.clone(),
            intended_use: said.intended_use.clone(),
            evaluation: said.evaluation.clone(),
            weights: &self.weights,
            config: &said.config,
            precisions,
            preprocess: said.preprocess,
            probe: &self.probe,
            cohort: self.cohort.as_ref(),
            vocabulary: self.vocabulary.as_ref(),
        }
    }

    /// Replaces trained tensors by those of `new` that differ, rounded to half precision, so that the
    /// model is exactly what a delta can hold. Of `new`, tensors that are the pack's own are left out.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where `new` holds a tensor that was not trained in this pack, is of another
    /// shape, or not finite; [`Error::Invalid`] where a value is beyond half precision, or nothing
    /// differs.
    pub fn change(mut self, new: &Weights) -> Result<Changed> {
        let mut tensors = Weights::default();
        for (name, tensor) in new.iter() {
            let own = self.weights.tensor(name).filter(|_| self.trained.contains(name));
            let Some(own) = own.filter(|_| is_trained(name)) else {
                let reason = format!(
                    "is no trained tensor of the pack {}; a delta changes prompts and adapters only",
                    self.path.display()
                );
                return Err(Error::mismatch(manifest::printable(name), reason));
            };
            if own.shape() != tensor.shape() {
                let (new, old) = (tensor.shape(), own.shape());
                let reason = format!("has shape {new:?}, and {old:?} in the pack");
                return Err(Error::mismatch(name, reason));
            }
            if let Some(value) = tensor.values().iter().find(|value| !value.is_finite()) {
                let reason = format!("holds {value}; the training diverged, do not use this");
                return Err(Error::mismatch(name, reason));
            }
            if own != tensor {
                tensors.insert(name, tensor.clone());
            }
        }
        let rounded = tensors.to_half()?;
        let mut tensors = Weights::default();
        for (name, tensor) in rounded.iter() {
            if self.weights.tensor(name) != Some(tensor) {
                tensors.insert(name, tensor.clone());
                self.weights.insert(name, tensor.clone());
            }
        }
        if tensors.iter().next().is_none() {
            let reason = "changes nothing: every tensor is as in the pack";
            return Err(Error::invalid("delta", reason));
        }
        Ok(Changed { pack: self, tensors })
    }

    /// Whether a bundle was folded from this pack, as far as what a delta leaves unchanged goes.
    ///
    /// # Errors
    /// [`Error::Mismatch`] that names what differs.
    pub(super) fn check_is_of(&self, manifest: &Manifest, generation: Generation) -> Result<()> {
        let said = &self.said;
        let words = self.vocabulary.as_ref().map(Vocabulary::to_bytes).transpose()?;
        let words = words.as_deref().map(Digest::of);
        let of_bundle = manifest.files.get(VOCABULARY_FILE).map(|record| record.sha256);
        let same = [
            ("weights", said.lineage == manifest.lineage),
            ("config", said.config == manifest.config),
            ("preprocess", said.preprocess == manifest.preprocess),
            ("licence", said.licence == manifest.licence),
            ("data", said.data == manifest.data),
            ("intended_use", said.intended_use == manifest.intended_use),
            ("vocabulary", words == of_bundle),
        ];
        match same.iter().find(|(_, same)| !same) {
            None => Ok(()),
            Some((what, _)) => Err(Error::mismatch(
                format!("pack {}", self.path.display()),
                format!(
                    "is not that of the bundle {generation}, as its {what} shows; name the pack that \
                     the vendor folded that bundle from"
                ),
            )),
        }
    }
}

/// A pack with other trained tensors: what a site trained.
#[derive(Clone, Debug)]
pub struct Changed {
    pack: Pack,
    tensors: Weights,
}

impl Changed {
    /// Shapes of its towers, the pack's.
    pub fn config(&self) -> &Config {
        self.pack.config()
    }

    /// All of its tensors, for a probe and an evaluation of exactly this model.
    pub fn weights(&self) -> &Weights {
        &self.pack.weights
    }

    /// Those that differ from the pack's, rounded to half precision.
    pub fn tensors(&self) -> &Weights {
        &self.tensors
    }

    /// The pack; its weights are changed already.
    pub(super) fn pack(&self) -> &Pack {
        &self.pack
    }
}

fn weights(pack: &Path, base: &[u8], adapters: Option<&[u8]>) -> Result<Weights> {
    let mut weights = Weights::from_bytes(&pack.join(BASE_FILE), base)?;
    if let Some(adapters) = adapters {
        for (name, tensor) in Weights::from_bytes(&pack.join(ADAPTERS_FILE), adapters)?.iter() {
            weights.insert(name, tensor.clone());
        }
    }
    Ok(weights)
}

/// Reads a file that must not be larger than `most` bytes.
fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if bytes.len() as u64 > most {
        return Err(Error::corrupt(path, format!("is larger than {most} bytes")));
    }
    Ok(bytes)
}
