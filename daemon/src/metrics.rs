//! What is counted, under which names. `docs/ref/metrics.md` lists them; a test holds the two together.
//!
//! Each stage counts what goes in, what comes out and what it drops, by cause, and times its work.
//! Labels are bounded: cameras of the configuration, stages and causes of the code.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::Serialize;

use crate::{
    clock::Clock,
    error::{Error, Result},
    frame::CameraId,
    source::supervise::Counts,
};

/// Upper bounds of the time histograms in seconds: from a tracker's step to a slow tower.
const BUCKETS_S: [f64; 12] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5];

/// How often samples are folded into their histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// A stage of the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Video to frames; its work happens in GStreamer's threads.
    Decode,
    /// A frame to the detector's input and its boxes.
    Detect,
    /// Boxes to tracks.
    Track,
    /// Which views are worth embedding, and their pixels.
    Crop,
    /// A crop to the tower's input.
    Prepare,
    /// The vision tower.
    Embed,
    /// An embedding against every text.
    Score,
}

impl Stage {
    /// Every stage, in the order of the data path.
    pub const ALL: [Stage; 7] = [
        Stage::Decode,
        Stage::Detect,
        Stage::Track,
        Stage::Crop,
        Stage::Prepare,
        Stage::Embed,
        Stage::Score,
    ];

    /// The label's value.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Decode => "decode",
            Stage::Detect => "detect",
            Stage::Track => "track",
            Stage::Crop => "crop",
            Stage::Prepare => "prepare",
            Stage::Embed => "embed",
            Stage::Score => "score",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something went into a stage.
pub fn entered(stage: Stage, camera: &CameraId, count: u64) {
    counter!("spotter_stage_in_total", "stage" => stage.name(), "camera" => camera.to_string())
        .increment(count);
}

/// Something came out of a stage.
pub fn left(stage: Stage, camera: &CameraId, count: u64) {
    counter!("spotter_stage_out_total", "stage" => stage.name(), "camera" => camera.to_string())
        .increment(count);
}

/// Something was dropped in a stage; nothing is ever dropped without this.
pub fn dropped(stage: Stage, camera: &CameraId, cause: &'static str, count: u64) {
    if count > 0 {
        counter!(
            "spotter_stage_dropped_total",
            "stage" => stage.name(), "camera" => camera.to_string(), "reason" => cause
        )
        .increment(count);
    }
}

/// A stage met an error and went on.
pub fn failed(stage: Stage, camera: &CameraId) {
    counter!("spotter_stage_errors_total", "stage" => stage.name(), "camera" => camera.to_string())
        .increment(1);
}

/// How a camera's source is: frames a second while it streams, and what it counted so far.
pub fn source(camera: &CameraId, fps: Option<f64>, counts: Counts) {
    let name = camera.to_string();
    gauge!("spotter_source_streaming", "camera" => name.clone()).set(if fps.is_some() {
        1.0
    } else {
        0.0
    });
    gauge!("spotter_source_frames_per_second", "camera" => name.clone())
        .set(fps.unwrap_or_default());
    counter!("spotter_source_reconnects_total", "camera" => name.clone())
        .absolute(counts.reconnects);
    counter!("spotter_source_failures_total", "camera" => name.clone()).absolute(counts.failures);
    counter!("spotter_source_warnings_total", "camera" => name.clone()).absolute(counts.warnings);
    let decode = Stage::Decode.name();
    counter!("spotter_stage_out_total", "stage" => decode, "camera" => name)
        .absolute(counts.decoded);
}

/// A camera is not watched any more: nothing streams. What it counted stays.
pub fn source_gone(camera: &CameraId) {
    source(camera, None, Counts::default());
    tracks(camera, 0);
}

/// From a frame's arrival to the scores of its person.
pub fn latency(camera: &CameraId, span: Duration) {
    histogram!("spotter_frame_to_score_seconds", "camera" => camera.to_string())
        .record(span.as_secs_f64());
}

/// How many times as many of a camera's newest persons score high as was promised.
pub fn drift(camera: &CameraId, ratio: f64) {
    gauge!("spotter_score_drift", "camera" => camera.to_string()).set(ratio);
}

/// Tracks in view of a camera.
pub fn tracks(camera: &CameraId, count: usize) {
    gauge!("spotter_tracks", "camera" => camera.to_string()).set(count as f64);
}

/// Another bundle serves.
pub fn switched() {
    counter!("spotter_bundle_switches_total").increment(1);
}

/// Whether the large one of a camera's two streams flows.
pub fn large_stream(camera: &CameraId, flows: bool) {
    gauge!("spotter_source_large_streaming", "camera" => camera.to_string())
        .set(f64::from(u8::from(flows)));
}

/// A crop of a camera with two streams came from the small one.
pub fn small_crop(camera: &CameraId, reason: &'static str) {
    counter!("spotter_small_crops_total", "camera" => camera.to_string(), "reason" => reason)
        .increment(1);
}

/// A candidate did not see a view that the serving bundle did.
pub fn shadow_dropped(reason: &'static str) {
    counter!("spotter_shadow_dropped_total", "reason" => reason).increment(1);
}

/// A bundle that was to serve was refused.
pub fn refused() {
    counter!("spotter_bundle_refused_total").increment(1);
}

fn describe() {
    describe_counter!("spotter_stage_in_total", "Items that went into a stage.");
    describe_counter!("spotter_stage_out_total", "Items that came out of a stage.");
    describe_counter!("spotter_stage_dropped_total", "Items a stage dropped, by reason.");
    describe_counter!("spotter_stage_errors_total", "Errors a stage met and survived.");
    describe_histogram!("spotter_stage_seconds", "Time a stage was busy with one item.");
    describe_gauge!("spotter_source_streaming", "1 while frames arrive from a camera.");
    describe_gauge!("spotter_source_frames_per_second", "Frames a second out of the decoder.");
    describe_counter!("spotter_source_reconnects_total", "Times frames flowed again.");
    describe_counter!("spotter_source_failures_total", "Attempts that failed.");
    describe_counter!("spotter_source_warnings_total", "Data that could not be decoded.");
    describe_histogram!("spotter_frame_to_score_seconds", "From decoded frame to scores.");
    describe_gauge!("spotter_tracks", "Persons in view.");
    describe_gauge!(
        "spotter_score_drift",
        "High scores of a camera's newest persons, over promised ones."
    );
    describe_counter!("spotter_bundle_switches_total", "Times another bundle took over.");
    describe_gauge!("spotter_source_large_streaming", "1 while the large stream flows.");
    describe_counter!("spotter_small_crops_total", "Crops from the small one of two streams.");
    describe_counter!("spotter_shadow_dropped_total", "Views that a candidate did not see.");
    describe_counter!("spotter_bundle_refused_total", "Bundles that were to serve and cannot.");
    describe_link();
    describe_outbox();
}

fn describe_link() {
    describe_gauge!("spotter_mqtt_connected", "1 while the broker can be used.");
    describe_counter!("spotter_mqtt_connects_total", "Connections that the broker accepted.");
    describe_counter!("spotter_mqtt_disconnects_total", "Connections lost or refused, by reason.");
    describe_counter!("spotter_mqtt_retained_sets_total", "Times the desired state was read.");
    describe_counter!("spotter_mqtt_published_total", "Messages that the broker acknowledged.");
    describe_counter!("spotter_mqtt_received_total", "Messages that were taken.");
    describe_counter!("spotter_mqtt_ignored_total", "Messages on topics that mean nothing.");
    describe_counter!("spotter_mqtt_deferred_total", "Times a message could not be taken yet.");
    describe_counter!("spotter_mqtt_takeovers_total", "Times another client took our place.");
    describe_counter!("spotter_devices_dropped_total", "Statuses of devices beyond the most.");
    describe_counter!("spotter_broker_restarts_total", "Times the embedded broker was restarted.");
}

fn describe_outbox() {
    describe_counter!("spotter_outbox_committed_total", "Messages written to the outbox.");
    describe_counter!("spotter_outbox_done_total", "Messages that left the outbox, delivered.");
    describe_counter!("spotter_outbox_dropped_total", "Messages the outbox dropped, by reason.");
    describe_counter!("spotter_outbox_disk_full_total", "Times the disk took nothing more.");
    describe_counter!("spotter_outbox_damaged_total", "Times a damaged outbox was set aside.");
    describe_gauge!("spotter_outbox_messages", "Messages that wait for the broker.");
    describe_gauge!("spotter_outbox_bytes", "Their bytes.");
    describe_counter!("spotter_sightings_lost_total", "Sightings that the disk never took.");
    describe_counter!("spotter_gallery_lost_total", "Tracks not kept: the disk was too slow.");
    describe_counter!("spotter_gallery_refused_total", "What the disk did not take.");
    describe_gauge!("spotter_gallery_tracks", "Tracks that are kept.");
    describe_gauge!("spotter_gallery_bytes", "Their bytes.");
    describe_counter!("spotter_requests_dropped_total", "Questions of staff turned away.");
    describe_feedback();
}

fn describe_feedback() {
    describe_counter!("spotter_feedback_total", "What staff said of sightings, by result.");
    describe_counter!("spotter_feedback_left_out_total", "Views in no verdict, by reason.");
    describe_counter!("spotter_feedback_dropped_total", "Verdicts and crops too old or too many.");
    describe_gauge!("spotter_feedback_verdicts", "Verdicts that are kept.");
    describe_gauge!("spotter_feedback_pending", "Sightings whose crops wait for a verdict.");
    describe_gauge!("spotter_feedback_bytes", "Bytes of verdicts' pictures and waiting crops.");
}

/// Starts collecting. Once a process.
///
/// # Errors
/// Where something else collects already.
pub fn install() -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets(&BUCKETS_S)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| Error::internal("metrics", error))?;
    describe();
    Ok(handle)
}

/// Serves `/metrics` from a thread of its own until the process ends.
///
/// # Errors
/// [`Error::Config`] where the address is taken or not ours.
pub fn serve(listen: SocketAddr, handle: PrometheusHandle) -> Result<()> {
    let place = |error| Error::config(format!("metrics.listen {listen}"), format!("{error}"));
    let listener = std::net::TcpListener::bind(listen).map_err(place)?;
    listener.set_nonblocking(true).map_err(place)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal("metrics server", error))?;
    std::thread::Builder::new()
        .name("metrics".into())
        .spawn(move || {
            runtime.block_on(async move {
                let upkeep = handle.clone();
                tokio::spawn(async move {
                    // Histograms keep every sample until somebody folds them, scraped or not.
                    let mut every = tokio::time::interval(UPKEEP);
                    loop {
                        every.tick().await;
                        upkeep.run_upkeep();
                    }
                });
                let page = move || {
                    let text = handle.render();
                    std::future::ready(text)
                };
                let router = axum::Router::new().route("/metrics", axum::routing::get(page));
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => {
                        if let Err(error) = axum::serve(listener, router).await {
                            tracing::error!(%error, "The metrics page stopped.");
                        }
                    }
                    Err(error) => tracing::error!(%error, "The metrics page did not start."),
                }
            });
        })
        .map_err(|error| Error::internal("metrics thread", error))?;
    Ok(())
}

/// What a stage's work cost so far.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cost {
    /// Items worked on.
    pub items: u64,
    /// Time by the clock.
    #[serde(serialize_with = "seconds")]
    pub wall: Duration,
    /// Processor time of the thread that did it.
    #[serde(serialize_with = "seconds")]
    pub cpu: Duration,
}

fn seconds<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

/// Times the stages that one thread works through.
pub struct Stopwatch {
    clock: Arc<dyn Clock>,
    costs: [Cost; Stage::ALL.len()],
}

impl Stopwatch {
    /// Nothing timed yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, costs: Default::default() }
    }

    /// Does a stage's work on one item and adds its cost.
    pub fn time<T>(&mut self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let (wall, cpu) = (self.clock.now(), thread_cpu());
        let result = work();
        let (wall, cpu) = (self.clock.now().since(wall), thread_cpu().saturating_sub(cpu));
        let cost = &mut self.costs[stage as usize];
        cost.items += 1;
        cost.wall += wall;
        cost.cpu += cpu;
        histogram!("spotter_stage_seconds", "stage" => stage.name()).record(wall.as_secs_f64());
        result
    }

    /// What a stage cost so far.
    pub fn cost(&self, stage: Stage) -> Cost {
        self.costs[stage as usize]
    }

    /// The clock it reads.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}

/// Processor time of this thread so far.
pub fn thread_cpu() -> Duration {
    clock_time(rustix::time::ClockId::ThreadCPUTime)
}

/// Processor time of the whole process so far.
pub fn process_cpu() -> Duration {
    clock_time(rustix::time::ClockId::ProcessCPUTime)
}

fn clock_time(id: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(id);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;
    use crate::clock::ManualClock;

    /// The names behind `before` in a text.
    fn names(text: &str, before: &str) -> BTreeSet<String> {
        let rests = text.split(before).skip(1);
        let names = rests.map(|rest| {
            rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>()
        });
        names.filter(|name| !name.is_empty()).collect()
    }

    fn sources(folder: &Path, take: &mut impl FnMut(&str)) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, take);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                take(&std::fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn every_metric_is_described_and_in_the_reference_and_no_other() {
        let mut written = BTreeSet::new();
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
        sources(folder, &mut |code| written.extend(names(code, "\"spotter_")));
        let described = names(include_str!("metrics.rs"), "!(\"spotter_");
        assert_eq!(written, described);
        assert_eq!(written, names(include_str!("../../docs/ref/metrics.md"), "`spotter_"));
    }

    #[test]
    fn a_stopwatch_adds_up() {
        let clock = Arc::new(ManualClock::default());
        let mut stopwatch = Stopwatch::new(clock.clone());
        for _ in 0..3 {
            stopwatch.time(Stage::Crop, || clock.advance(Duration::from_millis(5)));
        }
        assert_eq!(stopwatch.cost(Stage::Crop).wall, Duration::from_millis(15));
        assert_eq!(stopwatch.cost(Stage::Crop).items, 3);
        assert_eq!(stopwatch.cost(Stage::Embed).items, 0);
    }
}
