//! Changes as they happen: server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, broadcast::error::RecvError};

use super::board::{Board, Change};

/// A line often enough that a proxy keeps the connection and a dead one is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Everything that changes from now on, for as long as the reader stays. `sighting` carries JSON,
/// `changed` says that something else is new, or that the reader was too slow for single events.
pub(super) fn watch(board: &Arc<Board>, place: OwnedSemaphorePermit) -> Response {
    let changes = board.subscribe();
    let first = Some(Change::Other);
    // The place is given back when the stream is dropped.
    let events = stream::unfold((changes, first, place), |(mut changes, first, place)| async {
        let change = match first {
            // At once, for what happened between the page's loading and now.
            Some(change) => change,
            None => match changes.recv().await {
                Ok(change) => change,
                Err(RecvError::Lagged(_)) => Change::Other,
                Err(RecvError::Closed) => return None,
            },
        };
        let event = match change {
            Change::Sighting(json) => Event::default().event("sighting").data(&*json),
            Change::Other => Event::default().event("changed").data("{}"),
        };
        Some((Ok::<_, Infallible>(event), (changes, None, place)))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
