//! The exported towers, run by ONNX Runtime: against vectors of an independent implementation
//! (`golden/`, of PyTorch), and the folded against the unfolded.
#![cfg(feature = "ort")]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::Context as _;
use ort::{session::Session, value::Tensor as Input};
use serde::Deserialize;
use spotter_models::Error;
use spotter_models::session::{Runtime, SessionOptions};
use spotter_models::towers::positions::{Grid, interpolate};
use spotter_models::towers::{
    Config, Tensor, Weights, folded_text, folded_vision, random, unfolded_text, unfolded_vision,
};

type Result<T> = anyhow::Result<T>;

/// What two implementations of the same sums may differ by in f32 on the tiny model.
const TINY: f32 = 1e-5;
/// The same on twelve blocks of full width.
const FULL: f32 = 2e-5;

/// `tiny.json`; it also holds settings of the optimiser, which no tower has.
#[derive(Deserialize)]
struct Tiny {
    config: Config,
    captions: Vec<Vec<i64>>,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn tiny() -> Result<(Tiny, Weights)> {
    let tiny = serde_json::from_slice(&std::fs::read(golden("tiny.json"))?)?;
    Ok((tiny, Weights::read(&[golden("tiny-weights.safetensors")])?))
}

/// One tensor of floats from a golden file that holds others too.
fn golden_tensor(file: &str, name: &str) -> Result<Tensor> {
    let bytes = std::fs::read(golden(file))?;
    let file = safetensors::SafeTensors::deserialize(&bytes)?;
    let view = file.tensor(name)?;
    let floats = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Ok(Tensor::new(view.shape(), floats.collect())?)
}

/// A batch of texts as the towers read them: words are cut to what fits, and the rows padded to
/// `length` or to the longest.
fn ids(config: &Config, texts: &[Vec<i64>], length: usize) -> (Vec<usize>, Vec<i64>) {
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
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::load(None).unwrap());

/// A tower in ONNX Runtime.
struct Tower(Session);

impl Tower {
    fn open(model: &[u8]) -> Result<Self> {
        let options = SessionOptions::default();
        Ok(Self(RUNTIME.open(Path::new("test.onnx"), model, &options)?))
    }

    fn embed_pixels(&mut self, shape: &[usize], pixels: &[f32]) -> Result<Vec<f32>> {
        let input = Input::from_array((shape, pixels.to_vec()))?;
        let outputs = self.0.run(ort::inputs!["pixels" => input])?;
        Ok(outputs["embedding"].try_extract_tensor::<f32>()?.1.to_vec())
    }

    fn embed_ids(&mut self, (shape, ids): (Vec<usize>, Vec<i64>)) -> Result<Vec<f32>> {
        let input = Input::from_array((shape, ids))?;
        let outputs = self.0.run(ort::inputs!["ids" => input])?;
        Ok(outputs["embedding"].try_extract_tensor::<f32>()?.1.to_vec())
    }
}

/// The largest difference; infinite where the counts differ or a value is not a number.
fn difference(a: &[f32], b: &[f32]) -> f32 {
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
fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    let difference = difference(a, b);
    assert!(difference <= tolerance, "differ by {difference}, at most {tolerance} is right");
}

/// Pictures of random pixels in the range of normalised ones.
fn noise(config: &Config, count: usize) -> (Vec<usize>, Vec<f32>) {
    let shape = vec![count, 3, config.height, config.width];
    let mut state = 1u32;
    let pixels = (0..shape.iter().product()).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 * 2.0 - 2.0
    });
    let pixels = pixels.collect();
    (shape, pixels)
}

#[test]
fn tiny_vision_towers_agree_with_the_reference() -> Result<()> {
    let (tiny, weights) = tiny()?;
    let pixels = golden_tensor("tiny-forward.safetensors", "pixels")?;
    let expected = golden_tensor("tiny-forward.safetensors", "image_embedding")?;
    for model in [folded_vision(&weights, &tiny.config)?, unfolded_vision(&weights, &tiny.config)?]
    {
        let embedding = Tower::open(&model)?.embed_pixels(pixels.shape(), pixels.values())?;
        assert_close(&embedding, expected.values(), TINY);
    }
    Ok(())
}

#[test]
fn tiny_text_towers_agree_with_the_reference_at_any_padding() -> Result<()> {
    let (tiny, weights) = tiny()?;
    assert!(tiny.captions.iter().any(|words| words.len() > tiny.config.word_limit()));
    let expected = golden_tensor("tiny-forward.safetensors", "text_embedding")?;
    for model in [folded_text(&weights, &tiny.config)?, unfolded_text(&weights, &tiny.config)?] {
        let mut tower = Tower::open(&model)?;
        let together = tower.embed_ids(ids(&tiny.config, &tiny.captions, 0))?;
        assert_close(&together, expected.values(), TINY);
        for (words, expected) in
            tiny.captions.iter().zip(expected.values().chunks_exact(tiny.config.embed))
        {
            for longer in [0, 7, 30] {
                let fitting = words.len().min(tiny.config.word_limit()) + 2;
                let length = (fitting + longer).min(tiny.config.word_limit() + 2);
                let alone = ids(&tiny.config, std::slice::from_ref(words), length);
                assert_close(&tower.embed_ids(alone)?, expected, TINY);
            }
        }
    }
    Ok(())
}

#[test]
fn an_empty_text_is_only_its_start_and_end() -> Result<()> {
    let (tiny, weights) = tiny()?;
    let empty = || ids(&tiny.config, &[vec![]], 0);
    let mut folded = Tower::open(&folded_text(&weights, &tiny.config)?)?;
    let mut unfolded = Tower::open(&unfolded_text(&weights, &tiny.config)?)?;
    assert_close(&folded.embed_ids(empty())?, &unfolded.embed_ids(empty())?, TINY);
    Ok(())
}

#[test]
fn texts_that_no_tower_can_read_are_errors() -> Result<()> {
    let (tiny, weights) = tiny()?;
    let longest = tiny.config.word_limit() + 2;
    for model in [folded_text(&weights, &tiny.config)?, unfolded_text(&weights, &tiny.config)?] {
        let mut tower = Tower::open(&model)?;
        let too_long = ids(&tiny.config, &tiny.captions, longest + 1);
        assert!(tower.embed_ids(too_long).is_err());
        assert!(tower.embed_ids((vec![1, 3], vec![510, 512, 511])).is_err());
        assert!(tower.embed_ids((vec![1, 3], vec![510, 5, 511])).is_ok());
    }
    Ok(())
}

#[test]
fn the_batch_size_does_not_change_an_embedding() -> Result<()> {
    let (tiny, weights) = tiny()?;
    let config = &tiny.config;
    let (shape, pixels) = noise(config, 64);
    let mut vision = Tower::open(&folded_vision(&weights, config)?)?;
    let mut text = Tower::open(&folded_text(&weights, config)?)?;
    let texts: Vec<_> = tiny.captions.iter().cycle().take(64).cloned().collect();
    let (all, words) =
        (vision.embed_pixels(&shape, &pixels)?, text.embed_ids(ids(config, &texts, 0))?);
    for count in [1, 2] {
        let picture = pixels.len() / 64 * count;
        for (index, part) in pixels.chunks_exact(picture).enumerate() {
            let part = vision.embed_pixels(&[count, 3, config.height, config.width], part)?;
            assert_close(&part, &all[index * part.len()..][..part.len()], TINY);
        }
        for (index, part) in texts.chunks_exact(count).enumerate() {
            let part = text.embed_ids(ids(config, part, 0))?;
            assert_close(&part, &words[index * part.len()..][..part.len()], TINY);
        }
    }
    Ok(())
}

#[test]
fn plain_clip_and_each_part_alone_fold() -> Result<()> {
    let (tiny, _) = tiny()?;
    for (prompts, bottleneck) in [(0, 0), (0, 8), (4, 0), (1, 3)] {
        let config = Config {
            prompts,
            vision_bottleneck: bottleneck,
            text_bottleneck: bottleneck,
            ..tiny.config.clone()
        };
        let weights = random(&config, 7)?;
        let (shape, pixels) = noise(&config, 2);
        let mut folded = Tower::open(&folded_vision(&weights, &config)?)?;
        let mut unfolded = Tower::open(&unfolded_vision(&weights, &config)?)?;
        let folded = folded.embed_pixels(&shape, &pixels)?;
        assert_close(&folded, &unfolded.embed_pixels(&shape, &pixels)?, TINY);
        assert!(difference(&folded[..config.embed], &folded[config.embed..]) > 1e-3);

        let mut folded = Tower::open(&folded_text(&weights, &config)?)?;
        let mut unfolded = Tower::open(&unfolded_text(&weights, &config)?)?;
        let texts = ids(&config, &tiny.captions, 0);
        let folded = folded.embed_ids(texts.clone())?;
        assert_close(&folded, &unfolded.embed_ids(texts)?, TINY);
    }
    Ok(())
}

#[test]
fn towers_of_one_block_fold() -> Result<()> {
    let (tiny, _) = tiny()?;
    let config = Config { vision_layers: 1, text_layers: 1, ..tiny.config };
    let weights = random(&config, 3)?;
    let (shape, pixels) = noise(&config, 2);
    let folded = Tower::open(&folded_vision(&weights, &config)?)?.embed_pixels(&shape, &pixels)?;
    let unfolded =
        Tower::open(&unfolded_vision(&weights, &config)?)?.embed_pixels(&shape, &pixels)?;
    assert_close(&folded, &unfolded, TINY);
    let texts = ids(&config, &tiny.captions, 0);
    let folded = Tower::open(&folded_text(&weights, &config)?)?.embed_ids(texts.clone())?;
    let unfolded = Tower::open(&unfolded_text(&weights, &config)?)?.embed_ids(texts)?;
    assert_close(&folded, &unfolded, TINY);
    Ok(())
}

#[test]
fn full_size_towers_fold() -> Result<()> {
    let config = Config::vit_b16();
    let weights = random(&config, 1)?;
    let (shape, pixels) = noise(&config, 2);
    let folded = Tower::open(&folded_vision(&weights, &config)?)?.embed_pixels(&shape, &pixels)?;
    let unfolded =
        Tower::open(&unfolded_vision(&weights, &config)?)?.embed_pixels(&shape, &pixels)?;
    assert_close(&folded, &unfolded, FULL);
    assert!(difference(&folded[..config.embed], &folded[config.embed..]) > 1e-3);

    let texts: Vec<Vec<i64>> =
        [1, 5, 67].map(|words| (0..words).map(|word| 320 + 613 * word).collect()).into();
    let texts = ids(&config, &texts, 0);
    let folded = Tower::open(&folded_text(&weights, &config)?)?.embed_ids(texts.clone())?;
    let unfolded = Tower::open(&unfolded_text(&weights, &config)?)?.embed_ids(texts)?;
    assert_close(&folded, &unfolded, FULL);
    Ok(())
}

#[test]
fn a_reduced_vocabulary_knows_what_it_kept() -> Result<()> {
    let (tiny, weights) = tiny()?;
    let full = tiny.config.clone();
    let words: Vec<u32> = tiny.captions[2].iter().chain(&[5, 9, 9]).map(|&id| id as u32).collect();
    let (reduced_weights, reduced) = weights.clone().reduce_vocabulary(&full, &words)?;
    assert_eq!(reduced.token_rows(), words.len() - 1 + 3);
    assert!(reduced_weights.check(&reduced)?.is_empty());

    // What the full tower says of a word whose row is the mean of the rows that were dropped.
    let width = full.text_width;
    let (name, shape) = ("token_embedding.weight", [full.vocab, width]);
    let mut table = weights.get(name, &shape)?.to_vec();
    let kept = reduced.token_ids.clone().context("the vocabulary is not reduced")?;
    let dropped: Vec<usize> = (0..512).filter(|id| !kept.contains(&(*id as u32))).collect();
    let mean = |column: usize| {
        let sum: f64 = dropped.iter().map(|id| f64::from(table[id * width + column])).sum();
        (sum / dropped.len() as f64) as f32
    };
    let mean: Vec<f32> = (0..width).map(mean).collect();
    table[dropped[0] * width..][..width].copy_from_slice(&mean);
    let mut averaged = weights.clone();
    averaged.insert(name, Tensor::new(shape, table)?);

    let known = ids(&full, &tiny.captions[2..3], 30);
    let unknown = |index: usize| ids(&full, &[vec![5, dropped[index] as i64, 9]], 0);
    let mut whole = Tower::open(&folded_text(&averaged, &full)?)?;
    let (expected, expected_unknown) =
        (whole.embed_ids(known.clone())?, whole.embed_ids(unknown(0))?);
    for model in
        [folded_text(&reduced_weights, &reduced)?, unfolded_text(&reduced_weights, &reduced)?]
    {
        let mut tower = Tower::open(&model)?;
        assert_close(&tower.embed_ids(known.clone())?, &expected, TINY);
        for index in [0, 1, dropped.len() - 1] {
            assert_close(&tower.embed_ids(unknown(index))?, &expected_unknown, TINY);
        }
    }
    assert!(weights.clone().reduce_vocabulary(&full, &[512]).is_err());
    assert!(reduced_weights.reduce_vocabulary(&reduced, &words).is_err());
    Ok(())
}

#[test]
fn the_position_table_goes_to_another_grid() -> Result<()> {
    let table = golden_tensor("position-interpolation.safetensors", "in")?;
    let expected = golden_tensor("position-interpolation.safetensors", "out")?;
    let (from, to) = (Grid { rows: 14, columns: 14 }, Grid { rows: 24, columns: 8 });
    let fitted = interpolate(&table, from, to)?;
    assert_eq!(fitted.shape(), expected.shape());
    assert_close(fitted.values(), expected.values(), TINY);

    let (tiny, mut weights) = tiny()?;
    let (name, width) = ("visual.positional_embedding", tiny.config.vision_width);
    let before = weights.clone();
    weights.fit_positions(&tiny.config)?;
    assert_eq!(weights, before, "a table that fits stays");
    weights.insert(name, Tensor::new([5, width], vec![0.5; 5 * width])?);
    assert!(weights.check(&tiny.config).is_err());
    weights.fit_positions(&tiny.config)?;
    assert!(weights.check(&tiny.config)?.is_empty());
    weights.insert(name, Tensor::new([6, width], vec![0.5; 6 * width])?);
    assert!(weights.fit_positions(&tiny.config).unwrap_err().to_string().contains(name));
    Ok(())
}

#[test]
fn what_does_not_fit_is_named() -> Result<()> {
    let (Tiny { config, .. }, weights) = tiny()?;
    assert!(weights.check(&config)?.is_empty());
    let name = "dat.vision.1.up.weight";
    let message = |weights: &Weights| {
        let errors = [folded_vision(weights, &config), folded_text(weights, &config)];
        let [error, other] = errors.map(|result| result.unwrap_err());
        assert_eq!(error.to_string(), other.to_string());
        assert!(matches!(error, Error::Mismatch { .. }), "{error:?}");
        error.to_string()
    };

    let mut wrong = weights.clone();
    wrong.insert(name, Tensor::new([8, 64], vec![0.0; 512])?);
    assert_eq!(message(&wrong), format!("{name}: the shape is [8, 64] instead of [64, 8]"));

    let mut values = weights.tensor(name).context("missing")?.values().to_vec();
    for bad in [f32::NAN, f32::INFINITY] {
        values[77] = bad;
        wrong.insert(name, Tensor::new([64, 8], values.clone())?);
        assert!(message(&wrong).starts_with(&format!("{name}: value 77 is {bad}")));
    }

    let mut wrong = Weights::default();
    for (other, tensor) in weights.iter().filter(|(other, _)| *other != name) {
        wrong.insert(other, tensor.clone());
    }
    assert!(message(&wrong).contains(name));
    assert!(message(&Weights::default()).contains("more"));

    let mut more = weights.clone();
    more.insert("logit_scale", Tensor::new([1], vec![4.6])?);
    more.insert("visual.extra", Tensor::new([1], vec![0.0])?);
    assert_eq!(more.check(&config)?, ["visual.extra"]);
    Ok(())
}

#[test]
fn files_come_back_as_they_were_written_and_merge() -> Result<()> {
    let (Tiny { config, .. }, weights) = tiny()?;
    let folder = tempfile::tempdir()?;
    let [base, trained] = ["base", "trained"].map(|name| folder.path().join(name));
    let part = |trained: bool| {
        let mut part = Weights::default();
        for (name, tensor) in weights.iter() {
            if spotter_models::towers::layout::is_trained(name) == trained {
                part.insert(name, tensor.clone());
            }
        }
        part
    };
    part(false).write(&base)?;
    part(true).write(&trained)?;
    assert!(Weights::read(&[&base])?.check(&config).is_err());
    assert_eq!(Weights::read(&[&base, &trained])?, weights);
    let twice = Weights::read(&[&base, &base]).unwrap_err();
    assert!(matches!(twice, Error::Corrupt { .. }), "{twice}");
    Ok(())
}

#[test]
fn a_cut_or_foreign_file_is_corrupt() -> Result<()> {
    let bytes = std::fs::read(golden("tiny-weights.safetensors"))?;
    let path = Path::new("weights.safetensors");
    for length in [0, 7, 8, 100, 9000, bytes.len() - 1] {
        let error = Weights::from_bytes(path, &bytes[..length]).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().starts_with("weights.safetensors: "), "{error}");
    }
    assert!(Weights::from_bytes(path, b"PK\x03\x04 something else entirely").is_err());
    let ids = std::fs::read(golden("tiny-forward.safetensors"))?;
    let error = Weights::from_bytes(path, &ids).unwrap_err().to_string();
    assert!(error.contains("pid is of type I64"), "{error}");
    let missing = Weights::read(&["no/such/file"]).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }), "{missing}");
    Ok(())
}

#[test]
fn random_weights_are_those_of_their_seed() -> Result<()> {
    let (Tiny { config, .. }, _) = tiny()?;
    let weights = random(&config, 5)?;
    assert!(weights.check(&config)?.is_empty());
    assert_eq!(weights, random(&config, 5)?);
    assert_ne!(weights, random(&config, 6)?);
    let absurd = Config { vision_width: 1 << 20, text_width: 1 << 20, ..config };
    assert!(random(&absurd, 5).is_err());
    Ok(())
}

/// Milliseconds of `rounds` runs of each tower in turn, so that what else the machine does meets
/// both; the median is what counts.
fn race(towers: [&mut Tower; 2], run: impl Fn(&mut Tower) -> Result<Vec<f32>>) -> Result<[f64; 2]> {
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

/// `cargo test --release --workspace --test towers -- --ignored --nocapture`
#[test]
#[ignore = "measures speed, which a busy machine spoils"]
fn folding_pays() -> Result<()> {
    let config = Config::vit_b16();
    let weights = random(&config, 1)?;
    let (shape, pixels) = noise(&config, 1);
    let mut folded = Tower::open(&folded_vision(&weights, &config)?)?;
    let mut unfolded = Tower::open(&unfolded_vision(&weights, &config)?)?;
    let [fast, slow] =
        race([&mut folded, &mut unfolded], |tower| tower.embed_pixels(&shape, &pixels))?;
    println!("vision: {fast:.1} ms folded, {slow:.1} ms unfolded, {:.2}x", slow / fast);
    assert!(slow / fast >= 1.08);

    let mut folded = Tower::open(&folded_text(&weights, &config)?)?;
    let mut unfolded = Tower::open(&unfolded_text(&weights, &config)?)?;
    for words in [5, 24, 67] {
        let text = ids(&config, &[(0..words).map(|word| 320 + word).collect()], 0);
        let [fast, slow] =
            race([&mut folded, &mut unfolded], |tower| tower.embed_ids(text.clone()))?;
        println!("{words} words: {fast:.1} ms folded, {slow:.1} ms unfolded, {:.2}x", slow / fast);
        assert!(slow / fast >= 1.08);
    }
    Ok(())
}
