//! `spotterd erase`: persons out of everything that a device keeps of them.

use std::{
    io::{BufRead, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::Result;

use super::{
    device::{Device, Reach, Said, Whom},
    print, print_json,
};
use crate::{
    config::CommandName,
    erase::{Fields, Report},
    error::Error,
    frame::CameraId,
    staff::shown,
};

/// Take persons out of everything that this device keeps
///
/// Says first what would go, and asks. Erased are vectors and pictures of the gallery, what is remembered of
/// those in view and of those whom descriptions are judged by, pictures and reports that wait for the broker,
/// what the page shows, what alerts keep of whom they are like, and what staff said of sightings with the crops. Bundles that
/// were trained on them are named. What is held stays and is named. What the broker has taken already is not reached.
///
/// While the daemon runs, it is asked over its broker, which its configuration has to allow:
/// [mqtt] commands = ["erase"]. Otherwise its files are opened here.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    whom: Whom,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

const EXAMPLES: &str = "\
Examples:
  spotterd erase --camera entrance --from 14:00 --to 14:10 --dry-run
  spotterd erase --id box-1/4711 --yes
  spotterd erase --sighting 01JD8Z0V6N8Q2K4M5P7R9T1W3X --config /etc/spotter/spotterd.toml

Exit status: 0 done, or nobody was meant; 1 something stays as it is held or damaged, or it was not done; 2 something was
typed wrong, or a daemon runs that cannot be asked; 3 files or the broker cannot be used.";

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let fields = fields(args)?;
    // What is typed wrong is known before anything is opened.
    fields.wish()?;
    let device = Device::find(&args.reach, CommandName::Erase)?;
    let would = erase(&device, &Fields { dry_run: true, ..fields.clone() })?;
    if args.dry_run || would.is_empty() {
        return tell(args, &would);
    }
    if !args.yes {
        print(&lines(&would))?;
        if !agreed()? {
            eprintln!("spotterd: nothing was erased");
            return Ok(ExitCode::FAILURE);
        }
    }
    tell(args, &erase(&device, &fields)?)
}

fn fields(args: &Args) -> Result<Fields, Error> {
    let Said { from, to, camera, id, sighting } = args.whom.said(&args.reach)?;
    Ok(Fields {
        schema: Some(1),
        command: Some(CommandName::Erase.as_str().to_owned()),
        from,
        to,
        camera,
        id,
        sighting,
        dry_run: false,
    })
}

fn erase(device: &Device, fields: &Fields) -> Result<Report> {
    let wish = fields.wish()?;
    device.tell(fields, wish.dry_run, |eraser| eraser.erase(&wish))
}

/// Whether somebody at a terminal says yes.
fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        let reason = "is needed where nobody can be asked";
        return Err(Error::config("--yes", reason).into());
    }
    eprint!("Erase them? This cannot be undone. [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn tell(args: &Args, report: &Report) -> Result<ExitCode> {
    match args.json {
        true => print_json(report)?,
        false => print(&lines(report))?,
    }
    Ok(if report.is_short() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A report for people.
fn lines(report: &Report) -> String {
    let verb = if report.dry_run { "Would erase" } else { "Erased" };
    let counted = [
        (report.tracks, "tracks of the gallery"),
        (report.track_pictures, "pictures of them"),
        (report.in_view, "tracks and views of persons in view"),
        (report.judged_by, "tracks that descriptions are judged by"),
        (report.messages, "reports that wait for the broker"),
        (report.waiting_pictures, "pictures that wait for the broker"),
        (report.shown, "sightings of the page"),
        (report.alerts, "alerts that are like them, which are withdrawn"),
        (report.verdicts, "verdicts of staff"),
        (report.verdict_pictures, "pictures of them"),
        (report.waiting_crops, "crops that wait for a verdict"),
        (report.damaged, "damaged files or parts of files"),
    ];
    let mut text = match (report.is_empty(), report.unreadable) {
        (true, _) if !report.held.is_empty() => {
            "Nothing is erased: who is meant is held.\n".to_owned()
        }
        (true, 0) => "Nobody is meant: there is nothing to erase.\n".to_owned(),
        (true, _) => "Nobody is meant, as far as the files can be read.\n".to_owned(),
        (false, _) => format!("{verb}:\n"),
    };
    if !report.cameras.is_empty() {
        let kept: Vec<&str> = report.cameras.iter().map(CameraId::as_str).collect();
        text += &format!(
            "  no track of that camera is kept; of these there are some: {}\n",
            kept.join(", ")
        );
    }
    if report.unreadable > 0 {
        text += &format!(
            "  stays: {} damaged files or parts of files, and nobody can say who is in them; a time or a \
             camera takes them too, unless something is held\n",
            report.unreadable
        );
    }
    for (count, what) in counted.iter().filter(|(count, _)| *count > 0) {
        text += &format!("  {count:>8} {what}\n");
    }
    if let Some((first, last)) = report.first_seen.as_ref().zip(report.last_seen.as_ref()) {
        text += &format!("  seen from {first} to {last}\n");
    }
    for trained in &report.bundles {
        let used = if trained.current { ", which is used now," } else { "" };
        text += &format!(
            "  bundle {} ({}){used} was trained on {} sightings of them, and what it learnt stays in it: go back \
             to an older one (spotterd bundle rollback) or adapt anew without them, then remove it\n",
            trained.bundle,
            shown(&trained.name, 128),
            trained.sightings.len()
        );
    }
    for held in &report.held {
        let kept = [(held.tracks, "tracks"), (held.told, "sightings")];
        let kept: Vec<String> = kept
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let (hold, reason) = (held.hold, shown(&held.reason, 500));
        text += &format!("  stays: {}, held by hold {hold} ({reason})\n", kept.join(" and "));
    }
    if !report.held.is_empty() {
        text += "  who is held can be erased once the hold is over: spotterd hold release ID\n";
    }
    text
}
