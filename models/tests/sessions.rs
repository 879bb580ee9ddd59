//! Towers whose batch sizes are fixed, as a GPU runs them, here on the processor: against one session
//! that takes any number.
#![cfg(feature = "ort")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod tower;

use std::path::Path;

use spotter_models::{
    Embedding, Generation,
    manifest::Precision,
    preprocess::Preprocess,
    session::{Model, Provider, SessionOptions, TextTower, VisionTower},
    tokenize::{TextInput, Tokenizer},
    towers::{Config, Weights, fuse_attention, random, text_tower, vision_tower},
};
use tower::{RUNTIME, Result, TINY, assert_close, noise};

/// A small model.
struct Small {
    config: Config,
    weights: Weights,
}

fn small() -> Result<Small> {
    let config = Config {
        vision_width: 64,
        vision_layers: 3,
        vision_heads: 4,
        text_width: 32,
        text_layers: 3,
        text_heads: 2,
        embed: 48,
        vision_bottleneck: 8,
        text_bottleneck: 4,
        ..Config::vit_b16()
    };
    Ok(Small { weights: random(&config, 3)?, config })
}

impl Small {
    fn model<'a>(&'a self, bytes: &'a [u8]) -> Model<'a> {
        Model {
            name: Path::new("small.onnx"),
            bytes,
            config: &self.config,
            preprocess: Preprocess::clip(self.config.height, self.config.width),
            generation: Generation::of_manifest(b"small"),
        }
    }

    fn vision(&self, precision: Precision, options: &SessionOptions) -> Result<VisionTower> {
        let bytes = vision_tower(&self.weights, &self.config, precision)?;
        Ok(VisionTower::from_model(&RUNTIME, self.model(&bytes), options)?)
    }

    fn text(&self, precision: Precision, options: &SessionOptions) -> Result<TextTower> {
        let bytes = text_tower(&self.weights, &self.config, precision)?;
        Ok(TextTower::from_model(&RUNTIME, self.model(&bytes), options)?)
    }

    fn texts(&self) -> Result<Vec<TextInput>> {
        let captions =
            ["man", "a man", "a woman in a red coat", "two boys with blue bags", "a hat"];
        let fit = |text: &&str| Ok(Tokenizer::clip()?.encode(text)?.fit(&self.config)?);
        captions.iter().map(fit).collect()
    }
}

fn sized(batches: &[usize], replay: bool) -> SessionOptions {
    SessionOptions { batches: batches.to_vec(), replay, ..SessionOptions::default() }
}

fn assert_same(one: &[Embedding], other: &[Embedding], most: f32) {
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(other) {
        assert_close(one.values(), other.values(), most);
    }
}

#[test]
fn fixed_batch_sizes_give_what_single_runs_give() -> Result<()> {
    let small = small()?;
    let cases = [
        (Precision::F32, true, TINY),
        (Precision::F32, false, TINY),
        // Another order of sums rounds otherwise.
        (Precision::F16, true, 1e-3),
    ];
    for (precision, replay, most) in cases {
        let mut single = small.vision(precision, &SessionOptions::default())?;
        let mut fixed = small.vision(precision, &sized(&[4, 1, 4], replay))?;
        assert!(single.batches().is_empty());
        assert_eq!(fixed.batches(), [1, 4]);
        let (_, pixels) = noise(&small.config, 7);
        let row = pixels.len() / 7;
        let expected: Vec<Embedding> =
            pixels.chunks_exact(row).flat_map(|crop| single.embed(crop, 1).unwrap()).collect();
        assert_ne!(expected[0].values(), expected[6].values());
        // Fewer than a batch, a whole one, and more than fit into one; and again after a larger one.
        for count in [0, 1, 3, 4, 7, 2] {
            let got = fixed.embed(&pixels[..count * row], count)?;
            assert_same(&got, &expected[..count], most);
        }
    }
    Ok(())
}

#[test]
fn texts_of_any_length_go_through_a_fixed_shape() -> Result<()> {
    let small = small()?;
    let texts = small.texts()?;
    for replay in [true, false] {
        let mut single = small.text(Precision::F32, &SessionOptions::default())?;
        let mut fixed = small.text(Precision::F32, &sized(&[1, 3], replay))?;
        let expected: Vec<Embedding> = texts
            .iter()
            .flat_map(|text| single.embed(std::slice::from_ref(text)).unwrap())
            .collect();
        for count in [5, 1, 0, 3] {
            assert_same(&fixed.embed(&texts[..count])?, &expected[..count], TINY);
        }
    }
    Ok(())
}

#[test]
fn a_computation_is_repeated_only_at_a_size_that_was_opened() -> Result<()> {
    let small = small()?;
    let (_, pixels) = noise(&small.config, 2);
    let mut tower = small.vision(Precision::F32, &sized(&[2], true))?;
    let expected = tower.embed(&pixels, 2)?;
    tower.recompute(2)?;
    assert_same(&tower.embed(&pixels, 2)?, &expected, 0.0);
    let error = tower.recompute(3).unwrap_err().to_string();
    assert!(error.contains("batches of 3"), "{error}");
    let mut any = small.vision(Precision::F32, &SessionOptions::default())?;
    assert!(any.recompute(1).is_err());
    assert!(any.end_profile().unwrap_err().to_string().contains("none was asked for"));
    Ok(())
}

#[test]
fn a_profile_tells_where_the_nodes_ran_and_that_no_shape_is_computed() -> Result<()> {
    let small = small()?;
    let folder = tempfile::tempdir()?;
    let options = SessionOptions {
        batches: vec![2],
        profile: Some(folder.path().join("nodes")),
        ..SessionOptions::default()
    };
    let mut tower = small.text(Precision::F16, &options)?;
    tower.embed(&small.texts()?)?;
    let file = tower.end_profile()?;
    assert!(file.starts_with(folder.path()), "{}", file.display());
    let profile = std::fs::read_to_string(file)?;
    assert!(profile.contains("CPUExecutionProvider") && profile.contains("\"MatMul\""));
    // What computes shapes would stay on the processor, and a GPU would wait for it.
    assert!(!profile.contains("\"Shape\""));
    Ok(())
}

#[test]
fn a_provider_that_is_not_there_is_refused() -> Result<()> {
    let small = small()?;
    for provider in [Provider::Cuda, Provider::TensorRt] {
        assert!(!RUNTIME.offers(provider), "this test is for the library of `make setup`");
        let options = SessionOptions { provider, ..SessionOptions::default() };
        let error = small.vision(Precision::F16, &options).err().unwrap().to_string();
        assert!(error.contains(&format!("execution provider {provider}")), "{error}");
        assert!(error.contains("choose `provider = \"cpu\"`"), "{error}");
    }
    Ok(())
}

#[test]
fn attention_as_one_node_computes_the_same() -> Result<()> {
    let small = small()?;
    let plain = vision_tower(&small.weights, &small.config, Precision::F32)?;
    let (fused, count) = fuse_attention(&plain)?;
    assert_eq!(count, small.config.vision_layers - 1);
    let (_, pixels) = noise(&small.config, 3);
    for options in [SessionOptions::default(), sized(&[1, 2], true)] {
        let mut embeddings = [&plain, &fused].map(|bytes| {
            let mut tower =
                VisionTower::from_model(&RUNTIME, small.model(bytes), &options).unwrap();
            tower.embed(&pixels, 3).unwrap()
        });
        let [plain, fused] = &mut embeddings;
        assert_same(fused, plain, TINY);
    }
    Ok(())
}
