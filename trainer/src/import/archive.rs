//! OpenAI's files: TorchScript archives, which are zip files with pickled tensors and code.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use tch::{CModule, Kind};

use super::tensors::{Tensors, from_torch};
use crate::error::Result;

/// How a zip file starts (APPNOTE 4.3.7), and the record at its end with the number of its members.
const START: [u8; 4] = *b"PK\x03\x04";
const END: [u8; 4] = *b"PK\x05\x06";
/// The end record has 22 bytes; a comment of up to 64 KiB may follow. PyTorch writes none.
const END_BYTES: u64 = 22;

/// Whether a file starts as zip files do.
pub(super) fn is_zip(path: &Path) -> Result<bool> {
    let mut file = File::open(path).map_err(spotter_models::Error::io(path))?;
    let mut start = [0; START.len()];
    Ok(file.read_exact(&mut start).is_ok() && start == START)
}

/// Reads the parameters of an archive.
pub(super) fn read(path: &Path) -> Result<Tensors> {
    let corrupt = |reason: String| spotter_models::Error::corrupt(path, reason);
    if !is_zip(path)? {
        let reason = "is no TorchScript archive: it is no zip file; OpenAI's ViT-B-16.pt is one. Leave \
                      --layout out to have the layout told by the file";
        return Err(corrupt(reason.into()).into());
    }
    let names = directory(path).map_err(&corrupt)?;
    let has = |part: &[u8]| names.windows(part.len()).any(|window| window == part);
    if !has(b"/data.pkl") {
        return Err(corrupt("is a zip file, but none with PyTorch's tensors".into()).into());
    }
    // What `torch.save` writes has tensors only, and only Python can read it.
    if !has(b"/code/") || !has(b"/constants.pkl") {
        let reason = "holds pickled tensors without a model's code, as torch.save writes; convert \
                      it to safetensors where it comes from";
        return Err(corrupt(reason.into()).into());
    }
    let module = CModule::load(path).map_err(|error| {
        // Without the trace of C++ functions that follows.
        let told: Vec<String> = error.to_string().lines().take(3).map(shortened).collect();
        let told = told.join(" ");
        corrupt(format!("libtorch cannot read the archive: {told}; download it again"))
    })?;
    let mut tensors = Tensors::new();
    for (name, tensor) in module.named_parameters()? {
        // OpenAI's files keep the input's size and such as whole numbers among the weights.
        if matches!(tensor.f_kind()?, Kind::Float | Kind::Half | Kind::BFloat16 | Kind::Double) {
            tensors.insert(name, from_torch(&tensor)?);
        }
    }
    Ok(tensors)
}

/// A line of a message without the bytes of the file that it may quote.
fn shortened(line: &str) -> String {
    const MOST: usize = 120;
    line.trim().chars().filter(|letter| !letter.is_control()).take(MOST).collect()
}

/// The raw central directory of a zip file, which has the names of all members.
fn directory(path: &Path) -> Result<Vec<u8>, String> {
    /// A hundred times what a large model needs.
    const MAX_DIRECTORY: u64 = 64 << 20;
    let cut = || "the end is missing: the file is cut short; download it again".to_owned();
    let read = || -> std::io::Result<Option<Vec<u8>>> {
        let mut file = File::open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        let Some(start) = length.checked_sub(END_BYTES) else { return Ok(None) };
        file.seek(SeekFrom::Start(start))?;
        let mut end = [0; END_BYTES as usize];
        file.read_exact(&mut end)?;
        if end[..END.len()] != END {
            return Ok(None);
        }
        let number = |at: usize| {
            u64::from(u32::from_le_bytes([end[at], end[at + 1], end[at + 2], end[at + 3]]))
        };
        let (size, offset) = (number(12), number(16));
        if size > MAX_DIRECTORY || offset + size > length {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut directory = vec![0; size as usize];
        file.read_exact(&mut directory)?;
        Ok(Some(directory))
    };
    read().map_err(|error| error.to_string())?.ok_or_else(cut)
}
