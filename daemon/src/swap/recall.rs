//! What another bundle sees of those who passed: by the pictures that are kept of them.

use std::sync::Arc;

use spotter_models::Generation;

use crate::{
    clock::{Mono, Stop},
    embed::Embedder,
    error::Result,
    gallery::{Gallery, Recent, RecordId},
    keep, picture,
    score::{History, Look, Passed},
    track::TrackId,
};

/// Tracks that thresholds are to rest on at a switch; whoever passes from then on adds to them. As many as replace
/// the bundle's background cohort.
const ENOUGH: usize = 1024;

/// Brings into the history what the embedder's bundle knows of those who passed: what it saw itself while it served
/// before, and what it sees in the pictures of those whom the serving bundle saw last. One look at each: the best view
/// is the one that is kept.
pub(super) fn all(
    gallery: &Arc<Gallery>,
    embedder: &mut Embedder,
    (serving, history): (Generation, &History),
    stop: &Stop,
) {
    let remembered = keep::remembered(gallery, embedder.generation());
    let own = remembered.len();
    let missing = ENOUGH.saturating_sub(own);
    // Who was seen by it before was seen before the others. Newest first in the gallery, oldest first in the history.
    for (id, passed) in remembered {
        if let Err(error) = bring(gallery, history, (id, passed)) {
            tracing::warn!(%error, "Somebody who passed is not known to the new bundle.");
        }
    }
    let recent: Vec<Recent> = gallery.recent(missing, &[], serving).flatten().collect();
    let mut seen = 0;
    for recent in recent.into_iter().rev() {
        if stop.asked() {
            return;
        }
        match look(gallery, embedder, &recent, history) {
            Ok(has_picture) => seen += usize::from(has_picture),
            Err(error) => tracing::warn!(%error, "Somebody who passed was not seen anew."),
        }
    }
    tracing::info!(own, seen, "The new bundle knows who passed.");
}

fn look(
    gallery: &Gallery,
    embedder: &mut Embedder,
    recent: &Recent,
    history: &History,
) -> Result<bool> {
    let Some(jpeg) = gallery.picture(recent.id)? else { return Ok(false) };
    let embedding = embedder.embed(picture::decode(&jpeg)?.view())?;
    let quality = recent.looks.iter().map(|look| look.quality).fold(0.0, f32::max);
    let passed = Passed {
        camera: recent.camera.clone(),
        track: TrackId(recent.track),
        at: recent.last,
        looks: vec![Look { embedding, quality, at: Mono::default() }],
    };
    bring(gallery, history, (recent.id, passed))?;
    Ok(true)
}

/// Brings somebody of the gallery into the history, unless they are erased meanwhile: an erasure forgets them there after it has
/// taken them out of the gallery, and whichever of that and of this comes last sees the other.
fn bring(gallery: &Gallery, history: &History, (id, passed): (RecordId, Passed)) -> Result<()> {
    let known = passed.clone();
    history.recall(passed);
    if gallery.record(id)?.is_none() {
        history.forget(|passed| *passed == known);
    }
    Ok(())
}
