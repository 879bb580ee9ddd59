//! `spotterd hold`: persons whom nothing deletes, for as long as somebody says why.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use rand::Rng;
use serde_json::json;

use super::{
    device::{Device, Reach, Said, Whom},
    print, print_json,
};
use crate::{
    config::CommandName,
    error::Error,
    hold::{self, Ending, Fields, List, Listed, ReleaseFields, Report},
    staff::shown,
};

/// Keep persons from being deleted and erased, for as long as somebody says why
///
/// Who is held stays when they are too old, when room is needed, and when somebody erases them. It is the
/// selection that is held: who comes later and fits is held too. At most 100 holds.
///
/// While the daemon runs, it is asked over its broker, which its configuration has to allow:
/// [mqtt] commands = ["hold"]. Otherwise its files are opened here.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    why: Why,
    /// Only say who would be held
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Who asks, and why.
#[derive(clap::Args)]
struct Why {
    /// Why, for whoever finds it later, such as a case's number; up to 500 characters. It is kept and logged: put
    /// no name of somebody who was filmed into it
    #[arg(long, value_name = "TEXT", required = true)]
    reason: Option<String>,
    /// Who asks for it; up to 100 characters
    #[arg(long, value_name = "NAME", required = true)]
    by: Option<String>,
}

#[derive(Subcommand)]
enum Other {
    /// Show what is held, why, and what that keeps
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: Box<Reach>,
    },
    /// End a hold: what it alone kept grows old as everything does
    Release {
        /// The hold's number, as `spotterd hold list` has it
        #[arg(value_name = "ID")]
        id: u64,
        #[command(flatten)]
        why: Why,
        /// Only say what that would free
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        reach: Box<Reach>,
    },
}

const EXAMPLES: &str = "\
Examples:
  spotterd hold --camera entrance --from 14:00 --to 14:10 --reason \"case 2031\" --by \"J. Weber\"
  spotterd hold --id box-1/4711 --reason \"case 2031\" --by \"J. Weber, legal\" --dry-run
  spotterd hold list
  spotterd hold release 3 --reason \"case 2031 is closed\" --by \"J. Weber, legal\"

Exit status: 0 done, with warnings where there is something to know; 2 something was typed wrong,
it cannot be held, or a daemon runs that does not take it; 3 files or the broker cannot be used.";

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    match &args.other {
        None => place(args),
        Some(Other::List { json, reach }) => list(reach, *json),
        Some(Other::Release { id, why, dry_run, json, reach }) => {
            let fields = ReleaseFields {
                schema: Some(1),
                command: Some("release".into()),
                hold: *id,
                reason: why.reason.clone().unwrap_or_default(),
                by: why.by.clone().unwrap_or_default(),
                dry_run: *dry_run,
            };
            release(reach, &fields, *json)
        }
    }
}

fn place(args: &Args) -> Result<ExitCode> {
    let fields = fields(args)?;
    // What is typed wrong is known before anything is opened.
    let wish = fields.wish()?;
    let device = Device::find(&args.reach, CommandName::Hold)?;
    let report: Report = device.tell(&fields, wish.dry_run, |eraser| hold::place(eraser, &wish))?;
    match args.json {
        true => print_json(&report)?,
        false => print(&held(&report))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn fields(args: &Args) -> Result<Fields, Error> {
    let Said { from, to, camera, id, sighting } = args.whom.said(&args.reach)?;
    // The broker may hand a message over twice.
    let request = format!("{:032x}", rand::rng().random::<u128>());
    Ok(Fields {
        schema: Some(1),
        command: Some("hold".into()),
        from,
        to,
        camera,
        id,
        sighting,
        reason: args.why.reason.clone().unwrap_or_default(),
        by: args.why.by.clone().unwrap_or_default(),
        request: Some(request),
        dry_run: args.dry_run,
    })
}

fn list(reach: &Reach, json: bool) -> Result<ExitCode> {
    let device = Device::find(reach, CommandName::Hold)?;
    let command = json!({"schema": 1, "command": "holds"});
    let list: List = device.tell(&command, true, hold::list)?;
    match json {
        true => print_json(&list)?,
        false => print(&listed(&list))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn release(reach: &Reach, fields: &ReleaseFields, json: bool) -> Result<ExitCode> {
    let wish = fields.wish()?;
    let device = Device::find(reach, CommandName::Hold)?;
    let ending: Ending =
        device.tell(fields, wish.dry_run, |eraser| hold::release(eraser, &wish))?;
    match json {
        true => print_json(&ending)?,
        false => print(&ended(&ending))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// How many, and of when.
fn kept(tracks: usize, pictures: usize, span: (&Option<String>, &Option<String>)) -> String {
    match span {
        (Some(first), Some(last)) if tracks > 0 => {
            format!(
                "{tracks} tracks, {pictures} of them with a picture, seen from {first} to {last}"
            )
        }
        _ => "no track that is kept now".to_owned(),
    }
}

fn warned(warnings: &[String]) -> String {
    warnings.iter().map(|warning| format!("  mind: {}\n", shown(warning, 600))).collect()
}

/// What became of a hold, for people.
fn held(report: &Report) -> String {
    let mut text = match (report.hold, report.known) {
        (Some(hold), true) => format!("Held already, as hold {hold}"),
        (Some(hold), false) => format!("Held, as hold {hold}"),
        (None, _) => "Would be held".to_owned(),
    };
    let span = (&report.first_seen, &report.last_seen);
    text += &format!(": {}.\n", kept(report.tracks, report.track_pictures, span));
    if report.overdue > 0 {
        text += &format!("  {} of them are too old and stay only for this\n", report.overdue);
    }
    text += &warned(&report.warnings);
    if report.hold.is_none() {
        text += "Nothing was done.\n";
    }
    text
}

/// What the end of a hold frees, for people.
fn ended(ending: &Ending) -> String {
    let (hold, reason) = (ending.hold, shown(&ending.reason, 500));
    let by = asked(&ending.by, &ending.at);
    if ending.before {
        return format!("Hold {hold} was released before{by}: {reason}\n");
    }
    let verb = if ending.dry_run { "Would be released" } else { "Released" };
    let mut text = format!("{verb}: hold {hold}{by} ({reason}).\n");
    text += &match ending.overdue {
        0 => format!("  {} tracks that nothing else holds grow old as all do\n", ending.tracks),
        overdue => format!(
            "  {} tracks that nothing else holds; {overdue} of them are too old and are deleted within a minute \
             of a running daemon\n",
            ending.tracks
        ),
    };
    if ending.dry_run {
        text += "Nothing was done.\n";
    }
    text
}

fn asked(by: &Option<String>, at: &Option<String>) -> String {
    let by = by.as_ref().map(|by| format!(" by {}", shown(by, 100)));
    let at = at.as_ref().map(|at| format!(" on {at}"));
    [by, at].into_iter().flatten().collect()
}

/// All holds, for people.
fn listed(list: &List) -> String {
    let mut text = match list.holds.is_empty() {
        true => "Nothing is held.\n".to_owned(),
        false => format!("{} of at most {} holds:\n", list.holds.len(), list.most),
    };
    for hold in &list.holds {
        let by = asked(&hold.by, &hold.at);
        text += &format!("\nHold {}{by}: {}\n", hold.hold, shown(&hold.reason, 500));
        let span = (&hold.first_seen, &hold.last_seen);
        text += &format!("  {}: {}", whom(hold), kept(hold.tracks, hold.track_pictures, span));
        text += &match hold.overdue {
            0 => ".\n".to_owned(),
            overdue => format!("; {overdue} are too old and stay only for it.\n"),
        };
    }
    text + &warned(&list.warnings)
}

fn whom(hold: &Listed) -> String {
    let camera = hold.camera.as_ref().map(|camera| format!("camera {camera}"));
    let span = hold.from.as_ref().zip(hold.to.as_ref());
    let parts = [
        hold.id.map(|id| format!("track {id}")),
        hold.sighting.as_ref().map(|id| format!("sighting {id}")),
        camera,
        hold.track.map(|track| format!("number {track} there")),
        span.map(|(from, to)| format!("{from} to {to}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
