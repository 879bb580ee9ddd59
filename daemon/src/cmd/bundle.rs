//! `spotterd bundle`: what a bundle holds, and whether it is whole.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand};
use spotter_models::{
    bundle::Bundle,
    manifest::Precision,
    probe::Probe,
    session::{TextTower, VisionTower},
};

use crate::cmd::model::EngineArgs;

/// Show a model bundle, or verify that it is whole and computes what it should
#[derive(Subcommand)]
pub enum Command {
    /// Print what the manifest says
    Show(ShowArgs),
    /// Check every file's hash, then compute the bundle's probe and compare
    Verify(VerifyArgs),
}

/// Print what the manifest says
#[derive(Args)]
pub struct ShowArgs {
    /// The bundle, or a store of them
    bundle: PathBuf,
    /// Print the manifest's JSON
    #[arg(long)]
    json: bool,
}

/// Check every file's hash, then compute the bundle's probe and compare
#[derive(Args)]
pub struct VerifyArgs {
    /// The bundle, or a store of them
    bundle: PathBuf,
    /// Check the files only; needs no ONNX Runtime
    #[arg(long)]
    files_only: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Show(args) => show(args),
        Command::Verify(args) => verify(args),
    }
}

fn show(args: &ShowArgs) -> Result<ExitCode> {
    let bundle = Bundle::open(&args.bundle)?;
    let manifest = bundle.manifest();
    if args.json {
        println!("{}", serde_json::to_string_pretty(manifest)?);
        return Ok(ExitCode::SUCCESS);
    }
    let config = &manifest.config;
    println!("bundle      {}", bundle.generation());
    println!("name        {}", manifest.name);
    println!("created     {}", manifest.created_at);
    let parent = manifest.parent.map_or("none".into(), |parent| parent.to_string());
    println!("parent      {parent}");
    println!("licence     weights: {}; data: {}", manifest.licence.weights, manifest.licence.data);
    println!(
        "vision      {} blocks of {} wide, crops of {}x{} pixels (height x width)",
        config.vision_layers, config.vision_width, config.height, config.width
    );
    println!(
        "text        {} blocks of {} wide, at most {} words",
        config.text_layers,
        config.text_width,
        config.word_limit()
    );
    println!("embedding   {} numbers", config.embed);
    println!("files");
    for (name, file) in &manifest.files {
        println!("  {:<24} {:>12} bytes  sha256 {}", name, file.bytes, file.sha256);
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(args: &VerifyArgs) -> Result<ExitCode> {
    let bundle = Bundle::open(&args.bundle)?;
    println!("files       {} whole, as the manifest says", bundle.manifest().files.len());
    if args.files_only {
        return Ok(ExitCode::SUCCESS);
    }
    let engine = args.engine.engine()?;
    let probe = Probe::of(&bundle)?;
    let mut vision = VisionTower::open(&engine.runtime, &bundle, Precision::F32, &engine.options)?;
    let mut text = TextTower::open(&engine.runtime, &bundle, Precision::F32, &engine.options)?;
    let report = probe.run(&mut vision, &mut text)?;
    println!("probe       {report}");
    let generation = bundle.generation();
    Ok(match report.check(Precision::F32) {
        Ok(()) => {
            println!("verdict     {generation} is whole and computes what it should here");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("verdict     do not use {generation} on this machine: {error}");
            ExitCode::FAILURE
        }
    })
}
