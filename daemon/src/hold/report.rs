//! What became of a hold, and what all of them keep.

use serde::{Deserialize, Serialize};

use crate::{
    alert::rfc3339,
    frame::CameraId,
    gallery::{
        Ended, Gallery, Hold, Holding, Holdings, MAX_HOLDS, Placed, Selection, Settings, Why,
    },
};

/// Who is held, or would be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// The hold's number; none where one would be made.
    pub hold: Option<u64>,
    /// Whether the same was held already.
    pub known: bool,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub by: Option<String>,
    /// When, RFC 3339.
    pub at: Option<String>,
    /// Tracks that it keeps now.
    pub tracks: usize,
    /// Their pictures.
    pub track_pictures: usize,
    /// When the first of the tracks was first seen, RFC 3339.
    pub first_seen: Option<String>,
    /// When the last of them was last seen.
    pub last_seen: Option<String>,
    /// Tracks that would be deleted by their age.
    pub overdue: usize,
    /// What a person should know although it is held.
    pub warnings: Vec<String>,
}

impl Report {
    pub(super) fn of(placed: Option<&Placed>, why: &Why, own: &Holding, dry_run: bool) -> Self {
        let hold = placed.map(Placed::hold);
        let Why { reason, by, at } = hold.map_or(why, |hold| &hold.why).clone();
        Self {
            dry_run,
            hold: hold.map(|hold| hold.id.0),
            known: matches!(placed, Some(Placed::Known(_))),
            reason,
            by,
            at: at.map(rfc3339),
            tracks: own.records,
            track_pictures: own.pictures,
            first_seen: own.first.map(rfc3339),
            last_seen: own.last.map(rfc3339),
            overdue: own.overdue,
            warnings: Vec::new(),
        }
    }
}

/// What the end of a hold frees, or would.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// The hold's number.
    pub hold: u64,
    /// Whether it was released before; then what follows is of that release.
    pub before: bool,
    /// Why it was held.
    pub reason: String,
    /// Who asked for it.
    pub by: Option<String>,
    /// When, RFC 3339.
    pub at: Option<String>,
    /// Tracks that no other hold keeps.
    pub tracks: usize,
    /// Those of them that are too old: they go at the next pass, within a minute of a running daemon.
    pub overdue: usize,
}

impl Ending {
    pub(super) fn now(hold: &Hold, dry_run: bool) -> Self {
        let Why { reason, by, at } = hold.why.clone();
        let (hold, at) = (hold.id.0, at.map(rfc3339));
        Self { dry_run, hold, reason, by, at, ..Self::default() }
    }

    pub(super) fn before(ended: &Ended, dry_run: bool) -> Self {
        let Why { reason, by, at } = ended.why.clone();
        let (hold, at) = (ended.id.0, at.map(rfc3339));
        Self { dry_run, hold, before: true, reason, by, at, ..Self::default() }
    }
}

/// All holds of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct List {
    /// Oldest first.
    pub holds: Vec<Listed>,
    /// How many there may be.
    pub most: usize,
    /// Tracks that any of them keeps.
    pub tracks: usize,
    /// Bytes of the files of tracks that stay for them.
    pub track_bytes: u64,
    /// Bytes of the files of pictures that stay for them.
    pub picture_bytes: u64,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl Default for List {
    fn default() -> Self {
        Self {
            holds: Vec::new(),
            most: MAX_HOLDS,
            tracks: 0,
            track_bytes: 0,
            picture_bytes: 0,
            warnings: Vec::new(),
        }
    }
}

/// One hold, and what it keeps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// Its number.
    pub hold: u64,
    /// Everybody in view from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// And before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// At this camera.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera: Option<CameraId>,
    /// One track, by the number that a search gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Whoever this sighting told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sighting: Option<String>,
    /// Tracks of this number at the camera, in every run of the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<u64>,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub by: Option<String>,
    /// When, RFC 3339.
    pub at: Option<String>,
    /// The id of the request, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Tracks that it keeps now.
    pub tracks: usize,
    /// Their pictures.
    pub track_pictures: usize,
    /// When the first of the tracks was first seen, RFC 3339.
    pub first_seen: Option<String>,
    /// When the last of them was last seen.
    pub last_seen: Option<String>,
    /// Tracks that would be deleted by their age.
    pub overdue: usize,
}

impl List {
    pub(super) fn of(holds: Vec<Hold>, holdings: Holdings, settings: &Settings) -> Self {
        let warnings = over_limits(&holdings, settings);
        let listed = holds.into_iter().zip(holdings.each);
        Self {
            holds: listed.map(|(hold, holding)| Listed::of(hold, &holding)).collect(),
            tracks: holdings.records,
            track_bytes: holdings.track_bytes,
            picture_bytes: holdings.picture_bytes,
            warnings,
            ..Self::default()
        }
    }
}

impl Listed {
    fn of(hold: Hold, holding: &Holding) -> Self {
        let Why { reason, by, at } = hold.why;
        let listed = Self {
            hold: hold.id.0,
            reason,
            by,
            at: at.map(rfc3339),
            request: hold.request,
            tracks: holding.records,
            track_pictures: holding.pictures,
            first_seen: holding.first.map(rfc3339),
            last_seen: holding.last.map(rfc3339),
            overdue: holding.overdue,
            ..Self::default()
        };
        match hold.selection {
            Selection::Span { from, to, camera } => {
                Self { from: Some(rfc3339(from)), to: Some(rfc3339(to)), camera, ..listed }
            }
            Selection::Camera(camera) => Self { camera: Some(camera), ..listed },
            Selection::Track { camera, track } => {
                Self { camera: Some(camera), track: Some(track), ..listed }
            }
            Selection::Sighting(id) => Self { sighting: Some(id.to_string()), ..listed },
            Selection::Record(id) => Self { id: Some(id.0), ..listed },
        }
    }
}

/// What there is to say of a hold that is taken all the same. `holdings` are those of all holds with it.
pub(super) fn warnings(
    selection: &Selection,
    own: &Holding,
    holdings: &Holdings,
    gallery: &Gallery,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let camera = selection.camera().filter(|camera| !holdings.cameras.contains(camera));
    match camera {
        Some(camera) if !holdings.cameras.is_empty() => {
            let kept: Vec<&str> = holdings.cameras.iter().map(CameraId::as_str).collect();
            warnings.push(format!(
                "no track of a camera {camera} is kept; of these there are some: {}",
                kept.join(", ")
            ));
        }
        _ if own.records == 0 => warnings.push(
            "nobody who is kept fits; whoever comes into the gallery and fits is held from then on"
                .to_owned(),
        ),
        _ => {}
    }
    if matches!(selection, Selection::Camera(_)) {
        warnings.push(
            "it has no end: everybody who comes to this camera is held too, until the disk is full. Say --from \
             and --to where a time is meant"
                .to_owned(),
        );
    }
    warnings.extend(over_limits(holdings, gallery.settings()));
    if holdings.damaged > 0 {
        warnings.push(format!(
            "{} damaged files or parts of files: nobody can say who is in them. They stay as long as anything is \
             held; keep a copy of {} where that matters",
            holdings.damaged,
            gallery.folder().display()
        ));
    }
    warnings
}

/// The limits that cannot be kept while all this is held.
fn over_limits(holdings: &Holdings, settings: &Settings) -> Vec<String> {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let size = |bytes: u64| format!("{:.1} MiB", mib(bytes));
    let limits = [
        (holdings.track_bytes, settings.max_bytes, "track_bytes"),
        (holdings.picture_bytes, settings.max_picture_bytes, "picture_bytes"),
    ];
    let over = limits.into_iter().filter(|(bytes, most, _)| bytes > most);
    let mut warnings: Vec<String> = over
        .map(|(bytes, most, name)| {
            format!(
                "the files that stay for what is held have {}, more than {name} allows ({}): the limit cannot be \
                 kept, and all others are deleted the sooner. Raise [gallery] {name}, or release what is over",
                size(bytes),
                size(most)
            )
        })
        .collect();
    if holdings.records > settings.max_tracks {
        warnings.push(format!(
            "{} tracks are held, more than the {} that a gallery keeps: the limit cannot be kept, and all others \
             are deleted the sooner. Release what is over",
            holdings.records, settings.max_tracks
        ));
    }
    warnings
}
