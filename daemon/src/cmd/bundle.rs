//! `spotterd bundle`: what a bundle holds, and whether it is whole.

mod apply;
mod cohort;
mod keys;
mod vocabulary;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand};
use spotter_models::{
    Generation,
    bundle::{
        self, Bundle,
        delta::{self, Delta},
    },
    cohort::Cohort,
    manifest::{DataRecord, Precision},
    probe::Probe,
    session::{TextTower, VisionTower},
    vocabulary::Vocabulary,
};

use crate::{cmd::model::EngineArgs, config::Signatures, engine::Engine};
use keys::KeyArgs;

/// Show, verify, install and switch model bundles
#[derive(Subcommand)]
pub enum Command {
    /// Print what the manifest says
    Show(ShowArgs),
    /// Check every file's hash, then compute the bundle's probe and compare
    Verify(VerifyArgs),
    /// List the generations of a store; `*` marks the current one, `?` one that is to be compared with it
    List(StoreArgs),
    /// Make a generation of a store the current one; a bundle folder is installed first
    Promote(PromoteArgs),
    /// Make the generation current that was current before
    Rollback(StoreArgs),
    /// Remove generations of a store but the current one, the one before it, those that were installed
    /// last, and the parents of deltas among these
    Prune(PruneArgs),
    /// Fold what a site trained onto the vendor's pack and install the bundle
    Apply(apply::Args),
    /// Make a pair of keys for signatures
    Keygen(keys::KeygenArgs),
    /// Sign a bundle or a delta
    Sign(keys::SignArgs),
    /// Make the bundle that a pack holds unfolded, such as models/demo of a checkout
    Fold(FoldArgs),
    /// Copy a bundle and put a background cohort in: persons whom no alert means
    Cohort(cohort::Args),
    /// Copy a bundle or pack and put in the words of the captions it was trained on
    Vocabulary(vocabulary::Args),
}

/// A store of bundles
#[derive(Args)]
pub struct StoreArgs {
    /// The store's folder
    store: PathBuf,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Remove generations of a store
#[derive(Args)]
pub struct PruneArgs {
    /// The store's folder
    store: PathBuf,
    /// How many to keep besides those that are needed
    #[arg(long, value_name = "N")]
    keep: usize,
}

/// Make a generation of a store the current one; a bundle folder is installed first
#[derive(Args)]
pub struct PromoteArgs {
    /// The store's folder; made where it is missing
    store: PathBuf,
    /// A generation of the store, or the folder of a bundle
    bundle: PathBuf,
    /// Have the running daemon compare it with the current one first, while both look at who passes: it is promoted
    /// after that, or refused with the figures
    #[arg(long)]
    shadow: bool,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Make the bundle that a pack holds unfolded
#[derive(Args)]
pub struct FoldArgs {
    /// The pack, which `spotter-trainer export --pack` writes
    pack: PathBuf,
    /// The bundle, a new folder
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Number formats of its towers
    #[arg(long, value_delimiter = ',', default_value = "f32,f16,int8")]
    precisions: Vec<Precision>,
}

/// Print what the manifest says
#[derive(Args)]
pub struct ShowArgs {
    /// The bundle, a store of them, or a delta
    bundle: PathBuf,
    /// Print the manifest's JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    keys: KeyArgs,
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
    keys: KeyArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Show(args) => show(args),
        Command::Verify(args) => verify(args),
        Command::List(args) => list(args),
        Command::Promote(args) => promote(args),
        Command::Rollback(args) => rollback(args),
        Command::Prune(args) => prune(args),
        Command::Apply(args) => apply::run(args),
        Command::Keygen(args) => keys::keygen(args),
        Command::Sign(args) => keys::sign(args),
        Command::Cohort(args) => cohort::run(args),
        Command::Vocabulary(args) => vocabulary::run(args),
        Command::Fold(args) => fold(args),
    }
}

fn fold(args: &FoldArgs) -> Result<ExitCode> {
    let generation = bundle::fold(&args.pack, &args.out, &args.precisions)?;
    super::print(&format!("bundle {generation} in {}\n", args.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ShowArgs) -> Result<ExitCode> {
    if delta::is_delta(&args.bundle) {
        return apply::show(&Delta::open(&args.bundle)?, &args.keys, args.json);
    }
    let bundle = Bundle::open(&args.bundle)?;
    let manifest = bundle.manifest();
    if args.json {
        super::print_json(manifest)?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = &manifest.config;
    let parent = manifest.parent.map_or("none".into(), |parent| parent.to_string());
    let cohort = match Cohort::of(&bundle)? {
        Some(cohort) => format!("{} persons", cohort.persons()),
        None => "none".into(),
    };
    let words = match Vocabulary::of(&bundle)? {
        Some(vocabulary) => format!("{} words", vocabulary.len()),
        None => "none".into(),
    };
    let data = manifest.data.as_ref().map_or("not recorded".into(), |data| {
        let DataRecord { persons, pictures, captions, .. } = data;
        format!("{persons} persons, {pictures} pictures, {captions} captions")
    });
    let signed = args.keys.bundles()?.signer(&bundle);
    let signed = signed.unwrap_or_else(|error| format!("NOT TRUSTED: {error}"));
    let mut text = format!(
        "bundle      {}\nname        {}\ncreated     {}\nparent      {parent}\nsignature   {signed}\n\
         licence     weights: {}; data: {}\nintended    {}\ntrained on  {data}\n\
         vision      {} blocks of {} wide, crops of {}x{} pixels (height x width)\n\
         text        {} blocks of {} wide, at most {} words\nembedding   {} numbers\ncohort      {cohort}\nvocabulary  {words}\nfiles\n",
        bundle.generation(),
        manifest.name,
        manifest.created_at,
        manifest.licence.weights,
        manifest.licence.data,
        manifest.intended_use.as_deref().unwrap_or("not stated"),
        config.vision_layers,
        config.vision_width,
        config.height,
        config.width,
        config.text_layers,
        config.text_width,
        config.word_limit(),
        config.embed,
    );
    for (name, file) in &manifest.files {
        text += &format!("  {name:<24} {:>12} bytes  sha256 {}\n", file.bytes, file.sha256);
    }
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn verify(args: &VerifyArgs) -> Result<ExitCode> {
    let bundle = Bundle::open(&args.bundle)?;
    let whole = bundle.manifest().files.len();
    super::print(&format!("files       {whole} whole, as the manifest says\n"))?;
    let bundles = args.keys.bundles()?;
    match bundles.signer(&bundle) {
        Ok(signed) => super::print(&format!("signature   {signed}\n"))?,
        Err(error) => {
            super::print(&format!("signature   NOT TRUSTED: {error}\n"))?;
            if bundles.signatures == Signatures::Required {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    if args.files_only {
        return Ok(ExitCode::SUCCESS);
    }
    let engine = args.engine.engine()?;
    let probe = Probe::of(&bundle)?;
    let Engine { runtime, options, precision } = &engine;
    let mut vision = VisionTower::open(runtime, &bundle, *precision, options)?;
    let mut text = TextTower::open(runtime, &bundle, *precision, options)?;
    let report = probe.run(&mut vision, &mut text)?;
    let generation = bundle.generation();
    let (verdict, code) = match report.check(*precision) {
        Ok(()) => {
            (format!("{generation} is whole and computes what it should here"), ExitCode::SUCCESS)
        }
        Err(error) => {
            (format!("do not use {generation} on this machine: {error}"), ExitCode::FAILURE)
        }
    };
    super::print(&format!("probe       {report}\nverdict     {verdict}\n"))?;
    Ok(code)
}

fn list(args: &StoreArgs) -> Result<ExitCode> {
    let mut text = String::new();
    let store = args.keys.bundles()?.store(&args.store)?;
    let candidate = store.candidate().unwrap_or_else(|error| {
        text += &format!("the store's candidate is damaged, delete the link: {error}\n");
        None
    });
    for installed in store.list()? {
        let mark = match installed.current {
            true => "*",
            false if candidate == Some(installed.generation) => "?",
            false => " ",
        };
        let about = match &installed.manifest {
            Ok(manifest) => format!("{}, {}", manifest.name, manifest.created_at),
            Err(error) => format!("broken: {error}"),
        };
        let signed = match &installed.signer {
            Ok(Some(signer)) => format!("signed by {signer}"),
            Ok(None) => "not signed".into(),
            Err(error) => format!("NOT TRUSTED: {error}"),
        };
        text += &format!("{mark} {}  {about}, {signed}\n", installed.generation);
    }
    super::print(if text.is_empty() { "the store is empty\n" } else { &text })?;
    Ok(ExitCode::SUCCESS)
}

fn promote(args: &PromoteArgs) -> Result<ExitCode> {
    let store = args.keys.bundles()?.store(&args.store)?;
    let generation = match args.bundle.to_str().and_then(|text| text.parse::<Generation>().ok()) {
        Some(generation) => generation,
        None => store.install(&args.bundle)?,
    };
    if args.shadow {
        store.nominate(generation)?;
        super::print(&format!(
            "{generation} is the candidate: a running daemon has it look along for a while ([bundles] shadow_s) and then \
             promotes or refuses it, which its model topic tells\n"
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    store.promote(generation)?;
    super::print(&format!(
        "{generation} is the current bundle; a running daemon takes it over within seconds\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn rollback(args: &StoreArgs) -> Result<ExitCode> {
    let generation = args.keys.bundles()?.store(&args.store)?.rollback()?;
    super::print(&format!(
        "{generation} is the current bundle; a running daemon takes it over within seconds\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn prune(args: &PruneArgs) -> Result<ExitCode> {
    let removed = bundle::Store::new(&args.store).prune(args.keep)?;
    let mut text = format!("{} generations removed\n", removed.len());
    for generation in removed {
        text += &format!("  {generation}\n");
    }
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
