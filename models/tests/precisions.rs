//! Towers of 16 and 8 bits, run by ONNX Runtime on the processor, against those of 32 bits.
#![cfg(feature = "ort")]

mod tower;

use spotter_models::manifest::Precision;
use spotter_models::probe::{self, Report};
use spotter_models::towers::{Config, Tensor, Weights, random, text_tower, vision_tower};
use tower::{Result, TINY, Tiny, Tower, assert_close, ids, noise, race, tiny};

/// Pictures, one after the other, and texts.
struct Inputs {
    pixels: Vec<f32>,
    texts: Vec<Vec<i64>>,
}

fn inputs(config: &Config, count: usize) -> Inputs {
    let words = |text: usize| (0..3 * text as i64).map(|word| (word * 613 + 7) % 500).collect();
    Inputs { pixels: noise(config, count).1, texts: (0..count).map(words).collect() }
}

/// The embeddings of the pictures, then of the texts, each computed alone, and the bytes of the towers.
fn alone(
    weights: &Weights,
    config: &Config,
    precision: Precision,
    inputs: &Inputs,
) -> Result<(Vec<Vec<f32>>, usize)> {
    let mut rows = vec![];
    let model = vision_tower(weights, config, precision)?;
    let mut bytes = model.len();
    let mut vision = Tower::open(&model)?;
    drop(model);
    let shape = [1, 3, config.height, config.width];
    for picture in inputs.pixels.chunks_exact(shape.iter().product()) {
        rows.push(vision.embed_pixels(&shape, picture)?);
    }
    drop(vision);
    let model = text_tower(weights, config, precision)?;
    bytes += model.len();
    let mut text = Tower::open(&model)?;
    for words in &inputs.texts {
        rows.push(text.embed_ids(ids(config, std::slice::from_ref(words), 0))?);
    }
    Ok((rows, bytes))
}

/// How far a precision is from f32, and its bytes as a share of those of f32.
fn against_f32(
    weights: &Weights,
    config: &Config,
    precision: Precision,
    count: usize,
) -> Result<(Report, f64)> {
    let inputs = inputs(config, count);
    let (exact, whole) = alone(weights, config, Precision::F32, &inputs)?;
    let (got, bytes) = alone(weights, config, precision, &inputs)?;
    let report = probe::compare(&exact, &got)?;
    println!(
        "{precision} at a width of {}: {report}; pictures {}; texts {}",
        config.vision_width,
        probe::compare(&exact[..count], &got[..count])?,
        probe::compare(&exact[count..], &got[count..])?
    );
    Ok((report, bytes as f64 / whole as f64))
}

#[test]
fn half_precision_agrees() -> Result<()> {
    let (Tiny { config, .. }, weights) = tiny()?;
    let (report, _) = against_f32(&weights, &config, Precision::F16, 8)?;
    assert!(report.worst_abs < 1e-3 && report.worst_cosine > 0.99999, "{report}");
    report.check(Precision::F16)?;
    let stem = Config { stem: vec![8, 16], ..config };
    let (report, _) = against_f32(&random(&stem, 2)?, &stem, Precision::F16, 4)?;
    assert!(report.worst_abs < 1e-3 && report.worst_cosine > 0.99999, "{report}");
    Ok(())
}

#[test]
fn eight_bits_agree() -> Result<()> {
    let (Tiny { config, .. }, weights) = tiny()?;
    against_f32(&weights, &config, Precision::Int8, 8)?.0.check(Precision::Int8)?;
    let plain = Config { prompts: 0, vision_bottleneck: 0, text_bottleneck: 0, ..config };
    against_f32(&random(&plain, 2)?, &plain, Precision::Int8, 4)?.0.check(Precision::Int8)?;
    Ok(())
}

#[test]
fn full_size_towers_of_every_precision_agree_and_are_small() -> Result<()> {
    let config = Config::vit_b16();
    let weights = random(&config, 1)?;
    for (precision, most) in [(Precision::F16, 0.51), (Precision::Int8, 0.37)] {
        let (report, share) = against_f32(&weights, &config, precision, 3)?;
        report.check(precision)?;
        assert!(share < most, "{share} of the bytes");
    }
    Ok(())
}

/// CLIP's towers have a few places of the stream that are tens of times larger than the others. Here
/// the position tables put some there.
#[test]
fn eight_bits_agree_where_a_few_places_are_far_larger() -> Result<()> {
    const PLACES: [usize; 2] = [3, 17];
    let (Tiny { config, .. }, mut weights) = tiny()?;
    let tables = [
        ("visual.positional_embedding", config.patches() + 1, config.vision_width),
        ("positional_embedding", config.context, config.text_width),
    ];
    for (name, rows, width) in tables {
        let mut table = weights.get(name, &[rows, width])?.to_vec();
        let mean = table.iter().map(|value| value.abs()).sum::<f32>() / table.len() as f32;
        for row in table.chunks_exact_mut(width) {
            PLACES.iter().for_each(|place| row[*place] += 20.0 * mean);
        }
        weights.insert(name, Tensor::new([rows, width], table)?);
    }
    against_f32(&weights, &config, Precision::Int8, 8)?.0.check(Precision::Int8)?;
    Ok(())
}

/// A scale of the whole batch would let a bright picture take the steps of a dark one.
#[test]
fn an_embedding_does_not_depend_on_what_else_is_in_the_batch() -> Result<()> {
    let (Tiny { config, captions }, weights) = tiny()?;
    let (_, pixels) = noise(&config, 2);
    let (picture, outlier) = pixels.split_at(pixels.len() / 2);
    let outlier: Vec<f32> = outlier.iter().map(|value| value * 100.0).collect();
    for precision in Precision::ALL {
        let mut vision = Tower::open(&vision_tower(&weights, &config, precision)?)?;
        let shape = |count| [count, 3, config.height, config.width];
        let by_itself = vision.embed_pixels(&shape(1), picture)?;
        let together = vision.embed_pixels(&shape(2), &[picture, &outlier].concat())?;
        // A sum in another order may round a half up instead of down.
        let tolerance = if precision == Precision::F16 { 1e-3 } else { TINY };
        assert_close(&by_itself, &together[..config.embed], tolerance);

        let mut text = Tower::open(&text_tower(&weights, &config, precision)?)?;
        let by_itself = text.embed_ids(ids(&config, &captions[..1], 0))?;
        let together = text.embed_ids(ids(&config, &captions, 0))?;
        assert_close(&by_itself, &together[..config.embed], tolerance);
    }
    Ok(())
}

#[test]
fn what_half_precision_cannot_hold_is_named() -> Result<()> {
    let (Tiny { config, .. }, mut weights) = tiny()?;
    let shape = [config.vision_width, config.vision_bottleneck];
    let name = "dat.vision.1.up.weight";
    weights.insert(name, Tensor::new(shape, vec![1e7; shape.iter().product()])?);
    assert!(vision_tower(&weights, &config, Precision::F32).is_ok());
    let error = vision_tower(&weights, &config, Precision::F16).unwrap_err().to_string();
    assert!(error.contains("vision.1/contract") && error.contains("65504"), "{error}");
    Ok(())
}

/// `cargo test --release --workspace --test precisions -- --ignored --nocapture`
#[test]
#[ignore = "measures speed, which a busy machine spoils"]
fn eight_bits_pay() -> Result<()> {
    let config = Config::vit_b16();
    let weights = random(&config, 1)?;
    let (shape, pixels) = noise(&config, 1);
    let open = |make: fn(&Weights, &Config, Precision) -> spotter_models::Result<Vec<u8>>, at| {
        Tower::open(&make(&weights, &config, at)?)
    };
    let mut exact = open(vision_tower, Precision::F32)?;
    let mut int8 = open(vision_tower, Precision::Int8)?;
    let [slow, fast] = race([&mut exact, &mut int8], |tower| tower.embed_pixels(&shape, &pixels))?;
    println!("vision: {fast:.1} ms int8, {slow:.1} ms f32, {:.2}x", slow / fast);
    assert!(slow / fast >= 1.5);

    let mut exact = open(text_tower, Precision::F32)?;
    let mut int8 = open(text_tower, Precision::Int8)?;
    for words in [5, 24, 67] {
        let text = ids(&config, &[(0..words).map(|word| 320 + word).collect()], 0);
        let [slow, fast] = race([&mut exact, &mut int8], |tower| tower.embed_ids(text.clone()))?;
        println!("{words} words: {fast:.1} ms int8, {slow:.1} ms f32, {:.2}x", slow / fast);
    }
    Ok(())
}
