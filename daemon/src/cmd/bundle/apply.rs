//! `spotterd bundle apply`, and what a delta says.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use spotter_models::bundle::delta::Delta;

use super::keys::KeyArgs;
use crate::cmd::{model::EngineArgs, print, print_json};

/// Fold what a site trained onto the vendor's pack and install the bundle
///
/// The folding is done here, and the probe is computed before the bundle is taken in. With keys the delta
/// must be signed by the vendor or the site, and its parent must lie in the store with the vendor's
/// signature.
#[derive(clap::Args)]
pub struct Args {
    /// The delta's folder
    delta: PathBuf,
    /// The pack that the delta's parent was folded from
    #[arg(long, value_name = "FOLDER")]
    pack: PathBuf,
    /// The store that the bundle is installed in
    #[arg(long, value_name = "FOLDER")]
    store: PathBuf,
    /// Make it the current one
    #[arg(long)]
    promote: bool,
    #[command(flatten)]
    keys: KeyArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let store = args.keys.bundles()?.store(&args.store)?;
    let engine = args.engine.engine()?;
    let generation =
        store.apply(&args.delta, &args.pack, |bundle| engine.towers(bundle).map(drop))?;
    let mut text = format!("{generation} is installed in {}\n", args.store.display());
    if args.promote {
        store.promote(generation)?;
        text += &format!(
            "{generation} is the current bundle; a running daemon takes it over within seconds\n"
        );
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what a delta says.
pub(super) fn show(delta: &Delta, keys: &KeyArgs, json: bool) -> Result<ExitCode> {
    let record = delta.record();
    if json {
        print_json(record)?;
        return Ok(ExitCode::SUCCESS);
    }
    let known = keys.bundles()?.keys()?;
    let signed = match delta.claimed_signer()? {
        None => "not signed".to_owned(),
        Some(claimed) if known.is_empty() => {
            format!("signed by {claimed}, not checked as no key is named")
        }
        Some(_) => match delta.signer(&known) {
            Ok(signer) => format!("signed by {signer}"),
            Err(error) => format!("NOT TRUSTED: {error}"),
        },
    };
    let cohort = record.cohort.as_ref().map_or(0, |file| file.bytes);
    print(&format!(
        "delta       of {}\ngives       {}\nname        {}\ncreated     {}\nsignature   {signed}\n\
         tensors     {} bytes\nprobe       {} bytes\ncohort      {cohort} bytes\nprovenance  {}\n",
        record.parent,
        record.result,
        record.name,
        record.created_at,
        record.tensors.bytes,
        record.probe.bytes,
        serde_json::Value::Object(record.provenance.clone()),
    ))?;
    Ok(ExitCode::SUCCESS)
}
