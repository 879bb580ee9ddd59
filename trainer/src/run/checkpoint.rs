//! Everything a run needs to go on, in one file that is whole or not there.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    path::Path,
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use spotter_models::Digest;
use tch::{Device, Kind, Tensor};

use crate::{
    adam::Adam,
    bounded,
    error::{Error, Result},
    net::{Parameters, is_measured},
};

/// Name of the file in a run's folder.
pub const FILE: &str = "checkpoint.safetensors";

/// Largest one that is read, in bytes: the trained numbers and two of the optimiser for each.
const MAX_BYTES: u64 = 3 * bounded::WEIGHTS;

/// Where a run stands. Order, augmentation and drawn captions follow from the recipe's seed and these
/// numbers: there is no other random state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Steps that were made.
    pub step: u64,
    /// Steps of the optimiser, the same unless a step was left out.
    pub optimiser_steps: i32,
    /// Seconds of work so far, over all sittings.
    pub seconds: f64,
    /// Best R@1 on validation persons, in percent, and after which step.
    pub best: Option<(u64, f64)>,
    /// Hash of the file with the best state. Absent in checkpoints of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_sha256: Option<Digest>,
    /// Losses since the last judgement: the bits of their sum, which JSON's numbers may round, and how
    /// many there are. Absent in checkpoints of earlier versions.
    #[serde(default)]
    pub losses: (u64, u32),
    /// Most memory that a sitting held, in MiB; 0: not known, as in checkpoints of earlier versions.
    #[serde(default)]
    pub peak_memory_mib: f64,
    /// Batches that were left out because they held a single pair.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub single: u64,
    /// Hash of the recipe, base and data, so that nothing else goes on from here.
    pub job: String,
}

pub(super) fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Keys of the file's metadata: a [`Position`] as JSON, and the hash of it and all tensors.
const POSITION: &str = "position";
const SHA256: &str = "sha256";

/// A checkpoint that was read.
pub struct Restored {
    /// Where the run stands.
    pub position: Position,
    /// Whether it has a hash, by which it was found to be undamaged; earlier versions wrote none.
    pub is_checked: bool,
}

/// Writes a checkpoint beside the old one, makes sure that it is on disk, and takes the old one's place.
/// Its hash lies within it, so that no kill can part the two. Hashing takes about half a second for 600
/// MB, a small part of what writing them to disk takes.
///
/// # Errors
/// Where the folder cannot be written, and [`Error::Diverged`] where a number is none; the old checkpoint
/// is then still there.
pub fn write(
    folder: &Path,
    position: &Position,
    parameters: &Parameters,
    adam: &Adam,
) -> Result<()> {
    let mut tensors: BTreeMap<String, &Tensor> = BTreeMap::new();
    let changing = parameters.iter().filter(|(name, t)| t.requires_grad() || is_measured(name));
    tensors.extend(changing.map(|(name, tensor)| (format!("parameter.{name}"), tensor)));
    tensors.extend(adam.state());
    let bytes = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.clone(), shape(tensor), bytes(name, tensor)?)))
        .collect::<Result<Vec<_>>>()?;
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes)
                .map_err(|error| spotter_models::Error::internal("checkpoint", error))?;
            Ok((name.as_str(), view))
        })
        .collect::<Result<Vec<_>>>()?;
    let state = serde_json::to_string(position)
        .map_err(|error| spotter_models::Error::internal("checkpoint", error))?;
    let parts = bytes.iter().map(|(name, shape, bytes)| (name.as_str(), &shape[..], &bytes[..]));
    let sha256 = hash(&state, parts);
    let metadata = HashMap::from([(POSITION.to_owned(), state), (SHA256.to_owned(), sha256)]);
    let part = folder.join(format!("{FILE}.part"));
    let io = |error| Error::from(spotter_models::Error::io(&part)(error));
    spotter_models::towers::save(views, Some(metadata), &part)?;
    File::open(&part).and_then(|file| file.sync_all()).map_err(io)?;
    std::fs::rename(&part, folder.join(FILE)).map_err(io)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

/// Goes on from a folder's checkpoint; `None` where there is none.
///
/// # Errors
/// Where the file is damaged, or belongs to another job than `job`.
pub fn restore(
    folder: &Path,
    job: &str,
    parameters: &Parameters,
    adam: &mut Adam,
) -> Result<Option<Restored>> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = bounded::read(&path, MAX_BYTES)?;
    let corrupt = |reason: String| {
        let reason = format!(
            "is no complete checkpoint: {reason}; get it back from a copy, or remove it to begin again"
        );
        Error::from(spotter_models::Error::corrupt(&path, reason))
    };
    let (_, metadata) =
        SafeTensors::read_metadata(&bytes).map_err(|error| corrupt(error.to_string()))?;
    let said = metadata.metadata().as_ref().ok_or_else(|| corrupt("no metadata".into()))?;
    let state = said.get(POSITION).ok_or_else(|| corrupt("no position".into()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| corrupt(error.to_string()))?;
    let is_checked = match said.get(SHA256) {
        Some(stated) if *stated == hash_of(state, &file) => true,
        // Earlier versions said nothing else; a damaged name of the hash is something else.
        None if said.len() == 1 => false,
        _ => return Err(corrupt("its content is not what its SHA-256 says".into())),
    };
    let position: Position =
        serde_json::from_str(state).map_err(|error| corrupt(error.to_string()))?;
    if position.job != job {
        return Err(Error::invalid(
            folder.display().to_string(),
            "holds a run of another recipe, base model or data; choose a new folder, or give what the \
             run was begun with",
        ));
    }
    let device = parameters.device();
    let find = |name: &str| -> Option<Tensor> {
        let view = file.tensor(name).ok().filter(|view| view.dtype() == Dtype::F32)?;
        let shape: Vec<i64> = view.shape().iter().map(|side| *side as i64).collect();
        Some(Tensor::from_data_size(view.data(), &shape, Kind::Float).to_device(device))
    };
    for (name, tensor) in parameters.iter() {
        if tensor.requires_grad() || is_measured(name) {
            let saved = find(&format!("parameter.{name}"));
            parameters.set(name, &saved.ok_or_else(|| corrupt(format!("no {name}")))?)?;
        }
    }
    adam.restore(parameters, position.optimiser_steps, find)?;
    Ok(Some(Restored { position, is_checked }))
}

/// A hash of the position and of the tensors' names, shapes and bytes in the order of their names.
fn hash<'a>(
    state: &str,
    tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>,
) -> String {
    let mut all = sha2::Sha256::new();
    let mut part = |bytes: &[u8]| {
        all.update((bytes.len() as u64).to_le_bytes());
        all.update(bytes);
    };
    part(state.as_bytes());
    for (name, shape, bytes) in tensors {
        part(name.as_bytes());
        part(format!("{shape:?}").as_bytes());
        part(bytes);
    }
    format!("{:x}", all.finalize())
}

/// The same of a file.
fn hash_of(state: &str, file: &SafeTensors<'_>) -> String {
    let mut tensors: Vec<_> = file.iter().collect();
    tensors.sort_by_key(|(name, _)| *name);
    hash(state, tensors.iter().map(|(name, view)| (*name, view.shape(), view.data())))
}

fn shape(tensor: &Tensor) -> Vec<usize> {
    tensor.size().iter().map(|side| usize::try_from(*side).unwrap_or(0)).collect()
}

fn bytes(name: &str, tensor: &Tensor) -> Result<Vec<u8>> {
    let mut values = vec![0f32; tensor.numel()];
    let count = values.len();
    let plain = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
    plain.f_contiguous()?.f_copy_data(&mut values, count)?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Error::Diverged { found: format!("{name} holds what is no number") });
    }
    Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect())
}
