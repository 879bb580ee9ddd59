//! The exported towers, run by ONNX Runtime: against vectors of an independent implementation
//! (`golden/`, of PyTorch), and the folded against the unfolded.
#![cfg(feature = "ort")]

mod tower;

use std::path::Path;

use anyhow::Context as _;
use spotter_models::Error;
use spotter_models::towers::positions::{Grid, interpolate};
use spotter_models::towers::{
    Config, Coupling, PromptPlace, Tensor, Weights, folded_text, folded_vision, random,
    unfolded_text, unfolded_vision,
};
use tower::{
    FULL, Result, TINY, Tiny, Tower, assert_close, difference, golden, golden_tensor, ids, noise,
    tiny,
};

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

/// Holds the folded towers of random weights against the unfolded, and requires that inputs matter.
fn assert_folds(config: &Config, seed: u64) -> Result<()> {
    let weights = random(config, seed)?;
    let (shape, pixels) = noise(config, 2);
    let folded = Tower::open(&folded_vision(&weights, config)?)?.embed_pixels(&shape, &pixels)?;
    let unfolded =
        Tower::open(&unfolded_vision(&weights, config)?)?.embed_pixels(&shape, &pixels)?;
    assert_close(&folded, &unfolded, TINY);
    assert!(difference(&folded[..config.embed], &folded[config.embed..]) > 1e-3);

    let texts = ids(config, &tiny()?.0.captions, 0);
    let folded = Tower::open(&folded_text(&weights, config)?)?.embed_ids(texts.clone())?;
    let unfolded = Tower::open(&unfolded_text(&weights, config)?)?.embed_ids(texts)?;
    assert_close(&folded, &unfolded, TINY);
    assert!(difference(&folded[..config.embed], &folded[config.embed..][..config.embed]) > 1e-3);
    Ok(())
}

#[test]
fn plain_clip_and_each_part_alone_fold() -> Result<()> {
    let (Tiny { config, .. }, _) = tiny()?;
    for (prompts, bottleneck) in [(0, 0), (0, 8), (4, 0), (1, 3)] {
        let config = Config {
            prompts,
            vision_bottleneck: bottleneck,
            text_bottleneck: bottleneck,
            ..config.clone()
        };
        assert_folds(&config, 7)?;
    }
    Ok(())
}

#[test]
fn towers_of_one_block_fold() -> Result<()> {
    let (Tiny { config, .. }, _) = tiny()?;
    assert_folds(&Config { vision_layers: 1, text_layers: 1, ..config }, 3)
}

const COUPLINGS: [Coupling; 4] =
    [Coupling::Both, Coupling::TextToVision, Coupling::VisionToText, Coupling::None];

#[test]
fn every_coupling_depth_and_place_folds() -> Result<()> {
    let (Tiny { config, .. }, _) = tiny()?;
    for coupling in COUPLINGS {
        assert_folds(&Config { coupling, ..config.clone() }, 11)?;
    }
    for place in [PromptPlace::Inserted, PromptPlace::Prefix] {
        for depth in 1..=config.vision_layers {
            let prompt_depth = Some(depth);
            assert_folds(&Config { prompt_depth, prompt_place: place, ..config.clone() }, 12)?;
        }
    }
    let uneven = Config { text_layers: 2, prompt_depth: Some(2), ..config.clone() };
    assert_folds(&uneven, 13)?;
    assert_folds(&Config { prompts: 64, prompt_place: PromptPlace::Prefix, ..config }, 14)
}

#[test]
fn stems_fold() -> Result<()> {
    let (Tiny { config, .. }, _) = tiny()?;
    assert_folds(&Config { stem: vec![6, 8], ..config.clone() }, 15)?;
    assert_folds(&Config { stem: vec![4, 6, 8, 16], ..config }, 16)
}

/// The embeddings of two noises and all captions, one after the other, from the folded towers.
fn embeddings(weights: &Weights, config: &Config) -> Result<Vec<f32>> {
    let (shape, pixels) = noise(config, 2);
    let mut all = Tower::open(&folded_vision(weights, config)?)?.embed_pixels(&shape, &pixels)?;
    // All words that the narrowest of the compared models can hold.
    let captions: Vec<Vec<i64>> =
        tiny()?.0.captions.iter().map(|words| words[..words.len().min(20)].to_vec()).collect();
    let texts = ids(config, &captions, 0);
    all.extend(Tower::open(&folded_text(weights, config)?)?.embed_ids(texts)?);
    Ok(all)
}

/// `rows` [rows,inputs] through the linear map of that name.
fn apply(weights: &Weights, name: &str, outputs: usize, rows: &[f32]) -> Result<Vec<f32>> {
    let bias = weights.get(&format!("{name}.bias"), &[outputs])?;
    let weight = weights.tensor(&format!("{name}.weight")).context("no weight")?;
    let inputs = weight.shape()[1];
    let dot = |w: &[f32], x: &[f32]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
    let of_row = |row| {
        weight.values().chunks_exact(inputs).zip(bias).map(move |(w, bias)| dot(w, row) + bias)
    };
    Ok(rows.chunks_exact(inputs).flat_map(of_row).collect())
}

/// The golden model's weights with every carried prompt computed here and made the tower's own, where
/// `coupling` does not carry it.
fn uncoupled(weights: &Weights, config: &Config, coupling: Coupling) -> Result<Weights> {
    let (count, layers) = (config.prompts, config.vision_layers);
    let (vision, text) = (config.vision_width, config.text_width);
    let vision_own = weights.get("bpt.vision_prompts", &[layers, count, vision])?;
    let text_own = weights.get("bpt.text_prompts", &[layers, count, text])?;
    let (mut all_vision, mut all_text) = (vec![], vec![]);
    let blocks = vision_own.chunks_exact(count * vision).zip(text_own.chunks_exact(count * text));
    for (block, (vision_own, text_own)) in blocks.enumerate() {
        if !coupling.into_vision() {
            let name = format!("bpt.text_to_vision.{block}");
            all_vision.extend(apply(weights, &name, vision, text_own)?);
        }
        all_vision.extend_from_slice(vision_own);
        all_text.extend_from_slice(text_own);
        if !coupling.into_text() {
            let name = format!("bpt.vision_to_text.{block}");
            all_text.extend(apply(weights, &name, text, vision_own)?);
        }
    }
    let mut weights = weights.clone();
    let config = Config { coupling, ..config.clone() };
    let shape = [layers, config.own_vision_prompts(), vision];
    weights.insert("bpt.vision_prompts", Tensor::new(shape, all_vision)?);
    let shape = [layers, config.own_text_prompts(), text];
    weights.insert("bpt.text_prompts", Tensor::new(shape, all_text)?);
    Ok(weights)
}

#[test]
fn a_coupling_is_the_same_as_the_prompts_it_makes() -> Result<()> {
    let (Tiny { config, .. }, weights) = tiny()?;
    let expected = embeddings(&weights, &config)?;
    // Carries the own prompts of the other tower that stand where it had its carried ones: the vision
    // tower's own stand last, the text tower's first, so one way each remains the same.
    for coupling in [Coupling::TextToVision, Coupling::None] {
        let weights = uncoupled(&weights, &config, coupling)?;
        let config = Config { coupling, ..config.clone() };
        assert_close(&embeddings(&weights, &config)?, &expected, TINY);
    }
    // Here the vision tower's first own prompts are those that the text tower made, and those are
    // carried back: another model, which shows in the texts alone.
    let coupling = Coupling::VisionToText;
    let weights = uncoupled(&weights, &config, coupling)?;
    let one_way = embeddings(&weights, &Config { coupling, ..config.clone() })?;
    let pictures = 2 * config.embed;
    assert_close(&one_way[..pictures], &expected[..pictures], TINY);
    assert!(difference(&one_way[pictures..], &expected[pictures..]) > 1e-4);
    Ok(())
}

#[test]
fn a_prefix_is_the_same_as_positions_of_zeros() -> Result<()> {
    let (Tiny { config, .. }, weights) = tiny()?;
    let prefix = Config { prompt_place: PromptPlace::Prefix, ..config.clone() };
    let name = "positional_embedding";
    let width = config.text_width;
    let table = weights.get(name, &[config.context, width])?;
    let prompts = config.prompt_tokens();
    let zeros = vec![0.0; prompts * width];
    let spread = [&table[..width], &zeros, &table[width..]].concat();
    let inserted = Config { context: config.context + prompts, ..config };
    let mut weights_inserted = weights.clone();
    weights_inserted.insert(name, Tensor::new([inserted.context, width], spread)?);
    assert_eq!(inserted.word_limit(), prefix.word_limit());
    let expected = embeddings(&weights_inserted, &inserted)?;
    assert_close(&embeddings(&weights, &prefix)?, &expected, TINY);
    Ok(())
}

/// Weights of a stem of two stages that sorts the pixels of each patch into channels, raised above
/// zero, and of a projection that undoes both: the same function as `weights` without a stem.
fn sorting_stem(weights: &Weights, config: &Config) -> Result<(Weights, Config)> {
    /// More than the darkest pixel is below zero.
    const RAISE: f32 = 3.0;
    let with_stem = Config { stem: vec![12, 48], ..config.clone() };
    let one_at = |shape: [usize; 4], place: &dyn Fn(usize) -> Option<[usize; 3]>| {
        let mut values = vec![0.0; shape.iter().product()];
        for output in 0..shape[0] {
            if let Some([input, y, x]) = place(output) {
                values[((output * shape[1] + input) * shape[2] + y) * shape[3] + x] = 1.0;
            }
        }
        Tensor::new(shape, values)
    };
    let split = |output: usize| (output / 4, output / 2 % 2, output % 2);
    let mut made = weights.clone();
    let mut add = |name: &str, weight: Tensor, bias: f32| {
        let count = weight.shape()[0];
        made.insert(format!("visual.stem.{name}.weight"), weight);
        let bias = Tensor::new([count], vec![bias; count])?;
        made.insert(format!("visual.stem.{name}.bias"), bias);
        Result::Ok(())
    };
    let first = one_at([12, 3, 5, 5], &|output| {
        let (input, down, right) = split(output);
        Some([input, 2 + down, 2 + right])
    })?;
    add("0.conv", first, RAISE)?;
    let is_corner = |output| matches!(split(output), (_, 0, 0));
    let others = one_at([48, 12, 3, 3], &|output| {
        let (input, down, right) = split(output);
        (!is_corner(output)).then_some([input, 1 + down, 1 + right])
    })?;
    add("1.conv_1", others, 0.0)?;
    add("1.conv_2", one_at([48, 48, 3, 3], &|output| Some([output, 1, 1]))?, 0.0)?;
    let corners =
        one_at([48, 12, 1, 1], &|output| is_corner(output).then_some([output / 4, 0, 0]))?;
    add("1.skip", corners, 0.0)?;

    let (width, patch) = (config.vision_width, config.patch);
    let kernel = weights.get("visual.conv1.weight", &[width, 3, patch, patch])?;
    let small = patch / 4;
    let mut sorted = vec![0.0; kernel.len()];
    for (index, value) in kernel.iter().enumerate() {
        let (row, rest) = (index / (3 * patch * patch), index % (3 * patch * patch));
        let (input, y, x) = (rest / (patch * patch), rest / patch % patch, rest % patch);
        let channel = (input * 4 + y % 2 * 2 + x % 2) * 4 + y / 2 % 2 * 2 + x / 2 % 2;
        sorted[((row * 48 + channel) * small + y / 4) * small + x / 4] = *value;
    }
    made.insert("visual.conv1.weight", Tensor::new([width, 48, small, small], sorted)?);

    let name = "visual.positional_embedding";
    let shape = [config.patches() + 1, width];
    let mut positions = weights.get(name, &shape)?.to_vec();
    let sums: Vec<f32> = kernel.chunks_exact(3 * patch * patch).map(|k| k.iter().sum()).collect();
    for row in positions.chunks_exact_mut(width).skip(1) {
        row.iter_mut().zip(&sums).for_each(|(position, sum)| *position -= RAISE * sum);
    }
    made.insert(name, Tensor::new(shape, positions)?);
    Ok((made, with_stem))
}

#[test]
fn a_stem_reads_the_pixels_that_it_should() -> Result<()> {
    let (Tiny { config, .. }, weights) = tiny()?;
    let expected = embeddings(&weights, &config)?;
    let (weights, config) = sorting_stem(&weights, &config)?;
    // Adding and subtracting the raise costs a digit.
    assert_close(&embeddings(&weights, &config)?, &expected, 10.0 * TINY);
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
        tower::race([&mut folded, &mut unfolded], |tower| tower.embed_pixels(&shape, &pixels))?;
    println!("vision: {fast:.1} ms folded, {slow:.1} ms unfolded, {:.2}x", slow / fast);
    assert!(slow / fast >= 1.08);

    let mut folded = Tower::open(&folded_text(&weights, &config)?)?;
    let mut unfolded = Tower::open(&unfolded_text(&weights, &config)?)?;
    for words in [5, 24, 67] {
        let text = ids(&config, &[(0..words).map(|word| 320 + word).collect()], 0);
        let [fast, slow] =
            tower::race([&mut folded, &mut unfolded], |tower| tower.embed_ids(text.clone()))?;
        println!("{words} words: {fast:.1} ms folded, {slow:.1} ms unfolded, {:.2}x", slow / fast);
        assert!(slow / fast >= 1.08);
    }
    Ok(())
}
