//! How well the tracker follows scenes, at several rates: for tuning it.
//!
//! ```text
//! cargo run --release --workspace --example track_report -- FOLDER NAME…
//! ```
//!
//! FOLDER holds NAME.truth.json and NAME.detections.json (see the example `scene_detections`).

use std::path::PathBuf;

use spotterd::track::Rules;

use scene::Report;

#[path = "../tests/scene/mod.rs"]
mod scene;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "tests/data/scenes".into()));
    let names: Vec<String> = arguments.collect();
    let rules = Rules::default();
    let mut scenes = Vec::new();
    for name in &names {
        let scene = scene::Scene::read(&folder, name);
        let (recall, precision) = scene.detection(rules.strong_score);
        println!("{name}: detection recall {recall:.3} precision {precision:.4}");
        scenes.push(scene);
    }
    for step in [1, 3, 5] {
        let mut total = Report::default();
        for (name, scene) in names.iter().zip(&scenes) {
            // Other starts see other frames.
            for start in 0..step {
                let report = scene.follow(rules, start, step);
                let what = format!("{name} at {:2}/s from {start}", 15 / step);
                println!("{}", line(&what, &report));
                report.events.iter().for_each(|event| println!("    {event}"));
                total.add(&report);
            }
        }
        println!("{}\n", line(&format!("all at {:2}/s", 15 / step), &total));
    }
    Ok(())
}

fn line(what: &str, report: &Report) -> String {
    format!(
        "{what}: {} visits, {} tracks ({} false, {} mixed), {} switches ({} lasting), {} \
         fragments, recall {:.3}, precision {:.4}, slowest {:.2} s",
        report.visits,
        report.tracks,
        report.false_tracks,
        report.mixed,
        report.switches,
        report.lasting,
        report.fragments,
        scene::ratio(report.shown),
        scene::ratio(report.sound),
        report.slowest
    )
}
