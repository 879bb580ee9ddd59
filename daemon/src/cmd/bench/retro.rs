//! `spotterd bench retro`: a text against everybody of the last weeks.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use jiff::Timestamp;
use spotter_models::{Embedding, Generation, embedding::dot, kernel::Path as Kernel};

use super::{
    Spread,
    peer::{self, Peer, Task},
    source::{self, Source},
};
use crate::{
    clock::{Clock, SystemClock},
    error::Error,
    frame::CameraId,
    gallery::{Filter, Gallery, Look, Record, Selection, Settings},
};

/// Time a search over many tracks, beside indexes of other libraries
///
/// Fills a gallery, asks it texts, checks the answers against every vector in f32, and erases a part of it.
/// Each round asks all texts of ours and of each peer, one after the other, on one thread.
#[derive(clap::Args)]
pub struct Args {
    /// Tracks in the gallery
    #[arg(long, default_value_t = 100_000)]
    items: usize,
    /// Views of a track that are stored beside the pooled one
    #[arg(long, default_value_t = 2)]
    looks: usize,
    /// Texts that are asked
    #[arg(long, default_value_t = 100)]
    queries: usize,
    /// Rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Peers: flat (faiss, exact), binary (faiss, one bit), hnsw (usearch)
    #[arg(long, default_value = "flat,binary", value_delimiter = ',')]
    against: Vec<String>,
    #[command(flatten)]
    source: source::Args,
    #[command(flatten)]
    peers: peer::Args,
    /// Folder of the gallery; what is in it is deleted before and after
    #[arg(long, value_name = "FOLDER", default_value = "target/bench/retro")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How many of the best are asked for.
const BEST: usize = 10;
const GENERATION: Generation = Generation([7; 16]);

#[derive(serde::Serialize)]
struct Report {
    tracks: usize,
    components: usize,
    method: String,
    kernel: String,
    /// Tracks appended in a second, with all their looks.
    appends_per_second: f64,
    /// Seconds to open the gallery again.
    open_s: f64,
    disk_bytes: u64,
    memory_bytes: u64,
    /// Milliseconds to erase a thousand tracks.
    erase_1000_ms: f64,
    /// Milliseconds of one query: the medians of the rounds.
    query_ms: Spread,
    /// The slowest query of all rounds.
    slowest_ms: f64,
    /// Share of the true ten best, by f32, that are found.
    recall: f64,
    peers: Vec<PeerReport>,
}

#[derive(serde::Serialize)]
struct PeerReport {
    name: String,
    build_s: f64,
    query_ms: Spread,
    recall: f64,
    /// Its time over ours, round by round: above 1 is faster.
    ratio: Spread,
}

/// What all searches are asked and compared with.
struct Plan {
    items: Vec<f32>,
    queries: Vec<Vec<f32>>,
    truth: Vec<Vec<usize>>,
    size: usize,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    if args.items < BEST || args.rounds == 0 || args.queries == 0 || args.looks > 16 {
        bail!("--items must be 10 or more, --rounds and --queries 1 or more, --looks at most 16");
    }
    let folder = args.out.join("gallery");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&args.out).map_err(Error::io(&args.out))?;
    let report = measure(args, &folder)?;
    let _ = fs::remove_dir_all(&args.out);
    if args.json {
        crate::cmd::print_json(&report)?;
    } else {
        crate::cmd::print(&table(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &Args, folder: &std::path::Path) -> Result<Report> {
    let mut source = Source::open(&args.source)?;
    let plan = Plan::draw(args, &mut source);
    let clock = std::sync::Arc::new(SystemClock::new());
    let settings = Settings { max_tracks: usize::MAX, max_bytes: 1 << 40, ..Settings::new(folder) };
    let gallery = Gallery::open(settings.clone(), clock.clone())?;
    let start = clock.now();
    fill(&gallery, &plan, args.looks)?;
    let appends_per_second = args.items as f64 / clock.now().since(start).as_secs_f64();
    drop(gallery);
    let start = clock.now();
    let gallery = Gallery::open(settings, clock.clone())?;
    let open_s = clock.now().since(start).as_secs_f64();
    let counts = gallery.counts();
    let mut peers = start_peers(args, &plan)?;
    let (mut ours, mut theirs) = (Vec::new(), vec![Vec::new(); peers.len()]);
    let (mut slowest_ms, mut recall) = (0.0f64, 0.0);
    let mut peer_recall = vec![0.0; peers.len()];
    for round in 0..=args.rounds {
        let (times, found) = ask(&gallery, &plan, clock.as_ref())?;
        // The first round warms up.
        if round > 0 {
            slowest_ms = times.iter().copied().fold(slowest_ms, f64::max);
            ours.push(Spread::of(times).median);
        }
        recall = plan.recall(&found);
        for (index, (_, peer)) in peers.iter_mut().enumerate() {
            let answer = peer.round()?;
            if let Some(times) = theirs.get_mut(index).filter(|_| round > 0) {
                times.push(Spread::of(answer.ms).median);
            }
            let rows = answer.ids.iter().map(|ids| ids.iter().map(|id| *id as usize).collect());
            if let Some(recall) = peer_recall.get_mut(index) {
                *recall = plan.recall(&rows.collect::<Vec<_>>());
            }
        }
    }
    let reports =
        peers.into_iter().zip(theirs).zip(peer_recall).map(|(((name, peer), ms), recall)| {
            let ratio = ms.iter().zip(&ours).map(|(theirs, ours)| theirs / ours).collect();
            let (query_ms, ratio) = (Spread::of(ms), Spread::of(ratio));
            PeerReport { name, build_s: peer.build_s, query_ms, recall, ratio }
        });
    let peers = reports.collect();
    let start = clock.now();
    let span = Selection::Span { from: at(0)?, to: at(1000)?, camera: None };
    gallery.erase(&span, false)?;
    let erase_1000_ms = 1e3 * clock.now().since(start).as_secs_f64();
    Ok(Report {
        tracks: args.items,
        components: plan.size,
        method: source.method,
        kernel: format!("{:?}", Kernel::best()),
        appends_per_second,
        open_s,
        disk_bytes: counts.track_bytes + counts.picture_bytes,
        memory_bytes: counts.memory_bytes,
        erase_1000_ms,
        query_ms: Spread::of(ours),
        slowest_ms,
        recall,
        peers,
    })
}

impl Plan {
    fn draw(args: &Args, source: &mut Source) -> Self {
        let size = source.size();
        let mut items = Vec::with_capacity(args.items * size);
        (0..args.items).for_each(|_| items.extend(source.next()));
        let queries = source.queries(args.queries);
        let truth = queries.iter().map(|query| {
            let scores = items.chunks_exact(size).map(|item| dot(item, query));
            let mut scores: Vec<(f32, usize)> = scores.zip(0..).collect();
            scores.select_nth_unstable_by(BEST - 1, |a, b| b.0.total_cmp(&a.0));
            scores.iter().take(BEST).map(|(_, row)| *row).collect()
        });
        let truth = truth.collect();
        Self { items, queries, truth, size }
    }

    fn recall(&self, found: &[Vec<usize>]) -> f64 {
        let pairs = self.truth.iter().zip(found);
        let hits =
            pairs.map(|(truth, found)| truth.iter().filter(|row| found.contains(row)).count());
        hits.sum::<usize>() as f64 / (BEST * self.truth.len().max(1)) as f64
    }
}

/// A track of one second, each a second after the one before.
fn at(number: usize) -> Result<Timestamp> {
    Ok(Timestamp::from_second(1_795_000_000 + number as i64)?)
}

fn fill(gallery: &Gallery, plan: &Plan, looks: usize) -> Result<()> {
    let camera = CameraId::new("bench")?;
    for (number, item) in plan.items.chunks_exact(plan.size).enumerate() {
        let pooled = Embedding::new(item.to_vec(), GENERATION)?;
        let look = || Look { quality: 0.5, embedding: pooled.clone() };
        gallery.append(&Record {
            camera: camera.clone(),
            track: number as u64,
            first: at(number)?,
            last: at(number)?,
            generation: GENERATION,
            quality: 0.5,
            sightings: Vec::new(),
            looks: (0..looks).map(|_| look()).collect(),
            pooled,
            portrait: None,
        })?;
    }
    Ok(())
}

/// Milliseconds of each query, and the tracks that it found.
fn ask(gallery: &Gallery, plan: &Plan, clock: &dyn Clock) -> Result<(Vec<f64>, Vec<Vec<usize>>)> {
    let (mut times, mut found) = (Vec::new(), Vec::new());
    for query in &plan.queries {
        let query = Embedding::new(query.clone(), GENERATION)?;
        let start = clock.now();
        let hits = gallery.search(&query, &Filter::default(), BEST)?;
        times.push(1e3 * clock.now().since(start).as_secs_f64());
        found.push(hits.iter().map(|hit| hit.track as usize).collect());
    }
    Ok((times, found))
}

fn start_peers(args: &Args, plan: &Plan) -> Result<Vec<(String, Peer)>> {
    if !args.peers.is_there() {
        return Ok(Vec::new());
    }
    let (items, queries) = (args.out.join("items.f32"), args.out.join("queries.f32"));
    peer::write_rows(&items, &plan.items)?;
    peer::write_rows(&queries, &plan.queries.concat())?;
    let task = Task { items: &items, queries: &queries, size: plan.size, best: BEST, batch: 1 };
    let start = |kind: &String| Ok((kind.clone(), args.peers.start(kind, &task)?));
    args.against.iter().filter(|kind| !kind.is_empty()).map(start).collect()
}

fn table(report: &Report) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut table = format!(
        "{} tracks of {} components, one thread, {}\n{}\n\
         append {:.0} a second   open again {:.1} s   disk {:.0} MiB   memory {:.0} MiB   erase 1000 in {:.0} ms\n\
         ours      {}   slowest {:.2} ms   recall@10 {:.4}   (P11: 10 ms, 0.99)\n",
        report.tracks,
        report.components,
        report.kernel,
        report.method,
        report.appends_per_second,
        report.open_s,
        mib(report.disk_bytes),
        mib(report.memory_bytes),
        report.erase_1000_ms,
        report.query_ms.ms(),
        report.slowest_ms,
        report.recall
    );
    if report.peers.is_empty() {
        table += "peers     not installed: run scripts/bench-peers\n";
    }
    for peer in &report.peers {
        table += &format!(
            "{:<9} {}   built in {:.1} s   recall@10 {:.4}   ratio {}\n",
            peer.name,
            peer.query_ms.ms(),
            peer.build_s,
            peer.recall,
            peer.ratio.times()
        );
    }
    table
}
