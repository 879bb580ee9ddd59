//! The local web page: what the device sees and watches for, and whether it is well.
//!
//! [`Board`] holds what is shown; the daemon's parts write it, the page only reads it. [`Page`]
//! serves it from a thread of its own, so that neither a slow browser nor many of them can hold up
//! a camera. It changes nothing on the device and must never listen beyond it: there is no TLS.
//!
//! | route | login | answer |
//! |---|---|---|
//! | `/` | yes, else to `/login` | cameras, alerts and the last sightings, complete without a script |
//! | `/events` | yes, else 401 | the same, as it happens: server-sent events `sighting` and `changed` |
//! | `/sightings/{id}.jpg` | yes, else 401 | the person's picture, while it is kept |
//! | `/metrics` | yes, else 401 | Prometheus text, 404 where nothing is collected |
//! | `/login`, `/logout` | no | the token for a cookie, and back |
//! | `/healthz`, `/readyz` | no | 200 or 503 and one word |
//!
//! `/login#TOKEN` logs in by itself: what stands behind the `#` stays in the browser. Whoever has no
//! browser sends `Authorization: Bearer TOKEN`.

mod access;
mod board;
mod events;
mod html;
mod routes;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::oneshot;

pub use board::{
    AlertShown, Board, CameraShown, CameraState, Health, MAX_ALERTS, MAX_PICTURE_BYTES,
    MAX_SIGHTINGS, SightingShown, Snapshot,
};

use crate::{
    clock::SystemClock,
    error::{Error, Result},
};
use access::{Access, Token};
use routes::Site;

/// Where the page is and who may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A file with nothing but the token: 22 to 256 of `A-Z a-z 0-9 _ -`.
    pub token_file: PathBuf,
}

/// The page, on a thread of its own. Stops when it is dropped.
pub struct Page {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Page {
    /// Whether it could be started now.
    ///
    /// # Errors
    /// As [`Page::start`].
    pub fn check(settings: &Settings) -> Result<()> {
        Token::read(&settings.token_file)?;
        bind(settings.listen).map(drop)
    }

    /// Starts serving. The token is read now; another one counts after a restart, and ends every
    /// login made with the old one.
    ///
    /// # Errors
    /// [`Error::Config`] where the address is not a loopback one or is taken, or where the token
    /// is no good; [`Error::Io`] where its file cannot be read; [`Error::Internal`] where the
    /// system gives no thread.
    pub fn start(
        settings: Settings,
        board: Arc<Board>,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Self> {
        let token = Token::read(&settings.token_file)?;
        let (listener, address) = bind(settings.listen)?;
        let access = Access::new(token, Arc::new(SystemClock::new()));
        let router = routes::router(Site::new(board, access, metrics));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::internal("page runtime", error))?;
        let (stop, asked) = oneshot::channel();
        let work = move || {
            runtime.block_on(async move {
                let listener = match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => return tracing::error!(%error, "The page did not start."),
                };
                tokio::select! {
                    end = axum::serve(listener, router) => {
                        if let Err(error) = end {
                            tracing::error!(%error, "The page stopped.");
                        }
                    }
                    // A dropped sender asks, too.
                    _ = asked => {}
                }
            });
            // Watchers of events never leave by themselves; nobody waits for them.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new()
            .name("page".to_owned())
            .spawn(work)
            .map_err(|error| Error::internal("page thread", error))?;
        tracing::info!(%address, "The page is open.");
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops at once; answers under way are cut.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("The page's thread ended in a panic.");
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.end();
    }
}

fn bind(listen: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let place = || format!("page.listen {listen}");
    if !listen.ip().to_canonical().is_loopback() {
        let reason = "must be a loopback address such as 127.0.0.1:8470, as the page has no TLS; \
                      reach it from another machine through `ssh -L`";
        return Err(Error::config(place(), reason));
    }
    let open = || {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    open().map_err(|error: std::io::Error| Error::config(place(), error.to_string()))
}
