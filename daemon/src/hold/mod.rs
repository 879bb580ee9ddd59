//! HOLD: persons who must not be deleted, for as long as somebody says so.
//!
//! A hold is a selection with a reason and a name. What it means is neither deleted by its age or for room
//! nor erased; whoever comes later and fits is held too. The gallery keeps the holds
//! ([`Gallery::hold`]) and asks them wherever something goes; here is what staff say and hear.
//!
//! The same code serves the running daemon and, on the files alone, a command while none runs.

mod fields;
mod report;

use std::sync::Arc;

pub use fields::{Fields, ReleaseFields, ReleaseWish, Wish};
pub use report::{Ending, List, Listed, Report};

use crate::{
    erase::Eraser,
    error::{Error, Result},
    gallery::{Gallery, Hold, HoldId, Holdings, Placed, Release, Selection, Why},
};

/// Holds who is meant, or says who would be held.
///
/// # Errors
/// [`Error::Config`] where one person is meant who is not kept, or may be in a damaged file, where the device
/// has too many holds, or where it keeps nobody; [`Error::Io`] where files cannot be read or written: nothing
/// is held then.
pub fn place(eraser: &Eraser, wish: &Wish) -> Result<Report> {
    let gallery = gallery(eraser, wish.dry_run)?;
    let why = Why { at: Some(eraser.wall().at), ..wish.why.clone() };
    let request = wish.request.as_deref();
    let known = gallery.known_hold(&wish.selection, &why, request)?;
    let mut selections: Vec<Selection> = selections(&gallery.holds());
    selections.push(wish.selection.clone());
    let mut holdings = gallery.holdings(&selections, eraser.wall())?;
    let own = holdings.each.pop().unwrap_or_default();
    if known.is_none() && own.records == 0 {
        find(eraser, &gallery, &wish.selection, &holdings)?;
    }
    let placed = match wish.dry_run {
        true => known.map(Placed::Known),
        false => Some(gallery.hold(wish.selection.clone(), why.clone(), request)?),
    };
    if let Some(Placed::New(hold)) = &placed {
        tracing::warn!(
            hold = hold.id.0,
            reason = hold.why.reason,
            by = hold.why.by,
            tracks = own.records,
            "Persons are held on request: they are neither deleted nor erased."
        );
    }
    let mut report = Report::of(placed.as_ref(), &why, &own, wish.dry_run);
    report.warnings = report::warnings(&wish.selection, &own, &holdings, &gallery);
    if let Some(Placed::New(hold)) = &placed {
        for warning in &report.warnings {
            tracing::warn!(hold = hold.id.0, warning, "Something is to be known of a hold.");
        }
    }
    Ok(report)
}

/// Ends a hold, or says what that would free.
///
/// # Errors
/// [`Error::Config`] for a number that no hold has; [`Error::Io`] where files cannot be read or written: it
/// holds on then.
pub fn release(eraser: &Eraser, wish: &ReleaseWish) -> Result<Ending> {
    let gallery = gallery(eraser, wish.dry_run)?;
    let why = Why { at: Some(eraser.wall().at), ..wish.why.clone() };
    let id = HoldId(wish.hold);
    let holds = gallery.holds();
    let others: Vec<Hold> = holds.iter().filter(|hold| hold.id != id).cloned().collect();
    let all = gallery.holdings(&selections(&holds), eraser.wall())?;
    let rest = gallery.holdings(&selections(&others), eraser.wall())?;
    let released = match holds.into_iter().find(|hold| hold.id == id) {
        Some(hold) if wish.dry_run => Release::Now(hold),
        _ => gallery.release(id, why)?,
    };
    let hold = match released {
        Release::Now(hold) => hold,
        Release::Before(ended) => return Ok(Ending::before(&ended, wish.dry_run)),
        Release::Unknown => {
            let reason = "is none of this device: `spotterd hold list` names them";
            return Err(Error::config(format!("hold {}", id.0), reason));
        }
    };
    let mut ending = Ending::now(&hold, wish.dry_run);
    ending.tracks = all.records.saturating_sub(rest.records);
    ending.overdue = all.overdue.saturating_sub(rest.overdue);
    if !wish.dry_run {
        tracing::warn!(
            hold = id.0,
            reason = wish.why.reason,
            by = wish.why.by,
            tracks = ending.tracks,
            "A hold was released on request: what it held grows old as everything does."
        );
    }
    Ok(ending)
}

/// All holds, and what they keep.
///
/// # Errors
/// [`Error::Io`] where files cannot be read.
pub fn list(eraser: &Eraser) -> Result<List> {
    let Some(gallery) = eraser.kept(true)? else { return Ok(List::default()) };
    let holds = gallery.holds();
    let holdings = gallery.holdings(&selections(&holds), eraser.wall())?;
    Ok(List::of(holds, holdings, gallery.settings()))
}

fn selections(holds: &[Hold]) -> Vec<Selection> {
    holds.iter().map(|hold| hold.selection.clone()).collect()
}

fn gallery(eraser: &Eraser, only_look: bool) -> Result<Arc<Gallery>> {
    eraser.kept(only_look)?.ok_or_else(|| {
        let reason = "has no gallery: it keeps nobody ([gallery] keep), so nobody can be held";
        Error::config("hold: this device", reason)
    })
}

/// Whether one person who is meant may be there although nobody who can be read fits.
///
/// # Errors
/// [`Error::Config`] where that is known not to be so, or nobody can say: a hold that holds nobody is not what
/// was asked for.
fn find(
    eraser: &Eraser,
    gallery: &Gallery,
    selection: &Selection,
    holdings: &Holdings,
) -> Result<()> {
    let (place, is_told) = match selection {
        Selection::Record(id) => (format!("id {}", id.0), false),
        Selection::Sighting(id) => {
            let is_told = eraser.told()?.iter().any(|trace| trace.sighting == Some(*id));
            (format!("sighting {id}"), is_told)
        }
        _ => return Ok(()),
    };
    if is_told {
        return Ok(());
    }
    if holdings.damaged > 0 {
        let reason = format!(
            "nobody who can be read fits, and {} damaged files or parts of files may have them: put whole ones \
             back from a copy ({}, with the daemon stopped) and say this again, or hold the time in which they \
             were seen (--from, --to): what is damaged stays too as long as anything is held",
            holdings.damaged,
            gallery.folder().display()
        );
        return Err(Error::config(place, reason));
    }
    match selection {
        Selection::Record(_) => {
            let reason = "nobody of that number is kept here any more, so nobody can be held; `spotterd search` \
                          names who is";
            Err(Error::config(place, reason))
        }
        _ => Ok(()),
    }
}
