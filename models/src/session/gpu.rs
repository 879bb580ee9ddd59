//! What a session on an NVIDIA GPU is told, and which GPU that is.

use std::path::{Path, PathBuf};

use ort::ep::{self, ExecutionProviderDispatch, cuda::ConvAlgorithmSearch};

use super::{Provider, SessionOptions};
use crate::{Error, Result, assets, digest::Digest};

/// Where the driver says which GPUs there are, a folder each.
const DRIVER: &str = "/proc/driver/nvidia/gpus";
/// Where a board such as a Jetson says what it is.
const BOARD: &str = "/proc/device-tree/model";

/// The name of the GPU that sessions run on, the first: as the driver tells it, else that of the
/// board. `None` where neither does.
pub fn gpu_name() -> Option<String> {
    driver_name(Path::new(DRIVER)).or_else(|| {
        let board = std::fs::read_to_string(BOARD).ok()?;
        let board = board.trim_end_matches('\0').trim();
        (!board.is_empty()).then(|| board.to_owned())
    })
}

/// The model of the first GPU below a folder of the driver.
fn driver_name(folder: &Path) -> Option<String> {
    let mut gpus: Vec<PathBuf> =
        std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    gpus.sort();
    let text = std::fs::read_to_string(gpus.first()?.join("information")).ok()?;
    let model = text.lines().find_map(|line| line.strip_prefix("Model:"))?.trim();
    (!model.is_empty()).then(|| model.to_owned())
}

/// The provider's settings for a model of these bytes.
///
/// # Errors
/// [`Error::Io`] where the folder of TensorRT's engines cannot be made, [`Error::Unavailable`] where
/// there is no place for it.
pub(super) fn provider(
    model: &[u8],
    options: &SessionOptions,
) -> Result<ExecutionProviderDispatch> {
    if options.provider == Provider::TensorRt {
        return tensorrt(model, options);
    }
    // Convolutions are 1 % of the work, so the search for the best of them is a short one. f32 stays
    // f32: whoever wants speed takes f16, which is checked against the bundle's probe.
    let cuda = ep::CUDA::default()
        .with_device_id(0)
        .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic)
        .with_tf32(false)
        .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
        .with_cuda_graph(options.replays());
    Ok(cuda.build().error_on_failure())
}

/// TensorRT builds an engine from a model, which takes minutes: it is kept, with the times of the
/// kernels that were tried, for the same model, library and GPU.
fn tensorrt(model: &[u8], options: &SessionOptions) -> Result<ExecutionProviderDispatch> {
    let cache = assets::cache_dir().ok_or_else(|| Error::Unavailable {
        what: "the folder of TensorRT's engines".into(),
        reason: "set HOME or XDG_CACHE_HOME to a folder that can be written".into(),
    })?;
    let folder = cache.join("tensorrt").join(engine_key(model, ort::info(), gpu_name().as_deref()));
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    let place = folder.display().to_string();
    let tensorrt = ep::TensorRT::default()
        .with_device_id(0)
        .with_fp16(options.half)
        .with_engine_cache(true)
        .with_engine_cache_path(&place)
        .with_timing_cache(true)
        .with_timing_cache_path(&place)
        .with_cuda_graph(options.replays());
    Ok(tensorrt.build().error_on_failure())
}

/// The folder's name for the engines of a model: another one where the model, the library or the GPU
/// is another, since an engine fits no other.
fn engine_key(model: &[u8], library: &str, gpu: Option<&str>) -> String {
    let parts = format!("{}\n{library}\n{}", Digest::of(model), gpu.unwrap_or_default());
    Digest::of(parts.as_bytes()).to_string().chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_gpu_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(driver_name(folder.path()), None);
        assert_eq!(driver_name(&folder.path().join("none")), None);
        for (bus, model) in [("0000:0b:00.0", "NVIDIA B"), ("0000:01:00.0", "NVIDIA A")] {
            let gpu = folder.path().join(bus);
            std::fs::create_dir(&gpu).unwrap();
            let text = format!("Model: \t\t {model}\nIRQ:   \t\t 5\n");
            std::fs::write(gpu.join("information"), text).unwrap();
        }
        assert_eq!(driver_name(folder.path()).as_deref(), Some("NVIDIA A"));
    }

    #[test]
    fn an_engine_is_for_one_model_one_library_and_one_gpu() {
        let key = engine_key(b"model", "1.32", Some("A"));
        assert_eq!(key, engine_key(b"model", "1.32", Some("A")));
        assert_eq!(key.len(), 16);
        for other in [
            engine_key(b"other", "1.32", Some("A")),
            engine_key(b"model", "1.31", Some("A")),
            engine_key(b"model", "1.32", Some("B")),
            engine_key(b"model", "1.32", None),
        ] {
            assert_ne!(other, key);
        }
    }
}
