//! `spotterd alert watch`.

use std::{path::PathBuf, process::ExitCode};

use serde_json::{Value, json};

use super::{Broker, print};
use crate::{
    clock::{Clock, SystemClock},
    error::Error,
    shutdown,
    staff::{Device, Event, Fault, Heard, Pictures, Said, Watching, shown, sightings, times},
};

/// Show who is found, as it happens
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Save the pictures of the persons found into this folder
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: Broker,
}

const EXAMPLES: &str = "\
Example:
  spotterd alert watch --pictures found --site harbour

While the connection is down the broker keeps sightings for an hour; they are shown when it is back.

A picture that cannot be saved is said to be; the lines go on.

Exit status: 0 ended by Ctrl-C; 2 something was typed wrong; 3 the broker cannot be used at the start.";

pub(super) async fn run(args: &Args) -> Result<ExitCode, Fault> {
    let desk = args.broker.desk()?;
    if let Some(folder) = &args.pictures {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    let mut ended = shutdown::future(shutdown::on_signals()?.stop)?;
    let pictures = if args.pictures.is_some() { Pictures::Wanted } else { Pictures::Unwanted };
    let mut watching = Watching::start(&desk, pictures).await?;
    eprintln!("Watching {}. Ctrl-C ends.", desk.site.name());
    let mut is_lost = false;
    loop {
        let event = tokio::select! {
            _ = &mut ended => break,
            event = watching.next() => event?,
        };
        match event {
            Event::Heard(heard) => tell(args, &heard)?,
            Event::Lost(why) if !is_lost => {
                is_lost = true;
                eprintln!("Connection lost: {why}. Trying again.");
            }
            Event::Lost(_) => {}
            Event::Back { resumed } => {
                is_lost = false;
                let missed =
                    if resumed { "" } else { " What was seen meanwhile may not be shown." };
                eprintln!("Connected again.{missed}");
            }
        }
    }
    watching.close().await;
    Ok(ExitCode::SUCCESS)
}

fn tell(args: &Args, heard: &Heard) -> Result<(), Fault> {
    match &heard.said {
        Said::Sighting(device) if args.json => {
            let sighting: Value = serde_json::from_slice(&heard.payload).unwrap_or_default();
            print(&format!("{}\n", json!({"device": device, "sighting": sighting})))
        }
        Said::Sighting(device) => {
            let now = times::now(&SystemClock::new() as &dyn Clock);
            print(&format!("{}\n", sightings::line(device, &heard.payload, &now)))
        }
        Said::Snapshot(device) => picture(args, device, heard),
        Said::Status(device) if !args.json => {
            let status: Device = serde_json::from_slice(&heard.payload).unwrap_or_default();
            eprintln!("{device} is {}.", shown(&status.state, 20));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn picture(args: &Args, device: &str, heard: &Heard) -> Result<(), Fault> {
    let Some(folder) = &args.pictures else { return Ok(()) };
    let Some(name) = sightings::picture_name(heard) else {
        eprintln!("{device} sent a picture that does not say which sighting it belongs to.");
        return Ok(());
    };
    let path = match sightings::save(folder, &name, &heard.payload) {
        Ok(path) => path,
        // Who watches needs the sightings more than their pictures.
        Err(error) => {
            eprintln!("A picture is not saved: {error}.");
            return Ok(());
        }
    };
    if args.json {
        print(&format!("{}\n", json!({"device": device, "picture": path})))
    } else {
        print(&format!("          picture {}\n", path.display()))
    }
}
