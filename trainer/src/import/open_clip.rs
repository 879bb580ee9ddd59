//! OpenCLIP's files: OpenAI's names, with a configuration that says what they do not.

use serde::Deserialize;
use spotter_models::preprocess::{CLIP_MEAN, CLIP_STD};

use super::{
    Activation, Heads,
    source::{OPEN_CLIP_CONFIG, Source},
    tensors::{self, Tensors},
};
use crate::{
    base::read_json,
    error::{Error, Result},
};

/// `open_clip_config.json`.
#[derive(Deserialize)]
struct Settings {
    model_cfg: Model,
    #[serde(default)]
    preprocess_cfg: Preprocessing,
}

#[derive(Deserialize)]
struct Model {
    /// Without it OpenCLIP computes the exact GELU.
    quick_gelu: Option<bool>,
    #[serde(default)]
    vision_cfg: Vision,
    #[serde(default)]
    text_cfg: Text,
}

#[derive(Default, Deserialize)]
struct Vision {
    head_width: Option<usize>,
    width: Option<usize>,
    /// A picture tower of the library timm.
    timm_model_name: Option<String>,
}

#[derive(Default, Deserialize)]
struct Text {
    heads: Option<usize>,
    /// A text tower of the library transformers.
    hf_model_name: Option<String>,
}

#[derive(Default, Deserialize)]
struct Preprocessing {
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
}

pub(super) fn read(source: &Source, activation: Option<Activation>) -> Result<(Tensors, Heads)> {
    let file = source.files().first().map(|file| file.display().to_string()).unwrap_or_default();
    let heads = match (source.beside(OPEN_CLIP_CONFIG), activation) {
        (Some(path), _) => {
            let what = path.display().to_string();
            check(&what, &read_json(&path)?, activation)?
        }
        (None, Some(_)) => Heads::default(),
        // Whatever has other names gets the better message.
        (None, None) => {
            tensors::refuse_others(file.as_ref(), &tensors::read(source.files())?)?;
            let reason = format!(
                "nothing says its activation: there is no {OPEN_CLIP_CONFIG} beside it; where you \
                 know it is QuickGELU, as in OpenAI's models, give --activation quick-gelu"
            );
            return Err(Error::invalid(file, reason));
        }
    };
    Ok((tensors::read(source.files())?, heads))
}

pub(super) const NOT_GELU: &str = "its activation is GELU; the towers compute QuickGELU, with which this model \
                        would be another; choose one trained with QuickGELU (named -quickgelu)";

fn check(what: &str, settings: &Settings, activation: Option<Activation>) -> Result<Heads> {
    let model = &settings.model_cfg;
    let refuse = |reason: &str| Err(Error::invalid(what, reason));
    for (tower, name) in [
        ("picture tower", &model.vision_cfg.timm_model_name),
        ("text tower", &model.text_cfg.hf_model_name),
    ] {
        if let Some(name) = name {
            return refuse(&format!("the {tower} is {name}, which is not CLIP's own"));
        }
    }
    match (model.quick_gelu, activation) {
        (Some(true), _) | (None, Some(Activation::QuickGelu)) => {}
        (Some(false), Some(Activation::QuickGelu)) => {
            return refuse("says quick_gelu: false, and --activation quick-gelu says the opposite");
        }
        _ => return refuse(NOT_GELU),
    }
    let Preprocessing { mean, std } = settings.preprocess_cfg;
    for (name, is, wanted) in [("mean", mean, CLIP_MEAN), ("std", std, CLIP_STD)] {
        let differs = |(is, wanted): (&f32, &f32)| (is - wanted).abs() > 1e-3;
        if let Some(is) = is.filter(|is| is.iter().zip(&wanted).any(differs)) {
            return refuse(&format!(
                "preprocess_cfg.{name} is {is:?}; crops get CLIP's {wanted:?}"
            ));
        }
    }
    let Vision { head_width, width, .. } = model.vision_cfg;
    let vision = head_width.zip(width).map(|(head, width)| width / head.max(1));
    Ok(Heads { vision, text: model.text_cfg.heads })
}
