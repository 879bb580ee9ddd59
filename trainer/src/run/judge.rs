//! How good a state is on persons it does not learn from.

use std::{collections::HashMap, sync::Arc};

use spotter_models::{preprocess::Preprocess, tokenize::Tokenizer, towers::Config};
use tch::{Device, Kind, Tensor};

use super::step::Trainee;
use crate::{
    dataset::{Dataset, Problems, Split, evaluation_pixels},
    error::{Error, Result},
    evaluate::{Ranking, rank},
    net::Captions,
    recipe::Recipe,
};

/// Pictures or captions that go through a tower together.
const TOGETHER: usize = 128;
/// Most memory for pixels that are kept from one judgement to the next.
const MAX_KEPT_BYTES: usize = 512 << 20;

/// Figures of a state.
pub(super) struct Figures {
    pub(super) ranking: Ranking,
    /// The training loss on validation pairs, mean over batches of the recipe's size.
    pub(super) loss: f64,
}

/// Validation pictures and captions.
pub(super) struct Judge {
    data: Arc<Dataset>,
    definition: Preprocess,
    /// Records that go through the vision tower together.
    groups: Vec<Vec<usize>>,
    /// Their pixels, where those of all fit into memory.
    pixels: Vec<Tensor>,
    gallery: Vec<i64>,
    words: Vec<Vec<u32>>,
    queries: Vec<i64>,
    /// The picture of each caption.
    of: Vec<usize>,
}

impl Judge {
    pub(super) fn new(data: Arc<Dataset>, config: &Config) -> Result<Self> {
        let tokenizer = Tokenizer::clip()?;
        let records = data.split(Some(Split::Val));
        let definition = Preprocess::clip(config.height, config.width);
        let keep = records.len() * definition.len() * size_of::<f32>() <= MAX_KEPT_BYTES;
        let mut judge = Self {
            data,
            definition,
            groups: vec![],
            pixels: vec![],
            gallery: vec![],
            words: vec![],
            queries: vec![],
            of: vec![],
        };
        for records in records.chunks(TOGETHER) {
            let (pixels, read) = judge.read(records)?;
            if read.is_empty() {
                // All of them are broken.
                continue;
            }
            for record in read.iter().filter_map(|record| judge.data.records().get(*record)) {
                for caption in &record.captions {
                    // One without words asks nothing; as in training it is left out.
                    let Ok(words) = tokenizer.encode(caption) else { continue };
                    judge.words.push(words.ids().to_vec());
                    judge.queries.push(record.person);
                    judge.of.push(judge.gallery.len());
                }
                judge.gallery.push(record.person);
            }
            judge.groups.push(read);
            if keep {
                judge.pixels.push(pixels);
            }
        }
        Ok(judge)
    }

    fn read(&self, records: &[usize]) -> Result<(Tensor, Vec<usize>)> {
        evaluation_pixels(&self.data, self.definition, records, &mut Problems::default())
    }

    fn images(&self, trainee: &Trainee) -> Result<Tensor> {
        let device = trainee.parameters.device();
        let images = self.groups.iter().enumerate().map(|(index, records)| {
            let pixels = match self.pixels.get(index) {
                Some(pixels) => pixels.shallow_clone(),
                None => self.read(records)?.0,
            };
            trainee.net.images(&pixels.f_to_device(device)?)
        });
        Ok(Tensor::f_cat(&images.collect::<Result<Vec<_>>>()?, 0)?)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gallery.is_empty() || self.queries.is_empty()
    }

    /// R@1 of guessing, in percent: the mean over captions of their person's share of the pictures.
    pub(super) fn chance(&self) -> Option<f64> {
        let mut pictures: HashMap<i64, usize> = HashMap::new();
        self.gallery.iter().for_each(|person| *pictures.entry(*person).or_default() += 1);
        let right = self.queries.iter().filter_map(|person| pictures.get(person)).sum::<usize>();
        let pairs = self.queries.len() * self.gallery.len();
        (pairs > 0).then(|| 100.0 * right as f64 / pairs as f64)
    }

    pub(super) fn judge(&self, trainee: &Trainee, recipe: &Recipe) -> Result<Figures> {
        let _no_grad = tch::no_grad_guard();
        let (net, device) = (&trainee.net, trainee.parameters.device());
        let images = self.images(trainee)?;
        let texts = self
            .words
            .chunks(TOGETHER)
            .map(|words| net.texts(&Captions::new(words, net.config(), device)?));
        let texts = Tensor::f_cat(&texts.collect::<Result<Vec<_>>>()?, 0)?;
        let scores = texts.f_matmul(&images.f_transpose(0, 1)?)?.f_to_device(Device::Cpu)?;
        let mut flat = vec![0f32; scores.numel()];
        let count = flat.len();
        scores.f_to_kind(Kind::Float)?.f_contiguous()?.f_copy_data(&mut flat, count)?;
        if flat.iter().any(|score| !score.is_finite()) {
            let found = "scores of validation pictures are no numbers, and so are weights".into();
            return Err(Error::Diverged { found });
        }
        let ranking = rank(&flat, &self.queries, &self.gallery)?;
        Ok(Figures {
            ranking,
            loss: self.loss(recipe, trainee.parameters.scale(), &images, &texts)?,
        })
    }

    /// Captions far apart share a batch: neighbours are often of one person.
    fn loss(
        &self,
        recipe: &Recipe,
        scale: Option<&Tensor>,
        images: &Tensor,
        texts: &Tensor,
    ) -> Result<f64> {
        let size = recipe.batch.size.min(self.of.len());
        let batches = self.of.len() / size.max(1);
        let mut sum = 0.0;
        for first in 0..batches {
            let picked: Vec<usize> = (first..self.of.len()).step_by(batches).take(size).collect();
            let rows = |of: &dyn Fn(usize) -> i64| -> Result<Tensor> {
                let rows: Vec<i64> = picked.iter().map(|row| of(*row)).collect();
                Ok(Tensor::f_from_slice(&rows)?.f_to_device(images.device())?)
            };
            let at = |list: &[usize], row: usize| list.get(row).copied().unwrap_or(0) as i64;
            let images = images.f_index_select(0, &rows(&|row| at(&self.of, row))?)?;
            let texts = texts.f_index_select(0, &rows(&|row| row as i64)?)?;
            let persons = rows(&|row| self.queries.get(row).copied().unwrap_or(0))?;
            let loss = recipe.loss.of(&images, &texts, &persons, scale)?;
            sum += loss.f_double_value(&[])?;
        }
        Ok(sum / batches.max(1) as f64)
    }
}
