//! Hugging Face's names and configuration (`cskt.md` 4) as OpenAI's.

use std::collections::BTreeMap;

use serde::Deserialize;
use spotter_models::towers::Tensor;

use super::{
    Heads, shapes,
    source::{HF_CONFIG, Source},
    tensors::{self, Tensors, stacked, transposed},
};
use crate::{
    base::read_json,
    error::{Error, Result},
};

/// What `config.json` says; later versions leave out what is the default of their library.
#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    model_type: Option<String>,
    projection_dim: Option<usize>,
    text_config: Option<Tower>,
    vision_config: Option<Tower>,
}

/// A tower's settings: some that its tensors do not tell, and some that they must agree with.
#[derive(Default, Deserialize)]
struct Tower {
    hidden_act: Option<String>,
    layer_norm_eps: Option<f64>,
    num_attention_heads: Option<usize>,
    num_hidden_layers: Option<usize>,
    hidden_size: Option<usize>,
    image_size: Option<usize>,
    patch_size: Option<usize>,
}

/// What the towers add to the variance.
const NORM_EPSILON: f64 = 1e-5;

pub(super) fn read(source: &Source) -> Result<(Tensors, Heads)> {
    let Some(path) = source.beside(HF_CONFIG) else {
        let file = source.files().first().map(|file| file.display().to_string());
        let reason = format!("there is no {HF_CONFIG} beside it, which says what the model is");
        return Err(Error::invalid(file.unwrap_or_default(), reason));
    };
    let settings: Settings = read_json(&path)?;
    let refuse = |reason: String| Error::invalid(path.display().to_string(), reason);
    let model = settings.model_type.as_deref().unwrap_or("not stated");
    if model != "clip" {
        let reason = format!("the model_type is {model}; only clip, with both towers, is imported");
        return Err(refuse(reason));
    }
    let (vision, text) =
        (settings.vision_config.unwrap_or_default(), settings.text_config.unwrap_or_default());
    for (name, tower) in [("vision_config", &vision), ("text_config", &text)] {
        // quick_gelu is the default of transformers' CLIP.
        if let Some(activation) = tower.hidden_act.as_deref().filter(|a| *a != "quick_gelu") {
            let reason = format!(
                "{name}.hidden_act is {activation}; the towers compute quick_gelu, with which this \
                 model would be another"
            );
            return Err(refuse(reason));
        }
        if let Some(epsilon) =
            tower.layer_norm_eps.filter(|e| (e / NORM_EPSILON - 1.0).abs() > 1e-3)
        {
            let reason =
                format!("{name}.layer_norm_eps is {epsilon}; the towers add {NORM_EPSILON}");
            return Err(refuse(reason));
        }
    }
    let heads = Heads { vision: vision.num_attention_heads, text: text.num_attention_heads };
    let tensors = renamed(tensors::read(source.files())?)?;
    compare(&tensors, &vision, &text, settings.projection_dim).map_err(refuse)?;
    Ok((tensors, heads))
}

/// Compares what the configuration says, where it does, with the tensors: blocks that are missing at
/// the end of a tower leave a smaller model that looks complete.
fn compare(
    tensors: &Tensors,
    vision: &Tower,
    text: &Tower,
    embed: Option<usize>,
) -> std::result::Result<(), String> {
    let size = |name: &str, side: usize| tensors.get(name)?.shape().get(side).copied();
    let layers = |prefix| Some(shapes::layers(tensors, prefix));
    let (pictures, words) = ("visual.transformer.resblocks.", "transformer.resblocks.");
    let pairs = [
        ("vision_config.num_hidden_layers", vision.num_hidden_layers, layers(pictures)),
        ("text_config.num_hidden_layers", text.num_hidden_layers, layers(words)),
        ("vision_config.hidden_size", vision.hidden_size, size("visual.conv1.weight", 0)),
        ("text_config.hidden_size", text.hidden_size, size("token_embedding.weight", 1)),
        ("vision_config.patch_size", vision.patch_size, size("visual.conv1.weight", 2)),
        ("vision_config.image_size", vision.image_size, shapes::side(tensors)),
        ("projection_dim", embed, size("text_projection", 1)),
    ];
    for (name, said, found) in pairs {
        if let (Some(said), Some(found)) = (said, found)
            && said != found
        {
            return Err(format!(
                "{name} is {said}, but the tensors have {found}; weights are missing, or of another \
                 model: download both again"
            ));
        }
    }
    Ok(())
}

/// Names outside the blocks.
const NAMES: [(&str, &str); 14] = [
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    // Misspelt in the original.
    ("vision_model.pre_layrnorm.weight", "visual.ln_pre.weight"),
    ("vision_model.pre_layrnorm.bias", "visual.ln_pre.bias"),
    ("vision_model.post_layernorm.weight", "visual.ln_post.weight"),
    ("vision_model.post_layernorm.bias", "visual.ln_post.bias"),
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.final_layer_norm.weight", "ln_final.weight"),
    ("text_model.final_layer_norm.bias", "ln_final.bias"),
    ("logit_scale", "logit_scale"),
    ("visual_projection.weight", "visual.proj"),
    ("text_projection.weight", "text_projection"),
];

/// Blocks of the towers.
const BLOCKS: [(&str, &str); 2] = [
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("text_model.encoder.layers.", "transformer.resblocks."),
];

/// Parts of a block.
const PARTS: [(&str, &str); 5] = [
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
    ("self_attn.out_proj.", "attn.out_proj."),
];

/// The rows of OpenAI's `in_proj`, in their order.
const PROJECTIONS: [&str; 3] = ["q_proj", "k_proj", "v_proj"];

fn renamed(tensors: Tensors) -> Result<Tensors> {
    let mut out = Tensors::new();
    let mut projections: BTreeMap<String, BTreeMap<usize, Tensor>> = BTreeMap::new();
    for (name, tensor) in tensors {
        if let Some((_, new)) = NAMES.iter().find(|(old, _)| *old == name) {
            let is_turned = matches!(*new, "visual.proj" | "text_projection");
            let tensor = if is_turned { transposed(&name, &tensor)? } else { tensor };
            out.insert((*new).into(), tensor);
        } else if let Some((merged, row)) = projection(&name) {
            projections.entry(merged).or_default().insert(row, tensor);
        } else {
            // What has no name in a CLIP keeps its own, by which it is refused.
            let new = in_block(&name).unwrap_or(name);
            out.insert(new, tensor);
        }
    }
    for (name, parts) in projections {
        let parts: Vec<Tensor> = parts.into_values().collect();
        if parts.len() != PROJECTIONS.len() {
            let reason = format!("{} of {} parts are there", parts.len(), PROJECTIONS.join(", "));
            return Err(spotter_models::Error::mismatch(name, reason).into());
        }
        let merged = stacked(&name, &parts)?;
        out.insert(name, merged);
    }
    Ok(out)
}

/// The new beginning of a block's name and what follows it: block number and the rest.
fn split(name: &str) -> Option<(&'static str, &str, &str)> {
    let (rest, new) = BLOCKS.iter().find_map(|(old, new)| Some((name.strip_prefix(old)?, *new)))?;
    let (block, part) = rest.split_once('.')?;
    Some((new, block, part))
}

fn in_block(name: &str) -> Option<String> {
    let (prefix, block, part) = split(name)?;
    let (old, new) = PARTS.iter().find(|(old, _)| part.starts_with(old))?;
    Some(format!("{prefix}{block}.{new}{}", part.strip_prefix(old)?))
}

/// The merged tensor's name, and which third of its rows this is.
fn projection(name: &str) -> Option<(String, usize)> {
    let (prefix, block, part) = split(name)?;
    let (projection, kind) = part.strip_prefix("self_attn.")?.split_once('.')?;
    let row = PROJECTIONS.iter().position(|name| *name == projection)?;
    Some((format!("{prefix}{block}.attn.in_proj_{kind}"), row))
}
