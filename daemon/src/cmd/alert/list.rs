//! `spotterd alert list`.

use std::{collections::BTreeMap, process::ExitCode};

use jiff::ZonedDateTime;
use serde_json::{Value, json};

use super::{Broker, answers, print, print_json};
use crate::{
    alert::{AlertId, schema::Message},
    clock::{Clock, SystemClock},
    staff::{Answer, Board, Fault, Session, Wanted, shown, times},
};

/// Show who is being looked for, and on which devices
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Show alerts that are over as well
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: Broker,
}

const EXAMPLES: &str = "\
Example:
  spotterd alert list --site harbour

Exit status: 0 done; 2 something was typed wrong; 3 the broker cannot be used.";

/// Longest description in the table, in characters.
const MAX_TEXT: usize = 60;

pub(super) async fn run(args: &Args) -> Result<ExitCode, Fault> {
    let mut session = Session::open(&args.broker.desk()?).await?;
    let mut board = Board::default();
    let site = session.site();
    let filters = vec![site.alerts(), site.states(), site.statuses()];
    session.read(filters, &mut board).await?;
    session.close().await;
    let now = times::now(&SystemClock::new() as &dyn Clock);
    let (live, over): (Vec<_>, Vec<_>) =
        board.alerts.iter().partition(|(_, wanted)| wanted.is_live(now.timestamp()));
    let over_count = over.len();
    let listed: Vec<_> = if args.all { live.into_iter().chain(over).collect() } else { live };
    if args.json {
        let alerts = listed.iter().map(|(id, wanted)| as_json(id, wanted, &board, &now));
        print_json(&alerts.collect::<Value>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = table(&listed, &board, &now);
    text += &strays(&board);
    if !args.all && over_count > 0 {
        text += &format!("{over_count} more are over; --all shows them.\n");
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn of<'a>(board: &'a Board, id: &AlertId) -> &'a BTreeMap<String, Answer> {
    static NONE: BTreeMap<String, Answer> = BTreeMap::new();
    board.answers.get(id).unwrap_or(&NONE)
}

fn as_json(id: &AlertId, wanted: &Wanted, board: &Board, now: &ZonedDateTime) -> Value {
    let message: Value = serde_json::from_slice(&wanted.payload)
        .unwrap_or_else(|_| String::from_utf8_lossy(&wanted.payload).into());
    let devices: serde_json::Map<_, _> =
        of(board, id).iter().map(|(name, answer)| (name.clone(), answer.whole.clone())).collect();
    json!({
        "alert": id,
        "live": wanted.is_live(now.timestamp()),
        "message": message,
        "devices": devices,
    })
}

/// What is current: an answer to an older message says nothing about this one.
fn current(wanted: &Wanted, answer: &Answer) -> bool {
    wanted.revision().is_none_or(|revision| answer.revision.is_none_or(|it| it >= revision))
}

fn table(listed: &[(&AlertId, &Wanted)], board: &Board, now: &ZonedDateTime) -> String {
    if listed.is_empty() {
        return "Nobody is being looked for.\n".to_owned();
    }
    let head = ["ALERT", "STATE", "UNTIL", "CAMERAS", "BY", "LOOKS FOR"].map(str::to_owned);
    let rows: Vec<[String; 6]> =
        listed.iter().map(|(id, wanted)| row(id, wanted, board, now)).collect();
    let mut widths = [0; 6];
    for row in rows.iter().chain([&head]) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut text = line(&head);
    for ((id, wanted), row) in listed.iter().zip(&rows) {
        text += &line(row);
        text += &troubles(id, wanted, board);
    }
    text
}

fn row(id: &AlertId, wanted: &Wanted, board: &Board, now: &ZonedDateTime) -> [String; 6] {
    let spec = match &wanted.message {
        Message::Alert { spec, .. } | Message::Plain(spec) => Some(spec),
        _ => None,
    };
    let until = spec.and_then(|spec| spec.expires_at).map(|at| {
        let at = at.to_zoned_datetime(now.time_zone().clone());
        times::moment(&at)
    });
    let cameras = spec
        .and_then(|spec| spec.cameras.as_ref())
        .map(|globs| globs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    let by = spec.and_then(|spec| spec.created_by.clone()).unwrap_or_default();
    let mut text = shown(&wanted.text(), MAX_TEXT);
    for thing in spec.map(|spec| spec.without.as_slice()).unwrap_or_default() {
        text += &format!(", without {}", shown(thing, MAX_TEXT));
    }
    let name = |text: &str| shown(text, 30);
    [
        id.to_string(),
        summary(id, wanted, board, now),
        until.unwrap_or_default(),
        name(&cameras.unwrap_or_else(|| "all".into())),
        name(&by),
        text,
    ]
}

/// On how many of the devices that are concerned it is watched for.
fn summary(id: &AlertId, wanted: &Wanted, board: &Board, now: &ZonedDateTime) -> String {
    if !wanted.is_live(now.timestamp()) {
        let is_expired = matches!(wanted.message, Message::Alert { .. });
        return if is_expired { "expired" } else { "withdrawn" }.to_owned();
    }
    let devices = board.concerned(id);
    let knows = |name: &&&str| {
        !board
            .answer(id, name)
            .is_some_and(|answer| answer.is_elsewhere() && current(wanted, answer))
    };
    let devices: Vec<_> = devices.iter().filter(knows).copied().collect();
    let is_armed = |name: &&&str| {
        board.answer(id, name).is_some_and(|answer| answer.is_armed() && current(wanted, answer))
    };
    match (devices.iter().filter(is_armed).count(), devices.len()) {
        (_, 0) => "no device".to_owned(),
        (armed, all) => format!("armed {armed}/{all}"),
    }
}

/// The devices that do not look for it, or with reservations.
fn troubles(id: &AlertId, wanted: &Wanted, board: &Board) -> String {
    if matches!(wanted.message, Message::Withdrawn { .. } | Message::Empty) {
        return String::new();
    }
    let mut text = String::new();
    for name in board.concerned(id) {
        let is_online = board.devices.get(name).is_some_and(|device| device.is_online());
        let answer = board.answer(id, name).filter(|answer| current(wanted, answer));
        if answer.is_some_and(Answer::is_elsewhere) {
            continue;
        }
        let mut lines = Vec::new();
        match answer {
            Some(answer) if answer.is_armed() => {
                lines.extend(answer.warnings.iter().map(|warning| shown(warning, 300)));
            }
            Some(answer) => lines.push(answers::state(answer)),
            None => lines.push("has not answered yet".to_owned()),
        }
        if !is_online {
            lines.push("is not connected now".to_owned());
        }
        text.extend(lines.iter().map(|line| format!("  ! {name}: {line}\n")));
    }
    text
}

/// Alerts that a device still looks for although the broker does not hold them.
fn strays(board: &Board) -> String {
    let mut text = String::new();
    for (id, answers) in &board.answers {
        let is_gone = !board.alerts.contains_key(id);
        for (device, _) in answers.iter().filter(|(_, answer)| is_gone && answer.is_armed()) {
            text += &format!(
                "! {device} looks for {id}, which the broker does not hold: end it with spotterd \
                 alert remove {id}\n"
            );
        }
    }
    text
}
