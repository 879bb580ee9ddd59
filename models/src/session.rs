//! ONNX Runtime: the library, a session, and the two towers of a bundle.
//!
//! The library is opened at run time, so one binary runs with the library of a Jetson image and with
//! a current one. A provider that was asked for and cannot run is an error, never a silent fall-back
//! to the CPU.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ort::{
    environment::Environment,
    ep::{self, ExecutionProvider as _},
    session::{
        Session,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
};
use serde::{Deserialize, Serialize};

use crate::{Error, Generation, Result, preprocess::Preprocess, towers::Config};

mod bound;
mod gpu;
mod tower;

pub use crate::manifest::Precision;
pub use gpu::gpu_name;
pub use tower::{TextTower, VisionTower};

/// File name of the library that `make setup` installs.
pub const LIBRARY: &str = "libonnxruntime.so.1.32.0";

/// What runs a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The processor: runs everywhere.
    #[default]
    Cpu,
    /// An NVIDIA GPU through CUDA.
    Cuda,
    /// An NVIDIA GPU through TensorRT, which builds an engine first.
    TensorRt,
}

impl std::fmt::Display for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Provider::Cpu => "cpu",
            Provider::Cuda => "cuda",
            Provider::TensorRt => "tensorrt",
        })
    }
}

/// Name of every tower's output.
const OUTPUT: &str = "embedding";

/// Batch sizes of a tower on a GPU where none are named: one for whoever waits for a single person,
/// one for many.
const GPU_BATCHES: [usize; 2] = [1, 16];

/// How a session is opened.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// What runs it.
    pub provider: Provider,
    /// Threads inside one operator, at least 1.
    pub threads: usize,
    /// Whether the graph is optimised as far as the library can. Only a benchmark's peer says no.
    pub optimise: bool,
    /// Batch sizes of a tower; each gets a session of that shape, with memory of its own, and other
    /// numbers of inputs are cut and padded to them. Empty: on the processor one session that takes any
    /// number, on a GPU 1 and 16.
    pub batches: Vec<usize>,
    /// Whether the kernels of a tower are recorded once and replayed together (a CUDA graph), which
    /// spares the time of their launches. Only where its batch sizes are fixed.
    pub replay: bool,
    /// Whether a tower computes in half precision; opening it from a bundle sets this. TensorRT asks for it,
    /// and on CUDA attention is then one operator.
    pub half: bool,
    /// Where ONNX Runtime writes which node ran where, and for how long: the file's name begins so.
    /// Then nodes that a GPU cannot run are left to the processor, where they are refused otherwise, and
    /// nothing is replayed.
    pub profile: Option<PathBuf>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            provider: Provider::Cpu,
            threads: 1,
            optimise: true,
            batches: Vec::new(),
            replay: true,
            half: false,
            profile: None,
        }
    }
}

impl SessionOptions {
    /// Whether sessions of fixed shape keep their memory at addresses that stay.
    fn replays(&self) -> bool {
        self.replay && self.profile.is_none()
    }

    /// The batch sizes of a tower, ascending; none where a session takes any.
    fn sizes(&self) -> Vec<usize> {
        let mut sizes = match (&self.batches[..], self.provider) {
            ([], Provider::Cpu) => Vec::new(),
            ([], _) => GPU_BATCHES.to_vec(),
            (named, _) => named.to_vec(),
        };
        sizes.retain(|size| *size > 0);
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }
}

/// The loaded library. Cheap to clone; the library stays for the life of the process.
#[derive(Clone)]
pub struct Runtime {
    environment: Environment,
    library: PathBuf,
}

impl Runtime {
    /// Loads the library: the one named, else `ORT_DYLIB_PATH`, else where packages and `make setup`
    /// put it. Later calls give the one that is loaded.
    ///
    /// # Errors
    /// [`Error::Unavailable`] that says where it looked, or what the library lacks;
    /// [`Error::Invalid`] where another library is named than the one that is loaded.
    pub fn load(library: Option<&Path>) -> Result<Self> {
        // ONNX Runtime allows one environment in a process, and it stays until the end.
        static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);
        // Nothing panics while it is held; a poisoned lock would still hold a whole value.
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            return match library {
                Some(named) if named != runtime.library => Err(Error::invalid(
                    format!("ONNX Runtime library {}", named.display()),
                    format!(
                        "{} is loaded already, and a process can hold only one",
                        runtime.library.display()
                    ),
                )),
                _ => Ok(runtime.clone()),
            };
        }
        let library = match library {
            Some(path) => path.to_path_buf(),
            None => find_library()?,
        };
        let environment = ort::environment::init_from(&library)
            .map_err(|error| unavailable(&library, error))?
            .with_telemetry(false)
            .build()
            .map_err(|error| unavailable(&library, error))?;
        Ok(loaded.insert(Self { environment, library }).clone())
    }

    /// The library's path.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Whether the library holds this provider; says nothing of the hardware.
    pub fn offers(&self, provider: Provider) -> bool {
        match provider {
            Provider::Cpu => true,
            Provider::Cuda => ep::CUDA::is_available().unwrap_or(false),
            Provider::TensorRt => ep::TensorRT::is_available().unwrap_or(false),
        }
    }

    /// Opens a model from the bytes of its file; `name` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the bytes are no model this library can run,
    /// [`Error::Unavailable`] where the provider cannot run here.
    pub fn open(&self, name: &Path, bytes: &[u8], options: &SessionOptions) -> Result<Session> {
        // Launches can be replayed only where nothing about the shapes is open.
        self.open_sized(name, bytes, &SessionOptions { replay: false, ..options.clone() }, &[])
    }

    /// Opens a model whose open sizes, by their names in it, have these values.
    ///
    /// # Errors
    /// As [`Runtime::open`].
    fn open_sized(
        &self,
        name: &Path,
        bytes: &[u8],
        options: &SessionOptions,
        sizes: &[(&str, usize)],
    ) -> Result<Session> {
        let mut builder = self.builder(bytes, options)?;
        for (size, value) in sizes {
            let value = i64::try_from(*value).unwrap_or(i64::MAX);
            builder = builder.with_dimension_override(size, value).map_err(setup)?;
        }
        builder.commit_from_memory(bytes).map_err(|error| {
            Error::corrupt(name, format!("ONNX Runtime cannot open this model: {error}"))
        })
    }

    /// Everything of a session but its model and its sizes.
    fn builder(&self, model: &[u8], options: &SessionOptions) -> Result<SessionBuilder> {
        let mut builder = Session::builder(&self.environment)
            .map_err(setup)?
            .with_intra_threads(options.threads.max(1))
            .map_err(setup)?
            // A waiting thread that spins takes the core that another camera needs: with a second
            // busy core it doubled the latency.
            .with_intra_op_spinning(false)
            .map_err(setup)?
            .with_inter_threads(1)
            .map_err(setup)?
            .with_optimization_level(if options.optimise {
                GraphOptimizationLevel::All
            } else {
                GraphOptimizationLevel::Level1
            })
            .map_err(setup)?;
        if !has_whole_products() {
            builder = builder.with_precise_qmm().map_err(setup)?;
        }
        if let Some(profile) = &options.profile {
            builder = builder.with_profiling(profile).map_err(setup)?;
        }
        if options.provider == Provider::Cpu {
            return Ok(builder);
        }
        let builder = builder
            .with_execution_providers([gpu::provider(model, options)?])
            .map_err(|error| Error::Unavailable {
                what: format!("execution provider {}", options.provider),
                reason: format!(
                    "{error}; choose `provider = \"cpu\"` or install a library that has it"
                ),
            })?
            // Weights stay as long as the session: in an arena they would only make holes.
            .with_device_allocated_initializers()
            .map_err(setup)?;
        match options.profile {
            Some(_) => Ok(builder),
            None => builder.with_disable_cpu_fallback().map_err(setup),
        }
    }

    /// Version and build of the library, as it tells them.
    pub fn build(&self) -> &'static str {
        ort::info()
    }
}

fn setup<E>(error: E) -> Error
where
    ort::Error<()>: From<E>,
{
    Error::internal("ONNX Runtime session", ort::Error::<()>::from(error))
}

/// A tower's file and what it must be.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    /// What errors call it.
    pub name: &'a Path,
    /// The ONNX file.
    pub bytes: &'a [u8],
    /// Shapes of the model.
    pub config: &'a Config,
    /// How its pictures are made.
    pub preprocess: Preprocess,
    /// The bundle that it belongs to, which tags its embeddings.
    pub generation: Generation,
}

/// Whether the processor multiplies unsigned by signed 8-bit numbers without saturating sums of two
/// products at 16 bits, as x86 without VNNI does. There ONNX Runtime must take slower products.
fn has_whole_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512vnni")
            || std::arch::is_x86_feature_detected!("avxvnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        true
    }
}

fn unavailable(library: &Path, error: impl std::fmt::Display) -> Error {
    Error::Unavailable {
        what: format!("ONNX Runtime library {}", library.display()),
        reason: format!("{error}; run `make setup` or name the library in the configuration"),
    }
}

/// Looks where a package, `make setup` or the user may have put the library.
fn find_library() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return Ok(PathBuf::from(path));
    }
    let mut places = vec![
        PathBuf::from("/usr/lib/spotter").join(LIBRARY),
        PathBuf::from("/usr/lib/spotter/libonnxruntime.so"),
    ];
    if let Some(cache) = crate::assets::cache_dir() {
        places.push(cache.join("onnxruntime-1.32.0").join(LIBRARY));
    }
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| Error::Unavailable {
        what: "the ONNX Runtime library".into(),
        reason: format!(
            "not found at {}; run `make setup` or set ORT_DYLIB_PATH",
            places.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        ),
    })
}
