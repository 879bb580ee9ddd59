//! `spotterd alert add`.

use std::process::ExitCode;

use jiff::{ZonedDateTime, tz::TimeZone};
use serde_json::json;

use super::{Answers, Broker, answers, parse_id, print, print_json, read_one, tell};
use crate::{
    alert::{AlertId, DeviceName, Like, Who, schema::Message},
    clock::{Clock, SystemClock},
    error::Error,
    staff::{Board, Draft, Fault, Session, hours, id_of, shown, times},
};

/// Look for a person who fits a description
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What the person looks like, in one sentence
    #[arg(required_unless_present = "like")]
    text: Option<String>,
    /// Somebody like a person who was seen, in place of a text: as a search names them, box-1/4711, or a
    /// sighting, box-1/01JD8Z0V6N8Q2K4M5P7R9T1W3X. Only the device that keeps the person looks for them, on its own
    /// cameras; the others say so
    #[arg(long, value_name = "DEVICE/NUMBER|SIGHTING", conflicts_with_all = ["text", "without"])]
    like: Option<Like>,
    /// A short name for the alert; made from the text where it is left out. Giving the name of an
    /// alert that exists replaces it: say again all that is to stay
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// How long to look: 30m, 2h, 3d [default: 24h]
    #[arg(long = "for", value_name = "TIME", conflicts_with = "until")]
    span: Option<String>,
    /// Until when to look: 18:00, or "2026-11-25 06:00"
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only on these cameras; * stands for anything: --cameras entrance,dock-*
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    cameras: Vec<String>,
    /// Only in these zones of the picture
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    zones: Vec<String>,
    /// What the person does not have: --without hat
    #[arg(long, value_name = "THING")]
    without: Vec<String>,
    /// Only at these hours: "22:00-06:00" or "fri,sat 22:00-06:00"; may be given several times
    #[arg(long, value_name = "HOURS")]
    schedule: Vec<String>,
    /// Where the hours are meant, if not here: Europe/Berlin
    #[arg(long, value_name = "PLACE", requires = "schedule")]
    time_zone: Option<String>,
    /// How many false alarms a day are bearable on the whole site: 2
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = super::budget)]
    budget: Option<f64>,
    /// Seconds of quiet after somebody was reported [default on the devices: 60]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    cooldown: Option<f64>,
    /// Why the person is looked for: "missing person, case 2031"
    #[arg(long, value_name = "WHY")]
    purpose: Option<String>,
    /// Who asks: your name or your desk's
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    answers: Answers,
    #[command(flatten)]
    broker: Broker,
}

const EXAMPLES: &str = "\
Examples:
  spotterd alert add \"woman in a red coat with a black backpack\" --for 2h --site harbour
  spotterd alert add \"boy in a yellow raincoat\" --id lost-boy --until 18:00 --by gate --site harbour
  spotterd alert add --like gate-1/4711 --for 2h --site harbour
  spotterd alert add \"man in a dark hoodie\" --cameras 'dock-*' --schedule \"22:00-06:00\" --for 3d \
--site harbour

Exit status: 0 every device that is online looks for the person, or waits for an approval; 1 some do
not; 2 something was typed wrong; 3 the broker cannot be used.";

fn draft(args: &Args, now: &ZonedDateTime) -> Result<Draft, Error> {
    let expires_at = match (&args.span, &args.until) {
        (_, Some(text)) => times::until(text, now)?,
        (span, None) => times::after(span.as_deref().unwrap_or(times::DEFAULT_SPAN), now)?,
    };
    let zone = match &args.time_zone {
        Some(name) => TimeZone::get(name).map_err(|_| {
            let reason = "is not known: write the place's name in the time zone database, such as \
                          Europe/Berlin";
            Error::config(format!("--time-zone {:?}", shown(name, 40)), reason)
        })?,
        None => now.time_zone().clone(),
    };
    let windows = args.schedule.iter().map(|text| hours::window(text, &zone));
    if args.cooldown.is_some_and(|seconds| !seconds.is_finite()) {
        return Err(Error::config("--cooldown", "is no number of seconds"));
    }
    Ok(Draft {
        text: args.text.clone(),
        like: args.like.clone(),
        without: args.without.clone(),
        expires_at,
        cameras: args.cameras.clone(),
        zones: args.zones.clone(),
        schedule: windows.collect::<Result<_, _>>()?,
        budget_per_day: args.budget,
        cooldown_s: args.cooldown,
        purpose: args.purpose.clone(),
        created_by: args.by.clone(),
    })
}

fn id(args: &Args) -> Result<AlertId, Error> {
    match &args.id {
        Some(id) => parse_id(id),
        None => {
            let named = args.like.as_ref().map(like_in_words).or_else(|| args.text.clone());
            named.as_deref().and_then(id_of).ok_or_else(|| {
                Error::config("TEXT", "gives no short name for the alert: give it one with --id")
            })
        }
    }
}

/// What tells apart comes first: a name has room for so much.
fn like_in_words(like: &Like) -> String {
    let device = like.device.as_ref().map_or("", DeviceName::as_str);
    match like.who {
        Who::Sighting(id) => format!("like {id} {device}"),
        Who::Track(id) => format!("like {id} {device}"),
    }
}

/// An alert is replaced only by somebody who said its name.
fn check_free(args: &Args, id: &AlertId, board: &Board, now: &ZonedDateTime) -> Result<(), Fault> {
    match board.alerts.get(id) {
        Some(wanted) if args.id.is_none() && wanted.is_live(now.timestamp()) => {
            Err(Fault::Unfit(format!(
                "there is an alert {id} already ({}): to replace it, add --id {id}; for a second \
                 one, give it another --id",
                wanted.text()
            )))
        }
        _ => Ok(()),
    }
}

pub(super) async fn run(args: &Args) -> Result<ExitCode, Fault> {
    let now = times::now(&SystemClock::new() as &dyn Clock);
    let (id, draft) = (id(args)?, draft(args, &now)?);
    // Before anybody is bothered.
    draft.message(0)?;
    let mut session = Session::open(&args.broker.desk()?).await?;
    let mut board = read_one(&mut session, &id).await?;
    check_free(args, &id, &board, &now)?;
    let revision = board.next_revision(&id, now.timestamp());
    let replaced = board.alerts.get(&id).filter(|wanted| wanted.is_live(now.timestamp()));
    let replaced = replaced.map(|wanted| wanted.text());
    let payload = draft.message(revision)?;
    tell(&mut session, &mut board, &id, (revision, payload.clone()), args.answers.wait).await?;
    session.close().await;

    let stands = answers::stands(&board, &id, revision);
    let is_done = is_done(&stands);
    if args.answers.json {
        print_json(&json!({
            "alert": id, "revision": revision, "done": is_done,
            "message": serde_json::from_slice::<serde_json::Value>(&payload).unwrap_or_default(),
            "devices": answers::json(&stands),
        }))?;
    } else {
        let end = draft.expires_at.to_zoned_datetime(now.time_zone().clone());
        let mut text = format!("Alert {id} until {}\n", times::moment(&end));
        if let Some(before) = replaced {
            text += &format!("It replaces: {before}\n");
        }
        print(&(text + &report(&stands, &board, &id, revision, &payload)))?;
    }
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether every device that is there does what was asked, and there is one.
fn is_done(stands: &[(&str, answers::Stand<'_>)]) -> bool {
    let good = |stand: &answers::Stand<'_>| match stand {
        answers::Stand::Answered(answer) => answer.is_armed() || answer.state == "pending-approval",
        answers::Stand::Silent | answers::Stand::Away => false,
    };
    // Of somebody who was seen only one device knows.
    let is_elsewhere = |stand: &answers::Stand<'_>| matches!(stand, answers::Stand::Answered(answer) if answer.knows_nobody());
    let is_bad = |stand: &answers::Stand<'_>| {
        !good(stand) && !is_elsewhere(stand) && !matches!(stand, answers::Stand::Away)
    };
    stands.iter().any(|(_, stand)| good(stand)) && !stands.iter().any(|(_, stand)| is_bad(stand))
}

fn report(
    stands: &[(&str, answers::Stand<'_>)],
    board: &Board,
    id: &AlertId,
    revision: u64,
    payload: &[u8],
) -> String {
    let width = answers::width(stands.iter().map(|(name, _)| *name));
    let mut text: String =
        stands.iter().map(|(name, stand)| answers::describe(name, stand, width)).collect();
    let away = |(_, stand): &(&str, answers::Stand<'_>)| matches!(stand, answers::Stand::Away);
    if stands.iter().all(away) {
        text += "No device is connected: nobody looks for this person now.\n";
    }
    let other = board.alerts.get(id).filter(|wanted| wanted.payload != payload);
    if other.is_some_and(|wanted| match wanted.message {
        Message::Plain(_) | Message::Empty => true,
        _ => wanted.revision().is_some_and(|other| other >= revision),
    }) {
        text += "Somebody else changed this alert at the same moment: see spotterd alert list.\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::staff::Answer;

    fn answered(state: &str) -> Answer {
        Answer { state: state.to_owned(), ..Answer::default() }
    }

    #[test]
    fn alerts_that_are_like_two_persons_have_two_names() {
        let name = |like: &str| id_of(&like_in_words(&like.parse().unwrap())).unwrap().to_string();
        assert_eq!(name("gate-1/4711"), "like-4711-gate-1");
        let long = "a-device-with-a-name-that-is-as-long-as-it-may-be-and-not-longer";
        let [one, other] = ["01JD8Z0V6N8Q2K4M5P7R9T1W3X", "01JD8Z0V6N8Q2K4M5P7R9T1W3Y"]
            .map(|id| name(&format!("{long}/{id}")));
        assert!(one != other && one.contains("01jd8z0v6n8q2k4m5p7r9t1w3x"), "{one} {other}");
    }

    #[test]
    fn done_is_when_all_that_are_there_look_and_there_is_one() {
        use answers::Stand::{Answered, Away, Silent};
        let (armed, rejected) = (answered("armed"), answered("rejected"));
        let pending = answered("pending-approval");
        assert!(is_done(&[("a", Answered(&armed)), ("b", Away)]));
        assert!(is_done(&[("a", Answered(&pending))]));
        let mut elsewhere = rejected.clone();
        elsewhere.whole = json!({"code": "elsewhere"});
        assert!(is_done(&[("a", Answered(&armed)), ("b", Answered(&elsewhere))]));
        assert!(!is_done(&[("b", Answered(&elsewhere))]), "nobody looks");
        assert!(!is_done(&[]));
        assert!(!is_done(&[("a", Away)]));
        assert!(!is_done(&[("a", Answered(&armed)), ("b", Silent)]));
        assert!(!is_done(&[("a", Answered(&armed)), ("b", Answered(&rejected))]));
    }
}
