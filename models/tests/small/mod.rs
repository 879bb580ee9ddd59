//! Small bundles, for tests of what is done with them.
#![allow(dead_code, reason = "each test program uses its own part")]
#![expect(clippy::unwrap_used, reason = "what tests prepare must work; if not, they fail")]

use std::{fs, path::Path};

use spotter_models::{
    Error,
    cohort::Cohort,
    probe::{Inputs, Probe},
    tokenize::VOCABULARY_SIZE,
    towers::{Config, Weights, random},
};

/// Small towers on CLIP's vocabulary, of which a few words have rows of their own.
pub fn config() -> Config {
    Config {
        vision_width: 32,
        vision_layers: 2,
        vision_heads: 2,
        patch: 16,
        height: 48,
        width: 16,
        text_width: 32,
        text_layers: 2,
        text_heads: 2,
        vocab: VOCABULARY_SIZE,
        context: 77,
        embed: 16,
        prompts: 2,
        vision_bottleneck: 4,
        text_bottleneck: 4,
        vision_scale: 0.1,
        text_scale: 4.0,
        token_ids: Some(vec![267, 320, 537, 593, 786, 1449, 2533, 49_406, 49_407]),
        ..Config::vit_b16()
    }
}

pub fn weights(seed: u64) -> Weights {
    random(&config(), seed).unwrap()
}

/// A probe of the right shape that no tower agrees with: enough for what opens no tower.
pub fn blank_probe() -> Probe {
    let inputs = Inputs::standard().unwrap();
    let mut unit = vec![0.0; 16];
    unit[0] = 1.0;
    let rows = |count| vec![unit.clone(); count];
    let (images, texts) = (rows(inputs.pictures.len()), rows(inputs.texts.len()));
    Probe::new(inputs, images, texts).unwrap()
}

pub fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

pub fn assert_corrupt(error: &Error, words: &[&str]) {
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "`{word}` is not in: {error}");
    }
}

pub fn cohort(size: usize) -> Cohort {
    let person = |n: usize| (0..size).map(|i| f32::from(u8::from(i == n % size))).collect();
    Cohort::new((0..40).map(person).collect()).unwrap()
}

pub fn lock(path: &Path) -> fs::File {
    let folder = fs::File::open(path).unwrap();
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).unwrap();
    folder
}
