//! `spotterd alert remove`.

use std::process::ExitCode;

use serde_json::json;

use super::{
    Answers, Broker,
    answers::{self, Stand},
    parse_id, print, print_json, read_one, tell,
};
use crate::{
    alert::schema::Message,
    clock::{Clock, SystemClock},
    staff::{Fault, Session, times, withdrawn},
};

/// Stop looking for somebody
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The alert's name, as spotterd alert list shows it
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    answers: Answers,
    #[command(flatten)]
    broker: Broker,
}

const EXAMPLES: &str = "\
Example:
  spotterd alert remove lost-boy --site harbour

Exit status: 0 every device that is online has stopped looking; 1 some have not, or there is no such
alert; 2 something was typed wrong; 3 the broker cannot be used.";

pub(super) async fn run(args: &Args) -> Result<ExitCode, Fault> {
    let now = times::now(&SystemClock::new() as &dyn Clock).timestamp();
    let id = parse_id(&args.id)?;
    let mut session = Session::open(&args.broker.desk()?).await?;
    let mut board = read_one(&mut session, &id).await?;
    let is_armed = |(_, answer): (_, &crate::staff::Answer)| answer.is_armed();
    let still_armed = board.answers.get(&id).is_some_and(|all| all.iter().any(is_armed));
    match board.alerts.get(&id).map(|wanted| &wanted.message) {
        None if !still_armed => {
            let reason = format!("there is no alert {id}: see spotterd alert list");
            Err(Fault::Unfit(reason))
        }
        Some(Message::Withdrawn { revision, .. }) if !still_armed => {
            session.close().await;
            report(args, &id, *revision, &board)
        }
        _ => {
            let revision = board.next_revision(&id, now);
            let message = (revision, withdrawn(revision)?);
            tell(&mut session, &mut board, &id, message, args.answers.wait).await?;
            session.close().await;
            report(args, &id, revision, &board)
        }
    }
}

fn report(
    args: &Args,
    id: &crate::alert::AlertId,
    revision: u64,
    board: &crate::staff::Board,
) -> Result<ExitCode, Fault> {
    let stands = answers::stands(board, id, revision);
    let still = |(_, stand): &(&str, Stand<'_>)| match stand {
        Stand::Answered(answer) => answer.state != "withdrawn",
        Stand::Silent => true,
        Stand::Away => false,
    };
    let is_done = !stands.iter().any(still);
    if args.answers.json {
        let devices = answers::json(&stands);
        print_json(&json!({
            "alert": id, "revision": revision, "done": is_done, "devices": devices,
        }))?;
    } else {
        let width = answers::width(stands.iter().map(|(name, _)| *name));
        let mut text = format!("Alert {id} is withdrawn\n");
        text.extend(stands.iter().map(|(name, stand)| answers::describe(name, stand, width)));
        print(&text)?;
    }
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
