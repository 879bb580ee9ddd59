//! Files that are read whole, and how much of them at most: a name that stands for an endless device, or
//! for the wrong file, must not take the memory.

use std::{io::Read, path::Path};

use crate::error::{Error, Result};

/// The bytes of a plain file.
///
/// # Errors
/// [`Error::Io`] where it cannot be read; [`Error::Config`] where it is no plain file, or longer than
/// `max_bytes`.
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let refuse = |reason: String| Error::config(path.display().to_string(), reason);
    // Before it is opened: opening a pipe waits for somebody to write.
    if !std::fs::metadata(path).map_err(Error::io(path))?.is_file() {
        return Err(refuse("is no file but a folder, device or pipe".into()));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    // It may grow while it is read, so its length says nothing.
    file.take(max_bytes + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if bytes.len() as u64 > max_bytes {
        return Err(refuse(format!(
            "is longer than the {max_bytes} bytes that such a file may have"
        )));
    }
    Ok(bytes)
}

/// The same as text.
///
/// # Errors
/// As [`read`], and [`Error::Config`] where it is not UTF-8.
pub fn text(path: &Path, max_bytes: u64) -> Result<String> {
    String::from_utf8(read(path, max_bytes)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::config(path.display().to_string(), format!("is no UTF-8 text, from byte {at} on"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_files_of_a_bounded_length_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "grün").unwrap();
        assert_eq!(text(&path, 5).unwrap(), "grün");
        assert!(text(&path, 4).unwrap_err().to_string().contains("longer than the 4 bytes"));
        std::fs::write(&path, b"gr\xfcn").unwrap();
        assert!(text(&path, 9).unwrap_err().to_string().contains("no UTF-8 text, from byte 2"));
        for other in [folder.path(), Path::new("/dev/zero")] {
            assert!(read(other, 9).unwrap_err().to_string().contains("is no file"), "{other:?}");
        }
        assert!(read(&folder.path().join("none"), 9).is_err());
    }
}
