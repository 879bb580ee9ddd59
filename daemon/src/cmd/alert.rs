//! `spotterd alert`: the staff's commands. Each is one short conversation with the site's broker.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;
use clap::Subcommand;
use tokio::time::timeout;

use crate::{
    alert::AlertId,
    error::Error,
    staff::{Answer, Board, Desk, Fault, Session, Site},
};

mod add;
mod answers;
mod list;
mod remove;
mod watch;

/// What staff can do.
#[derive(Subcommand)]
pub enum Command {
    /// Look for a person who fits a description
    Add(Box<add::Args>),
    /// Show who is being looked for, and on which devices
    List(list::Args),
    /// Stop looking for somebody
    Remove(remove::Args),
    /// Show who is found, as it happens
    Watch(watch::Args),
}

/// How to reach the site's broker.
#[derive(clap::Args)]
#[command(next_help_heading = "Broker")]
struct Broker {
    /// The site's broker: mqtts://HOST[:PORT], or mqtt://HOST[:PORT] on this machine
    #[arg(long, default_value = "mqtt://localhost", value_name = "URL")]
    broker: String,
    /// The site's name, as the devices have it
    #[arg(long, value_name = "NAME")]
    site: String,
    /// The first part of all topics, where the site changed it
    #[arg(long, default_value = "spotter", value_name = "NAME")]
    prefix: String,
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

impl Broker {
    fn desk(&self) -> Result<Desk, Error> {
        Ok(Desk {
            broker: self.broker.clone(),
            site: Site::new(&self.prefix, &self.site)?,
            ca: self.ca.clone(),
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
            Command::List(args) => list::run(args).await,
            Command::Remove(args) => remove::run(args).await,
            Command::Watch(args) => watch::run(args).await,
        }
    });
    // A name that is just being looked up may take long: nobody waits for it.
    runtime.shutdown_background();
    match done {
        // Whoever read the output has seen enough.
        Err(Fault::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        Err(Fault::Setting(error)) => Err(error.into()),
        Err(fault) => {
            eprintln!("spotterd: {fault}");
            Ok(ExitCode::from(fault.status()))
        }
        Ok(code) => Ok(code),
    }
}

fn print(text: &str) -> Result<(), Fault> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn print_json(value: &serde_json::Value) -> Result<(), Fault> {
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
async fn tell(
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
