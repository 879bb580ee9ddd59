//! A rendered street scene, what a detector found in it, and how well a tracker follows it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{path::Path, sync::Arc, time::Duration};

use spotterd::{
    detect::Detection,
    frame::Pts,
    geometry::BBox,
    track::{Rules, State, TrackId, TrackIds, Tracker},
    truth::{Agreement, Comparison, Coverage, Truth},
};

#[derive(serde::Deserialize)]
struct Detections {
    frames: Vec<Vec<[f32; 5]>>,
}

/// A scene and what a detector finds in it.
pub struct Scene {
    truth: Truth,
    detections: Vec<Vec<Detection>>,
}

/// What is added up over scenes and first frames.
#[derive(Debug, Default)]
pub struct Total {
    /// Counts of persons and boxes.
    pub coverage: Coverage,
    /// Sums of what [`Agreement`] counts.
    pub visits: u64,
    pub tracks: u64,
    pub false_tracks: u64,
    pub mixed: u64,
    pub switches: u64,
    pub lasting: u64,
}

impl Total {
    #[allow(dead_code, reason = "not every program that shares this module sums up")]
    pub fn add(&mut self, one: &Agreement) {
        self.coverage.required += one.coverage.required;
        self.coverage.found += one.coverage.found;
        self.coverage.boxes += one.coverage.boxes;
        self.coverage.sound += one.coverage.sound;
        self.visits += one.visits;
        self.tracks += one.tracks;
        self.false_tracks += one.false_tracks;
        self.mixed += one.mixed;
        self.switches += one.switches;
        self.lasting += one.lasting;
    }
}

impl Scene {
    /// Reads `NAME.truth.json` and `NAME.detections.json`.
    pub fn read(folder: &Path, name: &str) -> Self {
        let truth = Truth::read(&folder.join(format!("{name}.truth.json"))).unwrap();
        let path = folder.join(format!("{name}.detections.json"));
        let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let found: Detections = serde_json::from_slice(&text).expect("detections");
        assert_eq!(truth.len(), found.frames.len(), "{name}");
        let detection = |&[x1, y1, x2, y2, score]: &[f32; 5]| Detection {
            bbox: BBox::new(x1, y1, x2, y2).expect("a detection"),
            score,
        };
        let frames = found.frames.iter();
        let detections = frames.map(|frame| frame.iter().map(detection).collect()).collect();
        Self { truth, detections }
    }

    /// How the boxes with this score or more agree, over all frames.
    #[allow(dead_code, reason = "not every program that shares this module asks for it")]
    pub fn detection(&self, score: f32) -> Coverage {
        let strong = |frame: &Vec<Detection>| -> Vec<BBox> {
            frame.iter().filter(|d| d.score >= score).map(|d| d.bbox).collect()
        };
        let boxes: Vec<Vec<BBox>> = self.detections.iter().map(strong).collect();
        self.truth.detection((0..).zip(boxes.iter().map(Vec::as_slice)))
    }

    /// Follows every `step`-th frame from frame `start` on.
    pub fn follow(&self, rules: Rules, start: usize, step: usize) -> Agreement {
        let mut tracker = Tracker::new(rules, Arc::new(TrackIds::default()));
        let mut comparison = Comparison::new(&self.truth);
        for (number, detections) in self.detections.iter().enumerate().skip(start).step_by(step) {
            let pts = Pts(Duration::from_secs_f64(number as f64 / self.truth.fps));
            let update = tracker.update(pts, self.truth.size, detections);
            let confirmed: Vec<(TrackId, BBox)> = update
                .tracks
                .iter()
                .filter(|track| track.state == State::Confirmed)
                .map(|track| (track.id, track.bbox))
                .collect();
            comparison.frame(number as u64, &confirmed);
        }
        comparison.finish()
    }
}
