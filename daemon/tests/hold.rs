//! Holding persons of a state folder, and ending that.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod folder;
mod state;

use std::{fs, time::Duration};

use folder::files;
use jiff::Timestamp;
use spotterd::{
    alert::Wall,
    erase::Eraser,
    frame::CameraId,
    gallery::{Gallery, Settings},
    hold::{self, Ending, Fields, List, ReleaseFields, Report},
    sighting::SightingId,
};
use state::{State, at_gate, camera, second, sighting};

/// Holds with these limits of the gallery.
struct Desk {
    state: State,
    settings: Settings,
}

impl Desk {
    fn new() -> Self {
        let state = State::new();
        state.fill();
        let settings = Settings::new(state.folder.path().join("gallery"));
        Self { state, settings }
    }

    fn eraser(&self, only_look: bool) -> Eraser {
        let (folder, settings) = (self.state.folder.path(), self.settings.clone());
        Eraser::open_as(folder, settings, only_look, self.state.clock()).unwrap()
    }

    fn hold(&self, fields: &Fields) -> Result<Report, String> {
        let wish = fields.wish().unwrap();
        hold::place(&self.eraser(wish.dry_run), &wish).map_err(|error| error.to_string())
    }

    fn release(&self, hold: u64, dry_run: bool) -> Result<Ending, String> {
        let (reason, by) = ("closed".to_owned(), "legal".to_owned());
        let fields = ReleaseFields { hold, reason, by, dry_run, ..ReleaseFields::default() };
        let wish = fields.wish().unwrap();
        hold::release(&self.eraser(dry_run), &wish).map_err(|error| error.to_string())
    }

    fn list(&self) -> List {
        hold::list(&self.eraser(true)).unwrap()
    }

    /// A minute of the daemon's retention, at this second.
    fn upkeep(&self, at: i64) {
        let gallery = Gallery::open(self.settings.clone(), self.state.clock()).unwrap();
        gallery.upkeep(Wall { at: second(at), synced: Some(true) }).unwrap();
    }
}

fn fields() -> Fields {
    Fields { reason: "case 2031".into(), by: "legal".into(), ..Fields::default() }
}

#[test]
fn who_is_held_is_named_with_who_asked_and_goes_once_that_is_over() {
    let mut desk = Desk::new();
    desk.settings.max_age = Duration::from_secs(60);
    let one = Fields { sighting: Some(sighting(3).to_string()), ..fields() };
    let gate = Fields { camera: Some(camera(0)), ..fields() };
    let dry = desk.hold(&Fields { dry_run: true, ..one.clone() }).unwrap();
    assert_eq!((dry.hold, dry.tracks, dry.track_pictures), (None, 1, 1));
    assert!(desk.list().holds.is_empty(), "nothing was done");
    let held = desk.hold(&one).unwrap();
    assert_eq!((held.hold, held.known, held.tracks), (Some(1), false, 1));
    assert_eq!(held.warnings, Vec::<String>::new());
    let again = desk.hold(&one).unwrap();
    assert_eq!((again.hold, again.known), (Some(1), true));
    let endless = desk.hold(&gate).unwrap();
    assert_eq!((endless.hold, endless.tracks), (Some(2), 3));
    assert!(endless.warnings.iter().any(|w| w.contains("has no end")), "{endless:?}");
    let list = desk.list();
    let tracks: Vec<usize> = list.holds.iter().map(|hold| hold.tracks).collect();
    assert_eq!((tracks, list.tracks, list.most), (vec![1, 3], 3, 100));
    assert_eq!(list.holds[0].sighting, one.sighting);
    assert_eq!((list.holds[1].camera.clone(), list.holds[1].id), (Some(camera(0)), None));
    assert_eq!(list.holds[0].by.as_deref(), Some("legal"));
    assert!(list.holds[0].at.as_deref().is_some_and(|at| at.parse::<Timestamp>().is_ok()));

    // Too old, and held: 0, 3 and 6 stay.
    desk.upkeep(1_000);
    let kept: Vec<u64> = desk.list().holds.iter().map(|hold| hold.tracks as u64).collect();
    assert_eq!(kept, [1, 3]);
    let report = desk.state.erase(&at_gate());
    let held: Vec<(u64, usize, usize)> =
        report.held.iter().map(|held| (held.hold, held.tracks, held.told)).collect();
    // One that two hold counts for the older.
    assert_eq!(held, [(1, 1, 1), (2, 2, 2)]);
    assert!(report.held.iter().all(|held| held.reason == "case 2031"));
    assert_eq!(report.tracks, 0);

    // The narrower one keeps 3 when the other ends.
    let ending = desk.release(2, true).unwrap();
    assert_eq!((ending.tracks, ending.dry_run, desk.list().holds.len()), (2, true, 2));
    let ending = desk.release(2, false).unwrap();
    assert_eq!((ending.tracks, ending.before, ending.reason.as_str()), (2, false, "case 2031"));
    desk.upkeep(1_000);
    assert_eq!(desk.list().tracks, 1);
    let before = desk.release(2, false).unwrap();
    assert_eq!((before.before, before.reason.as_str()), (true, "closed"));
    assert!(desk.release(7, false).unwrap_err().contains("hold list"));
    desk.release(1, false).unwrap();
    desk.upkeep(1_000);
    assert_eq!(desk.state.gallery().counts().records, 0);
    // What waits for the broker is not the gallery's: erased now that nothing holds it.
    assert!(desk.state.left(3) > 0);
    assert_eq!(desk.state.erase(&at_gate()).held, []);
    assert_eq!([0, 3, 6].map(|number| desk.state.left(number)), [0, 0, 0]);
}

#[test]
fn one_person_who_is_not_there_is_not_held() {
    let desk = Desk::new();
    let id = |id| Fields { id: Some(id), ..fields() };
    let nobody = desk.hold(&id(99)).unwrap_err();
    assert!(nobody.contains("id 99: nobody of that number is kept"), "{nobody}");
    // A camera or a time may come to mean somebody: held, with a word.
    let nowhere = Fields { camera: Some(CameraId::new("gaet").unwrap()), ..fields() };
    let held = desk.hold(&nowhere).unwrap();
    assert!(held.warnings[0].contains("gaet is kept; of these there are some: gate"), "{held:?}");
    let later = (second(5_000).to_string(), second(6_000).to_string());
    let later = Fields { from: Some(later.0), to: Some(later.1), ..fields() };
    let held = desk.hold(&later).unwrap();
    assert!(held.warnings[0].starts_with("nobody who is kept fits"), "{held:?}");

    // In a damaged file they may be: refused, with what to do; a time is held, with a word.
    let gallery = desk.state.folder.path().join("gallery");
    let tracks: Vec<_> = files(&gallery)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "tracks"))
        .collect();
    let mut bytes = fs::read(&tracks[0]).unwrap();
    bytes[..8].fill(b'X');
    fs::write(&tracks[0], &bytes).unwrap();
    for one in [id(1), Fields { sighting: Some(SightingId::from_bits(5).to_string()), ..fields() }]
    {
        let refused = desk.hold(&one).unwrap_err();
        for words in ["1 damaged files", "put whole ones back", "--from, --to"] {
            assert!(refused.contains(words), "{words}: {refused}");
        }
    }
    let told = desk.hold(&Fields { sighting: Some(sighting(3).to_string()), ..fields() }).unwrap();
    assert!(
        told.warnings.iter().any(|w| w.contains("1 damaged files")),
        "its report waits: {told:?}"
    );
}

#[test]
fn a_hold_that_breaks_a_limit_is_taken_and_warned_of() {
    let mut desk = Desk::new();
    let gate =
        Fields { from: Some(second(0).to_string()), to: Some(second(99).to_string()), ..fields() };
    assert_eq!(desk.hold(&gate).unwrap().warnings, Vec::<String>::new());
    desk.settings.max_bytes = 100;
    desk.settings.max_tracks = 8;
    let one = Fields { id: Some(1), ..fields() };
    let held = desk.hold(&one).unwrap();
    assert_eq!(held.hold, Some(2));
    for words in ["more than track_bytes allows (0.0 MiB)", "9 tracks are held, more than the 8"] {
        assert!(held.warnings.iter().any(|w| w.contains(words)), "{words}: {held:?}");
    }
    assert!(!held.warnings.iter().any(|w| w.contains("picture_bytes")), "{held:?}");
    assert_eq!(desk.list().warnings, held.warnings);
}

#[test]
fn a_device_that_keeps_nobody_holds_nobody() {
    let state = State::new();
    drop(state.outbox());
    let eraser = Eraser::open(state.folder.path(), false, state.clock()).unwrap();
    let wish = Fields { camera: Some(camera(0)), ..fields() }.wish().unwrap();
    let refused = hold::place(&eraser, &wish).unwrap_err().to_string();
    assert!(refused.contains("[gallery] keep"), "{refused}");
    assert!(hold::list(&eraser).unwrap().holds.is_empty());
}
