//! ASIDE: files that were put aside as damaged. Nobody can say who is in them, so they grow old as all that is
//! kept of persons does, and go by the time of their last change: nothing in them is newer.

use std::{fs, io, path::PathBuf, time::SystemTime};

use crate::error::{Error, Result};

/// Deletes those of these files that were last changed before `oldest`; how many there were.
///
/// # Errors
/// [`Error::Io`] where one cannot be looked at or deleted.
pub fn expire(files: impl IntoIterator<Item = PathBuf>, oldest: SystemTime) -> Result<usize> {
    let mut gone = 0;
    for path in files {
        let changed = match fs::metadata(&path).and_then(|file| file.modified()) {
            Ok(changed) => changed,
            // Erased meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io(&path)(error)),
        };
        if changed < oldest {
            fs::remove_file(&path).map_err(Error::io(&path))?;
            tracing::info!(path = %path.display(), "A damaged file is deleted: it is too old.");
            gone += 1;
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_changed_lately_stays() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new, missing] = ["old", "new", "missing"].map(|name| folder.path().join(name));
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        for (path, at) in [(&old, noon - Duration::from_secs(1)), (&new, noon)] {
            fs::File::create(path).unwrap().set_modified(at).unwrap();
        }
        assert_eq!(expire([old.clone(), new.clone(), missing], noon).unwrap(), 1);
        assert!(!old.exists() && new.exists());
    }
}
