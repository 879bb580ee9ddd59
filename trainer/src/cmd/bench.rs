//! `spotter-trainer bench`.

use std::{
    ffi::OsString,
    ops::RangeInclusive,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result};
use clap::{ValueEnum as _, builder::RangedU64ValueParser};
use serde::Serialize;

use super::{print, print_json};
use crate::{
    bench::{
        Bench, Comparison, LARGEST_BATCH, Machine, Memory, Setup, Size, Variant, compare, memory,
    },
    error::Error,
    recipe::Precision,
    tell,
};

/// How many pairs a step may have.
const BATCH: RangeInclusive<u64> = 2..=LARGEST_BATCH as u64;

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Shapes of the model
    #[arg(long, value_enum, default_value = "vit-b16")]
    size: Size,
    /// Pairs in a step, 2 to 4096
    #[arg(long, default_value_t = 16,
        value_parser = RangedU64ValueParser::<usize>::new().range(BATCH))]
    batch: usize,
    /// Steps of each kind, after one to warm up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    steps: u16,
    /// Threads of libtorch; all processors if absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Number format of products in both steps
    #[arg(long, value_enum, default_value = "f32")]
    precision: Format,
    /// Pairs that go through the folded towers together (`batch.part` of a recipe); 0: all
    #[arg(long, default_value_t = 0, value_name = "N")]
    part: usize,
    /// Compute the folded blocks again instead of keeping them (`batch.recompute` of a recipe)
    #[arg(long)]
    recompute: bool,
    /// Print JSON for scripts
    #[arg(long)]
    json: bool,
    /// Only measure the memory of this kind of step, in this process
    #[arg(long, value_enum, hide = true)]
    memory_of: Option<Variant>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    F32,
    Bf16,
}

#[derive(Serialize)]
struct Report {
    machine: Machine,
    threads: u16,
    setup: Setup,
    steps: u16,
    #[serde(flatten)]
    times: Comparison,
    memory: Memories,
}

#[derive(Serialize)]
struct Memories {
    folded: Memory,
    plain: Memory,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let machine = Machine::here();
    let threads = args.threads.unwrap_or(u16::try_from(machine.cores).unwrap_or(1));
    tch::set_num_threads(threads.into());
    let setup = args.setup();
    if let Some(variant) = args.memory_of {
        print_json(&memory(&mut Bench::new(&setup)?, variant)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let memory = Memories {
        folded: measure_apart(args, threads, Variant::Folded)?,
        plain: measure_apart(args, threads, Variant::Plain)?,
    };
    let mut bench = Bench::new(&setup)?;
    let times = compare(&mut bench, &setup, args.steps.into(), &mut |variant, took| {
        let [wall, cpu] = [took.wall, took.cpu];
        tell(&format!("{}: {wall:.3} s, {cpu:.3} s of processors", name(variant)));
    })?;
    let report = Report { machine, threads, setup, steps: args.steps, times, memory };
    if args.json {
        print_json(&report)?;
    } else {
        print(&table(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn setup(&self) -> Setup {
        Setup {
            size: self.size,
            batch: self.batch,
            precision: match self.precision {
                Format::F32 => Precision::F32,
                Format::Bf16 => Precision::Bf16,
            },
            part: self.part,
            recompute: self.recompute,
        }
    }
}

fn name(variant: Variant) -> String {
    value(variant.to_possible_value())
}

fn value(value: Option<clap::builder::PossibleValue>) -> String {
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The memory of one kind of step in a process of its own, where the other one leaves no trace.
fn measure_apart(args: &Args, threads: u16, variant: Variant) -> Result<Memory> {
    let program = std::env::current_exe().context("this program's own path")?;
    let mut options: Vec<OsString> = vec!["bench".into()];
    for (option, value) in [
        ("--memory-of", name(variant)),
        ("--size", value(args.size.to_possible_value())),
        ("--batch", args.batch.to_string()),
        ("--threads", threads.to_string()),
        ("--precision", value(args.precision.to_possible_value())),
        ("--part", args.part.to_string()),
    ] {
        options.extend([option.into(), value.into()]);
    }
    if args.recompute {
        options.push("--recompute".into());
    }
    tell(&format!("{}: memory, in a process of its own", name(variant)));
    let output = Command::new(program)
        .args(options)
        .stderr(Stdio::inherit())
        .output()
        .context("a process that measures memory")?;
    if !output.status.success() {
        let reason = format!("the process that measures it ended with {}", output.status);
        return Err(Error::invalid(format!("memory of the {} step", name(variant)), reason).into());
    }
    serde_json::from_slice(&output.stdout).context("what the process that measures memory printed")
}

fn table(report: &Report) -> String {
    let Report { machine, threads, setup, steps, times, memory } = report;
    let mut text = format!(
        "{}, {} pairs, {}, {threads} of {} threads of {}; {steps} steps of each kind in turn\n",
        value(setup.size.to_possible_value()),
        setup.batch,
        match setup.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        },
        machine.cores,
        machine.processor,
    );
    let rows = [("folded", &times.folded, &memory.folded), ("plain", &times.plain, &memory.plain)];
    for (name, times, memory) in rows {
        text += &format!(
            "  {name:7} {:8.3} s ({:.3} to {:.3}), {:8.3} s of processors, {:7.2} pairs/s, peak {:.0} MiB\n",
            times.seconds.median,
            times.seconds.lowest,
            times.seconds.highest,
            times.processor_seconds.median,
            times.pairs_per_second,
            memory.peak_memory_mib,
        );
    }
    let (clock, processor) = (&times.ratio, &times.processor_ratio);
    text += &format!(
        "  folded is {:.3} times as fast ({:.3} to {:.3}), by time of processors {:.3} ({:.3} to {:.3})\n",
        clock.median,
        clock.lowest,
        clock.highest,
        processor.median,
        processor.lowest,
        processor.highest,
    );
    text
}
