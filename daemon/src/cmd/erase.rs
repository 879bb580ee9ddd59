//! `spotterd erase`: persons out of everything that a device keeps of them.

use std::{
    io::{BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;

use super::{alert::Broker, print, print_json, search::moment};
use crate::{
    clock::{Clock, SystemClock},
    config::{CommandName, Config},
    erase::{Eraser, Fields, Report},
    error::Error,
    frame::CameraId,
    staff::{Fault, Session, ask::Question, shown, times},
};

/// Take persons out of everything that this device keeps
///
/// Says first what would go, and asks. Erased are vectors and pictures of the gallery, what is remembered of
/// those in view and of those whom descriptions are judged by, pictures and reports that wait for the broker,
/// and what the page shows. What is held stays and is named. What the broker has taken already is not reached.
///
/// While the daemon runs, it is asked over its broker, which its configuration has to allow:
/// [mqtt] commands = ["erase"]. Otherwise its files are opened here.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
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
    /// The state folder, where there is no configuration; no daemon may run on it
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["config", "broker"])]
    state: Option<PathBuf>,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Seconds to wait for a running daemon
    #[arg(long, default_value_t = 120, value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=600))]
    wait: u64,
    #[command(flatten)]
    broker: Broker,
}

const EXAMPLES: &str = "\
Examples:
  spotterd erase --camera entrance --from 14:00 --to 14:10 --dry-run
  spotterd erase --id box-1/4711 --yes
  spotterd erase --sighting 01JD8Z0V6N8Q2K4M5P7R9T1W3X --config /etc/spotter/spotterd.toml

Exit status: 0 done, or nobody was meant; 1 something stays as it is held or damaged, or it was not done; 2 something was
typed wrong, or a daemon runs that cannot be asked; 3 files or the broker cannot be used.";

/// Who does it.
enum Doer<'a> {
    /// We do, on the files of this state folder.
    Files(PathBuf),
    /// The daemon does.
    Daemon { args: &'a Args, config: Box<Config> },
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let fields = fields(args)?;
    // What is typed wrong is known before anything is opened.
    fields.wish()?;
    let doer = doer(args)?;
    let would = doer.erase(&Fields { dry_run: true, ..fields.clone() })?;
    if args.dry_run || would.is_empty() {
        return tell(args, &would);
    }
    if !args.yes {
        print(&lines(&would))?;
        if !agreed()? {
            eprintln!("spotterd: nothing was erased");
            return Ok(ExitCode::FAILURE);
        }
    }
    tell(args, &doer.erase(&fields)?)
}

fn fields(args: &Args) -> Result<Fields, Error> {
    if let (Some(id), Some(path)) = (&args.id, args.broker.config())
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
    Ok(Fields {
        schema: Some(1),
        command: Some(CommandName::Erase.as_str().to_owned()),
        from: time("--from", &args.from)?,
        to: time("--to", &args.to)?,
        camera: args.camera.as_deref().map(CameraId::new).transpose()?,
        id: args.id.as_ref().map(number).transpose()?,
        sighting: args.sighting.clone(),
        dry_run: false,
    })
}

/// A time as programs write it, as people do, or now.
fn point(name: &str, text: &str) -> Result<Timestamp, Error> {
    match text.parse() {
        Ok(at) => Ok(at),
        Err(_) if text == "now" => Ok(times::now(&SystemClock::new() as &dyn Clock).timestamp()),
        Err(_) => moment(name, text),
    }
}

fn doer(args: &Args) -> Result<Doer<'_>, Error> {
    let config = args.broker.config().filter(|_| args.state.is_none());
    let config = config.map(|path| Config::load(&path)).transpose()?;
    let folder = match (&args.state, &config) {
        (Some(folder), _) => folder.clone(),
        (None, Some(config)) => config.storage.folder.clone(),
        (None, None) => {
            let reason = "is needed: the daemon's configuration, or its state folder with --state";
            return Err(Error::config("--config FILE", reason));
        }
    };
    if !folder.join("outbox").is_dir() && !folder.join("gallery").is_dir() {
        let reason = "holds neither an outbox nor a gallery: no daemon has kept anything here";
        return Err(Error::config(folder.display().to_string(), reason));
    }
    match Eraser::open(&folder, true, Arc::new(SystemClock::new())) {
        Ok(_) => Ok(Doer::Files(folder)),
        // The one who has it open is the daemon, or somebody who erases right now.
        Err(error) if error.is_in_use() => by_daemon(args, config, &folder),
        Err(error) => Err(error),
    }
}

fn by_daemon<'a>(args: &'a Args, config: Option<Config>, folder: &Path) -> Result<Doer<'a>, Error> {
    let place = || format!("{}: a daemon runs on it", folder.display());
    let stop = "or stop it first (systemctl stop spotterd) and say this again";
    match config {
        Some(config) if config.mqtt.commands.contains(&CommandName::Erase) => {
            Ok(Doer::Daemon { args, config: Box::new(config) })
        }
        Some(_) => {
            let reason = format!(
                "and its configuration does not let it take this from the broker: put commands = \
                 [\"erase\"] under [mqtt] and restart it, {stop}"
            );
            Err(Error::config(place(), reason))
        }
        None => {
            Err(Error::config(place(), format!("name its configuration with --config, {stop}")))
        }
    }
}

impl Doer<'_> {
    fn erase(&self, fields: &Fields) -> Result<Report> {
        match self {
            Doer::Files(folder) => {
                let wish = fields.wish()?;
                let clock = Arc::new(SystemClock::new());
                Ok(Eraser::open(folder, wish.dry_run, clock)?.erase(&wish)?)
            }
            Doer::Daemon { args, config } => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let done = runtime.block_on(ask(args, &config.device, fields));
                runtime.shutdown_background();
                match done {
                    Ok(report) => Ok(report),
                    Err(Fault::Setting(error)) => Err(error.into()),
                    Err(fault) => Err(Error::internal("the daemon", fault).into()),
                }
            }
        }
    }
}

async fn ask(args: &Args, device: &str, fields: &Fields) -> Result<Report, Fault> {
    let mut session = Session::open(&args.broker.desk()?).await?;
    let payload = serde_json::to_vec(fields).map_err(|error| Error::internal("erase", error))?;
    let wait = Duration::from_secs(args.wait);
    let (replies, silent) = session.ask(Question::Command(device), payload, wait).await?;
    session.close().await;
    let refuse = |reason: String| Fault::Setting(Error::config(format!("device {device}"), reason));
    let Some(reply) = replies.get(device) else {
        return Err(refuse(match silent.is_empty() {
            true => "is not connected to the broker: stop it, and say this again".into(),
            false => format!(
                "did not answer within {} s: it may not have read that it takes commands yet (restart \
                 it), or this login may not write its command topic or read the answer (--login-file)",
                args.wait
            ),
        }));
    };
    if let Some(error) = reply.answer["error"].as_str() {
        return Err(refuse(shown(error, 400)));
    }
    report(&reply.answer).map_err(|error| Error::internal("the device's answer", error).into())
}

fn report(answer: &Value) -> Result<Report, serde_json::Error> {
    serde_json::from_value(answer.clone())
}

/// Whether somebody at a terminal says yes.
fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        let reason = "is needed where nobody can be asked";
        return Err(Error::config("--yes", reason).into());
    }
    eprint!("Erase them? This cannot be undone. [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn tell(args: &Args, report: &Report) -> Result<ExitCode> {
    match args.json {
        true => print_json(report)?,
        false => print(&lines(report))?,
    }
    Ok(if report.is_short() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A report for people.
fn lines(report: &Report) -> String {
    let verb = if report.dry_run { "Would erase" } else { "Erased" };
    let counted = [
        (report.tracks, "tracks of the gallery"),
        (report.track_pictures, "pictures of them"),
        (report.in_view, "tracks and views of persons in view"),
        (report.judged_by, "tracks that descriptions are judged by"),
        (report.messages, "reports that wait for the broker"),
        (report.waiting_pictures, "pictures that wait for the broker"),
        (report.shown, "sightings of the page"),
        (report.damaged, "damaged files or parts of files"),
    ];
    let mut text = match (report.is_empty(), report.unreadable) {
        (true, 0) => "Nobody is meant: there is nothing to erase.\n".to_owned(),
        (true, _) => "Nobody is meant, as far as the files can be read.\n".to_owned(),
        (false, _) => format!("{verb}:\n"),
    };
    if !report.cameras.is_empty() {
        let kept: Vec<&str> = report.cameras.iter().map(CameraId::as_str).collect();
        text += &format!(
            "  no track of that camera is kept; of these there are some: {}\n",
            kept.join(", ")
        );
    }
    if report.unreadable > 0 {
        text += &format!(
            "  stays: {} damaged files or parts of files, and nobody can say who is in them; a time or a \
             camera takes them too, unless something is held\n",
            report.unreadable
        );
    }
    for (count, what) in counted.iter().filter(|(count, _)| *count > 0) {
        text += &format!("  {count:>8} {what}\n");
    }
    if let Some((first, last)) = report.first_seen.as_ref().zip(report.last_seen.as_ref()) {
        text += &format!("  seen from {first} to {last}\n");
    }
    for held in &report.held {
        let reason = shown(&held.reason, 200);
        text +=
            &format!("  stays: {} tracks, held by hold {} ({reason})\n", held.tracks, held.hold);
    }
    text
}
