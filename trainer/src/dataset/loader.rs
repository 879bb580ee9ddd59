//! Batches: pictures decoded, resized, changed and normalised ahead of their use, captions as ids.
//!
//! What a batch holds follows from the seed, the epoch and its number in it, not from the number of
//! threads: each pair of picture and caption draws from a generator of its own.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use spotter_models::{
    preprocess::{Preprocess, Preprocessor},
    tokenize::Tokenizer,
    towers::Config,
};
use tch::Tensor;

use super::{Cause, Dataset, Pair, Problems};
use crate::{
    augment::{Draws, ImageAugment, TextAugment, image::Augmenter},
    error::{Error, Result},
};

/// Batches that each thread has ready before it waits.
const AHEAD: usize = 2;

/// What training reads in one step.
#[derive(Debug)]
pub struct Batch {
    /// `[N, 3, height, width]`, f32, changed and normalised.
    pub pixels: Tensor,
    /// Changed captions as word ids, without start and end of text.
    pub words: Vec<Vec<u32>>,
    /// Whom each picture shows.
    pub persons: Vec<i64>,
    /// Whom each caption means; another than its picture shows where staff rejected the pair.
    pub meant: Vec<i64>,
    /// What was taken. Pairs whose picture could not be read are left out.
    pub pairs: Vec<Pair>,
}

/// How batches are made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Pairs in a batch; the last one of an epoch has what is left.
    pub batch: usize,
    /// Threads that make batches, at least 1.
    pub workers: usize,
    /// Bytes of resized pictures that are kept in memory; 0: none.
    pub cache_bytes: usize,
    /// What all draws follow from.
    pub seed: u64,
    /// Changes of pictures.
    pub image: ImageAugment,
    /// Changes of captions.
    pub text: TextAugment,
}

impl Default for Settings {
    /// The published batch, nothing changed, one thread, nothing kept.
    fn default() -> Self {
        let (image, text) = (ImageAugment::default(), TextAugment::default());
        Self { batch: 128, workers: 1, cache_bytes: 0, seed: 1, image, text }
    }
}

/// Makes batches of a set.
pub struct Loader {
    shared: Arc<Shared>,
}

/// What the threads share.
struct Shared {
    dataset: Arc<Dataset>,
    settings: Settings,
    definition: Preprocess,
    /// By record and caption; empty for records that are not used.
    words: Vec<Vec<Vec<u32>>>,
    /// Ids that occur in `words`, ascending.
    vocabulary: Vec<u32>,
    /// Id of a hidden word.
    unknown: u32,
    /// Resized pictures by record.
    cache: Vec<OnceLock<Box<[u8]>>>,
    cached_bytes: AtomicUsize,
    /// Records whose picture could not be read; they are counted once and not tried again.
    broken: Vec<AtomicBool>,
    problems: Mutex<Problems>,
}

impl Loader {
    /// Reads the captions of these records of a set, for a model of these shapes. Captions that hold
    /// no word are counted and their pairs left out.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a setting cannot be or no record has a caption;
    /// [`Error::Model`] where the model's vocabulary is not the tokenizer's.
    pub fn new(
        dataset: Arc<Dataset>,
        records: &[usize],
        config: &Config,
        settings: Settings,
    ) -> Result<Self> {
        for (name, value) in [("batch", settings.batch), ("workers", settings.workers)] {
            if value == 0 {
                return Err(Error::invalid(name, "0 is too few; 1 is the least"));
            }
        }
        settings.image.validate()?;
        settings.text.validate()?;
        config.validate()?;
        let mut problems = Problems::default();
        let words = tokenize(&dataset, records, config, &mut problems)?;
        let vocabulary: BTreeSet<u32> = words.iter().flatten().flatten().copied().collect();
        if vocabulary.is_empty() {
            return Err(Error::invalid(
                dataset.name(),
                "no record that is asked for has a caption",
            ));
        }
        let count = dataset.records().len();
        let shared = Shared {
            definition: Preprocess::clip(config.height, config.width),
            words,
            vocabulary: vocabulary.into_iter().collect(),
            // In the full vocabulary a word that no description has ("jekyll"; masked language models
            // on CLIP take this id for their mask, `cskt.md` 2.4), in a reduced one without a row of
            // its own.
            unknown: config.start_of_text() - 1,
            cache: (0..count).map(|_| OnceLock::new()).collect(),
            cached_bytes: AtomicUsize::new(0),
            broken: (0..count).map(|_| AtomicBool::new(false)).collect(),
            problems: Mutex::new(problems),
            dataset,
            settings,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The batches of an epoch with this order, from the batch number `first` on (0: all).
    ///
    /// # Errors
    /// Where there is no pair, or no thread can be started.
    pub fn epoch(&self, epoch: u64, pairs: Vec<Pair>, first: usize) -> Result<Batches> {
        Batches::start(&self.shared, epoch, pairs, first)
    }

    /// What was left out until now: captions and pictures.
    pub fn problems(&self) -> Problems {
        self.shared.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes of resized pictures that are kept.
    pub fn cached_bytes(&self) -> usize {
        self.shared.cached_bytes.load(Ordering::Relaxed)
    }
}

/// Word ids by record and caption.
fn tokenize(
    dataset: &Dataset,
    records: &[usize],
    config: &Config,
    problems: &mut Problems,
) -> Result<Vec<Vec<Vec<u32>>>> {
    let tokenizer = Tokenizer::clip()?;
    let mut words = vec![vec![]; dataset.records().len()];
    for &index in records {
        let (Some(place), Some(record)) = (words.get_mut(index), dataset.records().get(index))
        else {
            let reason = format!("the set has {} records", dataset.records().len());
            return Err(Error::invalid(format!("record {index}"), reason));
        };
        let captions = record.captions.iter().map(|caption| match tokenizer.encode(caption) {
            Ok(words) => {
                words.fit(config)?;
                Ok(words.ids().to_vec())
            }
            Err(error) => {
                problems.note(Cause::EmptyCaption, || format!("{}: {error}", record.file));
                Ok(vec![])
            }
        });
        *place = captions.collect::<Result<_>>()?;
    }
    Ok(words)
}

/// The batches of an epoch in their order; made by threads that end when this is dropped.
pub struct Batches {
    /// One for each thread: batch `i` comes from thread `i % threads`, so that the order needs no
    /// further memory.
    receivers: Vec<Receiver<Result<Batch>>>,
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
    next: usize,
    count: usize,
    is_any: bool,
}

/// A part of an epoch's work: every `step`th batch.
struct Share {
    epoch: u64,
    pairs: Arc<[Pair]>,
    from: usize,
    step: usize,
}

impl Batches {
    fn start(shared: &Arc<Shared>, epoch: u64, pairs: Vec<Pair>, first: usize) -> Result<Self> {
        if pairs.is_empty() {
            return Err(Error::invalid(shared.dataset.name(), "there is nothing to load"));
        }
        let count = pairs.len().div_ceil(shared.settings.batch).saturating_sub(first);
        let pairs: Arc<[Pair]> = pairs.into();
        let step = shared.settings.workers.min(count);
        let (mut receivers, mut threads) = (Vec::new(), Vec::new());
        for thread in 0..step {
            let (sender, receiver) = sync_channel(AHEAD);
            let share = Share { epoch, pairs: Arc::clone(&pairs), from: first + thread, step };
            let shared = Arc::clone(shared);
            let name = format!("loader {thread}");
            let spawned = std::thread::Builder::new().name(name);
            let spawned = spawned.spawn(move || shared.work(&share, &sender));
            threads.push(spawned.map_err(|error| {
                spotter_models::Error::internal("starting a thread that loads", error)
            })?);
            receivers.push(receiver);
        }
        let shared = Arc::clone(shared);
        Ok(Self { receivers, threads, shared, next: 0, count, is_any: first > 0 })
    }

    /// How many are still to come, at most.
    pub fn remaining(&self) -> usize {
        self.count - self.next
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    /// The next batch that has any pair.
    fn next(&mut self) -> Option<Result<Batch>> {
        while self.next < self.count {
            let receiver = self.receivers.get(self.next % self.receivers.len())?;
            self.next += 1;
            match receiver.recv() {
                Ok(Ok(batch)) if batch.pairs.is_empty() => {}
                Ok(batch) => {
                    self.is_any = true;
                    return Some(batch);
                }
                Err(_) => {
                    self.next = self.count;
                    let reason = "ended early";
                    let error = spotter_models::Error::internal("a thread that loads", reason);
                    return Some(Err(error.into()));
                }
            }
        }
        if std::mem::replace(&mut self.is_any, true) {
            return None;
        }
        let problems = self.shared.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = format!("no picture can be used: {problems}");
        Some(Err(Error::invalid(self.shared.dataset.name(), reason)))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // Threads that wait to send see that nobody listens.
        self.receivers.clear();
        for thread in self.threads.drain(..) {
            // A panic there was told by the missing batch.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// A thread's life: its share of batches, until nobody wants more.
    fn work(&self, share: &Share, sender: &SyncSender<Result<Batch>>) {
        let mut maker = match Maker::new(self) {
            Ok(maker) => maker,
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        };
        let size = self.settings.batch;
        let batches = share.pairs.chunks(size).enumerate().skip(share.from).step_by(share.step);
        for (number, pairs) in batches {
            let batch = maker.batch(share.epoch, number * size, pairs);
            let is_broken = batch.is_err();
            if sender.send(batch).is_err() || is_broken {
                return;
            }
        }
    }

    fn is_broken(&self, record: usize) -> bool {
        self.broken.get(record).is_none_or(|broken| broken.load(Ordering::Relaxed))
    }

    fn mark_broken(&self, record: usize, error: &Error) {
        let Some(broken) = self.broken.get(record) else { return };
        if !broken.swap(true, Ordering::Relaxed) {
            let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
            problems.note(Cause::of_picture(error), || error.to_string());
        }
    }

    /// Keeps a resized picture while there is room.
    fn keep(&self, record: usize, picture: &[u8]) {
        let Some(place) = self.cache.get(record) else { return };
        let length = picture.len();
        let room =
            |used: usize| (used + length <= self.settings.cache_bytes).then_some(used + length);
        let used = &self.cached_bytes;
        if used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
            && place.set(picture.into()).is_err()
        {
            // Another thread was first.
            used.fetch_sub(length, Ordering::Relaxed);
        }
    }
}

/// A thread's own buffers.
struct Maker<'a> {
    shared: &'a Shared,
    resizer: Preprocessor,
    augmenter: Augmenter,
}

impl<'a> Maker<'a> {
    fn new(shared: &'a Shared) -> Result<Self> {
        let augmenter = Augmenter::new(shared.settings.image.clone(), shared.definition)?;
        let (height, width) = augmenter.source_size();
        let source = Preprocess { height, width, ..shared.definition };
        Ok(Self { shared, resizer: Preprocessor::new(source)?, augmenter })
    }

    /// `first` is the number of the first pair in the epoch.
    fn batch(&mut self, epoch: u64, first: usize, pairs: &[Pair]) -> Result<Batch> {
        let Preprocess { height, width, .. } = self.shared.definition;
        let one = self.shared.definition.len();
        let mut values = vec![0f32; pairs.len() * one];
        let (mut words, mut persons, mut meant, mut used) = (vec![], vec![], vec![], vec![]);
        for (offset, pair) in pairs.iter().enumerate() {
            let number = (first + offset) as u64;
            let start = used.len() * one;
            let Some(slot) = values.get_mut(start..start + one) else { break };
            let Some((said, [shown, about])) = self.words(epoch, number, pair) else { continue };
            if !self.picture(epoch, number, pair.record, slot)? {
                continue;
            }
            words.push(said);
            persons.push(shown);
            meant.push(about);
            used.push(*pair);
        }
        values.truncate(used.len() * one);
        let shape = [used.len() as i64, 3, height as i64, width as i64];
        let pixels = Tensor::f_from_slice(&values)?.f_reshape(shape)?;
        Ok(Batch { pixels, words, persons, meant, pairs: used })
    }

    /// A pair's changed caption, whom its picture shows and whom it means; `None` where the caption has no words.
    fn words(&self, epoch: u64, number: u64, pair: &Pair) -> Option<(Vec<u32>, [i64; 2])> {
        let Shared { settings, words, vocabulary, unknown, dataset, .. } = self.shared;
        let words = words.get(pair.record)?.get(pair.caption).filter(|words| !words.is_empty())?;
        let mut random = Draws::Text.generator(settings.seed, epoch, number);
        let words = settings.text.apply(words, *unknown, vocabulary, &mut random);
        let record = dataset.records().get(pair.record)?;
        Some((words, [record.person, record.about()]))
    }

    /// Writes a record's changed picture; false where it cannot be read.
    fn picture(
        &mut self,
        epoch: u64,
        number: u64,
        record: usize,
        slot: &mut [f32],
    ) -> Result<bool> {
        let shared = self.shared;
        let mut random = Draws::Image.generator(shared.settings.seed, epoch, number);
        if let Some(kept) = shared.cache.get(record).and_then(OnceLock::get) {
            self.augmenter.run(kept, &mut random, slot)?;
            return Ok(true);
        }
        if shared.is_broken(record) {
            return Ok(false);
        }
        let picture = match shared.dataset.picture(record) {
            Ok(picture) => picture,
            Err(error) => {
                shared.mark_broken(record, &error);
                return Ok(false);
            }
        };
        let resized = self.resizer.stretch(picture.view())?;
        shared.keep(record, resized);
        self.augmenter.run(resized, &mut random, slot)?;
        Ok(true)
    }
}

/// Pictures as evaluation sees them, which is as the daemon does: `[N, 3, height, width]`, and the
/// records they are of. Pictures that cannot be read are left out and counted.
///
/// # Errors
/// Where `definition` cannot be, or memory runs out.
pub fn evaluation_pixels(
    dataset: &Dataset,
    definition: Preprocess,
    records: &[usize],
    problems: &mut Problems,
) -> Result<(Tensor, Vec<usize>)> {
    let mut preprocessor = Preprocessor::new(definition)?;
    let mut values = vec![0f32; records.len() * definition.len()];
    let mut read = Vec::with_capacity(records.len());
    for &record in records {
        match dataset.picture(record) {
            Ok(picture) => {
                let start = read.len() * definition.len();
                let slot = values.get_mut(start..start + definition.len()).unwrap_or_default();
                preprocessor.run(picture.view(), slot)?;
                read.push(record);
            }
            Err(error) => problems.note(Cause::of_picture(&error), || error.to_string()),
        }
    }
    values.truncate(read.len() * definition.len());
    let shape = [read.len() as i64, 3, definition.height as i64, definition.width as i64];
    Ok((Tensor::f_from_slice(&values)?.f_reshape(shape)?, read))
}
