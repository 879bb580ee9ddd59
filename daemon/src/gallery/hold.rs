//! What must not be deleted: a list beside the records, written whole at every change.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{record::RecordId, selection::Selection};
use crate::{
    error::{Error, Result},
    frame::CameraId,
};

/// The number of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HoldId(pub u64);

/// Records that retention leaves alone and that are not erased unless that is forced. It is the
/// selection that is held: a record that comes later and fits is held too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its number.
    pub id: HoldId,
    /// What is held.
    pub selection: Selection,
    /// Why, in the words of who asked for it.
    pub reason: String,
}

/// All holds and their file.
pub(super) struct Holds {
    path: PathBuf,
    next: u64,
    pub(super) list: Vec<Hold>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    next: u64,
    holds: Vec<SavedHold>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedHold {
    id: HoldId,
    reason: String,
    selection: SavedSelection,
}

/// A selection as text: ids and times in the form in which messages carry them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum SavedSelection {
    Span { from: String, to: String, camera: Option<CameraId> },
    Camera(CameraId),
    Track { camera: CameraId, track: u64 },
    Sighting(String),
    Record(u64),
}

const VERSION: u32 = 1;

impl Holds {
    /// Reads the list; an empty one where there is no file.
    ///
    /// # Errors
    /// [`Error::Config`] where it cannot be read: without it everything would be deleted that is
    /// held, so nothing is opened.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, next: 1, list: Vec::new() });
            }
            Err(error) => return Err(Error::io(&path)(error)),
        };
        let refuse = |reason: String| {
            let reason = format!(
                "the list of what must not be deleted cannot be read ({reason}): put it right, or move it \
                 away and let what it holds be deleted"
            );
            Error::config(path.display().to_string(), reason)
        };
        let saved: Saved =
            serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
        if saved.version > VERSION {
            return Err(refuse(format!("a newer spotterd wrote version {}", saved.version)));
        }
        let list = saved.holds.into_iter().map(SavedHold::into_hold).collect::<Option<_>>();
        let list = list.ok_or_else(|| refuse("a time or an id is none".into()))?;
        Ok(Self { path, next: saved.next, list })
    }

    /// Adds a hold, on disk when it returns.
    pub(super) fn add(&mut self, selection: Selection, reason: &str) -> Result<HoldId> {
        let id = HoldId(self.next);
        self.next += 1;
        self.list.push(Hold { id, selection, reason: reason.to_owned() });
        self.save().inspect_err(|_| drop(self.list.pop()))?;
        Ok(id)
    }

    /// Ends a hold; says whether there was one of that number.
    pub(super) fn release(&mut self, id: HoldId) -> Result<bool> {
        let Some(index) = self.list.iter().position(|hold| hold.id == id) else { return Ok(false) };
        let hold = self.list.remove(index);
        self.save().inspect_err(|_| self.list.push(hold))?;
        Ok(true)
    }

    /// Written aside and moved, so that no crash leaves half a list.
    fn save(&self) -> Result<()> {
        let holds = self.list.iter().map(SavedHold::of).collect();
        let saved = Saved { version: VERSION, next: self.next, holds };
        let text = serde_json::to_vec_pretty(&saved)
            .map_err(|error| Error::internal("holds", error.to_string()))?;
        let part = self.path.with_extension("part");
        let write = || -> io::Result<()> {
            let mut file = File::create(&part)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&part, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(Error::io(&self.path))
    }
}

impl SavedHold {
    fn of(hold: &Hold) -> Self {
        let selection = match hold.selection.clone() {
            Selection::Span { from, to, camera } => {
                SavedSelection::Span { from: from.to_string(), to: to.to_string(), camera }
            }
            Selection::Camera(camera) => SavedSelection::Camera(camera),
            Selection::Track { camera, track } => SavedSelection::Track { camera, track },
            Selection::Sighting(id) => SavedSelection::Sighting(id.to_string()),
            Selection::Record(id) => SavedSelection::Record(id.0),
        };
        Self { id: hold.id, reason: hold.reason.clone(), selection }
    }

    fn into_hold(self) -> Option<Hold> {
        let time = |text: String| text.parse::<Timestamp>().ok();
        let selection = match self.selection {
            SavedSelection::Span { from, to, camera } => {
                Selection::Span { from: time(from)?, to: time(to)?, camera }
            }
            SavedSelection::Camera(camera) => Selection::Camera(camera),
            SavedSelection::Track { camera, track } => Selection::Track { camera, track },
            SavedSelection::Sighting(id) => Selection::Sighting(id.parse().ok()?),
            SavedSelection::Record(id) => Selection::Record(RecordId(id)),
        };
        Some(Hold { id: self.id, selection, reason: self.reason })
    }
}
