//! `spotterd alert preview`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use serde_json::{Value, json};

use super::{Broker, print, print_json};
use crate::{
    alert::Like,
    clock::{Clock, SystemClock},
    cmd::search::{lines, save, warnings},
    staff::{
        Draft, Fault, Session,
        ask::{Question, Replies, Reply},
        times,
    },
};

/// Show what an alert would bring, without arming it
///
/// The devices say what they do not understand of the description, how many false alarms a day to expect,
/// and who of the last 24 hours would have been reported.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What the person looks like, in one sentence
    #[arg(required_unless_present = "like")]
    text: Option<String>,
    /// Somebody like a person who was seen, in place of a text: as a search names them, box-1/4711, or the id
    /// of a sighting
    #[arg(long, value_name = "DEVICE/NUMBER|SIGHTING", conflicts_with_all = ["text", "without"])]
    like: Option<Like>,
    /// What the person does not have: --without hat
    #[arg(long, value_name = "THING")]
    without: Vec<String>,
    /// Only on these cameras; * stands for anything
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    cameras: Vec<String>,
    /// How many false alarms a day are bearable on the whole site
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = super::budget)]
    budget: Option<f64>,
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
Example:
  spotterd alert preview \"woman in a red coat with a black backpack\" --budget 2 --site harbour

Exit status: 0 every device that is online would arm it; 1 some would not, or did not answer;
2 something was typed wrong; 3 the broker cannot be used.";

pub(super) async fn run(args: &Args) -> Result<ExitCode, Fault> {
    let now = times::now(&SystemClock::new() as &dyn Clock);
    let draft = Draft {
        text: args.text.clone(),
        like: args.like.clone(),
        without: args.without.clone(),
        expires_at: times::after(times::DEFAULT_SPAN, &now)?,
        cameras: args.cameras.clone(),
        zones: Vec::new(),
        schedule: Vec::new(),
        budget_per_day: args.budget,
        cooldown_s: None,
        purpose: None,
        created_by: None,
    };
    let mut session = Session::open(&args.broker.desk()?).await?;
    let wait = Duration::from_secs(args.wait);
    let (replies, silent) = session.ask(Question::Preview, draft.message(1)?, wait).await?;
    session.close().await;
    if let Some(folder) = &args.pictures {
        save(folder, &replies)?;
    }
    tell(args, &replies)?;
    for device in &silent {
        eprintln!("{device} is online and did not answer within {} s.", args.wait);
    }
    // Only one device knows who is like somebody, and that is enough.
    let is_well = |reply: &Reply| reply.answer["error"].is_null();
    let all_well = match args.like {
        Some(_) => replies.values().any(is_well),
        None => replies.values().all(is_well),
    };
    let any = !replies.is_empty() && silent.is_empty();
    Ok(if all_well && any { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(args: &Args, replies: &Replies) -> Result<(), Fault> {
    if args.json {
        let answers: Vec<&Value> = replies.values().map(|reply| &reply.answer).collect();
        return print_json(&json!({"answers": answers}));
    }
    for (device, reply) in replies {
        let answer = &reply.answer;
        print(&lines(device, answer))?;
        print(&warnings(answer))?;
        if let Some(expected) = answer["expected_per_day"].as_f64() {
            print(&format!(
                "  would have been reported in the last 24 hours: {}; false alarms to expect: {expected:.2} \
                 a day\n",
                answer["matched_24h"]
            ))?;
        }
    }
    Ok(())
}
