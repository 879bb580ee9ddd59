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

/// Most holds of a device: each is asked for every record that is to go.
pub const MAX_HOLDS: usize = 100;
/// Longest reason of a hold or of its end, in characters.
pub const MAX_REASON: usize = 500;
/// Longest name of who asks, and longest id of a request, in characters.
pub const MAX_NAME: usize = 100;
/// Ends of holds that are remembered, so that what is said twice is done once.
const MAX_ENDED: usize = 100;

/// Who asks for a hold or for its end, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// The reason, in the words of who asks.
    pub reason: String,
    /// Who asks; nobody is named in the lists of older versions.
    pub by: Option<String>,
    /// When it was asked for.
    pub at: Option<Timestamp>,
}

/// Records that retention leaves alone and that are not erased unless that is forced. It is the
/// selection that is held: a record that comes later and fits is held too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its number.
    pub id: HoldId,
    /// What is held.
    pub selection: Selection,
    /// Who asked for it, and why.
    pub why: Why,
    /// The id of the request, where it had one.
    pub request: Option<String>,
}

/// A hold that was released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub id: HoldId,
    /// The id of the request that had asked for it.
    pub request: Option<String>,
    /// Who released it, and why.
    pub why: Why,
}

/// What became of a wish to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// A new hold.
    New(Hold),
    /// The same was asked for before.
    Known(Hold),
}

impl Placed {
    /// The hold.
    pub fn hold(&self) -> &Hold {
        let (Placed::New(hold) | Placed::Known(hold)) = self;
        hold
    }
}

/// What became of a wish to release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// It holds no longer.
    Now(Hold),
    /// It was released before.
    Before(Ended),
    /// There was never one of that number, or it ended long ago.
    Unknown,
}

/// All holds and their file.
pub(super) struct Holds {
    path: PathBuf,
    next: u64,
    pub(super) list: Vec<Hold>,
    /// Those that were released last, oldest first.
    ended: Vec<Ended>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    next: u64,
    holds: Vec<SavedHold>,
    #[serde(default)]
    ended: Vec<SavedEnd>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedHold {
    id: HoldId,
    reason: String,
    by: Option<String>,
    at: Option<String>,
    request: Option<String>,
    selection: SavedSelection,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedEnd {
    id: HoldId,
    reason: String,
    by: Option<String>,
    at: Option<String>,
    request: Option<String>,
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

/// 1 had neither who asked nor what was released.
const VERSION: u32 = 2;

/// The version alone: a newer one may have fields that are not known here.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

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
                return Ok(Self { path, next: 1, list: Vec::new(), ended: Vec::new() });
            }
            Err(error) => return Err(Error::io(&path)(error)),
        };
        let refuse = |reason: String| {
            let reason = format!(
                "the list of what must not be deleted cannot be read ({reason}): put it right, from a copy if there \
                 is one, or move it away and let what it holds be deleted"
            );
            Error::config(path.display().to_string(), reason)
        };
        let Versioned { version } =
            serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
        if version > VERSION {
            return Err(refuse(format!("a newer spotterd wrote version {version}")));
        }
        let saved: Saved =
            serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
        let list = saved.holds.into_iter().map(SavedHold::into_hold).collect::<Option<_>>();
        let ended = saved.ended.into_iter().map(SavedEnd::into_end).collect::<Option<_>>();
        let (Some(list), Some(ended)) = (list, ended) else {
            return Err(refuse("a time or an id is none".into()));
        };
        Ok(Self { path, next: saved.next, list, ended })
    }

    /// Adds a hold, on disk when it returns. What was asked for before, by the same request or in the same
    /// words, is the same hold.
    pub(super) fn add(
        &mut self,
        selection: Selection,
        why: Why,
        request: Option<&str>,
    ) -> Result<Placed> {
        if let Some(known) = self.known(&selection, &why, request)? {
            return Ok(Placed::Known(known.clone()));
        }
        self.has_room()?;
        let id = HoldId(self.next);
        self.next += 1;
        let hold = Hold { id, selection, why, request: request.map(str::to_owned) };
        self.list.push(hold.clone());
        self.save().inspect_err(|_| drop(self.list.pop()))?;
        Ok(Placed::New(hold))
    }

    /// Whether one more can be kept.
    pub(super) fn has_room(&self) -> Result<()> {
        if self.list.len() < MAX_HOLDS {
            return Ok(());
        }
        let reason = format!(
            "has {MAX_HOLDS} holds, the most that a device keeps: release those that are over (spotterd hold \
             list), or hold a time in place of single persons"
        );
        Err(Error::config("hold: this device", reason))
    }

    /// The hold that this wish has made already.
    ///
    /// # Errors
    /// [`Error::Config`] for the id of a request that asked for something else, or whose hold has ended: who
    /// says it again, late or by mistake, must not hold anew.
    pub(super) fn known(
        &self,
        selection: &Selection,
        why: &Why,
        request: Option<&str>,
    ) -> Result<Option<&Hold>> {
        let is_same = |hold: &&Hold| {
            hold.selection == *selection && hold.why.reason == why.reason && hold.why.by == why.by
        };
        let Some(request) = request else { return Ok(self.list.iter().find(is_same)) };
        let refuse = |reason: String| Error::config(format!("request {request}"), reason);
        let asked = |known: &Option<String>| known.as_deref() == Some(request);
        if let Some(ended) = self.ended.iter().find(|ended| asked(&ended.request)) {
            let reason = format!(
                "made hold {}, which was released: choose another id to hold anew",
                ended.id.0
            );
            return Err(refuse(reason));
        }
        match self.list.iter().find(|hold| asked(&hold.request)) {
            Some(hold) if !is_same(&hold) => {
                let reason = format!(
                    "made hold {}, which says something else: choose another id",
                    hold.id.0
                );
                Err(refuse(reason))
            }
            Some(hold) => Ok(Some(hold)),
            None => Ok(self.list.iter().find(is_same)),
        }
    }

    /// Ends a hold, on disk when it returns.
    pub(super) fn release(&mut self, id: HoldId, why: Why) -> Result<Release> {
        let Some(index) = self.list.iter().position(|hold| hold.id == id) else {
            let before = self.ended.iter().rfind(|ended| ended.id == id).cloned();
            return Ok(before.map_or(Release::Unknown, Release::Before));
        };
        let (list, ended) = (self.list.clone(), self.ended.clone());
        let hold = self.list.remove(index);
        self.ended.push(Ended { id, request: hold.request.clone(), why });
        let surplus = self.ended.len().saturating_sub(MAX_ENDED);
        self.ended.drain(..surplus);
        self.save().inspect_err(|_| (self.list, self.ended) = (list, ended))?;
        Ok(Release::Now(hold))
    }

    /// Written aside and moved, so that no crash leaves half a list.
    fn save(&self) -> Result<()> {
        let holds = self.list.iter().map(SavedHold::of).collect();
        let ended = self.ended.iter().map(SavedEnd::of).collect();
        let saved = Saved { version: VERSION, next: self.next, holds, ended };
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
        let Why { reason, by, at } = hold.why.clone();
        let (at, request) = (at.map(|at| at.to_string()), hold.request.clone());
        Self { id: hold.id, reason, by, at, request, selection }
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
        let why = why(self.reason, self.by, self.at)?;
        Some(Hold { id: self.id, selection, why, request: self.request })
    }
}

impl SavedEnd {
    fn of(ended: &Ended) -> Self {
        let Why { reason, by, at } = ended.why.clone();
        let (at, request) = (at.map(|at| at.to_string()), ended.request.clone());
        Self { id: ended.id, reason, by, at, request }
    }

    fn into_end(self) -> Option<Ended> {
        let why = why(self.reason, self.by, self.at)?;
        Some(Ended { id: self.id, request: self.request, why })
    }
}

fn why(reason: String, by: Option<String>, at: Option<String>) -> Option<Why> {
    let at = match at {
        Some(text) => Some(text.parse().ok()?),
        None => None,
    };
    Some(Why { reason, by, at })
}
