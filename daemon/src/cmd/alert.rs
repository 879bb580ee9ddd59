//! `spotterd alert`: the staff's commands. Each is one short conversation with the site's broker.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use clap::Subcommand;
use tokio::time::timeout;

use crate::{
    alert::{AlertId, schema::MAX_BUDGET},
    config::Config,
    error::Error,
    staff::{Answer, Board, Desk, Fault, Session, Site},
};

mod add;
pub(super) mod answers;
mod lint;
mod list;
mod preview;
mod remove;
mod watch;

/// A number of false alarms a day that an alert may have.
fn budget(text: &str) -> std::result::Result<f64, String> {
    let known = text.parse().ok().filter(|budget| *budget > 0.0 && *budget <= MAX_BUDGET);
    known.ok_or_else(|| {
        format!("use a number of false alarms a day, more than 0 and at most {MAX_BUDGET}")
    })
}

/// What staff can do.
#[derive(Subcommand)]
pub enum Command {
    /// Look for a person who fits a description
    ///
    /// Describe what can be seen: "woman in a red coat with a black backpack". The devices answer within
    /// seconds whether they look for that person, and what they did not understand.
    Add(Box<add::Args>),
    /// Read a description as a device would, and say what is wrong with it
    ///
    /// Needs no broker and no device. With a bundle it knows which words the model has met in training.
    Lint(lint::Args),
    /// Show what an alert would bring, without arming it
    Preview(Box<preview::Args>),
    /// Show who is being looked for, and on which devices
    ///
    /// A device that does not look for a person is named below the alert with its reason.
    List(list::Args),
    /// Stop looking for somebody
    ///
    /// Waits until the devices say that they have stopped.
    Remove(remove::Args),
    /// Show who is found, as it happens
    ///
    /// One line for each sighting, in local time: SEEN when a person who fits comes into view, "better"
    /// for a better view, "gone" at the end. LATE means that it happened while the device could not
    /// reach the broker. Ends with Ctrl-C.
    Watch(watch::Args),
}

/// How to reach the site's broker.
#[derive(clap::Args)]
#[command(next_help_heading = "Broker")]
pub(super) struct Broker {
    /// The daemon's configuration, which names the broker, the site and the rest
    /// [default: /etc/spotter/spotterd.toml where it exists and no --broker is given]
    #[arg(long, value_name = "FILE", conflicts_with = "broker")]
    config: Option<PathBuf>,
    /// The site's broker: mqtts://HOST[:PORT], or mqtt://HOST[:PORT] on this machine
    /// [default: mqtt://localhost, where there is no configuration]
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// The site's name, as the devices have it
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// The first part of all topics, where the site changed it [default: spotter]
    #[arg(long, value_name = "NAME")]
    prefix: Option<String>,
    /// The certificate that signed the broker's (PEM); needed for mqtts://
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A file with your user name in its first line and your password in its second
    #[arg(long, value_name = "FILE")]
    login_file: Option<PathBuf>,
    /// Speak openly to a broker on another machine: everybody on the way can read along
    #[arg(long)]
    allow_plaintext: bool,
}

/// Where a box has its configuration.
const BOX_CONFIG: &str = "/etc/spotter/spotterd.toml";

impl Broker {
    /// The daemon's configuration, where one is named or this is a box.
    pub(super) fn config(&self) -> Option<PathBuf> {
        let on_box = || self.broker.is_none() && Path::new(BOX_CONFIG).exists();
        self.config.clone().or_else(|| on_box().then(|| BOX_CONFIG.into()))
    }

    /// As the configuration says, where there is one; what the command line says comes first.
    pub(super) fn desk(&self) -> Result<Desk, Error> {
        match self.config() {
            Some(path) => self.of_config(&path),
            None => self.of_arguments(),
        }
    }

    fn of_config(&self, path: &Path) -> Result<Desk, Error> {
        let mut config = Config::load(path)?;
        if let Some(site) = &self.site {
            config.site.clone_from(site);
        }
        let mqtt = &mut config.mqtt;
        if let Some(prefix) = &self.prefix {
            mqtt.prefix.clone_from(prefix);
        }
        mqtt.ca_file = self.ca.clone().or(mqtt.ca_file.take());
        mqtt.login_file = self.login_file.clone().or(mqtt.login_file.take());
        mqtt.allow_plaintext |= self.allow_plaintext;
        Desk::of(&config)
    }

    fn of_arguments(&self) -> Result<Desk, Error> {
        let site = self.site.as_deref().ok_or_else(|| {
            let reason = format!(
                "is needed: the site's name as the devices have it, or --config FILE with the \
                 daemon's configuration (there is none at {BOX_CONFIG})"
            );
            Error::config("--site NAME", reason)
        })?;
        Ok(Desk {
            broker: self.broker.clone().unwrap_or_else(|| "mqtt://localhost".to_owned()),
            site: Site::new(self.prefix.as_deref().unwrap_or("spotter"), site)?,
            ca: self.ca.clone(),
            identity: None,
            login_file: self.login_file.clone(),
            allow_plaintext: self.allow_plaintext,
        })
    }
}

/// How long to wait for the devices' answers, and how to print them.
#[derive(clap::Args)]
struct Answers {
    /// Seconds to wait for the answers of the devices
    #[arg(long, default_value_t = 15, value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(0..=600))]
    wait: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Command) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        match command {
            Command::Add(args) => add::run(args).await,
            Command::Lint(args) => lint::run(args),
            Command::Preview(args) => preview::run(args).await,
            Command::List(args) => list::run(args).await,
            Command::Remove(args) => remove::run(args).await,
            Command::Watch(args) => watch::run(args).await,
        }
    });
    // A name that is just being looked up may take long: nobody waits for it.
    runtime.shutdown_background();
    done.or_else(report)
}

/// Tells why a command of the staff could not be carried out, and how it ends.
///
/// # Errors
/// A setting that is wrong, which every command reports alike.
pub(super) fn report(fault: Fault) -> Result<ExitCode> {
    match fault {
        // Whoever read the output has seen enough.
        Fault::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Fault::Setting(error) => Err(error.into()),
        fault => {
            eprintln!("spotterd: {fault}");
            Ok(ExitCode::from(fault.status()))
        }
    }
}

pub(super) fn print(text: &str) -> Result<(), Fault> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

pub(super) fn print_json(value: &serde_json::Value) -> Result<(), Fault> {
    print(&format!("{value:#}\n"))
}

fn parse_id(id: &str) -> Result<AlertId, Error> {
    AlertId::new(id).map_err(|error| Error::config("ID", error.to_string()))
}

/// Whether an answer is about the message with this revision. A device that is full has no place to
/// keep the revision and answers without.
fn is_about(answer: &Answer, revision: u64) -> bool {
    match answer.revision {
        Some(answered) => answered >= revision,
        None => answer.is_fresh && answer.state == "rejected",
    }
}

/// Reads what is known of one alert and of the devices.
async fn read_one(session: &mut Session, id: &AlertId) -> Result<Board, Fault> {
    let site = session.site();
    let filters = vec![site.alert(id), site.states_of(id), site.statuses()];
    let mut board = Board::default();
    session.read(filters, &mut board).await?;
    Ok(board)
}

/// Publishes a message and waits until every device that is online has answered it, or the time is
/// over.
pub(super) async fn tell(
    session: &mut Session,
    board: &mut Board,
    id: &AlertId,
    (revision, payload): (u64, Vec<u8>),
    wait: u64,
) -> Result<(), Fault> {
    session.publish(session.site().alert(id), payload, board).await?;
    let answered = async {
        while board.devices.iter().any(|(name, device)| {
            device.is_online()
                && !board.answer(id, name).is_some_and(|answer| is_about(answer, revision))
        }) {
            let heard = session.next().await?;
            board.take(&heard);
        }
        Ok(())
    };
    // Who has not answered by then is named in the report.
    timeout(Duration::from_secs(wait), answered).await.unwrap_or(Ok(()))
}
