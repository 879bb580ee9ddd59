//! Orders and batches: complete, repeatable, and the same whatever the number of threads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use serde_json::json;
use spotter_models::{
    preprocess::{Preprocess, Preprocessor},
    tokenize::Tokenizer,
    towers::Config,
};
use spotter_trainer::{
    augment::{ImageAugment, TextAugment},
    dataset::{
        Batch, Cause, Dataset, Loader, LoaderSettings, Order, Pair, Problems, Sampler,
        evaluation_pixels,
    },
};
use tempfile::{TempDir, tempdir};

/// Pictures of persons with 1, 2, 3, 1, 2, 3 ... captions; all different.
fn set(count: usize) -> (TempDir, Arc<Dataset>) {
    let folder = tempdir().unwrap();
    let mut records = Vec::new();
    for index in 0..count {
        let (width, height) = (20 + index as u32 % 7, 50 + index as u32 % 11);
        let picture = image::RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([(x * 9) as u8, (y * 4) as u8, (index * 5) as u8])
        });
        picture.save(folder.path().join(format!("{index}.png"))).unwrap();
        let captions: Vec<String> = ["red", "blue", "green"][..index % 3 + 1]
            .iter()
            .map(|colour| format!("Person number {index} wears a {colour} coat and black shoes."))
            .collect();
        records.push(json!({
            "split": "train", "id": index / 2, "file_path": format!("{index}.png"),
            "captions": captions,
        }));
    }
    fs::write(folder.path().join("captions.json"), json!(records).to_string()).unwrap();
    let dataset = Dataset::open(folder.path()).unwrap();
    (folder, Arc::new(dataset))
}

fn small() -> Config {
    Config { height: 48, width: 16, ..Config::vit_b16() }
}

fn changed() -> LoaderSettings {
    let image = ImageAugment {
        margin: 4,
        brightness: 0.2,
        contrast: 0.2,
        gain: 0.1,
        offset: 0.05,
        coarse: 0.5,
        coarse_factor: 3.0,
        ..ImageAugment::paper()
    };
    LoaderSettings { batch: 8, image, text: TextAugment::rde(), ..LoaderSettings::default() }
}

fn load(dataset: &Arc<Dataset>, settings: LoaderSettings, epoch: u64, first: usize) -> Vec<Batch> {
    let records = dataset.split(None);
    let order = Order::new(dataset, &records, Sampler::Pairs, settings.seed);
    let loader = Loader::new(Arc::clone(dataset), &records, &small(), settings).unwrap();
    loader.epoch(epoch, order.epoch(epoch), first).unwrap().map(Result::unwrap).collect()
}

fn assert_equal(a: &[Batch], b: &[Batch], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (a, b) in a.iter().zip(b) {
        assert_eq!((&a.words, &a.persons, &a.pairs), (&b.words, &b.persons, &b.pairs), "{what}");
        assert!(a.pixels.equal(&b.pixels), "{what}");
    }
}

#[test]
fn an_epoch_has_every_pair_or_every_picture_once() {
    let (_folder, dataset) = set(30);
    let records = dataset.split(None);
    let all: BTreeSet<Pair> = records
        .iter()
        .flat_map(|&record| (0..record % 3 + 1).map(move |caption| Pair { record, caption }))
        .collect();
    let pairs = Order::new(&dataset, &records, Sampler::Pairs, 5);
    assert_eq!(pairs.len(), 60);
    let first = pairs.epoch(0);
    assert_eq!(first.iter().copied().collect::<BTreeSet<_>>(), all);
    assert_eq!(first.len(), 60);
    assert_eq!(pairs.epoch(0), first, "the same again");
    assert_ne!(pairs.epoch(1), first, "another epoch");
    assert_ne!(Order::new(&dataset, &records, Sampler::Pairs, 6).epoch(0), first, "another seed");

    let pictures = Order::new(&dataset, &records, Sampler::Pictures, 5);
    let mut captions = BTreeSet::new();
    for epoch in 0..40 {
        let pairs = pictures.epoch(epoch);
        assert_eq!((pairs.len(), pictures.len()), (30, 30));
        assert_eq!(pairs.iter().map(|pair| pair.record).collect::<BTreeSet<_>>().len(), 30);
        captions.extend(pairs);
    }
    assert_eq!(captions, all, "every caption has its turn");
}

#[test]
fn batches_are_the_same_whatever_the_threads_the_cache_and_the_beginning() {
    let (_folder, dataset) = set(30);
    let alone = load(&dataset, changed(), 3, 0);
    assert_eq!(alone.len(), 8);
    assert_eq!(alone[0].pixels.size(), [8, 3, 48, 16]);
    assert_eq!(alone[7].pixels.size(), [4, 3, 48, 16], "the last has what is left");
    for (workers, cache_bytes) in [(3, 0), (1, 1 << 20), (20, 5000)] {
        let settings = LoaderSettings { workers, cache_bytes, ..changed() };
        assert_equal(&load(&dataset, settings, 3, 0), &alone, &format!("{workers} threads"));
    }
    assert_equal(&load(&dataset, changed(), 3, 5), &alone[5..], "from the sixth batch");
    let other = load(&dataset, changed(), 4, 0);
    assert_ne!(other[0].pairs, alone[0].pairs);
    let seed = load(&dataset, LoaderSettings { seed: 9, ..changed() }, 3, 0);
    assert_ne!(seed[0].words, alone[0].words);
}

#[test]
fn the_cache_keeps_what_fits_and_changes_nothing() {
    let (_folder, dataset) = set(30);
    let records = dataset.split(None);
    let order = Order::new(&dataset, &records, Sampler::Pairs, 1);
    // Four pictures of 52x20, margin included.
    let settings = LoaderSettings { cache_bytes: 4 * 52 * 20 * 3 + 10, workers: 2, ..changed() };
    let loader = Loader::new(Arc::clone(&dataset), &records, &small(), settings).unwrap();
    let epoch = |loader: &Loader| -> Vec<Batch> {
        loader.epoch(0, order.epoch(0), 0).unwrap().map(Result::unwrap).collect()
    };
    let first = epoch(&loader);
    assert_eq!(loader.cached_bytes(), 4 * 52 * 20 * 3);
    assert_equal(&epoch(&loader), &first, "out of the cache");
    // All in memory: the files are not needed any more.
    let settings = LoaderSettings { cache_bytes: 1 << 30, ..changed() };
    let (folder, dataset) = set(30);
    let loader = Loader::new(Arc::clone(&dataset), &records, &small(), settings).unwrap();
    let first = epoch(&loader);
    drop(folder);
    assert_equal(&epoch(&loader), &first, "without files");
    assert!(loader.problems().is_empty());
}

#[test]
fn without_changes_a_batch_is_what_evaluation_sees() {
    let (_folder, dataset) = set(9);
    let batches = load(&dataset, LoaderSettings { batch: 100, ..Default::default() }, 0, 0);
    let batch = &batches[0];
    let records: Vec<usize> = batch.pairs.iter().map(|pair| pair.record).collect();
    let definition = Preprocess::clip(48, 16);
    let mut problems = Problems::default();
    let (pixels, read) = evaluation_pixels(&dataset, definition, &records, &mut problems).unwrap();
    assert!(pixels.equal(&batch.pixels) && problems.is_empty());
    assert_eq!(read, records);
    let mut slot = vec![0f32; definition.len()];
    let picture = dataset.picture(records[4]).unwrap();
    Preprocessor::new(definition).unwrap().run(picture.view(), &mut slot).unwrap();
    assert_eq!(Vec::<f32>::try_from(pixels.get(4).flatten(0, 2)).unwrap(), slot);
    let tokenizer = Tokenizer::clip().unwrap();
    for (index, pair) in batch.pairs.iter().enumerate() {
        let record = &dataset.records()[pair.record];
        let words = tokenizer.encode(&record.captions[pair.caption]).unwrap();
        assert_eq!(batch.words[index], words.ids());
        assert_eq!(batch.persons[index], record.person);
    }
}

#[test]
fn hidden_words_get_an_id_that_no_caption_has() {
    let (_folder, dataset) = set(9);
    let text = TextAugment { touched: 1.0, hidden: 1.0, replaced: 0.0, dropped: 0.0 };
    let batches = load(&dataset, LoaderSettings { text, ..Default::default() }, 0, 0);
    assert!(batches[0].words.iter().flatten().all(|id| *id == 49_405));
    let text = TextAugment { touched: 1.0, hidden: 0.0, replaced: 1.0, dropped: 0.0 };
    let plain = load(&dataset, LoaderSettings::default(), 0, 0);
    let known: BTreeSet<&u32> = plain[0].words.iter().flatten().collect();
    let batches = load(&dataset, LoaderSettings { text, ..Default::default() }, 0, 0);
    assert!(batches[0].words.iter().flatten().all(|id| known.contains(id)));
    assert_ne!(batches[0].words, plain[0].words);
}

fn break_pictures(folder: &Path, names: &[&str]) {
    for name in names {
        fs::write(folder.join(name), "no picture").unwrap();
    }
}

#[test]
fn broken_pictures_are_left_out_and_counted_once() {
    let (folder, dataset) = set(12);
    break_pictures(folder.path(), &["3.png", "7.png"]);
    fs::remove_file(folder.path().join("8.png")).unwrap();
    let records = dataset.split(None);
    let order = Order::new(&dataset, &records, Sampler::Pairs, 1);
    let settings = LoaderSettings { batch: 2, workers: 2, ..Default::default() };
    let loader = Loader::new(Arc::clone(&dataset), &records, &small(), settings).unwrap();
    for epoch in 0..2 {
        let batches = loader.epoch(epoch, order.epoch(epoch), 0).unwrap();
        let mut pairs = 0;
        for batch in batches.map(Result::unwrap) {
            assert!(!batch.pairs.is_empty());
            assert_eq!(batch.pixels.size()[0], batch.pairs.len() as i64);
            assert!(batch.pairs.iter().all(|pair| ![3, 7, 8].contains(&pair.record)));
            pairs += batch.pairs.len();
        }
        // Of 24 pairs, 1 is of picture 3, 2 of picture 7, 3 of picture 8.
        assert_eq!(pairs, 18);
    }
    let problems = loader.problems();
    assert_eq!(problems.count(Cause::BrokenPicture), 2, "{problems}");
    assert_eq!(problems.count(Cause::MissingPicture), 1, "{problems}");
    let mut problems = Problems::default();
    let definition = Preprocess::clip(48, 16);
    let (pixels, read) =
        evaluation_pixels(&dataset, definition, &[2, 3, 4, 8], &mut problems).unwrap();
    assert_eq!((pixels.size()[0], read), (2, vec![2, 4]));
    assert_eq!(problems.total(), 2);
}

#[test]
fn a_set_of_broken_pictures_is_an_error() {
    let (folder, dataset) = set(4);
    break_pictures(folder.path(), &["0.png", "1.png", "2.png", "3.png"]);
    let records = dataset.split(None);
    let pairs = Order::new(&dataset, &records, Sampler::Pairs, 1).epoch(0);
    let loader =
        Loader::new(Arc::clone(&dataset), &records, &small(), LoaderSettings::default()).unwrap();
    let batches: Vec<_> = loader.epoch(0, pairs, 0).unwrap().collect();
    assert_eq!(batches.len(), 1);
    let message = batches[0].as_ref().unwrap_err().to_string();
    assert!(message.contains("no picture can be used: 4 pictures broken"), "{message}");
}

#[test]
fn threads_end_when_nobody_wants_their_batches() {
    let (_folder, dataset) = set(30);
    let records = dataset.split(None);
    let order = Order::new(&dataset, &records, Sampler::Pairs, 1);
    let settings = LoaderSettings { batch: 1, workers: 3, ..Default::default() };
    let loader = Loader::new(Arc::clone(&dataset), &records, &small(), settings).unwrap();
    let mut batches = loader.epoch(0, order.epoch(0), 0).unwrap();
    assert_eq!(batches.remaining(), 60);
    batches.next().unwrap().unwrap();
    drop(batches);
    drop(loader);
    assert_eq!(Arc::strong_count(&dataset), 1, "a thread still holds the set");
}

#[test]
fn what_cannot_be_loaded_says_why() {
    let (_folder, dataset) = set(3);
    let new = |records: &[usize], config: &Config, settings: LoaderSettings| {
        Loader::new(Arc::clone(&dataset), records, config, settings).err().unwrap().to_string()
    };
    let settings = LoaderSettings::default;
    assert!(new(&[0], &small(), LoaderSettings { batch: 0, ..settings() }).contains("batch"));
    assert!(new(&[0], &small(), LoaderSettings { workers: 0, ..settings() }).contains("workers"));
    assert!(new(&[], &small(), settings()).contains("no record"));
    assert!(new(&[3], &small(), settings()).contains("record 3"));
    let tiny = Config { vocab: 512, ..small() };
    assert!(new(&[0], &tiny, settings()).contains("vocabulary"));
    let loader = Loader::new(Arc::clone(&dataset), &[0], &small(), settings()).unwrap();
    assert!(loader.epoch(0, vec![], 0).is_err());
    // A pair of a record that was not asked for has no words.
    let pairs = vec![Pair { record: 1, caption: 0 }, Pair { record: 0, caption: 0 }];
    let batches: Vec<Batch> = loader.epoch(0, pairs, 0).unwrap().map(Result::unwrap).collect();
    assert_eq!(batches[0].pairs, [Pair { record: 0, caption: 0 }]);
}
