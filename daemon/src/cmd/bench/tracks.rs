//! Tracks for measurements: of recordings, or of a folder's pictures.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    clock::{Mono, SystemClock},
    cmd::model::Opened,
    embed::Embedder,
    error::Error,
    frame::CameraId,
    metrics::Stopwatch,
    picture,
    replay::{Matching, Replay},
    score::{Armed, Look, Matcher, Passed},
    track::{TrackId, TrackIds},
    truth::Truth,
};

/// What a picture of a folder counts as a look: the middle of what looks at tracks of video have.
const QUALITY: f32 = 0.73;

/// Frames a second of a recording that are looked at.
const RATE_HZ: f64 = 5.0;

/// A track, and by what names a list of texts may say that it fits.
pub(super) struct Named {
    pub(super) passed: Passed,
    /// The pictures' paths in their folder; of a recording its name, a slash, and the person's number in
    /// the truth.
    pub(super) names: Vec<String>,
}

/// A text and the names of what it fits.
#[derive(Deserialize)]
pub(super) struct Alert {
    pub(super) text: String,
    #[serde(default)]
    pub(super) matches: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Picture {
    id: i64,
    file_path: String,
}

/// Reads the tracks of folders and recordings.
pub(super) struct Tracks {
    embedder: Embedder,
    replay: Replay,
    ids: Arc<TrackIds>,
}

impl Tracks {
    /// Nothing read yet.
    ///
    /// # Errors
    /// What opening a model finds.
    pub(super) fn new(opened: &Opened) -> Result<Self> {
        let matcher = Matcher::new(Arc::new(Armed::default()), Arc::default());
        let ids = Arc::new(TrackIds::default());
        let replay = Replay {
            detector: opened.detector()?,
            matching: Some(Matching::new(opened.embedder()?, matcher)),
            rate_hz: RATE_HZ,
            every_look: false,
            ids: ids.clone(),
            stopwatch: Stopwatch::new(Arc::new(SystemClock::new())),
            progress: Box::new(|_| {}),
        };
        Ok(Self { embedder: opened.embedder()?, replay, ids })
    }

    /// The tracks of a folder with captions.json, or of a recording, with the truth that lies beside it
    /// where there is one.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(super) fn read(&mut self, path: &Path) -> Result<Vec<Named>> {
        eprintln!("{}", path.display());
        if path.is_dir() { self.folder(path) } else { self.recording(path) }
    }

    /// Pictures of one person that follow each other are the looks of one track.
    fn folder(&mut self, folder: &Path) -> Result<Vec<Named>> {
        let list = folder.join("captions.json");
        let pictures = fs::read(&list).map_err(Error::io(&list))?;
        let pictures: Vec<Picture> = serde_json::from_slice(&pictures)
            .with_context(|| format!("{} is no list of pictures", list.display()))?;
        let camera = CameraId::new("pictures")?;
        let mut tracks = Vec::new();
        for of_one in pictures.chunk_by(|one, next| one.id == next.id) {
            let mut looks = Vec::with_capacity(of_one.len());
            for picture in of_one {
                let picture = picture::read(&place(folder, &picture.file_path))?;
                let embedding = self.embedder.embed(picture.view())?;
                looks.push(Look { embedding, quality: QUALITY, at: Mono::default() });
            }
            let (track, at) = (self.ids.next(), Timestamp::UNIX_EPOCH);
            tracks.push(Named {
                passed: Passed { camera: camera.clone(), track, at, looks },
                names: of_one.iter().map(|picture| picture.file_path.clone()).collect(),
            });
        }
        Ok(tracks)
    }

    fn recording(&mut self, video: &Path) -> Result<Vec<Named>> {
        let recording = self.replay.run(&CameraId::new("recording")?, video)?;
        let truth = video.with_extension("truth.json");
        let shows = match truth.exists() {
            true => recording.compare(&Truth::read(&truth)?)?.shows,
            false => Default::default(),
        };
        let stem = video.file_stem().unwrap_or_default().to_string_lossy();
        let name = |track: &TrackId| shows.get(track).map(|person| format!("{stem}/{person}"));
        let named =
            |passed: Passed| Named { names: name(&passed.track).into_iter().collect(), passed };
        Ok(recording.passed.into_iter().map(named).collect())
    }
}

/// The published data sets name their pictures with or without the folder `imgs`.
fn place(folder: &Path, file_path: &str) -> PathBuf {
    let plain = folder.join(file_path);
    if plain.exists() { plain } else { folder.join("imgs").join(file_path) }
}

/// The texts of a list.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn alerts(list: &PathBuf) -> Result<Vec<Alert>> {
    let bytes = fs::read(list).map_err(Error::io(list))?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is no list of texts: {{text, matches}}", list.display()))
}
