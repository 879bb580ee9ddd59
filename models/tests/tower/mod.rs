//! Towers in ONNX Runtime, and what tests feed them.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ort::{session::Session, value::Tensor as Input};
use serde::Deserialize;
use spotter_models::session::{Runtime, SessionOptions};
use spotter_models::towers::{Config, Tensor, Weights};

pub type Result<T> = anyhow::Result<T>;

/// What two implementations of the same sums may differ by in f32 on the tiny model.
pub const TINY: f32 = 1e-5;
/// The same on twelve blocks of full width.
pub const FULL: f32 = 2e-5;

/// `tiny.json`; it also holds settings of the optimiser, which no tower has.
#[derive(Deserialize)]
pub struct Tiny {
    pub config: Config,
    pub captions: Vec<Vec<i64>>,
}

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn tiny() -> Result<(Tiny, Weights)> {
    let tiny = serde_json::from_slice(&std::fs::read(golden("tiny.json"))?)?;
    Ok((tiny, Weights::read(&[golden("tiny-weights.safetensors")])?))
}

/// One tensor of floats from a golden file that holds others too.
pub fn golden_tensor(file: &str, name: &str) -> Result<Tensor> {
    let bytes = std::fs::read(golden(file))?;
    let file = safetensors::SafeTensors::deserialize(&bytes)?;
    let view = file.tensor(name)?;
    let floats = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Ok(Tensor::new(view.shape(), floats.collect())?)
}

/// A batch of texts as the towers read them: words are cut to what fits, and the rows padded to
/// `length` or to the longest.
pub fn ids(config: &Config, texts: &[Vec<i64>], length: usize) -> (Vec<usize>, Vec<i64>) {
    let rows: Vec<Vec<i64>> = texts
        .iter()
        .map(|words| {
            let words = &words[..words.len().min(config.word_limit())];
            let start = [i64::from(config.start_of_text())];
            [&start, words, &[i64::from(config.end_of_text())]].concat()
        })
        .collect();
    let length = rows.iter().map(Vec::len).max().unwrap_or(0).max(length);
    let padded = rows.into_iter().flat_map(|mut row| {
        row.resize(length, 0);
        row
    });
    (vec![texts.len(), length], padded.collect())
}

/// A process has one.
#[expect(clippy::unwrap_used, reason = "without the library no test here can run")]
pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::load(None).unwrap());

/// A tower in ONNX Runtime.
pub struct Tower(Session);

impl Tower {
    pub fn open(model: &[u8]) -> Result<Self> {
        let options = SessionOptions::default();
        Ok(Self(RUNTIME.open(Path::new("test.onnx"), model, &options)?))
    }

    pub fn embed_pixels(&mut self, shape: &[usize], pixels: &[f32]) -> Result<Vec<f32>> {
        let input = Input::from_array((shape, pixels.to_vec()))?;
        let outputs = self.0.run(ort::inputs!["pixels" => input])?;
        Ok(outputs["embedding"].try_extract_tensor::<f32>()?.1.to_vec())
    }

    pub fn embed_ids(&mut self, (shape, ids): (Vec<usize>, Vec<i64>)) -> Result<Vec<f32>> {
        let input = Input::from_array((shape, ids))?;
        let outputs = self.0.run(ort::inputs!["ids" => input])?;
        Ok(outputs["embedding"].try_extract_tensor::<f32>()?.1.to_vec())
    }
}

/// The largest difference; infinite where the counts differ or a value is not a number.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() || a.is_empty() {
        return f32::INFINITY;
    }
    let worst = |worst: f32, (a, b): (&f32, &f32)| match (a - b).abs() {
        difference if difference.is_nan() => f32::INFINITY,
        difference => worst.max(difference),
    };
    a.iter().zip(b).fold(0.0, worst)
}

#[track_caller]
pub fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    let difference = difference(a, b);
    assert!(difference <= tolerance, "differ by {difference}, at most {tolerance} is right");
}

/// Pictures of random pixels in the range of normalised ones.
pub fn noise(config: &Config, count: usize) -> (Vec<usize>, Vec<f32>) {
    let shape = vec![count, 3, config.height, config.width];
    let mut state = 1u32;
    let pixels = (0..shape.iter().product()).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 * 2.0 - 2.0
    });
    let pixels = pixels.collect();
    (shape, pixels)
}

/// Milliseconds of `rounds` runs of each tower in turn, so that what else the machine does meets
/// both; the median is what counts.
pub fn race(
    towers: [&mut Tower; 2],
    run: impl Fn(&mut Tower) -> Result<Vec<f32>>,
) -> Result<[f64; 2]> {
    const ROUNDS: usize = 15;
    let mut times = [vec![], vec![]];
    let [first, second] = towers;
    for _ in 0..ROUNDS {
        for (tower, times) in [&mut *first, &mut *second].into_iter().zip(&mut times) {
            #[expect(clippy::disallowed_methods, reason = "measures the processor, not a schedule")]
            let start = std::time::Instant::now();
            run(tower)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    }))
}
