//! A real RTSP server: as a library for the program `rtsp-server`, and that program as a process that
//! tests start and kill.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result, bail};
use gstreamer::{self as gst, glib, prelude::*};
use gstreamer_app as gst_app;
use gstreamer_rtsp_server::{self as server, prelude::*};

use crate::clip::{Clip, FPS};

/// What is served, and to whom.
pub struct Serving {
    /// Mount points, such as `/gate`, and what each sends.
    pub mounts: HashMap<String, Clip>,
    /// User and password, where they are asked for.
    pub credentials: Option<(String, String)>,
    /// The port, 0 for any that is free.
    pub port: u16,
    /// How media may travel.
    pub transports: Transports,
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
    for (path, clip) in serving.mounts {
        let factory = factory(Arc::new(clip));
        if serving.transports == Transports::UdpOnly {
            factory.set_protocols(server::gst_rtsp::RTSPLowerTrans::UDP);
        }
        if serving.credentials.is_some() {
            factory.add_role_from_structure(&allowed("viewer"));
        }
        mounts.add_factory(&path, factory);
    }
    let attached = server.attach(None).context("the port is taken")?;
    println!("listening {}", server.bound_port());
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

/// Each client gets the clip from its beginning, in real time, for ever.
fn factory(clip: Arc<Clip>) -> server::RTSPMediaFactory {
    let factory = server::RTSPMediaFactory::new();
    factory.set_launch(&format!(
        "( appsrc name=frames is-live=true format=time max-buffers=2 ! identity sync=true ! {} )",
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
        if let Some(source) = source {
            feed(&source, clip.clone());
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
        let time = gst::ClockTime::SECOND * number / u64::from(FPS);
        if let Some(frame) = frame.get_mut() {
            frame.set_pts(time);
            frame.set_dts(time);
            frame.set_duration(gst::ClockTime::SECOND / u64::from(FPS));
        }
        // An error means that the client has gone, and the pipeline with it.
        let _gone = source.push_buffer(frame);
    });
    source.set_callbacks(callbacks.build());
}

/// The program `rtsp-server` as a process. Killed when dropped.
pub struct ServerProcess {
    child: Child,
    port: u16,
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
        let port = line.trim().strip_prefix("listening ").and_then(|port| port.parse().ok());
        match port {
            Some(port) => Ok(Self { child, port }),
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
