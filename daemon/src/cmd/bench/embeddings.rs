//! `spotterd bench embeddings`: real embeddings, on which the gallery is measured.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use safetensors::{Dtype, tensor::TensorView};
use serde::Deserialize;
use spotter_models::Embedding;

use crate::{
    alert::{reader::TowerReader, ready::TextReader},
    cmd::model::ModelArgs,
    embed::Embedder,
    error::Error,
    picture,
};

/// Embed a folder of pictures and their captions, for the measurements of the gallery
///
/// The file has `image_embedding` and `text_embedding` (f32, one row each), `person` (i64, one number for
/// each picture: pictures of one number show one person).
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A folder with captions.json, a list of {id, file_path, captions}, and the pictures that it names
    #[arg(long, value_name = "FOLDER")]
    pictures: PathBuf,
    /// Most captions that are embedded, spread over the list
    #[arg(long, default_value_t = 2000)]
    captions: usize,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Deserialize)]
struct Entry {
    id: i64,
    file_path: PathBuf,
    captions: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let path = args.pictures.join("captions.json");
    let entries: Vec<Entry> = serde_json::from_slice(&fs::read(&path).map_err(Error::io(&path))?)?;
    let opened = args.model.open()?;
    let images = pictures(&mut opened.embedder()?, &args.pictures, &entries)?;
    let mut reader = TowerReader::new(opened.text_tower()?)?;
    let step = entries.len().div_ceil(args.captions.max(1)).max(1);
    let captions = entries.iter().step_by(step).filter_map(|entry| entry.captions.first());
    let texts: Vec<Embedding> = captions
        .map(|caption| Ok(reader.read(caption)?.embedding))
        .collect::<Result<_, spotter_models::Error>>()?;
    let persons: Vec<i64> = entries.iter().map(|entry| entry.id).collect();
    write(&args.out, &images, &texts, &persons)?;
    let line = format!("{} pictures, {} captions embedded\n", images.len(), texts.len());
    crate::cmd::print(&line)?;
    Ok(ExitCode::SUCCESS)
}

fn pictures(embedder: &mut Embedder, folder: &Path, entries: &[Entry]) -> Result<Vec<Embedding>> {
    let embed = |entry: &Entry| {
        let picture = picture::read(&folder.join(&entry.file_path))?;
        Ok(embedder.embed(picture.view())?)
    };
    entries.iter().map(embed).collect()
}

fn write(out: &Path, images: &[Embedding], texts: &[Embedding], persons: &[i64]) -> Result<()> {
    let size = images.first().map_or(0, |row| row.values().len());
    let le = |rows: &[Embedding]| -> Vec<u8> {
        rows.iter().flat_map(Embedding::values).flat_map(|v| v.to_le_bytes()).collect()
    };
    let (image_bytes, text_bytes) = (le(images), le(texts));
    let person_bytes: Vec<u8> = persons.iter().flat_map(|id| id.to_le_bytes()).collect();
    let view = |dtype, shape, bytes| TensorView::new(dtype, shape, bytes);
    let tensors = [
        ("image_embedding", view(Dtype::F32, vec![images.len(), size], &image_bytes)?),
        ("text_embedding", view(Dtype::F32, vec![texts.len(), size], &text_bytes)?),
        ("person", view(Dtype::I64, vec![persons.len()], &person_bytes)?),
    ];
    let bytes = safetensors::serialize(tensors, None)?;
    fs::write(out, bytes).map_err(Error::io(out))?;
    Ok(())
}
