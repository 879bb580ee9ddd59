//! `spotter-trainer import`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use spotter_models::Digest;

use super::print;
use crate::{
    base::Base,
    import::{Activation, Layout, Options, import},
};

/// Arguments of `import`.
#[derive(clap::Args)]
#[command(after_help = "\
OpenAI's files are TorchScript archives, which hold code that libtorch compiles when it reads them: \
import only files from somebody you trust, and give the published hash with --sha256. Other formats \
hold numbers only.")]
pub struct Args {
    /// ViT-B-16.pt, a folder of transformers, or a safetensors file or folder of OpenCLIP
    source: PathBuf,
    /// The folder to write, which must not exist
    #[arg(long)]
    out: PathBuf,
    /// Height of the pictures in pixels, a multiple of the patch
    #[arg(long, default_value_t = 384)]
    height: usize,
    /// Width of the pictures in pixels, a multiple of the patch
    #[arg(long, default_value_t = 128)]
    width: usize,
    /// What the source is
    #[arg(long, value_enum, default_value_t)]
    layout: Layout,
    /// SHA-256 that the weights must have
    #[arg(long, value_name = "HEX")]
    sha256: Option<Digest>,
    /// What people call the model
    #[arg(long)]
    name: Option<String>,
    /// Licence of the weights
    #[arg(long)]
    licence: Option<String>,
    /// Activation of an OpenCLIP file, where nothing beside it says so
    #[arg(long, value_enum)]
    activation: Option<Activation>,
    /// Attention heads of the vision tower, where they are not of 64
    #[arg(long, value_name = "N")]
    vision_heads: Option<usize>,
    /// Attention heads of the text tower, where they are not of 64
    #[arg(long, value_name = "N")]
    text_heads: Option<usize>,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let options = Options {
        layout: args.layout,
        height: args.height,
        width: args.width,
        sha256: args.sha256,
        name: args.name,
        licence: args.licence,
        activation: args.activation,
        vision_heads: args.vision_heads,
        text_heads: args.text_heads,
    };
    let imported = import(&args.source, &options)?;
    Base::write(&args.out, &imported.weights, &imported.config, &imported.origin)?;
    let numbers: usize = imported.weights.iter().map(|(_, tensor)| tensor.values().len()).sum();
    print(&format!(
        "{}: {} tensors, {numbers} numbers, licence {}; written to {}\n\
         Look at it with: spotter-trainer base {}\n",
        imported.origin.name,
        imported.weights.iter().count(),
        imported.origin.licence,
        args.out.display(),
        args.out.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}
