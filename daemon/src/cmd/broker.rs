//! `spotterd broker`: the process of the embedded broker, which the daemon starts. Not for people.

use std::{
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::Result;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{
    error::Error,
    mqtt::broker::{Ports, serve},
    telemetry,
};

/// Serve as the daemon's embedded broker until standard input ends
#[derive(clap::Args)]
pub struct Args {
    /// Port for clients of MQTT 5, on the loopback address
    #[arg(long, value_name = "PORT")]
    mqtt5: u16,
    /// Port for clients of MQTT 3.1.1, on the loopback address
    #[arg(long, value_name = "PORT")]
    mqtt3: u16,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    // Whoever stops the daemon, by Ctrl-C or systemd, signals this process too; it has to outlive the
    // daemon's last messages.
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
            .map_err(|error| Error::internal("signal handlers", error))?;
    }
    telemetry::abort_on_panic();
    serve(Ports { v5: args.mqtt5, v4: args.mqtt3 }, std::io::stdin().lock())?;
    Ok(ExitCode::SUCCESS)
}
