//! `spotterd search`: who was here that fits a description.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use serde_json::{Value, json};
use spotter_models::Rgb;

use super::alert::{Broker, print, print_json};
use crate::{
    alert::{DeviceName, Like},
    clock::{Clock, SystemClock},
    error::Error,
    picture,
    staff::{
        Fault, Session,
        ask::{Question, Replies},
        shown, times,
    },
};

/// Longer side of a picture that is asked by, in pixels: enough to find a person in a camera's still.
const PICTURE_SIDE: u32 = 1280;
/// Quality of its JPEG file.
const PICTURE_QUALITY: u8 = 90;
/// Largest such file: in base64 with the rest of the question below what a device reads.
const PICTURE_BYTES: usize = 360 * 1024;

/// Show who was here that fits a description, or is like somebody
///
/// Every device of the site looks through those who passed its cameras, as long as it keeps them, and
/// answers with the best, their pictures, and how likely somebody else scores as much.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What the person looks like
    #[arg(required_unless_present_any = ["like", "picture"])]
    text: Option<String>,
    /// More like somebody who was seen: the device and the number that an answer named, as box-1/4711, or
    /// the id of a sighting, as `alert watch` shows it
    #[arg(long, value_name = "DEVICE/NUMBER|SIGHTING", conflicts_with_all = ["text", "picture"])]
    like: Option<Like>,
    /// More like the person of a picture, JPEG or PNG. It should show one person, whole and cut out, as
    /// cameras here see people. In a larger picture each device looks for persons and compares the largest; where
    /// it finds none it compares the whole picture, and its answer means little. The picture travels to the
    /// devices, made small, and is not kept
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    picture: Option<PathBuf>,
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
  spotterd search --picture still.jpg --from 2h --pictures found --site harbour

Exit status: 0 every device that is online answered; 1 some did not, or refused; 2 something was typed
wrong; 3 the broker cannot be used.";

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(search(args));
    runtime.shutdown_background();
    done.or_else(super::alert::report)
}

async fn search(args: &Args) -> Result<ExitCode, Fault> {
    let question = question(args)?.to_string().into_bytes();
    let mut session = Session::open(&args.broker.desk()?).await?;
    let wait = Duration::from_secs(args.wait);
    let (replies, silent) = session.ask(Question::Search, question, wait).await?;
    session.close().await;
    if let Some(folder) = &args.pictures {
        save(folder, &replies)?;
    }
    let mut all_well = silent.is_empty();
    // Only one device knows who is like somebody.
    let of = args.like.as_ref().and_then(|like| like.device.as_ref()).map(DeviceName::as_str);
    if let Some(device) = of.filter(|of| !replies.contains_key(*of)) {
        eprintln!("{device}, which holds that person, is not online.");
        all_well = false;
    }
    let is_asked = |device: &str, answer: &Value| match (&args.like, of) {
        (None, _) => true,
        (Some(_), Some(of)) => of == device,
        (Some(_), None) => !answer["like"].is_null() || !answer["error"].is_null(),
    };
    let answers: Vec<(&String, &Value)> = replies
        .iter()
        .map(|(device, reply)| (device, &reply.answer))
        .filter(|(device, answer)| is_asked(device, answer))
        .collect();
    if args.like.is_some() && of.is_none() && answers.is_empty() && !replies.is_empty() {
        eprintln!(
            "No device that answered keeps the person of that sighting: who is in view is kept once they have \
             left, and nobody for ever."
        );
        all_well = false;
    }
    all_well &= answers.iter().all(|(_, answer)| answer["error"].is_null());
    if args.json {
        let answers: Vec<&Value> = answers.iter().map(|(_, answer)| *answer).collect();
        print_json(&json!({"answers": answers, "silent": silent}))?;
    } else {
        for (device, answer) in answers {
            print(&lines(device, answer))?;
            print(&warnings(answer))?;
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
        question["like"] = like.to_json();
    }
    if let Some(path) = &args.picture {
        question["picture"] = json!(BASE64.encode(small(picture::read(path)?)?));
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

/// A picture as a JPEG file that fits into a question. Whatever the file says beside its pixels stays here.
fn small(picture: Rgb) -> Result<Vec<u8>, Error> {
    let mut picture = picture::shrunk(picture, PICTURE_SIDE)?;
    loop {
        let jpeg = picture::jpeg(&picture, PICTURE_QUALITY)?;
        let longer = picture.width().max(picture.height());
        if jpeg.len() <= PICTURE_BYTES || longer < 64 {
            return Ok(jpeg);
        }
        picture = picture::shrunk(picture, longer * 3 / 4)?;
    }
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
    if let Some(tracks) = answer["not_searched"].as_u64() {
        text += &format!(
            "  note: {tracks} of them were not searched: the model that saw them is not installed any more\n"
        );
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

/// What a person should know of an answer, as lines.
pub(super) fn warnings(answer: &Value) -> String {
    let all = answer["warnings"].as_array().into_iter().flatten();
    let line =
        |warning: &Value| format!("  note: {}\n", shown(warning.as_str().unwrap_or(""), 300));
    all.map(line).collect()
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
