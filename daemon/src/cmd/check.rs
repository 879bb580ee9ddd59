//! `spotterd check`: is a configuration right, and would the daemon start with it?

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use spotter_models::{
    bundle::Bundle,
    session::{Runtime, SessionOptions},
};

use crate::{
    config::Config,
    engine::Engine,
    error::Error,
    page::{Page, Settings},
    source,
};

/// Prove a configuration right without starting: cameras, models, decoders, addresses
#[derive(clap::Args)]
pub struct Args {
    /// The configuration file
    #[arg(default_value = "/etc/spotter/spotterd.toml")]
    config: PathBuf,
    /// Print the configuration as it takes effect, with every default
    #[arg(long)]
    effective: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let config = Config::load(&args.config)?;
    if args.effective {
        super::print(&config.effective()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut findings = vec![("configuration", Ok(format!("{} cameras", config.cameras.len())))];
    let bundle = config.bundles.open(&config.bundle);
    let policy = bundle.as_ref().ok().map(|(bundle, _)| policy(&config, bundle));
    findings.push(("bundle", bundle.map(|(bundle, signed)| about(&bundle, &signed))));
    findings.extend(policy.map(|policy| ("decision", policy)));
    match engine(&config) {
        Ok(engine) => {
            findings.push(("ONNX Runtime", Ok(engine.runtime.library().display().to_string())));
            findings.push(("detector", detector(&config, &engine)));
        }
        Err(error) => findings.push(("ONNX Runtime", Err(error))),
    }
    for camera in &config.cameras {
        let camera = camera.get_ref();
        findings.push((camera.id.as_str(), self::camera(camera)));
    }
    findings.push(("storage", storage(&config.storage.folder)));
    findings.push(("metrics", metrics(&config)));
    findings.extend(page(&config).map(|page| ("page", page)));
    findings.extend(embedded(&config).map(|broker| ("embedded broker", broker)));
    let wrong = findings.iter().filter(|(_, finding)| finding.is_err()).count();
    let mut text = String::new();
    for (what, finding) in &findings {
        text += &match finding {
            Ok(found) => format!("ok     {what}: {found}\n"),
            Err(error) => format!("WRONG  {what}: {error}\n"),
        };
    }
    let code = if wrong == 0 {
        text += &format!("{} is right.\n", args.config.display());
        ExitCode::SUCCESS
    } else {
        text += &format!("{wrong} of {} checks failed.\n", findings.len());
        ExitCode::FAILURE
    };
    super::print(&text)?;
    Ok(code)
}

/// Whether the folder is there and may be written to, or may be made.
fn storage(folder: &Path) -> crate::Result<String> {
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let refuse =
        |reason: String| Error::config(format!("storage.folder {}", folder.display()), reason);
    if !there.is_dir() {
        return Err(refuse(format!("{} is no folder", there.display())));
    }
    let rights = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(there, rights)
        .map_err(|error| refuse(format!("{}: {error}; choose another folder", there.display())))?;
    Ok(folder.display().to_string())
}

/// Whether the address is ours and free; a daemon that runs with this configuration has it.
fn metrics(config: &Config) -> crate::Result<String> {
    let listen = config.metrics.listen;
    std::net::TcpListener::bind(listen).map_err(|error| {
        Error::config(
            format!("metrics.listen {listen}"),
            format!("{error}; another program, or a running spotterd, has it"),
        )
    })?;
    Ok(format!("http://{listen}/metrics"))
}

/// Whether the page's token is good and its address free, where there is a page.
fn page(config: &Config) -> Option<crate::Result<String>> {
    let listen = config.page.listen;
    let settings = Settings { listen, token_file: config.page.token_file.clone()? };
    Some(Page::check(&settings).map(|()| format!("http://{listen}")))
}

/// Whether the port of a broker of our own is free, where there is one.
fn embedded(config: &Config) -> Option<crate::Result<String>> {
    let port = config.mqtt.embedded_port;
    let bound = || {
        std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).map_err(|error| {
            let reason = format!("{error}; another program, or a running spotterd, has it");
            Error::config(format!("mqtt.embedded_port {port}"), reason)
        })
    };
    config.mqtt.is_embedded().then(|| bound().map(|_| format!("mqtt://127.0.0.1:{port}")))
}

fn about(bundle: &Bundle, signed: &str) -> String {
    let name = &bundle.manifest().name;
    format!("{} ({name}), every file whole, {signed}", bundle.generation())
}

/// Whether the bundle has what the policy judges by.
fn policy(config: &Config, bundle: &Bundle) -> crate::Result<String> {
    config.decision.policy.open(bundle, std::sync::Arc::default())?;
    Ok(config.decision.policy.to_string())
}

fn engine(config: &Config) -> crate::Result<Engine> {
    let runtime = Runtime::load(config.inference.library.as_deref())?;
    let provider = config.inference.provider;
    if !runtime.offers(provider) {
        return Err(Error::config(
            "inference.provider",
            format!("{} has no {provider} provider", runtime.library().display()),
        ));
    }
    let options = SessionOptions { provider, ..SessionOptions::default() };
    Ok(Engine { runtime, options, precision: config.inference.precision })
}

fn detector(config: &Config, engine: &Engine) -> crate::Result<String> {
    let detector = engine.detector(&config.detector.model)?;
    let (width, height) = detector.input_size();
    Ok(format!("{} ({}, {width}x{height})", config.detector.model, detector.layout()))
}

/// What can be said of a camera without opening it; `spotterd init` tries it.
fn camera(camera: &crate::config::Camera) -> crate::Result<String> {
    let spec = camera.source().map_err(|reason| Error::config(camera.id.to_string(), reason))?;
    camera
        .decoder
        .check()
        .map_err(|reason| Error::Source { camera: camera.id.to_string(), reason })?;
    let watched =
        camera.watched().map_err(|reason| Error::config(camera.id.to_string(), reason))?;
    for spec in [&spec, &watched] {
        source::present(spec)
            .map_err(|reason| Error::Source { camera: camera.id.to_string(), reason })?;
    }
    let small = match spec == watched {
        true => String::new(),
        false => format!(", persons found in {}", watched.place()),
    };
    let mask = camera.mask().map_err(|reason| Error::config(camera.id.to_string(), reason))?;
    let masked = mask.map_or_else(String::new, |mask| {
        let names: Vec<String> = mask.names().map(ToString::to_string).collect();
        let percent = 100.0 * mask.share();
        format!("; masks {} hide {percent:.0} % of the picture", names.join(", "))
    });
    Ok(format!("{}{small} (not opened){masked}", spec.place()))
}
