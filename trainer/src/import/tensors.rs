//! Tensors as files have them, in 32 bits; and how to tell what is no CLIP by their names.

use std::{collections::BTreeMap, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use spotter_models::towers::Tensor;
use tch::{Device, Kind};

use crate::{
    bounded,
    error::{Error, Result},
};

/// By name.
pub(super) type Tensors = BTreeMap<String, Tensor>;

/// Tables of numbers from 0 on that some files carry and nobody needs.
const COUNTERS: &str = "position_ids";

/// Reads safetensors files.
pub(super) fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Tensors> {
    let mut tensors = Tensors::new();
    for path in paths {
        let path = path.as_ref();
        let corrupt = |reason: String| spotter_models::Error::corrupt(path, reason);
        let bytes = bounded::weights(path)?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| {
            corrupt(format!("no complete safetensors file: {error}; download it again"))
        })?;
        for (name, view) in file.iter().filter(|(name, _)| !name.ends_with(COUNTERS)) {
            let Some(kind) = float(view.dtype()) else {
                let reason = format!("tensor {name} is of type {}, no floats", view.dtype());
                return Err(corrupt(reason).into());
            };
            if tensors.insert(name.to_owned(), from_view(&view, kind)?).is_some() {
                return Err(corrupt(format!("tensor {name} is in two files")).into());
            }
        }
    }
    Ok(tensors)
}

fn float(kind: Dtype) -> Option<Kind> {
    match kind {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F64 => Some(Kind::Double),
        _ => None,
    }
}

fn from_view(view: &TensorView<'_>, kind: Kind) -> Result<Tensor> {
    let shape: Vec<i64> = view.shape().iter().map(|side| *side as i64).collect();
    from_torch(&tch::Tensor::f_from_data_size(view.data(), &shape, kind)?)
}

/// A tensor of libtorch in 32 bits.
pub(super) fn from_torch(tensor: &tch::Tensor) -> Result<Tensor> {
    let shape: Vec<usize> =
        tensor.size().iter().map(|side| usize::try_from(*side).unwrap_or(0)).collect();
    let mut values = vec![0f32; tensor.numel()];
    let count = values.len();
    let plain = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
    plain.f_contiguous()?.f_copy_data(&mut values, count)?;
    Ok(Tensor::new(shape, values)?)
}

/// Swaps rows and columns.
pub(super) fn transposed(name: &str, tensor: &Tensor) -> Result<Tensor> {
    let [rows, columns] = *tensor.shape() else {
        let reason = format!("{:?} is no matrix", tensor.shape());
        return Err(spotter_models::Error::mismatch(name, reason).into());
    };
    let values = tensor.values();
    let turned = (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c]));
    Ok(Tensor::new([columns, rows], turned.collect())?)
}

/// Puts tensors of equal width below each other.
pub(super) fn stacked(name: &str, parts: &[Tensor]) -> Result<Tensor> {
    let mut shape = parts.first().map(|part| part.shape().to_vec()).unwrap_or_default();
    if shape.is_empty() || parts.iter().any(|part| part.shape() != shape) {
        let shapes: Vec<_> = parts.iter().map(Tensor::shape).collect();
        let reason = format!("the parts {shapes:?} are not of one shape");
        return Err(spotter_models::Error::mismatch(name, reason).into());
    }
    shape[0] *= parts.len();
    let values = parts.iter().flat_map(|part| part.values().iter().copied());
    Ok(Tensor::new(shape, values.collect())?)
}

/// Names that only other architectures have, under OpenAI's or OpenCLIP's names, and what they are.
const OTHERS: [(&str, &str); 8] = [
    ("visual.layer1.", "a CLIP with a ResNet for pictures"),
    ("visual.attnpool.", "a CLIP with a ResNet for pictures"),
    ("visual.trunk.", "a model whose picture tower is of timm (a ConvNeXt or SigLIP, say)"),
    ("visual.attn_pool.", "a CoCa, or a CLIP with attention pooling"),
    ("text_decoder.", "a CoCa"),
    ("text.transformer.", "a CLIP with a text tower of its own"),
    ("text.", "a CLIP with a text tower of its own"),
    ("module.", "a checkpoint of a training program"),
];

/// Refuses what is known not to be a CLIP with two transformers.
pub(super) fn refuse_others(path: &Path, tensors: &Tensors) -> Result<()> {
    let refuse = |found: String| {
        let reason = format!(
            "{found}; what can be imported are CLIPs with a vision transformer and CLIP's own text \
             transformer"
        );
        Err(Error::invalid(path.display().to_string(), reason))
    };
    for (prefix, what) in OTHERS {
        if let Some(name) = tensors.keys().find(|name| name.starts_with(prefix)) {
            return refuse(format!("is {what}: it has {name}"));
        }
    }
    if !tensors.keys().any(|name| name.starts_with("visual.")) {
        let example = tensors.keys().next().map_or("nothing", String::as_str);
        return refuse(format!("has no picture tower (no visual.*); it has {example}"));
    }
    if !tensors.contains_key("token_embedding.weight") {
        return refuse("has no text tower (no token_embedding.weight)".into());
    }
    if !tensors.contains_key("visual.class_embedding") {
        return refuse("has no class token (no visual.class_embedding)".into());
    }
    Ok(())
}
