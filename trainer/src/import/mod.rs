//! A CLIP that others trained, made into a base model: OpenAI's TorchScript archive, a folder of
//! Hugging Face's transformers, or a safetensors file of OpenCLIP.
//!
//! Shapes are read from the tensors, names become OpenAI's, the position table is interpolated to
//! persons' proportions. What is not a CLIP that the towers compute exactly is refused with what was
//! found instead: an approximation would only show as a worse model.

mod archive;
mod hugging_face;
mod open_clip;
mod shapes;
mod source;
mod tensors;

use std::path::Path;

use clap::ValueEnum;
use spotter_models::{
    Digest,
    towers::{Config, Tensor, Weights, positions},
};

use crate::{
    base::Origin,
    error::{Error, Result},
};
use source::Source;
use tensors::Tensors;

/// SHA-256 of OpenAI's `ViT-B-16.pt` (`cskt.md` 4).
pub const VIT_B16_SHA256: &str = "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f";

/// What a file or folder is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// Told by the files
    #[default]
    Auto,
    /// OpenAI's TorchScript archive, such as ViT-B-16.pt
    Openai,
    /// A folder of transformers with config.json and model.safetensors
    Hf,
    /// A safetensors file of OpenCLIP, with its open_clip_config.json beside it
    OpenClip,
}

impl Layout {
    /// Its name on the command line and in `origin.json`.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Auto => "auto",
            Layout::Openai => "openai",
            Layout::Hf => "hf",
            Layout::OpenClip => "open-clip",
        }
    }
}

/// The activation between the layers of an MLP, where no file says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Activation {
    /// x * sigmoid(1.702 x), as OpenAI's models have
    QuickGelu,
    /// The Gaussian error linear unit, which the towers do not compute
    Gelu,
}

/// How to import.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the source is.
    pub layout: Layout,
    /// Height of the pictures that the base model is for, in pixels.
    pub height: usize,
    /// Their width.
    pub width: usize,
    /// What the file's hash must be.
    pub sha256: Option<Digest>,
    /// What people call the model; `None`: the source's name.
    pub name: Option<String>,
    /// Licence of the weights; `None`: as far as it is known.
    pub licence: Option<String>,
    /// For OpenCLIP files without a configuration.
    pub activation: Option<Activation>,
    /// Attention heads of the vision tower where no file says them; `None`: one for each 64 of its
    /// width, as in all published CLIPs.
    pub vision_heads: Option<usize>,
    /// The same of the text tower.
    pub text_heads: Option<usize>,
}

impl Default for Options {
    /// For persons, 384 high and 128 wide, everything else told by the files.
    fn default() -> Self {
        Self {
            layout: Layout::Auto,
            height: 384,
            width: 128,
            sha256: None,
            name: None,
            licence: None,
            activation: None,
            vision_heads: None,
            text_heads: None,
        }
    }
}

/// What a source says of its towers besides tensors.
#[derive(Clone, Copy, Debug, Default)]
struct Heads {
    vision: Option<usize>,
    text: Option<usize>,
}

/// A CLIP that was read and checked; [`crate::base::Base::write`] makes it a base model.
#[derive(Debug)]
pub struct Imported {
    /// Under OpenAI's names, in 32 bits, positions fitted.
    pub weights: Weights,
    /// Without prompts and adapters.
    pub config: Config,
    /// Where it comes from.
    pub origin: Origin,
}

/// Reads a CLIP.
///
/// An archive of TorchScript holds code, which libtorch compiles when it reads the file; import only
/// what comes from somebody you trust, best with its published hash.
///
/// # Errors
/// [`Error::Invalid`] where options do not fit or the model is none that the towers compute;
/// [`Error::Model`] where a file is missing, cut short, has another hash, or a tensor is missing, of a
/// wrong shape or not finite.
pub fn import(path: &Path, options: &Options) -> Result<Imported> {
    for (option, value) in [("--height", options.height), ("--width", options.width)] {
        if value == 0 {
            return Err(Error::invalid(
                option,
                "0 is no size; it is in pixels, a multiple of the patch",
            ));
        }
    }
    let source = Source::find(path, options.layout)?;
    let sha256 = source.sha256()?;
    if let Some(wanted) = options.sha256.filter(|wanted| *wanted != sha256) {
        let reason = format!("has sha256 {sha256}, not {wanted}; download it again");
        return Err(spotter_models::Error::corrupt(path, reason).into());
    }
    if options.activation == Some(Activation::Gelu) {
        return Err(Error::invalid("--activation gelu", open_clip::NOT_GELU));
    }
    let (tensors, heads) = match source.layout() {
        Layout::Hf => hugging_face::read(&source)?,
        Layout::OpenClip => open_clip::read(&source, options.activation)?,
        _ => (archive::read(source.file()?)?, Heads::default()),
    };
    tensors::refuse_others(path, &tensors)?;
    let heads = Heads {
        vision: agreed("--vision-heads", options.vision_heads, heads.vision)?,
        text: agreed("--text-heads", options.text_heads, heads.text)?,
    };
    let native = shapes::config(&tensors, heads)?;
    let weights = checked(path, tensors, &native)?;
    let config = Config { height: options.height, width: options.width, ..native.clone() };
    // The model itself was found to be possible: what is wrong now was asked for.
    config.validate().map_err(|error| {
        let what = format!("--height {} --width {}", options.height, options.width);
        Error::invalid(
            what,
            format!("{error}; both must be multiples of the patch, {}", config.patch),
        )
    })?;
    let weights = fit(weights, &native, &config)?;
    Ok(Imported { weights, config, origin: origin(path, options, source.layout(), sha256) })
}

/// What an option or a configuration says.
///
/// # Errors
/// Where they say different things: one of them is of another model.
fn agreed(option: &str, given: Option<usize>, said: Option<usize>) -> Result<Option<usize>> {
    match (given, said) {
        (Some(given), Some(said)) if given != said => {
            let reason = format!(
                "{given} is not what the model's configuration says, {said}; leave the option out, or get \
                 the configuration that belongs to the weights"
            );
            Err(Error::invalid(option, reason))
        }
        _ => Ok(given.or(said)),
    }
}

/// The tensors, where they are all that a CLIP of these shapes has and nothing else.
fn checked(path: &Path, tensors: Tensors, config: &Config) -> Result<Weights> {
    let mut weights = Weights::default();
    for (name, tensor) in tensors {
        weights.insert(name, tensor);
    }
    let others = weights.check(config)?;
    if !others.is_empty() {
        let reason = format!(
            "has {} tensors that a CLIP of its shapes has not, such as {}; it is another \
             architecture",
            others.len(),
            others[..others.len().min(3)].join(", ")
        );
        return Err(Error::invalid(path.display().to_string(), reason));
    }
    // Also of what is not kept: the file was damaged, or its training diverged.
    let is_infinite =
        |(_, tensor): &(&str, &Tensor)| tensor.values().iter().any(|v| !v.is_finite());
    if let Some((name, _)) = weights.iter().find(is_infinite) {
        let reason = format!("tensor {name} holds values that are not finite; download it again");
        return Err(spotter_models::Error::corrupt(path, reason).into());
    }
    // `logit_scale` has done its work: training here has a fixed temperature.
    let mut kept = Weights::default();
    for spec in spotter_models::towers::layout::tensors(config) {
        if let Some(tensor) = weights.tensor(&spec.name) {
            kept.insert(spec.name, tensor.clone());
        }
    }
    Ok(kept)
}

/// Interpolates the position table from the grid it was trained for.
fn fit(mut weights: Weights, native: &Config, config: &Config) -> Result<Weights> {
    let grid = |config: &Config| positions::Grid {
        rows: config.height / config.patch,
        columns: config.width / config.patch,
    };
    let (from, to) = (grid(native), grid(config));
    if let Some(table) = weights.tensor(shapes::POSITIONS).filter(|_| from != to) {
        let table = positions::interpolate(table, from, to)?;
        weights.insert(shapes::POSITIONS, table);
    }
    weights.check(config)?;
    Ok(weights)
}

fn origin(path: &Path, options: &Options, layout: Layout, sha256: Digest) -> Origin {
    let name = || {
        let full = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        full.file_stem().map_or_else(|| "CLIP".into(), |name| name.to_string_lossy().into_owned())
    };
    let is_vit_b16 = sha256.to_string() == VIT_B16_SHA256;
    let known = |known: &str, otherwise: &str| match is_vit_b16 {
        true => known.to_owned(),
        false => otherwise.to_owned(),
    };
    Origin {
        name: options.name.clone().unwrap_or_else(|| match is_vit_b16 {
            true => "OpenAI CLIP ViT-B/16".into(),
            false => name(),
        }),
        layout: layout.name().into(),
        source_sha256: Some(sha256),
        licence: options.licence.clone().unwrap_or_else(|| known("MIT", "not stated")),
        data: known("400 million pairs from the web, not published", "not stated"),
        intended_use: known(
            "research; its model card calls every deployed use out of scope, surveillance always",
            "not stated",
        ),
    }
}
