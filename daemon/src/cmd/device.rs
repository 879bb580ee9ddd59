//! This device, for commands about what it keeps: the daemon that has it open, or its files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use super::{alert::Broker, search::moment};
use crate::{
    clock::{Clock, SystemClock},
    config::{CommandName, Config},
    erase::Eraser,
    error::Error,
    frame::CameraId,
    gallery::Settings,
    staff::{Fault, Session, ask::Question, shown, times},
};

/// Who is meant; one thing is said.
#[derive(clap::Args)]
pub(super) struct Whom {
    /// Everybody in view since: 18:00, "2026-11-25 06:00", 2026-11-25T06:00:00Z, or an age: 2h, 3d
    #[arg(long, value_name = "TIME", requires = "to")]
    from: Option<String>,
    /// Everybody in view before; `now` is a time too
    #[arg(long, value_name = "TIME", requires = "from")]
    to: Option<String>,
    /// Everybody at this camera; with --from and --to, in that time
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    /// Somebody whom a search found, by the number or as box-1/4711; not the `track` of a sighting
    #[arg(long, value_name = "ID", conflicts_with_all = ["from", "camera", "sighting"])]
    id: Option<String>,
    /// Whoever a sighting told of, by its id
    #[arg(long, value_name = "ID", conflicts_with_all = ["from", "camera"])]
    sighting: Option<String>,
}

/// The same as payloads have it.
pub(super) struct Said {
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) camera: Option<CameraId>,
    pub(super) id: Option<u64>,
    pub(super) sighting: Option<String>,
}

impl Whom {
    /// What is said of this device.
    ///
    /// # Errors
    /// [`Error::Config`] for what is typed wrong, and for somebody of another device.
    pub(super) fn said(&self, reach: &Reach) -> Result<Said, Error> {
        if let (Some(id), Some(path)) = (&self.id, reach.broker.config())
            && let Some((device, _)) = id.rsplit_once('/')
        {
            let own = Config::load(&path)?.device;
            if own != device {
                let reason = format!("is a track of {device}, and this is {own}: say it there");
                return Err(Error::config(format!("--id {id}"), reason));
            }
        }
        let number = |id: &String| {
            let number = id.rsplit_once('/').map_or(id.as_str(), |(_, number)| number);
            let wrong = "write it as a search names it: 4711 or box-1/4711";
            number.parse().map_err(|_| Error::config(format!("--id {id}"), wrong))
        };
        let time = |name, text: &Option<String>| {
            text.as_ref().map(|text| point(name, text).map(|at| at.to_string())).transpose()
        };
        Ok(Said {
            from: time("--from", &self.from)?,
            to: time("--to", &self.to)?,
            camera: self.camera.as_deref().map(CameraId::new).transpose()?,
            id: self.id.as_ref().map(number).transpose()?,
            sighting: self.sighting.clone(),
        })
    }
}

/// A time as programs write it, as people do, or now.
fn point(name: &str, text: &str) -> Result<Timestamp, Error> {
    match text.parse() {
        Ok(at) => Ok(at),
        Err(_) if text == "now" => Ok(times::now(&SystemClock::new() as &dyn Clock).timestamp()),
        Err(_) => moment(name, text),
    }
}

/// How to come by what this device keeps.
#[derive(clap::Args)]
pub(super) struct Reach {
    /// The state folder, where there is no configuration; no daemon may run on it
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["config", "broker"])]
    state: Option<PathBuf>,
    /// Seconds to wait for a running daemon
    #[arg(long, default_value_t = 120, value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=600))]
    wait: u64,
    #[command(flatten)]
    broker: Broker,
}

/// Who does it.
pub(super) enum Device<'a> {
    /// We do, on the files of this state folder.
    Files { folder: PathBuf, settings: Box<Settings>, bundle: Option<PathBuf> },
    /// The daemon does.
    Daemon { reach: &'a Reach, folder: PathBuf, config: Box<Config> },
}

impl<'a> Device<'a> {
    /// The daemon that has the files open, where it takes the commands of this name; else the files.
    ///
    /// # Errors
    /// [`Error::Config`] where there are none, or a daemon runs that does not take them.
    pub(super) fn find(reach: &'a Reach, command: CommandName) -> Result<Self, Error> {
        let config = reach.broker.config().filter(|_| reach.state.is_none());
        let config = config.map(|path| Config::load(&path)).transpose()?;
        let settings = match (&reach.state, &config) {
            (Some(folder), _) => Settings::new(folder.join("gallery")),
            (None, Some(config)) => Settings::of(config),
            (None, None) => {
                let reason =
                    "is needed: the daemon's configuration, or its state folder with --state";
                return Err(Error::config("--config FILE", reason));
            }
        };
        let folder = settings.folder.parent().unwrap_or(Path::new(".")).to_path_buf();
        if !folder.join("outbox").is_dir() && !folder.join("gallery").is_dir() {
            let reason = "holds neither an outbox nor a gallery: no daemon has kept anything here";
            return Err(Error::config(folder.display().to_string(), reason));
        }
        match Eraser::open_as(&folder, settings.clone(), true, Arc::new(SystemClock::new())) {
            Ok(_) => {
                let bundle = config.map(|config| config.bundle);
                Ok(Device::Files { folder, settings: Box::new(settings), bundle })
            }
            // The one who has it open is the daemon, or somebody who works on it right now.
            Err(error) if error.is_in_use() => by_daemon(reach, config, folder, command),
            Err(error) => Err(error),
        }
    }

    /// Has this done: by the daemon, which is told `command`, or by `own`, on the files; `only_look` changes none.
    ///
    /// # Errors
    /// What the daemon or `own` says; where the daemon cannot be asked, with what to do.
    pub(super) fn tell<R: DeserializeOwned>(
        &self,
        command: &impl Serialize,
        only_look: bool,
        own: impl FnOnce(&Eraser) -> Result<R, Error>,
    ) -> Result<R> {
        let (reach, folder, config) = match self {
            Device::Files { folder, settings, bundle } => {
                let clock = Arc::new(SystemClock::new());
                let settings = settings.as_ref().clone();
                let mut eraser = Eraser::open_as(folder, settings, only_look, clock)?;
                if let Some(bundle) = bundle {
                    eraser = eraser.with_bundles(bundle.clone());
                }
                return Ok(own(&eraser)?);
            }
            Device::Daemon { reach, folder, config } => (reach, folder, config),
        };
        let payload =
            serde_json::to_vec(command).map_err(|error| Error::internal("the command", error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let done = runtime.block_on(ask(reach, &config.device, payload));
        runtime.shutdown_background();
        match done {
            Ok(answer) => Ok(answer),
            Err(Fault::Setting(error)) => Err(error.into()),
            Err(fault) => {
                let place =
                    format!("{}: a daemon runs on it and cannot be asked", folder.display());
                let reason = format!(
                    "{fault}. See to the broker, or stop the daemon (systemctl stop spotterd), then say this again: \
                     it works on the files then"
                );
                Err(Error::internal(place, reason).into())
            }
        }
    }
}

fn by_daemon<'a>(
    reach: &'a Reach,
    config: Option<Config>,
    folder: PathBuf,
    command: CommandName,
) -> Result<Device<'a>, Error> {
    let place = || format!("{}: a daemon runs on it", folder.display());
    let stop = "or stop it first (systemctl stop spotterd) and say this again";
    match config {
        Some(config) if config.mqtt.commands.contains(&command) => {
            Ok(Device::Daemon { reach, folder, config: Box::new(config) })
        }
        Some(config) => {
            let taken = config.mqtt.commands.iter().chain([&command]);
            let names: Vec<String> = taken.map(|name| format!("{:?}", name.as_str())).collect();
            let reason = format!(
                "and its configuration does not let it take this from the broker: put commands = [{}] under \
                 [mqtt] and restart it, {stop}",
                names.join(", ")
            );
            Err(Error::config(place(), reason))
        }
        None => {
            Err(Error::config(place(), format!("name its configuration with --config, {stop}")))
        }
    }
}

async fn ask<R: DeserializeOwned>(
    reach: &Reach,
    device: &str,
    payload: Vec<u8>,
) -> Result<R, Fault> {
    let mut session = Session::open(&reach.broker.desk()?).await?;
    let wait = Duration::from_secs(reach.wait);
    let (replies, silent) = session.ask(Question::Command(device), payload, wait).await?;
    session.close().await;
    let refuse = |reason: String| Fault::Setting(Error::config(format!("device {device}"), reason));
    let Some(reply) = replies.get(device) else {
        return Err(refuse(match silent.is_empty() {
            true => "is not connected to the broker: stop it (systemctl stop spotterd), then say this again"
                .into(),
            false => format!(
                "did not answer within {} s: it may not have read that it takes commands yet (restart \
                 it), or this login may not write its command topic or read the answer (--login-file)",
                reach.wait
            ),
        }));
    };
    if let Some(error) = reply.answer["error"].as_str() {
        return Err(refuse(shown(error, 600)));
    }
    let read = serde_json::from_value(reply.answer.clone());
    read.map_err(|error| Error::internal("the device's answer", error).into())
}
