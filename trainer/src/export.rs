//! From a finished run, or from weights, to the bundle that `spotterd` runs.

use std::{collections::BTreeSet, path::Path};

use spotter_models::{
    Digest, Generation,
    bundle::{self, Bundle, Draft, Pack, delta},
    cohort::{Cohort, MAX_PERSONS, MIN_PERSONS},
    manifest::{DataRecord, Licence, Lineage, Precision},
    preprocess::Preprocess,
    probe::{Inputs, Probe},
    session::{Runtime, SessionOptions, TextTower, VisionTower},
    towers::{Config, Weights, is_trained},
    vocabulary::Vocabulary,
};
use tch::Device;

use crate::{
    base::{Base, Origin},
    bounded,
    dataset::{Dataset, Split, is_in_share},
    error::{Error, Result},
    evaluate::{
        Embedder, ModelRecord, NetEmbedder,
        embed::{images, texts},
    },
    net::{Net, Parameters},
    run::Finished,
};

/// A model that can become a bundle.
#[derive(Debug)]
pub struct Model {
    /// All of its tensors.
    pub weights: Weights,
    /// Their shapes.
    pub config: Config,
    /// Where its backbone comes from.
    pub origin: Origin,
    /// Bytes of the backbone's file.
    base: Vec<u8>,
    /// Bytes of the trained tensors' file, where those are apart.
    adapters: Option<Vec<u8>>,
    /// What the trained tensors were trained on.
    data: Option<DataRecord>,
    /// The words of the captions that they were trained on, or why those are not known.
    vocabulary: std::result::Result<Vocabulary, String>,
    /// What of the run cannot be checked.
    unchecked: Option<String>,
}

impl Model {
    /// The result of a finished run.
    ///
    /// # Errors
    /// Where the run is not finished or its base changed.
    pub fn of_run(folder: &Path) -> Result<Self> {
        Self::of_run_with(folder, None)
    }

    /// As [`Model::of_run`], with the base's folder where that was moved.
    ///
    /// # Errors
    /// As [`Model::of_run`], and where `base` is another one than the run was made from.
    pub fn of_run_with(folder: &Path, base: Option<&Path>) -> Result<Self> {
        let run = Finished::open_with(folder, base)?;
        let counts = run.origin.counts;
        let data = DataRecord {
            sha256: run.origin.data_sha256,
            persons: counts.persons as u64,
            pictures: counts.pictures as u64,
            captions: counts.captions as u64,
        };
        let adapters = folder.join(crate::run::ADAPTERS);
        let vocabulary = vocabulary(&run).map_err(|error| error.to_string());
        Ok(Self {
            vocabulary,
            unchecked: run.unchecked(),
            base: bounded::weights(&run.base.folder().join(crate::base::WEIGHTS_FILE))?,
            adapters: run.adapters_sha256.map(|_| bounded::weights(&adapters)).transpose()?,
            weights: run.weights,
            config: run.config,
            origin: run.base.origin().clone(),
            data: Some(data),
        })
    }

    /// A base model, with trained tensors and their configuration where there are any.
    ///
    /// # Errors
    /// Where a file cannot be read or does not fit the others.
    pub fn of_base(base: &Base, trained: Option<(&Path, &Config)>) -> Result<Self> {
        let bytes = bounded::weights(&base.folder().join(crate::base::WEIGHTS_FILE))?;
        let (mut weights, mut config) = (base.weights().clone(), base.config().clone());
        let mut adapters = None;
        if let Some((path, shapes)) = trained {
            let bytes = bounded::weights(path)?;
            for (name, tensor) in Weights::from_bytes(path, &bytes)?.iter() {
                weights.insert(name, tensor.clone());
            }
            adapters = Some(bytes);
            config = shapes.clone();
        }
        config.validate()?;
        weights.check(&config)?;
        let origin = base.origin().clone();
        let vocabulary = Err("weights alone do not say what they were trained on".to_owned());
        let unchecked = None;
        let (base, data) = (bytes, None);
        Ok(Self { weights, config, origin, base, adapters, data, vocabulary, unchecked })
    }

    /// The words of the captions that it was trained on.
    ///
    /// # Errors
    /// Why they are not known; the bundle will have no vocabulary then.
    pub fn vocabulary(&self) -> std::result::Result<&Vocabulary, &str> {
        self.vocabulary.as_ref().map_err(String::as_str)
    }

    /// What of the run it was made from cannot be checked, as an older version made it.
    pub fn unchecked(&self) -> Option<&str> {
        self.unchecked.as_deref()
    }

    /// What the trained tensors were trained on, if that is known.
    pub fn data(&self) -> Option<&DataRecord> {
        self.data.as_ref()
    }

    /// Hashes of the files it was made from.
    pub fn lineage(&self) -> Lineage {
        let adapters = self.adapters.as_deref().map(Digest::of);
        Lineage { base: Some(Digest::of(&self.base)), adapters }
    }

    /// The model in libtorch.
    ///
    /// # Errors
    /// Where memory runs out.
    pub fn embedder(&self, name: &str) -> Result<NetEmbedder> {
        let parameters = Parameters::new(&self.weights, &self.config, Device::Cpu, |_| false)?;
        let net = Net::new(&self.config, &parameters)?;
        let lineage = self.lineage();
        let identity = lineage.adapters.or(lineage.base).map(|hash| hash.to_string());
        let record = ModelRecord {
            kind: "export".into(),
            name: name.to_owned(),
            identity: identity.unwrap_or_default(),
            precision: "f32".into(),
            engine: "libtorch".into(),
            input: [self.config.height, self.config.width],
            trained_parameters: None,
        };
        Ok(NetEmbedder::new(net, Device::Cpu, record))
    }

    /// As [`probe`].
    ///
    /// # Errors
    /// As [`probe`].
    pub fn probe(&self) -> Result<Probe> {
        probe(&mut self.embedder("probe")?)
    }

    /// As [`cohort`].
    ///
    /// # Errors
    /// As [`cohort`].
    pub fn cohort(&self, data: &Dataset, most: usize) -> Result<Cohort> {
        cohort(&mut self.embedder("cohort")?, data, most)
    }
}

/// Golden inputs with a model's embeddings, as libtorch computes them: exported towers that
/// agree are proved by an implementation that shares no code with them.
///
/// # Errors
/// Where the model is broken or memory runs out.
pub fn probe(embedder: &mut dyn Embedder) -> Result<Probe> {
    let inputs = Inputs::standard()?;
    let mut pictures = inputs.pictures.iter().cloned().map(Ok);
    let pictures = images(embedder, &mut pictures)?.into_iter().collect::<Result<_>>()?;
    let captions: Vec<&str> = inputs.texts.iter().map(String::as_str).collect();
    let captions = texts(embedder, &captions)?.into_iter().collect::<Result<_>>()?;
    Ok(Probe::new(inputs, pictures, captions)?)
}

/// Persons whom no alert means: one picture and one caption of each training person of `data`, as
/// many as `most`.
///
/// # Errors
/// Where too few can be read.
pub fn cohort(embedder: &mut dyn Embedder, data: &Dataset, most: usize) -> Result<Cohort> {
    let mut persons = BTreeSet::new();
    let described = data.split(Some(Split::Train)).into_iter().filter_map(|record| {
        let known = data.records().get(record)?;
        Some((record, known.person, known.captions.first()?.as_str()))
    });
    let chosen: Vec<(usize, &str)> = described
        .filter(|(_, person, _)| persons.insert(*person))
        .map(|(record, _, caption)| (record, caption))
        .take(most.min(MAX_PERSONS))
        .collect();
    let mut pictures = chosen.iter().map(|(record, _)| data.picture(*record));
    let pictures = images(embedder, &mut pictures)?;
    let captions: Vec<&str> = chosen.iter().map(|(_, caption)| *caption).collect();
    let captions = texts(embedder, &captions)?;
    // A person of whom either cannot be read has no place in a cohort; too few are refused.
    let pairs = pictures.into_iter().zip(captions);
    let (pictures, captions): (Vec<_>, Vec<_>) =
        pairs.filter_map(|(picture, caption)| picture.ok().zip(caption.ok())).unzip();
    let fewest = pictures.len();
    if fewest < MIN_PERSONS {
        let reason = format!(
            "{} has {fewest} persons of the split `train` with a picture and a caption that can be \
             read, and a cohort needs {MIN_PERSONS} at least: with fewer, the spread of a text's \
             scores is a guess. Name a data set with more persons, or leave --cohort out",
            data.root().display()
        );
        return Err(Error::invalid("--cohort", reason));
    }
    Ok(Cohort::new(pictures)?.with_captions(captions)?)
}

/// Writes what was trained since a pack into the new folder `out`: the trained tensors that differ from
/// its own, in half precision, with a probe and, where `cohort` names data, a cohort of the rounded model.
/// `parent` is the vendor's bundle of that pack; where it is not known, the one that the pack gives in
/// these precisions.
///
/// # Errors
/// Where the model has another base or other shapes than the pack, or nothing differs.
pub fn delta(
    out: &Path,
    mut model: Model,
    pack: Pack,
    wanted: &DeltaWanted<'_>,
) -> Result<delta::Record> {
    let (base, shapes) = (model.lineage().base, &model.config);
    if base != pack.lineage().base || shapes != pack.config() {
        let reason = "has another base or other shapes than the model; a delta is of a model that went \
                      on from the pack's own trained tensors";
        return Err(Error::invalid("--delta-of", reason));
    }
    let parent = match wanted.parent {
        Some(parent) => parent,
        None => pack.generation(wanted.precisions)?,
    };
    let mut trained = Weights::default();
    for (name, tensor) in model.weights.iter().filter(|(name, _)| is_trained(name)) {
        trained.insert(name, tensor.clone());
    }
    let changed = pack.change(&trained)?;
    // From here on the model is exactly what the delta holds.
    model.weights = changed.weights().clone();
    let cohort = match wanted.cohort {
        Some((data, most)) => Some(model.cohort(data, most)?),
        None => None,
    };
    let draft = delta::Draft {
        name: wanted.name.clone(),
        created_at: wanted.created_at.clone(),
        parent,
        precisions: wanted.precisions,
        probe: &model.probe()?,
        cohort: cohort.as_ref(),
        evaluation: wanted.evaluation.clone(),
        provenance: wanted.provenance.clone(),
    };
    Ok(delta::write(out, &changed, &draft)?)
}

/// What a delta says besides what the model knows.
pub struct DeltaWanted<'a> {
    /// What people call the result.
    pub name: String,
    /// Now, RFC 3339.
    pub created_at: String,
    /// The vendor's bundle that it applies to, if it is known.
    pub parent: Option<Generation>,
    /// The number formats of the result.
    pub precisions: &'a [Precision],
    /// The data whose training persons become the cohort, and how many at most.
    pub cohort: Option<(&'a Dataset, usize)>,
    /// What an evaluation measured.
    pub evaluation: serde_json::Map<String, serde_json::Value>,
    /// What it was trained on.
    pub provenance: serde_json::Map<String, serde_json::Value>,
}

/// What the manifest says besides what the model knows.
#[derive(Clone, Debug)]
pub struct Said {
    /// What people call the bundle.
    pub name: String,
    /// Now, RFC 3339.
    pub created_at: String,
    /// Licence of the data.
    pub data_licence: String,
    /// What an evaluation measured.
    pub evaluation: serde_json::Map<String, serde_json::Value>,
}

/// What is made of a model.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A bundle with towers of these precisions.
    Bundle(&'a [Precision]),
    /// A pack, from which `spotterd` folds the towers.
    Pack,
}

/// Writes a bundle or pack into the new folder `out`.
///
/// # Errors
/// Where parts do not fit together or the folder exists or cannot be written.
pub fn export(
    out: &Path,
    model: &Model,
    said: &Said,
    probe: &Probe,
    cohort: Option<&Cohort>,
    target: Target<'_>,
) -> Result<()> {
    let precisions = match target {
        Target::Bundle(precisions) => precisions,
        Target::Pack => &[Precision::F32],
    };
    let draft = Draft {
        name: said.name.clone(),
        created_at: said.created_at.clone(),
        parent: None,
        lineage: model.lineage(),
        licence: Licence { weights: model.origin.licence.clone(), data: said.data_licence.clone() },
        data: model.data.clone(),
        intended_use: Some(model.origin.intended_use.clone()),
        evaluation: said.evaluation.clone(),
        weights: &model.weights,
        config: &model.config,
        precisions,
        preprocess: Preprocess::clip(model.config.height, model.config.width),
        probe,
        cohort,
        vocabulary: model.vocabulary().ok(),
    };
    match target {
        Target::Bundle(_) => {
            bundle::write(out, &draft)?;
        }
        Target::Pack => bundle::pack(out, &draft, &model.base, model.adapters.as_deref())?,
    }
    Ok(())
}

/// The words of the captions that a run learnt from.
///
/// # Errors
/// Where its data are not where they were, or are other ones by now.
fn vocabulary(run: &Finished) -> Result<Vocabulary> {
    let mut data = Dataset::open(&run.origin.data)?;
    let wanted = &run.recipe.data;
    let [first, last] = wanted.persons.unwrap_or([i64::MIN, i64::MAX]);
    let share = wanted.share.unwrap_or(1.0);
    data.retain(|record| {
        record.split != Split::Train
            || (first..=last).contains(&record.person) && is_in_share(record.person, share)
    });
    if data.fingerprint() != run.origin.data_sha256 {
        let reason = "holds other annotations than the run was trained on";
        return Err(Error::invalid(run.origin.data.display().to_string(), reason));
    }
    let train = data.records().iter().filter(|record| record.split == Split::Train);
    let captions = train.flat_map(|record| &record.captions).map(String::as_str);
    Ok(Vocabulary::of_captions(captions)?)
}

/// How a precision of a written bundle agrees with libtorch, in words.
///
/// # Errors
/// Where a tower cannot be opened, or differs by more than the precision may.
pub fn check(
    runtime: &Runtime,
    folder: &Path,
    precision: Precision,
) -> Result<(Generation, String)> {
    let bundle = Bundle::open(folder)?;
    let options = SessionOptions::default();
    let mut vision = VisionTower::open(runtime, &bundle, precision, &options)?;
    let mut text = TextTower::open(runtime, &bundle, precision, &options)?;
    let report = Probe::of(&bundle)?.run(&mut vision, &mut text)?;
    report.check(precision)?;
    Ok((bundle.generation(), report.to_string()))
}

/// Judges a model on a set for the manifest: the figures of its pictures and captions.
///
/// # Errors
/// Where nothing can be judged.
pub fn figures(
    embedder: &mut dyn Embedder,
    data: &Dataset,
    choice: &crate::evaluate::Choice,
) -> Result<serde_json::Value> {
    let report = crate::evaluate::evaluate(embedder, data, choice, &mut || {})?.report;
    serde_json::to_value(&report)
        .map_err(|error| spotter_models::Error::internal("evaluation", error).into())
}
