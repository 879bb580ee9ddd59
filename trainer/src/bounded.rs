//! Files that are read whole, none of them beyond a stated length.

use std::{fs::File, io::Read, path::Path};

use crate::error::{Error, Result};

/// Largest file of weights, in bytes: five times the largest CLIP of OpenAI's in 32 bits.
pub(crate) const WEIGHTS: u64 = 8 << 30;
/// Largest JSON file, in bytes.
pub(crate) const JSON: u64 = 64 << 20;
/// Largest recipe or plan, in bytes.
pub(crate) const TOML: u64 = 1 << 20;

/// Reads a file of at most `most` bytes; a pipe too.
///
/// # Errors
/// Where it cannot be read; of kind corrupt where it is larger, with both lengths.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let io = |error| Error::from(spotter_models::Error::io(path)(error));
    let too_large = |length: &str| {
        let reason =
            format!("has {length} bytes, and at most {most} are read; is it the right file?");
        Error::from(spotter_models::Error::corrupt(path, reason))
    };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length > most {
        return Err(too_large(&length.to_string()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    // What is no regular file says nothing of its length, and others may grow.
    file.take(most + 1).read_to_end(&mut bytes).map_err(io)?;
    match bytes.len() as u64 > most {
        true => Err(too_large("more")),
        false => Ok(bytes),
    }
}

/// Reads the text of a recipe or plan, which `what` names; that it is none is the fault of whoever asks
/// for it.
///
/// # Errors
/// Where it cannot be read, is too large or no text.
pub(crate) fn text(path: &Path, what: &str) -> Result<String> {
    let wrong = |reason: &str| Error::invalid(format!("{what} {}", path.display()), reason);
    let bytes = read(path, TOML).map_err(|error| match error.kind() {
        spotter_models::Kind::Corrupt => wrong(&format!("is larger than {TOML} bytes")),
        _ => error,
    })?;
    String::from_utf8(bytes).map_err(|_| wrong("is no text in UTF-8"))
}

/// Reads a file of weights, of [`WEIGHTS`] bytes at most.
///
/// # Errors
/// Those of [`read`], and where it is no regular file, such as a device without an end.
pub(crate) fn weights(path: &Path) -> Result<Vec<u8>> {
    let found = path.metadata().map_err(spotter_models::Error::io(path))?;
    match found.is_file() {
        true => read(path, WEIGHTS),
        false => {
            Err(spotter_models::Error::corrupt(path, "is no regular file; name a file").into())
        }
    }
}
