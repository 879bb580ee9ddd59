//! What staff said of sightings, with the pictures of whom they said it: kept by the daemon, learnt from by the
//! trainer.
//!
//! ```text
//! FOLDER/feedback.json            says that the folder is one: {"schema": 1}
//! FOLDER/<sighting>/verdict.json  a Verdict; a name with a dot is unfinished
//! FOLDER/<sighting>/0.jpg …       crops of the track, the best first
//! ```
//! A verdict is a folder that appears whole or not at all and is gone when it is removed, so that an erase
//! removes a person's pictures and all that was said of them in one step.

use std::{
    collections::HashSet,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Generation, Result,
    bundle::aside::{self, Aside},
};

/// Version of the layout.
pub const SCHEMA: u32 = 1;
/// Most pictures of one verdict.
pub const MAX_PICTURES: usize = 8;
/// Longest sighting's name, in bytes.
const MAX_NAME: usize = 64;
const MARK: &str = "feedback.json";
const FILE: &str = "verdict.json";
/// Largest `verdict.json` that is read, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// What was said of a sighting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judgement {
    /// The person fits the text.
    Confirmed,
    /// The person does not.
    Rejected,
}

/// A picture of a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Picture {
    /// Its file in the verdict's folder.
    pub file: String,
    /// Width and height in pixels.
    pub size: [u32; 2],
    /// How good a look it is, 0 to 1, as the daemon's crop choice has it.
    pub quality: f32,
}

/// What staff said of one sighting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The sighting, and the name of the folder.
    pub sighting: String,
    /// Right or wrong.
    pub verdict: Judgement,
    /// Who said so.
    pub by: String,
    /// When, RFC 3339.
    pub at: String,
    /// The alert that the person was told for.
    pub alert: String,
    /// Its text as understood.
    pub text: String,
    /// What the person looks like in truth, where staff said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected: Option<String>,
    /// What else was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The camera.
    pub camera: String,
    /// The track, by a name that no other track of the device has.
    pub track: String,
    /// When the person was seen, RFC 3339.
    pub seen: String,
    /// The bundle that made the sighting.
    pub bundle: Generation,
    /// Crops of the track that passed the daemon's quality gate, the best first.
    pub pictures: Vec<Picture>,
}

/// A verdict on disk that cannot be used, and why.
#[derive(Debug)]
pub struct Broken {
    /// Its folder.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

/// A folder of verdicts.
#[derive(Clone, Debug)]
pub struct Feedback {
    folder: PathBuf,
}

impl Feedback {
    /// Makes the folder where it is not there, and marks it.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(aside::writing(folder))?;
        let mark = folder.join(MARK);
        if !mark.is_file() {
            aside::replace_file(&mark, format!("{{\"schema\": {SCHEMA}}}\n").as_bytes())?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// A folder that is one.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it has no mark, [`Error::Corrupt`] where that is of another version.
    pub fn open(folder: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Mark {
            schema: u32,
        }
        let path = folder.join(MARK);
        if !path.is_file() {
            let reason = format!(
                "holds no verdicts of staff: there is no {MARK}; name the folder `feedback` in the \
                 daemon's storage folder"
            );
            return Err(Error::invalid(folder.display().to_string(), reason));
        }
        let bytes = read(&path)?;
        match serde_json::from_slice::<Mark>(&bytes) {
            Ok(Mark { schema: SCHEMA }) => Ok(Self { folder: folder.to_owned() }),
            Ok(Mark { schema }) => Err(Error::corrupt(
                path,
                format!("schema {schema} is not the {SCHEMA} read here: update this program"),
            )),
            Err(error) => Err(Error::corrupt(path, format!("is no mark: {error}"))),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps a verdict with its encoded pictures, in the order of [`Verdict::pictures`], in the place of an
    /// earlier one on the same sighting.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a name or number cannot be; where the folder cannot be written.
    pub fn put(&self, verdict: &Verdict, pictures: &[Vec<u8>]) -> Result<()> {
        verdict.check()?;
        if verdict.pictures.len() != pictures.len() {
            return Err(Error::invalid("verdict", "its pictures are not those it names"));
        }
        let target = self.folder.join(&verdict.sighting);
        let aside = Aside::create(aside::beside(&target)?)?;
        for (picture, bytes) in verdict.pictures.iter().zip(pictures) {
            aside.bytes(&picture.file, bytes)?;
        }
        let mut json =
            serde_json::to_vec_pretty(verdict).map_err(|error| Error::internal(FILE, error))?;
        json.push(b'\n');
        aside.bytes(FILE, &json)?;
        aside.finish(&target)
    }

    /// Removes what was said of a sighting and its pictures; `false` where there was nothing.
    ///
    /// # Errors
    /// Where it cannot be removed.
    pub fn remove(&self, sighting: &str) -> Result<bool> {
        check_name(sighting)?;
        let path = self.folder.join(sighting);
        let was_there = path.symlink_metadata().is_ok();
        aside::remove(&path)?;
        Ok(was_there)
    }

    /// All verdicts, the oldest sighting first, and those that cannot be used.
    ///
    /// # Errors
    /// Where the folder cannot be listed.
    pub fn all(&self) -> Result<(Vec<Verdict>, Vec<Broken>)> {
        let io = |error| Error::io(&self.folder)(error);
        let (mut verdicts, mut broken) = (Vec::new(), Vec::new());
        for entry in self.folder.read_dir().map_err(io)? {
            let path = entry.map_err(io)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') || !path.is_dir() {
                continue;
            }
            match Verdict::read(&path, &name) {
                Ok(verdict) => verdicts.push(verdict),
                Err(error) => broken.push(Broken { path, reason: error.to_string() }),
            }
        }
        verdicts.sort_by(|a, b| a.sighting.cmp(&b.sighting));
        broken.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((verdicts, broken))
    }

    /// A picture's file.
    pub fn path_of(&self, verdict: &Verdict, picture: &Picture) -> PathBuf {
        self.folder.join(&verdict.sighting).join(&picture.file)
    }
}

impl Verdict {
    /// What the person was described as in the end.
    pub fn meant(&self) -> &str {
        self.corrected.as_deref().unwrap_or(&self.text)
    }

    fn read(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(FILE);
        let bytes = read(&path)?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let verdict: Self = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| Error::corrupt(&path, format!("is no verdict: {error}")))?;
        verdict.check().map_err(|error| Error::corrupt(&path, error.to_string()))?;
        if verdict.sighting != name {
            return Err(Error::corrupt(path, "is about another sighting than its folder's name"));
        }
        Ok(verdict)
    }

    fn check(&self) -> Result<()> {
        if self.schema != SCHEMA {
            let reason = format!("{} is not the {SCHEMA} of this program", self.schema);
            return Err(Error::invalid("schema", reason));
        }
        check_name(&self.sighting)?;
        if self.pictures.len() > MAX_PICTURES {
            let reason = format!("{} are more than {MAX_PICTURES}", self.pictures.len());
            return Err(Error::invalid("pictures", reason));
        }
        let mut seen = HashSet::new();
        for picture in &self.pictures {
            let stem = picture.file.strip_suffix(".jpg").unwrap_or_default();
            let is_number = !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number || stem.len() > 3 || !seen.insert(stem) {
                let reason = format!("`{}` is no name such as 0.jpg, or there twice", picture.file);
                return Err(Error::invalid("pictures", reason));
            }
            if !(0.0..=1.0).contains(&picture.quality) {
                let reason = format!("{} is not between 0 and 1", picture.quality);
                return Err(Error::invalid("quality", reason));
            }
        }
        Ok(())
    }
}

/// Sightings name folders: letters and digits, `-` and `_`.
fn check_name(name: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(fits) {
        true => Ok(()),
        false => Err(Error::invalid(
            "sighting",
            format!("`{}` is no sighting's name", name.escape_debug()),
        )),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::io(path))?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(Error::corrupt(path, format!("has more than {MAX_BYTES} bytes"))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(sighting: &str) -> Verdict {
        Verdict {
            schema: SCHEMA,
            sighting: sighting.into(),
            verdict: Judgement::Confirmed,
            by: "control-room".into(),
            at: "2026-11-27T06:00:00Z".into(),
            alert: "red-coat".into(),
            text: "woman in a red coat".into(),
            corrected: None,
            note: None,
            camera: "entrance".into(),
            track: "7".into(),
            seen: "2026-11-27T05:59:00Z".into(),
            bundle: Generation::of_manifest(b"manifest"),
            pictures: vec![Picture { file: "0.jpg".into(), size: [48, 128], quality: 0.8 }],
        }
    }

    #[test]
    fn a_verdict_comes_back_as_it_was_and_goes_whole() {
        let folder = tempfile::tempdir().unwrap();
        let feedback = Feedback::create(folder.path()).unwrap();
        let (old, new) = (verdict("01B"), verdict("01A"));
        feedback.put(&old, &[b"picture".to_vec()]).unwrap();
        feedback.put(&new, &[b"other".to_vec()]).unwrap();
        let again = Verdict { verdict: Judgement::Rejected, ..old.clone() };
        feedback.put(&again, &[b"picture".to_vec()]).unwrap();
        let (verdicts, broken) = Feedback::open(folder.path()).unwrap().all().unwrap();
        assert_eq!(verdicts, [new, again.clone()]);
        assert!(broken.is_empty());
        let path = feedback.path_of(&again, &again.pictures[0]);
        assert_eq!(std::fs::read(&path).unwrap(), b"picture");
        assert!(feedback.remove("01B").unwrap());
        assert!(!path.exists() && !feedback.remove("01B").unwrap());
    }

    #[test]
    fn what_cannot_be_is_refused_or_told() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Feedback::open(folder.path()).unwrap_err().to_string().contains("no verdicts"));
        let feedback = Feedback::create(folder.path()).unwrap();
        for name in ["", "..", "a/b", ".hidden", &"x".repeat(65)] {
            assert!(feedback.put(&verdict(name), &[vec![]]).is_err(), "{name:?}");
            assert!(feedback.remove(name).is_err(), "{name:?}");
        }
        let mut outside = verdict("01A");
        outside.pictures[0].file = "../0.jpg".into();
        assert!(feedback.put(&outside, &[vec![]]).is_err());
        assert!(feedback.put(&verdict("01A"), &[]).is_err());
        // Rubbish, another's folder, and what was being written when the power went.
        for name in ["01C", "01D", ".01E.partial"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("01C/verdict.json"), "{").unwrap();
        let json = serde_json::to_vec(&verdict("01X")).unwrap();
        std::fs::write(folder.path().join("01D/verdict.json"), json).unwrap();
        let (verdicts, broken) = feedback.all().unwrap();
        assert_eq!((verdicts.len(), broken.len()), (0, 2));
        std::fs::write(folder.path().join(MARK), "{\"schema\": 2}").unwrap();
        assert!(Feedback::open(folder.path()).unwrap_err().to_string().contains("update"));
    }
}
