//! A real RTSP server: as a library for the program `rtsp-server`, and that program as a process that
//! tests start and kill.

#![expect(clippy::disallowed_methods, reason = "a server that sends as time passes")]

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use gstreamer::{self as gst, glib, prelude::*};
use gstreamer_app as gst_app;
use gstreamer_rtsp_server::{self as server, prelude::*};

use crate::clip::Clip;

/// What is served, and to whom.
pub struct Serving {
    /// Mount points, such as `/gate`, and what each sends.
    pub mounts: HashMap<String, Arc<Clip>>,
    /// User and password, where they are asked for.
    pub credentials: Option<(String, String)>,
    /// The port, 0 for any that is free.
    pub port: u16,
    /// How media may travel.
    pub transports: Transports,
    /// Whether all clips run on one clock from the start of the server on, as a camera's streams do; else each client
    /// gets a clip from its beginning.
    pub is_live: bool,
}

/// How media may travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transports {
    /// As the client wants.
    #[default]
    Any,
    /// In datagrams only, as some old cameras.
    UdpOnly,
}

/// Serves until the process ends; prints `listening PORT` when it can be connected to.
///
/// # Errors
/// Where the port is taken.
pub fn serve(serving: Serving) -> Result<()> {
    gst::init()?;
    let context = glib::MainLoop::new(None, false);
    let server = server::RTSPServer::new();
    server.set_address("127.0.0.1");
    server.set_service(&serving.port.to_string());
    if let Some((user, password)) = &serving.credentials {
        server.set_auth(Some(&auth(user, password)));
    }
    let mounts = server.mount_points().context("a server without mount points")?;
    let begin = serving.is_live.then(Instant::now);
    for (path, clip) in serving.mounts {
        let factory = factory(clip, begin);
        if serving.transports == Transports::UdpOnly {
            factory.set_protocols(server::gst_rtsp::RTSPLowerTrans::UDP);
        }
        if serving.credentials.is_some() {
            factory.add_role_from_structure(&allowed("viewer"));
        }
        mounts.add_factory(&path, factory);
    }
    let attached = server.attach(None).context("the port is taken")?;
    let begins = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    println!("listening {} since {begins}", server.bound_port());
    std::io::stdout().flush()?;
    context.run();
    attached.remove();
    Ok(())
}

fn auth(user: &str, password: &str) -> server::RTSPAuth {
    let auth = server::RTSPAuth::new();
    let token = server::RTSPToken::builder().field("media.factory.role", "viewer").build();
    auth.add_basic(&server::RTSPAuth::make_basic(user, password), &token);
    auth
}

fn allowed(role: &str) -> gst::Structure {
    gst::Structure::builder(role)
        .field("media.factory.access", true)
        .field("media.factory.construct", true)
        .build()
}

/// Each client gets the clip in real time, for ever: from its beginning, or as it runs since `begin`.
fn factory(clip: Arc<Clip>, begin: Option<Instant>) -> server::RTSPMediaFactory {
    let factory = server::RTSPMediaFactory::new();
    let pace = match begin {
        Some(_) => "do-timestamp=true",
        None => "max-buffers=2 ! identity sync=true",
    };
    factory.set_launch(&format!(
        "( appsrc name=frames is-live=true format=time {pace} ! {} )",
        clip.codec.payloader()
    ));
    factory.set_shared(false);
    factory.connect_media_configure(move |_, media| {
        let source = media
            .element()
            .downcast::<gst::Bin>()
            .ok()
            .and_then(|bin| bin.by_name("frames"))
            .and_then(|source| source.downcast::<gst_app::AppSrc>().ok());
        match (source, begin) {
            (Some(source), None) => feed(&source, clip.clone()),
            (Some(source), Some(begin)) => follow(&source, clip.clone(), begin),
            (None, _) => {}
        }
    });
    factory
}

/// Hands over the next frame whenever one is wanted; `identity` keeps the pace.
fn feed(source: &gst_app::AppSrc, clip: Arc<Clip>) {
    source.set_caps(Some(&clip.caps));
    let sent = AtomicU64::new(0);
    let callbacks = gst_app::AppSrcCallbacks::builder().need_data(move |source, _| {
        let number = sent.fetch_add(1, Ordering::Relaxed);
        let Some(frame) = clip.frames.get(number as usize % clip.frames.len()) else { return };
        let mut frame = frame.copy();
        let time = gst::ClockTime::SECOND * number / u64::from(clip.fps);
        if let Some(frame) = frame.get_mut() {
            frame.set_pts(time);
            frame.set_dts(time);
            frame.set_duration(gst::ClockTime::SECOND / u64::from(clip.fps));
        }
        // An error means that the client has gone, and the pipeline with it.
        let _gone = source.push_buffer(frame);
    });
    source.set_callbacks(callbacks.build());
}

/// Hands over frames as their time comes, first all since the last key frame, until the client has gone.
fn follow(source: &gst_app::AppSrc, clip: Arc<Clip>, begin: Instant) {
    source.set_caps(Some(&clip.caps));
    let begun = Arc::new(AtomicBool::new(false));
    let callbacks = gst_app::AppSrcCallbacks::builder().need_data(move |source, _| {
        // Before it wants data it takes none.
        if !begun.swap(true, Ordering::Relaxed) {
            let (source, clip, begun) = (source.clone(), clip.clone(), begun.clone());
            std::thread::spawn(move || {
                send(&source, &clip, begin);
                // It was stopped, as between the description of a stream and its start.
                begun.store(false, Ordering::Relaxed);
            });
        }
    });
    source.set_callbacks(callbacks.build());
}

fn send(source: &gst_app::AppSrc, clip: &Clip, begin: Instant) {
    let fps = f64::from(clip.fps);
    let frame = |number: usize| clip.frames.get(number % clip.frames.len());
    let is_key = |frame: &gst::Buffer| !frame.flags().contains(gst::BufferFlags::DELTA_UNIT);
    let now = (begin.elapsed().as_secs_f64() * fps) as usize;
    let mut number =
        (0..=now).rev().find(|number| frame(*number).is_some_and(is_key)).unwrap_or_default();
    while let Some(frame) = frame(number) {
        let due = begin + Duration::from_secs_f64(number as f64 / fps);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut frame = frame.copy();
        if let Some(frame) = frame.get_mut() {
            // Its time is when it is sent.
            frame.set_pts(gst::ClockTime::NONE);
            frame.set_dts(gst::ClockTime::NONE);
        }
        if source.push_buffer(frame).is_err() {
            return;
        }
        number += 1;
    }
}

/// The program `rtsp-server` as a process. Killed when dropped.
pub struct ServerProcess {
    child: Child,
    port: u16,
    begins: Duration,
}

impl ServerProcess {
    /// Starts `program` and waits until it listens.
    ///
    /// # Errors
    /// Where it does not start or ends before it listens.
    pub fn start(program: &Path, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| program.display().to_string())?;
        let output = child.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let said =
            line.trim().strip_prefix("listening ").and_then(|said| said.split_once(" since "));
        let said = said.and_then(|(port, ms)| Some((port.parse().ok()?, ms.parse().ok()?)));
        match said {
            Some((port, ms)) => Ok(Self { child, port, begins: Duration::from_millis(ms) }),
            None => {
                let status = child.kill().and_then(|()| child.wait());
                bail!("{}: said {line:?} and not where it listens ({status:?})", program.display())
            }
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// When its clips began, since 1970, where they run on one clock.
    pub fn begins(&self) -> Duration {
        self.begins
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The address of a mount point.
    pub fn url(&self, mount: &str) -> String {
        format!("rtsp://127.0.0.1:{}{mount}", self.port)
    }

    /// Ends it as a power cut would: SIGKILL.
    pub fn kill(&mut self) {
        // An error means that it is gone already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
