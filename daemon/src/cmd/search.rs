//! `spotterd search`: who was here that fits a description.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::alert::{Broker, print, print_json};
use crate::{
    clock::{Clock, SystemClock},
    error::Error,
    staff::{
        Fault, Session,
        ask::{Question, Replies},
        shown, times,
    },
};

/// Show who was here that fits a description
///
/// Every device of the site looks through those who passed its cameras, as long as it keeps them, and
/// answers with the best, their pictures, and how likely somebody else scores as much.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What the person looks like
    #[arg(required_unless_present = "like")]
    text: Option<String>,
    /// More like somebody who was found: the device and the number that an answer named, as box-1/4711
    #[arg(long, value_name = "DEVICE/NUMBER", conflicts_with = "text")]
    like: Option<String>,
    /// Only who was seen after: 18:00, "2026-11-25 06:00", or an age: 2h, 3d
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only who was seen before: an age, such as 30m
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only on these cameras
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    cameras: Vec<String>,
    /// Most persons of each device
    #[arg(long, default_value_t = 20, value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=100))]
    limit: u16,
    /// Save the pictures into this folder
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,
    /// Seconds to wait for the devices
    #[arg(long, default_value_t = 15, value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=600))]
    wait: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: Broker,
}

const EXAMPLES: &str = "\
Examples:
  spotterd search \"woman in a red coat\" --from 2h --pictures found --site harbour
  spotterd search --like box-1/4711 --site harbour

Exit status: 0 every device that is online answered; 1 some did not, or refused; 2 something was typed
wrong; 3 the broker cannot be used.";

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(search(args));
    runtime.shutdown_background();
    done.or_else(super::alert::report)
}

async fn search(args: &Args) -> Result<ExitCode, Fault> {
    let mut session = Session::open(&args.broker.desk()?).await?;
    let question = question(args)?.to_string().into_bytes();
    let wait = Duration::from_secs(args.wait);
    let (replies, silent) = session.ask(Question::Search, question, wait).await?;
    session.close().await;
    if let Some(folder) = &args.pictures {
        save(folder, &replies)?;
    }
    let mut all_well = silent.is_empty();
    // Only one device knows who is like somebody.
    let of = args.like.as_deref().and_then(|like| like.rsplit_once('/')).map(|(device, _)| device);
    if let Some(device) = of.filter(|of| !replies.contains_key(*of)) {
        eprintln!("{device}, which holds that person, is not online.");
        all_well = false;
    }
    let asked = replies.iter().filter(|(device, _)| of.is_none_or(|of| of == *device));
    let answers: Vec<(&String, &Value)> =
        asked.map(|(device, reply)| (device, &reply.answer)).collect();
    all_well &= answers.iter().all(|(_, answer)| answer["error"].is_null());
    if args.json {
        let answers: Vec<&Value> = answers.iter().map(|(_, answer)| *answer).collect();
        print_json(&json!({"answers": answers, "silent": silent}))?;
    } else {
        for (device, answer) in answers {
            print(&lines(device, answer))?;
        }
        for device in &silent {
            eprintln!("{device} is online and did not answer within {} s.", args.wait);
        }
        if replies.is_empty() && silent.is_empty() {
            eprintln!("No device of this site is online.");
        }
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn question(args: &Args) -> Result<Value, Error> {
    let mut question = json!({
        "schema": 1,
        "limit": args.limit,
        "cameras": args.cameras,
        "pictures": args.pictures.is_some(),
    });
    if let Some(like) = &args.like {
        let wrong = || Error::config("--like", "write it as DEVICE/NUMBER, such as box-1/4711");
        let (device, number) = like.rsplit_once('/').ok_or_else(wrong)?;
        let id: u64 = number.parse().map_err(|_| wrong())?;
        question["like"] = json!({"device": device, "id": id});
    }
    if let Some(text) = &args.text {
        question["text"] = json!(text);
    }
    let time =
        |name, text: &Option<String>| text.as_ref().map(|text| moment(name, text)).transpose();
    let (from, to) = (time("--from", &args.from)?, time("--to", &args.to)?);
    if from.is_some_and(|from| from > times::now(&SystemClock::new() as &dyn Clock).timestamp()) {
        return Err(Error::config("--from", "lies ahead: nobody passed then yet"));
    }
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        return Err(Error::config("--from", "is not before --to"));
    }
    for (name, time) in [("from", from), ("to", to)] {
        if let Some(time) = time {
            question[name] = json!(time.to_string());
        }
    }
    Ok(question)
}

/// An age (`2h`), or a time of today or of a day.
pub(super) fn moment(name: &str, text: &str) -> Result<Timestamp, Error> {
    let now = times::now(&SystemClock::new() as &dyn Clock);
    let today = now.timestamp();
    if let Ok(later) = times::after(text, &now) {
        let age = later.duration_since(today);
        return Ok(today.saturating_sub(age).unwrap_or(Timestamp::MIN));
    }
    // The next such time is a day after the last one.
    let wrong = "is no time: 18:00, \"2026-11-25 06:00\", or an age: 2h, 3d";
    let next =
        times::until(text, &now).map_err(|_| Error::config(format!("{name} {text}"), wrong))?;
    let day = jiff::SignedDuration::from_hours(24);
    let is_clock = !text.contains('-');
    Ok(if is_clock { next.saturating_sub(day).unwrap_or(Timestamp::MIN) } else { next })
}

/// An answer as lines for people.
pub(super) fn lines(device: &str, answer: &Value) -> String {
    if let Some(error) = answer["error"].as_str() {
        return format!("{device}: {}\n", shown(error, 400));
    }
    let now = times::now(&SystemClock::new() as &dyn Clock);
    let results = answer["results"].as_array().map_or(&[][..], Vec::as_slice);
    let mut text = format!("{device}: {} of {} who passed\n", results.len(), answer["searched"]);
    for finding in answer["findings"].as_array().into_iter().flatten() {
        let message = finding["message"].as_str().unwrap_or_default();
        text += &format!("  note: {}\n", shown(message, 300));
    }
    for found in results {
        let at = found["last_seen"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        let at = at.map_or_else(String::new, |at| times::short(at, &now));
        let chance = found["false_alarm_probability"].as_f64();
        let chance = chance.map_or_else(String::new, |p| format!("  {}", rarity(p)));
        let camera = shown(found["camera"].as_str().unwrap_or_default(), 64);
        let score = found["score"].as_f64().unwrap_or_default();
        text += &format!(
            "  {at:<14} {camera:<16} score {score:.3}{chance}  {device}/{}\n",
            found["id"]
        );
    }
    text
}

/// How rare a score is among those who do not fit.
pub(super) fn rarity(probability: f64) -> String {
    let one_in = 1.0 / probability.max(1e-9);
    if one_in >= 10.0 {
        format!("1 in {one_in:.0} others scores as much")
    } else {
        format!("{:.0} in 100 others score as much", 100.0 * probability)
    }
}

pub(super) fn save(folder: &Path, replies: &Replies) -> Result<(), Fault> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    for (device, reply) in replies {
        for (track, jpeg) in &reply.pictures {
            // Names come from devices: only what a name may have.
            let plain =
                |c: char| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '-' };
            let device: String = device.chars().take(64).map(plain).collect();
            let path = folder.join(format!("{device}-{track}.jpg"));
            let mut file = std::fs::File::create(&path).map_err(Error::io(&path))?;
            file.write_all(jpeg).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}
