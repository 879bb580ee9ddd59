//! A model's shapes, read from its tensors.

use spotter_models::towers::{Config, Coupling, PromptPlace, positions::Grid};

use super::{Heads, tensors::Tensors};
use crate::error::{Error, Result};

/// The vision tower's position table.
pub(super) const POSITIONS: &str = "visual.positional_embedding";

/// What each attention head is wide in every published CLIP.
const HEAD: usize = 64;

/// Height and width of the square pictures that the tensors are for, in pixels; `None` where they are for none.
pub(super) fn side(tensors: &Tensors) -> Option<usize> {
    let first = |name: &str, side: usize| tensors.get(name)?.shape().get(side).copied();
    let grid = Grid::square_of(first(POSITIONS, 0)?)?;
    grid.rows.checked_mul(first("visual.conv1.weight", 2)?)
}

/// The configuration under which the tensors were trained, with a square picture.
pub(super) fn config(tensors: &Tensors, heads: Heads) -> Result<Config> {
    let [vision_width, _, patch, _] = shape::<4>(tensors, "visual.conv1.weight")?;
    let [positions, _] = shape::<2>(tensors, POSITIONS)?;
    let [vocab, text_width] = shape::<2>(tensors, "token_embedding.weight")?;
    let [context, _] = shape::<2>(tensors, "positional_embedding")?;
    let [_, embed] = shape::<2>(tensors, "text_projection")?;
    let Some(grid) = Grid::square_of(positions) else {
        let reason = format!("{positions} rows are no class token and a square grid of patches");
        return Err(Error::invalid(POSITIONS, reason));
    };
    let config = Config {
        vision_width,
        vision_layers: layers(tensors, "visual.transformer.resblocks."),
        vision_heads: head_count("vision", vision_width, heads.vision)?,
        patch,
        height: grid.rows.saturating_mul(patch),
        width: grid.columns.saturating_mul(patch),
        text_width,
        text_layers: layers(tensors, "transformer.resblocks."),
        text_heads: head_count("text", text_width, heads.text)?,
        vocab,
        context,
        embed,
        prompts: 0,
        vision_bottleneck: 0,
        text_bottleneck: 0,
        vision_scale: 0.0,
        text_scale: 0.0,
        token_ids: None,
        coupling: Coupling::Both,
        prompt_place: PromptPlace::Inserted,
        prompt_depth: None,
        stem: vec![],
    };
    config.validate()?;
    Ok(config)
}

fn shape<const N: usize>(tensors: &Tensors, name: &str) -> Result<[usize; N]> {
    let Some(tensor) = tensors.get(name) else {
        return Err(Error::invalid(
            name,
            "this tensor is missing; it is no CLIP, or not all of one",
        ));
    };
    tensor.shape().try_into().map_err(|_| {
        let reason = format!("the shape {:?} has not {N} sizes", tensor.shape());
        Error::invalid(name, reason)
    })
}

/// Blocks from the first on, by their names.
pub(super) fn layers(tensors: &Tensors, prefix: &str) -> usize {
    let number = |name: &String| -> Option<usize> {
        name.strip_prefix(prefix)?.split('.').next()?.parse().ok()
    };
    // One too many than there are tensors is a missing tensor, which the check names.
    let most = tensors.keys().filter_map(number).max().map_or(0, |last| last.saturating_add(1));
    most.min(tensors.len())
}

fn head_count(tower: &str, width: usize, known: Option<usize>) -> Result<usize> {
    match known {
        Some(heads) => Ok(heads),
        None if width >= HEAD && width.is_multiple_of(HEAD) => Ok(width / HEAD),
        None => {
            let reason = format!(
                "a width of {width} is no multiple of {HEAD}, and no file says the number of \
                 attention heads; give --{tower}-heads"
            );
            Err(Error::invalid(format!("{tower} tower"), reason))
        }
    }
}
