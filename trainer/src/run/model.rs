//! The model that a run trains, as it starts.

use std::collections::BTreeSet;

use spotter_models::{
    tokenize::Tokenizer,
    towers::{Config, Tensor, Weights},
};
use tch::Kind;

use super::{Job, step::Trainee};
use crate::{
    adam::Adam,
    base::{Base, Origin},
    dataset::Dataset,
    error::{Error, Result},
    method::{self, Method},
    net::{Net, Parameters},
    recipe::{Precision, Recipe},
};

/// The shapes and tensors of the model, frozen and trained.
pub(super) fn make(
    job: &Job,
    base: Option<&Base>,
    data: &Dataset,
    train: &[usize],
) -> Result<(Config, Trainee)> {
    let (recipe, device) = (&job.recipe, job.device);
    let (config, weights) = match (recipe.method, base) {
        (Method::Scratch, None) => from_nothing(recipe, data, train)?,
        (Method::Scratch, Some(_)) => {
            return Err(Error::invalid(
                "base",
                "the method `scratch` starts from nothing; leave it out",
            ));
        }
        (_, None) if let Some(start) = &job.start => (start.config.clone(), start.weights.clone()),
        (_, None) => {
            return Err(Error::invalid(
                "base",
                "this method needs a base model; name one with --base",
            ));
        }
        (_, Some(base)) => on_base(recipe, base)?,
    };
    let method = recipe.method;
    let mut parameters = Parameters::new(&weights, &config, device, |name| recipe.trains(name))?;
    if method == Method::Scratch {
        parameters.add_norms(&weights)?;
    }
    if recipe.loss.learnt {
        parameters.add_scale(recipe.loss.temperature)?;
    }
    if recipe.batch.precision == Precision::Bf16 {
        parameters.compute_in(Kind::BFloat16)?;
    }
    let net = Net::new(&config, &parameters)?;
    Ok((config, Trainee { parameters, net, adam: Adam::new(recipe.optimiser) }))
}

fn from_nothing(recipe: &Recipe, data: &Dataset, train: &[usize]) -> Result<(Config, Weights)> {
    let Some(backbone) = &recipe.backbone else {
        return Err(Error::invalid("backbone", "the method `scratch` needs its shapes"));
    };
    let tokenizer = Tokenizer::clip()?;
    let mut ids = BTreeSet::new();
    for record in train.iter().filter_map(|record| data.records().get(*record)) {
        for caption in &record.captions {
            ids.extend(tokenizer.encode(caption)?.ids());
        }
    }
    let config = backbone.config(ids.into_iter().collect());
    config.validate().map_err(|error| Error::invalid("backbone", error.to_string()))?;
    let weights = method::from_nothing(&config, recipe.seed)?;
    Ok((config, weights))
}

fn on_base(recipe: &Recipe, base: &Base) -> Result<(Config, Weights)> {
    let config = recipe.config(base.config())?;
    let mut weights = base.weights().clone();
    for (name, tensor) in recipe.initialisation.weights(&config, recipe.seed)?.iter() {
        weights.insert(name, tensor.clone());
    }
    if let Some(words) = recipe.prompts.words.as_deref().filter(|_| config.prompts > 0) {
        start_from_words(&mut weights, &config, words)?;
    }
    Ok((config, weights))
}

/// Writes the embeddings of words over the first block's own text prompts.
fn start_from_words(weights: &mut Weights, config: &Config, words: &str) -> Result<()> {
    const PROMPTS: &str = "bpt.text_prompts";
    let width = config.text_width;
    let ids = Tokenizer::clip()?.encode(words)?;
    let table = weights.get("token_embedding.weight", &[config.token_rows(), width])?;
    let rows: Vec<f32> = ids
        .ids()
        .iter()
        .take(config.own_text_prompts())
        .filter_map(|id| table.chunks_exact(width).nth(config.token_row(*id)))
        .flatten()
        .copied()
        .collect();
    let Some(prompts) = weights.tensor(PROMPTS) else { return Ok(()) };
    let (shape, mut values) = (prompts.shape().to_vec(), prompts.values().to_vec());
    values.iter_mut().zip(rows).for_each(|(value, row)| *value = row);
    weights.insert(PROMPTS, Tensor::new(shape, values)?);
    Ok(())
}

/// What is to be said of a backbone that was trained here.
pub(super) fn origin(recipe: &Recipe, base: Option<&Base>, data: &Dataset) -> Origin {
    let said =
        format!("{} ({} annotations, {})", data.name(), data.records().len(), data.fingerprint());
    match base {
        Some(base) => Origin {
            name: format!("{}, trained further", base.origin().name),
            layout: "spotter-trainer".into(),
            source_sha256: Some(base.sha256()),
            data: format!("{}; then {said}", base.origin().data),
            ..base.origin().clone()
        },
        None => Origin {
            name: recipe.backbone.as_ref().map_or_else(String::new, |b| b.name.clone()),
            layout: "spotter-trainer".into(),
            source_sha256: None,
            licence: recipe
                .backbone
                .as_ref()
                .and_then(|backbone| backbone.licence.clone())
                .unwrap_or_else(|| "that of the data it was trained on".into()),
            data: said,
            intended_use:
                "searching cameras for described clothing; not for recognising who somebody \
                           is, nor their traits"
                    .into(),
        },
    }
}
