//! Writes what a detector finds in each frame of a video, so that the tracker can be tested and
//! tuned without the detector.
//!
//! ```text
//! cargo run --release --workspace --example scene_detections -- --bless
//! cargo run --release --workspace --example scene_detections -- MODEL.onnx VIDEO OUT.json
//! ```
//!
//! `--bless` writes the files under `tests/data/scenes` anew, with the default detector from
//! `make setup`. The video is decoded by the `ffmpeg` program.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so"
)]

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use spotter_models::{
    Rgb,
    session::{Runtime, SessionOptions},
};
use spotterd::detect::{self, Detection};

const MODEL: &str = "deimv2_hgnetv2_femto_coco.onnx";

fn main() -> Result<()> {
    let runtime = Runtime::load(None)?;
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match arguments.as_slice() {
        [bless] if bless.as_os_str() == "--bless" => {
            let assets = spotter_models::assets::cache_dir().context("no home folder")?;
            let model = assets.join("assets").join(MODEL);
            let scenes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/scenes");
            for scene in ["street-a", "street-b"] {
                let video = scenes.join(format!("{scene}.mp4"));
                let out = scenes.join(format!("{scene}.detections.json"));
                record(&runtime, &model, &video, &out)?;
            }
            Ok(())
        }
        [model, video, out] => record(&runtime, model, video, out),
        _ => bail!("give either --bless or MODEL.onnx VIDEO OUT.json"),
    }
}

/// Detects in every frame of `video`.
fn record(runtime: &Runtime, model: &Path, video: &Path, out: &Path) -> Result<()> {
    let bytes = std::fs::read(model).with_context(|| model.display().to_string())?;
    let mut detector = detect::open(runtime, model, &bytes, &SessionOptions::default())?;
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(video)
        .args(["-f", "image2pipe", "-c:v", "ppm", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .context("ffmpeg cannot be started")?;
    let mut pipe = BufReader::new(ffmpeg.stdout.take().context("ffmpeg has no output")?);
    let mut frames = Vec::new();
    while let Some(frame) = next_frame(&mut pipe)? {
        let found = detector.detect(&frame, frame.width(), frame.height())?;
        frames.push(line(&found.detections));
    }
    ensure!(ffmpeg.wait()?.success(), "ffmpeg could not read {}", video.display());
    let name = model.file_stem().unwrap_or_default().to_string_lossy();
    let mut file = std::fs::File::create(out).with_context(|| out.display().to_string())?;
    writeln!(file, "{{\"detector\": \"{name}\", \"frames\": [\n{}\n]}}", frames.join(",\n"))?;
    println!("{}: {} frames", out.display(), frames.len());
    Ok(())
}

/// One frame as a line of JSON: [x1, y1, x2, y2, score] of each box.
fn line(detections: &[Detection]) -> String {
    let one = |d: &Detection| {
        let (b, score) = (d.bbox, d.score);
        format!("[{:.1},{:.1},{:.1},{:.1},{score:.3}]", b.x1(), b.y1(), b.x2(), b.y2())
    };
    format!("[{}]", detections.iter().map(one).collect::<Vec<_>>().join(","))
}

/// Reads one picture of the form PPM (P6); `None` at the end.
fn next_frame(pipe: &mut impl BufRead) -> Result<Option<Rgb>> {
    let mut header = String::new();
    for _ in 0..3 {
        pipe.read_line(&mut header)?;
    }
    if header.is_empty() {
        return Ok(None);
    }
    let words: Vec<&str> = header.split_whitespace().collect();
    let ["P6", width, height, "255"] = words.as_slice() else {
        bail!("not a picture of ffmpeg: {header:?}")
    };
    let (width, height): (u32, u32) = (width.parse()?, height.parse()?);
    let mut data = vec![0; width as usize * height as usize * 3];
    pipe.read_exact(&mut data)?;
    Ok(Some(Rgb::new(width, height, data)?))
}
