//! The options that every command shares that runs models, and what they open.

use std::path::PathBuf;

use clap::Args;
use spotter_models::{
    bundle::Bundle,
    manifest::Precision,
    session::{Provider, Runtime, SessionOptions, TextTower},
};

use crate::{
    detect::Detector,
    embed::{self, Embedder},
    engine::Engine,
    error::Result,
};

/// What runs the models, and the detector.
#[derive(Args, Clone)]
pub(super) struct EngineArgs {
    /// A known detector (deimv2-femto, deimv2-atto, yolox-nano), or an .onnx file in DEIMv2's or
    /// YOLOX's output layout
    #[arg(long, default_value = "deimv2-femto", value_name = "MODEL")]
    pub detector: String,
    /// Threads inside a model's operators
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = parse_threads)]
    pub threads: usize,
    /// What runs the models: cpu, cuda or tensorrt
    #[arg(long, default_value = "cpu", value_parser = parse_provider)]
    pub provider: Provider,
    /// Number format of the bundle's towers: f32, f16 for a GPU, int8 for a processor
    #[arg(long, default_value = "f32", value_parser = parse_precision)]
    pub precision: Precision,
    /// The ONNX Runtime library, where it is not found by itself
    #[arg(long, value_name = "FILE")]
    pub library: Option<PathBuf>,
}

/// [`EngineArgs`] and a bundle.
#[derive(Args, Clone)]
pub(super) struct ModelArgs {
    /// The model bundle, or a store of them
    #[arg(long, value_name = "FOLDER")]
    pub bundle: PathBuf,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// Most threads inside an operator: more than any box has cores.
const MAX_THREADS: usize = 256;

pub(super) fn parse_threads(text: &str) -> std::result::Result<usize, String> {
    let known = text.parse().ok().filter(|threads| (1..=MAX_THREADS).contains(threads));
    known.ok_or_else(|| format!("use 1 to {MAX_THREADS}"))
}

fn parse_provider(name: &str) -> std::result::Result<Provider, String> {
    let known = [Provider::Cpu, Provider::Cuda, Provider::TensorRt];
    known
        .into_iter()
        .find(|provider| provider.to_string() == name)
        .ok_or_else(|| "use cpu, cuda or tensorrt".into())
}

pub(super) fn parse_precision(name: &str) -> std::result::Result<Precision, String> {
    name.parse().map_err(|_| "use f32, f16 or int8".into())
}

impl EngineArgs {
    /// Loads the library.
    pub fn engine(&self) -> Result<Engine> {
        Ok(Engine {
            runtime: Runtime::load(self.library.as_deref())?,
            options: SessionOptions {
                provider: self.provider,
                threads: self.threads,
                ..SessionOptions::default()
            },
            precision: self.precision,
        })
    }
}

impl ModelArgs {
    /// Loads the library and opens the bundle.
    pub fn open(&self) -> Result<Opened> {
        Ok(Opened {
            bundle: Bundle::open(&self.bundle)?,
            engine: self.engine.engine()?,
            detector: self.engine.detector.clone(),
        })
    }
}

/// A bundle and the library that runs it.
pub(super) struct Opened {
    pub bundle: Bundle,
    pub engine: Engine,
    detector: String,
}

impl Opened {
    pub fn embedder(&self) -> Result<Embedder> {
        Embedder::open(&self.engine, &self.bundle)
    }

    pub fn text_tower(&self) -> Result<TextTower> {
        embed::text_tower(&self.engine, &self.bundle)
    }

    pub fn detector(&self) -> Result<Box<dyn Detector>> {
        self.engine.detector(&self.detector)
    }
}
