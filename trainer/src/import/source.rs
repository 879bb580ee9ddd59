//! The files of a model: which layout they are, and their hash.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use spotter_models::Digest;

use super::{Layout, archive};
use crate::{
    base::read_json,
    error::{Error, Result},
};

/// Hugging Face's configuration.
pub(super) const HF_CONFIG: &str = "config.json";
/// OpenCLIP's.
pub(super) const OPEN_CLIP_CONFIG: &str = "open_clip_config.json";
/// Names of weight files in folders, by layout.
const HF_WEIGHTS: &str = "model.safetensors";
const HF_INDEX: &str = "model.safetensors.index.json";
const OPEN_CLIP_WEIGHTS: [&str; 2] =
    ["open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"];

/// Largest model that is read, in bytes: five times the largest CLIP of OpenAI's in 32 bits.
const MAX_BYTES: u64 = 8 << 30;

/// A model's files.
#[derive(Debug)]
pub(super) struct Source {
    layout: Layout,
    /// Weights, in the order of their names.
    files: Vec<PathBuf>,
    /// Where a configuration would lie.
    folder: PathBuf,
}

impl Source {
    /// Tells the layout where it is not given, and finds the files.
    pub(super) fn find(path: &Path, layout: Layout) -> Result<Self> {
        let metadata = path.metadata().map_err(spotter_models::Error::io(path))?;
        if metadata.is_dir() {
            return Self::in_folder(path, layout);
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let of = |layout| Ok(Self { layout, files: vec![path.to_owned()], folder: folder.clone() });
        match layout {
            Layout::Auto if archive::is_zip(path)? => of(Layout::Openai),
            Layout::Auto if !is_safetensors(path)? => {
                let reason = "is neither a zip file, as OpenAI's archives are, nor a safetensors file; is \
                              it the right file, and whole? Pickles hold programs and are not read";
                Err(spotter_models::Error::corrupt(path, reason).into())
            }
            // The names of its tensors tell a file without a folder.
            Layout::Auto if folder.join(OPEN_CLIP_CONFIG).is_file() => of(Layout::OpenClip),
            Layout::Auto if folder.join(HF_CONFIG).is_file() => of(Layout::Hf),
            Layout::Auto => of(Layout::OpenClip),
            layout => of(layout),
        }
    }

    fn in_folder(folder: &Path, layout: Layout) -> Result<Self> {
        let is_there = |name: &&str| folder.join(name).is_file();
        let what = || folder.display().to_string();
        let layout = match layout {
            Layout::Auto
                if is_there(&OPEN_CLIP_CONFIG) && OPEN_CLIP_WEIGHTS.iter().any(is_there) =>
            {
                Layout::OpenClip
            }
            Layout::Auto if is_there(&HF_CONFIG) => Layout::Hf,
            Layout::Auto => {
                let reason = format!(
                    "is no folder of a model: it has neither {HF_CONFIG} nor {OPEN_CLIP_CONFIG}; \
                     name a file, or the folder that holds one of these"
                );
                return Err(Error::invalid(what(), reason));
            }
            Layout::Openai => {
                let reason = "is a folder; with --layout openai name the archive itself, such as ViT-B-16.pt";
                return Err(Error::invalid(what(), reason));
            }
            layout => layout,
        };
        let files = match layout {
            Layout::Hf if is_there(&HF_WEIGHTS) => vec![folder.join(HF_WEIGHTS)],
            Layout::Hf if is_there(&HF_INDEX) => indexed(folder)?,
            Layout::OpenClip => OPEN_CLIP_WEIGHTS
                .iter()
                .copied()
                .find(is_there)
                .map(|name| folder.join(name))
                .into_iter()
                .collect(),
            _ => vec![],
        };
        if files.is_empty() {
            let reason = format!(
                "has no {HF_WEIGHTS}, {HF_INDEX} or {}; other formats, such as pytorch_model.bin, \
                 hold programs and are not read",
                OPEN_CLIP_WEIGHTS[0]
            );
            return Err(Error::invalid(what(), reason));
        }
        Ok(Self { layout, files, folder: folder.to_owned() })
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// The weight files.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The only weight file.
    pub(super) fn file(&self) -> Result<&Path> {
        match self.files.as_slice() {
            [file] => Ok(file),
            _ => Err(Error::invalid(self.folder.display().to_string(), "is not one file")),
        }
    }

    /// A file beside the weights, where there is one.
    pub(super) fn beside(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.join(name)).filter(|path| path.is_file())
    }

    /// Hash of the weights, of several files one after the other in the order of their names.
    pub(super) fn sha256(&self) -> Result<Digest> {
        use sha2::Digest as _;
        let mut hash = sha2::Sha256::new();
        for path in &self.files {
            let file = File::open(path).map_err(spotter_models::Error::io(path))?;
            let length = file.metadata().map_err(spotter_models::Error::io(path))?.len();
            if length > MAX_BYTES {
                let reason = format!("{length} bytes are more than the {MAX_BYTES} that are read");
                return Err(spotter_models::Error::corrupt(path, reason).into());
            }
            let mut file = file.take(MAX_BYTES);
            let mut piece = vec![0; 1 << 20];
            loop {
                match file.read(&mut piece).map_err(spotter_models::Error::io(path))? {
                    0 => break,
                    count => hash.update(&piece[..count]),
                }
            }
        }
        Ok(format!("{:x}", hash.finalize()).parse()?)
    }
}

/// Whether a file starts as safetensors do: with the length of a header, and the header's brace.
fn is_safetensors(path: &Path) -> Result<bool> {
    let mut file = File::open(path).map_err(spotter_models::Error::io(path))?;
    let mut start = [0; 9];
    Ok(file.read_exact(&mut start).is_ok() && start[8] == b'{')
}

/// The files that an index lists.
fn indexed(folder: &Path) -> Result<Vec<PathBuf>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let path = folder.join(HF_INDEX);
    let index: Index = read_json(&path)?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    let is_plain =
        |name: &String| Path::new(name).file_name().is_some_and(|file| file == name.as_str());
    if let Some(name) = names.iter().find(|name| !is_plain(name)) {
        let reason = format!("`{name}` is no file of this folder");
        return Err(spotter_models::Error::corrupt(path, reason).into());
    }
    Ok(names.iter().map(|name| folder.join(name)).collect())
}
