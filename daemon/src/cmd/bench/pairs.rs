//! `spotterd bench match`: crops against armed alerts.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Result, bail};
use spotter_models::{
    embedding::dot,
    kernel::{Packed, Path as Kernel, Query},
};

use super::{
    Spread,
    peer::{self, Task},
    source::{self, Source},
};
use crate::clock::{Clock, SystemClock};

/// Time crops against many alerts, beside an exact index of another library
#[derive(clap::Args)]
pub struct Args {
    /// Alerts that are armed
    #[arg(long, default_value_t = 10_000)]
    items: usize,
    /// Crops that are compared at a time
    #[arg(long, default_value = "1,16,256", value_delimiter = ',')]
    crops: Vec<usize>,
    /// Rounds; each runs everything, one after the other
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    #[command(flatten)]
    source: source::Args,
    #[command(flatten)]
    peers: peer::Args,
    /// Folder for what the peers read
    #[arg(long, value_name = "FOLDER", default_value = "target/bench/match")]
    out: std::path::PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Report {
    alerts: usize,
    components: usize,
    method: String,
    kernel: String,
    /// For each number of crops.
    crops: Vec<Case>,
}

#[derive(serde::Serialize)]
struct Case {
    crops: usize,
    /// Milliseconds of all scores in 8 bits, crops rounded to 8 bits among them.
    int8_ms: Spread,
    /// Milliseconds of all scores in f32.
    f32_ms: Spread,
    /// Milliseconds of faiss `IndexFlatIP`, the best 10 of each crop, on one thread.
    faiss_ms: Option<Spread>,
    /// Faiss' time over ours in 8 bits, round by round: above 1 is faster.
    ratio_int8: Option<Spread>,
    /// Faiss' time over ours in f32.
    ratio_f32: Option<Spread>,
    /// Largest difference of a score in 8 bits from that in f32, and its bound.
    error: f32,
    bound: f32,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    if args.items == 0 || args.rounds == 0 || args.crops.iter().any(|n| !(1..=4096).contains(n)) {
        bail!("--items and --rounds must be 1 or more, --crops 1 to 4096");
    }
    let mut source = Source::open(&args.source)?;
    fs::create_dir_all(&args.out)?;
    let mut packed = Packed::new(source.size());
    let mut alerts = Vec::with_capacity(args.items * source.size());
    for _ in 0..args.items {
        let alert = source.next();
        packed.push(&alert)?;
        alerts.extend(alert);
    }
    peer::write_rows(&args.out.join("items.f32"), &alerts)?;
    let mut report = Report {
        alerts: args.items,
        components: source.size(),
        method: source.method.clone(),
        kernel: format!("{:?}", Kernel::best()),
        crops: Vec::new(),
    };
    for crops in &args.crops {
        let crops: Vec<Vec<f32>> = (0..*crops).map(|_| source.next()).collect();
        report.crops.push(case(args, &packed, &alerts, &crops)?);
    }
    if args.json {
        crate::cmd::print_json(&report)?;
    } else {
        crate::cmd::print(&table(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn case(args: &Args, packed: &Packed, alerts: &[f32], crops: &[Vec<f32>]) -> Result<Case> {
    let size = packed.size();
    let (items, queries) = (args.out.join("items.f32"), args.out.join("queries.f32"));
    peer::write_rows(&queries, &crops.concat())?;
    let mut peer = start(args, &items, &queries, (size, crops.len()))?;
    let clock = SystemClock::new();
    let (mut int8, mut float) = (Vec::new(), Vec::new());
    let (mut int8_ms, mut f32_ms, mut faiss_ms) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=args.rounds {
        let start = clock.now();
        let columns: Vec<Query> = crops.iter().map(|crop| Query::new(crop)).collect();
        packed.scores_of(&columns, &mut int8);
        let middle = clock.now();
        float.clear();
        for crop in crops {
            float.extend(alerts.chunks_exact(size).map(|alert| dot(alert, crop)));
        }
        let end = clock.now();
        let theirs = peer.as_mut().map(peer::Peer::round).transpose()?;
        // The first round warms up.
        if round > 0 {
            int8_ms.push(1e3 * middle.since(start).as_secs_f64());
            f32_ms.push(1e3 * end.since(middle).as_secs_f64());
            faiss_ms.extend(theirs.map(|round| round.ms.iter().sum::<f64>()));
        }
    }
    let errors = int8.iter().zip(&float).map(|(a, b)| (a - b).abs());
    let bounds = crops.iter().map(|crop| packed.bound(&Query::new(crop)));
    let ratio = |ours: &[f64]| {
        let pairs = faiss_ms.iter().zip(ours).map(|(theirs, ours)| theirs / ours);
        (!faiss_ms.is_empty()).then(|| Spread::of(pairs.collect()))
    };
    Ok(Case {
        crops: crops.len(),
        ratio_int8: ratio(&int8_ms),
        ratio_f32: ratio(&f32_ms),
        int8_ms: Spread::of(int8_ms),
        f32_ms: Spread::of(f32_ms),
        faiss_ms: (!faiss_ms.is_empty()).then(|| Spread::of(faiss_ms)),
        error: errors.fold(0.0, f32::max),
        bound: bounds.fold(0.0, f32::max),
    })
}

fn start(
    args: &Args,
    items: &Path,
    queries: &Path,
    (size, batch): (usize, usize),
) -> Result<Option<peer::Peer>> {
    let task = Task { items, queries, size, best: 10.min(args.items), batch };
    args.peers.is_there().then(|| args.peers.start("flat", &task)).transpose()
}

fn table(report: &Report) -> String {
    let mut table = format!(
        "{} alerts of {} components, one thread, {}\n{}\n",
        report.alerts, report.components, report.kernel, report.method
    );
    for case in &report.crops {
        let peer = case.faiss_ms.as_ref().map_or("not installed".into(), Spread::ms);
        table += &format!(
            "{:>4} crops   8 bits {}   f32 {}   faiss flat {peer}\n",
            case.crops,
            case.int8_ms.ms(),
            case.f32_ms.ms()
        );
        if let (Some(int8), Some(f32)) = (&case.ratio_int8, &case.ratio_f32) {
            table += &format!(
                "             ratio  8 bits {}   f32 {}   (P10: 2.0 at 1 crop, 8 at 16; f32 1.0)\n",
                int8.times(),
                f32.times()
            );
        }
        table +=
            &format!("             largest error {:.5}, bound {:.5}\n", case.error, case.bound);
    }
    table
}
