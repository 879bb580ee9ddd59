//! `spotterd feedback`: what became of a sighting, said by staff.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::alert::{Broker, print, print_json, report};
use crate::{
    alert::Wall,
    clock::{Clock, SystemClock},
    config::{self, Config},
    error::Error,
    feedback::{FOLDER, Limits, Shelf, Summary, Wish},
    staff::{Fault, Session, ask::Question, shown},
};

/// What staff can say.
#[derive(Subcommand)]
pub enum Command {
    /// The person fits the description
    Confirm(Box<Say>),
    /// The person does not fit the description
    ///
    /// Where --text says what the person really looks like, that is learnt too.
    Reject(Box<Say>),
    /// Somebody is on the way; nothing is learnt from it
    Taken(Box<Say>),
    /// Show the verdicts on this device, and why pictures were left out
    List(List),
}

/// What is said of a sighting.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Say {
    /// The sighting, as `spotterd alert watch` names it at the end of a line, with or without its device
    #[arg(value_name = "SIGHTING", value_parser = sighting)]
    sighting: String,
    /// Who says so [default: the user's name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// What the person really looks like
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// What else there is to say; put no name of somebody who was filmed into it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Seconds to wait for the device whose sighting it is
    #[arg(long, default_value_t = 15, value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=600))]
    wait: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: Broker,
}

/// Whose verdicts.
#[derive(Args)]
pub struct List {
    /// The daemon's configuration [default: /etc/spotter/spotterd.toml]
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    config: Option<PathBuf>,
    /// The state folder, where there is no configuration
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  spotterd feedback confirm 01JD8Z0V6N8Q2K4M5P7R9T1W3X --by gate --site harbour
  spotterd feedback reject 01JD8Z0V6N8Q2K4M5P7R9T1W3X --text \"woman in an orange coat\" --site harbour

Exit status: 0 the device whose sighting it is has taken it; 1 it was refused or is too old, or no device that is
online knows the sighting; 2 something was typed wrong; 3 the broker cannot be used.";

pub(super) fn run(command: &Command) -> Result<ExitCode> {
    let (verdict, say) = match command {
        Command::Confirm(say) => ("confirmed", say),
        Command::Reject(say) => ("rejected", say),
        Command::Taken(say) => ("taken", say),
        Command::List(list) => return listed(list),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(tell(verdict, say));
    runtime.shutdown_background();
    done.or_else(report)
}

/// A sighting's id; `alert watch` puts the device in front of it, which is not needed: only the device whose
/// sighting it is answers.
fn sighting(text: &str) -> std::result::Result<String, std::convert::Infallible> {
    Ok(text.rsplit('/').next().unwrap_or(text).to_owned())
}

/// The message, read as a device reads it: nothing is published that every device would refuse.
fn message(verdict: &str, say: &Say) -> Result<Vec<u8>, Error> {
    let user = || std::env::var("USER").ok().filter(|user| !user.trim().is_empty());
    let by = say.by.clone().or_else(user).unwrap_or_else(|| "staff".into());
    let mut message = json!({"schema": 1, "sighting": say.sighting, "verdict": verdict, "by": by});
    for (name, text) in [("text", &say.text), ("note", &say.note)] {
        if let Some(text) = text {
            message[name] = json!(text);
        }
    }
    let payload = message.to_string().into_bytes();
    Wish::parse(&payload).map_err(|refusal| Error::config("feedback", refusal.reason))?;
    Ok(payload)
}

async fn tell(verdict: &str, say: &Say) -> Result<ExitCode, Fault> {
    let payload = message(verdict, say)?;
    let mut session = Session::open(&say.broker.desk()?).await?;
    let wait = Duration::from_secs(say.wait);
    let (replies, silent) = session.ask(Question::Feedback, payload, wait).await?;
    session.close().await;
    let Some((device, reply)) = replies.iter().next() else {
        let reason = match silent.is_empty() {
            true => {
                "No device of this site is online. The broker hands it to those that it remembers."
                    .to_owned()
            }
            false => format!(
                "No device that is online knows the sighting {} (waited {} s): see to its id, and whether its device \
                 is connected.",
                say.sighting, say.wait
            ),
        };
        eprintln!("spotterd: {reason}");
        return Ok(ExitCode::FAILURE);
    };
    let answer = &reply.answer;
    match say.json {
        true => print_json(answer)?,
        false => print(&line(device, answer))?,
    }
    let is_done = matches!(answer["result"].as_str(), Some("kept" | "taken"));
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An answer for people.
fn line(device: &str, answer: &Value) -> String {
    let text = |name: &str| shown(answer[name].as_str().unwrap_or_default(), 400);
    match answer["result"].as_str() {
        Some("kept") => {
            let again =
                if answer["replaced"] == true { ", in the place of the one before" } else { "" };
            let left_out = causes(answer["left_out"].as_object().into_iter().flatten());
            let pictures = answer["kept_pictures"].as_u64().unwrap_or_default();
            let left_out = match left_out.is_empty() {
                true => String::new(),
                false => format!("; left out: {left_out}"),
            };
            format!(
                "{device}: {} is kept with {pictures} pictures{again}{left_out}\n",
                text("verdict")
            )
        }
        Some("taken") => format!("{device}: somebody is on the way\n"),
        Some("too-old") => format!("{device}: too old: {}\n", text("reason")),
        Some(_) => format!("{device}: refused: {}\n", text("reason")),
        None => format!("{device}: refused: {}\n", text("error")),
    }
}

fn causes<'a>(counts: impl Iterator<Item = (&'a String, &'a Value)>) -> String {
    let each = counts.map(|(cause, count)| format!("{count} {}", shown(cause, 40)));
    each.collect::<Vec<_>>().join(", ")
}

fn listed(list: &List) -> Result<ExitCode> {
    let (folder, limits) = match (&list.state, &list.config) {
        (Some(state), _) => (state.clone(), Limits::of(&config::Feedback::default())),
        (None, path) => {
            let path = path.clone().unwrap_or_else(|| "/etc/spotter/spotterd.toml".into());
            let config = Config::load(&path)?;
            (config.storage.folder, Limits::of(&config.feedback))
        }
    };
    if !folder.is_dir() {
        let reason = "is no folder: name the daemon's configuration or its state folder";
        return Err(Error::config(folder.display().to_string(), reason).into());
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let now = Wall::new(clock.wall(), None).at;
    let summary = Shelf::open(folder.join(FOLDER), limits, true, now)?.summary()?;
    match list.json {
        true => super::print_json(&summary)?,
        false => super::print(&lines(&summary))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A summary for people.
fn lines(summary: &Summary) -> String {
    let mut text = String::new();
    for listed in &summary.verdicts {
        let verdict = &listed.verdict;
        let said = crate::feedback::Said::Judged(verdict.verdict).name();
        let left_out: Vec<String> =
            listed.left_out.iter().map(|(cause, count)| format!("{count} {cause}")).collect();
        let left_out = match left_out.is_empty() {
            true => String::new(),
            false => format!(" ({} left out)", left_out.join(", ")),
        };
        text += &format!(
            "{}  {said:<9} {}  {}  {} pictures{left_out}  \"{}\", by {}\n",
            verdict.sighting,
            verdict.at,
            verdict.camera,
            verdict.pictures.len(),
            shown(verdict.meant(), 60),
            shown(&verdict.by, 40)
        );
    }
    for (path, reason) in &summary.broken {
        text += &format!("{}: not used: {}\n", shown(path, 300), shown(reason, 300));
    }
    for (sighting, by) in &summary.taken {
        text += &format!("{sighting}  taken by {}\n", shown(by, 40));
    }
    text += &format!(
        "{} confirmed, {} rejected; {} of them without pictures, from which nothing is learnt\n\
         {} sightings wait for a verdict, with {} crops; {} bytes of pictures in all\n",
        summary.confirmed,
        summary.rejected,
        summary.without_pictures,
        summary.pending,
        summary.pending_pictures,
        summary.bytes
    );
    let left_out: Vec<String> =
        summary.left_out.iter().map(|(cause, count)| format!("{count} {cause}")).collect();
    if !left_out.is_empty() {
        text += &format!("left out as not good enough: {}\n", left_out.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::sighting;

    #[test]
    fn a_sighting_is_taken_as_it_is_shown() {
        let id = "01JD8Z0V6N8Q2K4M5P7R9T1W3X";
        for shown in [id.to_owned(), format!("gate-1/{id}")] {
            assert_eq!(sighting(&shown).unwrap(), id);
        }
    }
}
