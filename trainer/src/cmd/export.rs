//! `spotter-trainer export`.

use std::{ops::RangeInclusive, path::PathBuf, process::ExitCode, str::FromStr};

use anyhow::{Context, Result};
use clap::builder::RangedU64ValueParser;
use spotter_models::{
    Generation,
    bundle::Pack,
    cohort::{MAX_PERSONS, MIN_PERSONS},
    manifest::Precision,
    session::Runtime,
    towers::Config,
};

use super::{place::check_folder, print};
use crate::{
    base::{Base, read_json},
    dataset::Dataset,
    error::Error,
    evaluate::{Choice, Part},
    export::{DeltaWanted, Model, Said, Target, check, delta, export, figures},
    tell,
};

/// How many persons a cohort may have.
const COHORT: RangeInclusive<u64> = MIN_PERSONS as u64..=MAX_PERSONS as u64;

/// Arguments of `export`.
#[derive(clap::Args)]
pub struct Args {
    /// A finished run
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["adapters", "config"])]
    run: Option<PathBuf>,
    /// A base model's folder, or the file base.safetensors in it. With --run: where the run's base is
    /// now, if it was moved
    #[arg(long, value_name = "PATH")]
    base: Option<PathBuf>,
    /// Trained tensors for that base
    #[arg(long, value_name = "FILE", requires = "config")]
    adapters: Option<PathBuf>,
    /// The shapes of base and trained tensors together
    #[arg(long, value_name = "JSON", requires = "adapters")]
    config: Option<PathBuf>,
    /// The bundle, a new folder
    #[arg(long)]
    out: PathBuf,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// Number formats of its towers
    #[arg(long, value_delimiter = ',', default_value = "f32,f16,int8")]
    precisions: Vec<Precision>,
    /// Write a pack instead, a fraction of the size, from which `spotterd bundle fold` makes the bundle
    #[arg(long, conflicts_with = "precisions")]
    pack: bool,
    /// Write what was trained since this pack instead: a delta, about 5 MB at full size, which `spotterd
    /// bundle apply` folds onto it. The model has to have gone on from the pack's own trained tensors
    #[arg(long, value_name = "PACK", conflicts_with = "pack")]
    delta_of: Option<PathBuf>,
    /// The bundle that a delta applies to; if absent, the one that the pack gives in --precisions
    #[arg(long, value_name = "GENERATION", requires = "delta_of")]
    parent: Option<Generation>,
    /// A data set whose training persons become the background cohort, by which the daemon's policies
    /// `budget`, the default, and `zscore` judge: 32 at least
    #[arg(long, value_name = "FOLDER")]
    cohort: Option<PathBuf>,
    /// Most persons of the cohort, 32 to 16384
    #[arg(long, default_value_t = 1024, value_name = "N", requires = "cohort",
        value_parser = RangedU64ValueParser::<usize>::new().range(COHORT))]
    cohort_persons: usize,
    /// Data sets to judge it by, for the manifest's record, such as FOLDER:val or FOLDER:all:distinct
    #[arg(long, value_name = "FOLDER:SPLIT")]
    judge: Vec<Judge>,
    /// Licence of the data it was trained on
    #[arg(long, default_value = "not stated; ask whoever trained it")]
    data_licence: String,
    /// When it was made, RFC 3339; now if absent
    #[arg(long, value_name = "TIME")]
    created_at: Option<String>,
    /// The ONNX Runtime library, where it is not found by itself
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
}

/// A data set and which part of it.
#[derive(Clone, Debug)]
struct Judge {
    folder: PathBuf,
    choice: Choice,
}

impl FromStr for Judge {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (text, distinct) = match text.strip_suffix(":distinct") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let Some((folder, split)) = text.rsplit_once(':') else {
            return Err("say which part, such as FOLDER:val".into());
        };
        let split = <Part as clap::ValueEnum>::from_str(split, false)?;
        let choice = Choice { split, distinct, ..Choice::default() };
        Ok(Self { folder: folder.into(), choice })
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    check_precisions(&args.precisions)?;
    check_folder(&args.out)?;
    let model = model(args)?;
    if let Some(pack) = &args.delta_of {
        return write_delta(args, model, Pack::open(pack)?);
    }
    let name = args.name.clone().unwrap_or_else(|| model.origin.name.clone());
    let cohort = match &args.cohort {
        Some(folder) => Some(model.cohort(&Dataset::open(folder)?, args.cohort_persons)?),
        None => None,
    };
    let said = Said {
        created_at: args.created_at.clone().unwrap_or_else(now),
        data_licence: args.data_licence.clone(),
        evaluation: evaluation(args, &model, &name)?,
        name,
    };
    if let Err(why) = model.vocabulary() {
        tell(&format!(
            "spotter-trainer: without a vocabulary, as {why}; `spotterd bundle vocabulary` puts one in"
        ));
    }
    if cohort.is_none() {
        tell(
            "spotter-trainer: without a cohort, by which the daemon's default policy `budget` and `zscore` \
             judge: give --cohort DATA, or put one in with `spotterd bundle cohort`",
        );
    }
    let target = if args.pack { Target::Pack } else { Target::Bundle(&args.precisions) };
    export(&args.out, &model, &said, &model.probe()?, cohort.as_ref(), target)?;
    if args.pack {
        print(&format!(
            "{}: a pack; `spotterd bundle fold` makes the bundle\n",
            args.out.display()
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = Runtime::load(args.library.as_deref())?;
    for precision in &args.precisions {
        let (generation, agreement) =
            check(&runtime, &args.out, *precision).with_context(|| refuse(args))?;
        print(&format!("{generation} {precision}: {agreement}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_delta(args: &Args, model: Model, pack: Pack) -> Result<ExitCode> {
    let name = args.name.clone().unwrap_or_else(|| model.origin.name.clone());
    let data = args.cohort.as_deref().map(Dataset::open).transpose()?;
    let wanted = DeltaWanted {
        created_at: args.created_at.clone().unwrap_or_else(now),
        parent: args.parent,
        precisions: &args.precisions,
        cohort: data.as_ref().map(|data| (data, args.cohort_persons)),
        evaluation: evaluation(args, &model, &name)?,
        provenance: provenance(&model)?,
        name,
    };
    let record = delta(&args.out, model, pack, &wanted)?;
    print(&format!(
        "{}: a delta of {} that gives {}, {} bytes of tensors; `spotterd bundle sign` signs it and \
         `spotterd bundle apply` installs it\n",
        args.out.display(),
        record.parent,
        record.result,
        record.tensors.bytes
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// What a delta says of the data it was trained on.
fn provenance(model: &Model) -> Result<serde_json::Map<String, serde_json::Value>> {
    let mut provenance = serde_json::Map::new();
    if let Some(data) = model.data() {
        let value = serde_json::to_value(data)
            .map_err(|error| spotter_models::Error::internal("provenance", error))?;
        provenance.insert("data".into(), value);
    }
    Ok(provenance)
}

/// Refuses a number format that is named twice: somebody meant another one.
fn check_precisions(precisions: &[Precision]) -> Result<()> {
    for (index, precision) in precisions.iter().enumerate() {
        if precisions.iter().take(index).any(|earlier| earlier == precision) {
            let reason = format!("names {precision} twice; name each number format once");
            return Err(Error::invalid("--precisions", reason).into());
        }
    }
    Ok(())
}

/// Takes a bundle out of the way whose towers do not agree with the model, for whoever looks into it.
fn refuse(args: &Args) -> String {
    let mut name = args.out.file_name().unwrap_or_default().to_owned();
    name.push(".refused");
    let refused = args.out.with_file_name(name);
    match std::fs::rename(&args.out, &refused) {
        Ok(()) => format!(
            "the exported towers do not agree with the model; kept as {}",
            refused.display()
        ),
        Err(_) => "the exported towers do not agree with the model; do not use them".into(),
    }
}

fn model(args: &Args) -> Result<Model> {
    let folder = |base: &PathBuf| match base.is_file() {
        true => base.parent().unwrap_or(base).to_owned(),
        false => base.clone(),
    };
    let base = args.base.as_ref().map(folder);
    if let Some(run) = &args.run {
        let model = Model::of_run_with(run, base.as_deref())?;
        super::warn_unchecked(run, model.unchecked());
        return Ok(model);
    }
    let Some(base) = base else {
        return Err(Error::invalid("model", "name one: --run RUN or --base PATH").into());
    };
    let base = Base::open(&base)?;
    let config: Option<Config> = args.config.as_deref().map(read_json).transpose()?;
    Ok(Model::of_base(&base, args.adapters.as_deref().zip(config.as_ref()))?)
}

/// Figures by the name of the data set and part.
fn evaluation(
    args: &Args,
    model: &Model,
    name: &str,
) -> Result<serde_json::Map<String, serde_json::Value>> {
    let mut evaluation = serde_json::Map::new();
    for judge in &args.judge {
        let data = Dataset::open(&judge.folder)?;
        let figures = figures(&mut model.embedder(name)?, &data, &judge.choice)?;
        let key = format!("{} {}", data.name(), judge.choice.split);
        evaluation.insert(key, figures);
    }
    Ok(evaluation)
}

pub(super) fn now() -> String {
    jiff::Timestamp::now()
        .round(jiff::Unit::Second)
        .unwrap_or_else(|_| jiff::Timestamp::now())
        .to_string()
}
