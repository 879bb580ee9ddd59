//! Vectors to measure on: real embeddings, as many as are wanted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow, bail};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use safetensors::{Dtype, SafeTensors};
use spotter_models::kernel::Rotation;

use crate::error::Error;

/// Which vectors are measured on.
#[derive(clap::Args, Clone)]
pub(super) struct Args {
    /// Embeddings that are resampled: a file of `bench embeddings`, or a bundle's cohort
    #[arg(long, value_name = "FILE", default_value = "models/demo/cohort.safetensors")]
    embeddings: PathBuf,
    /// Components; where it is not the file's, its vectors are laid into that space by a random rotation
    #[arg(long)]
    dim: Option<usize>,
    /// The same seed gives the same vectors
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Differences of which one draw of noise is mixed.
const NOISE_PARTS: usize = 8;
/// Share of the noise: within a person where the file says who is who, else of all that differs.
const WITHIN: f32 = 0.7;
const AMONG: f32 = 0.25;

/// Real vectors, from which others like them are drawn.
pub(super) struct Source {
    size: usize,
    images: Vec<Vec<f32>>,
    texts: Vec<Vec<f32>>,
    /// Rows of each person.
    persons: Vec<Vec<usize>>,
    /// What tells a picture from the mean of its person, or of all.
    rests: Vec<Vec<f32>>,
    share: f32,
    random: SmallRng,
    /// How it is drawn, in words.
    pub(super) method: String,
}

impl Source {
    /// Reads the file.
    pub(super) fn open(args: &Args) -> Result<Self> {
        let path = &args.embeddings;
        let bytes = fs::read(path).map_err(Error::io(path))?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| anyhow!("{}: {error}", path.display()))?;
        let images = rows(&file, path, "image_embedding")?;
        let texts = rows(&file, path, "text_embedding")?;
        let of_file = images.first().map_or(0, Vec::len);
        let size = args.dim.unwrap_or(of_file);
        let persons = persons(&file, images.len());
        let (share, how) = if persons.len() < images.len() {
            (WITHIN, "between two pictures of a person, plus 0.7 of the noise within persons")
        } else {
            (AMONG, "pictures plus 0.25 of what tells them from their mean")
        };
        let mut source = Self {
            size,
            rests: rests(&images, &persons),
            images,
            texts,
            persons,
            share,
            random: SmallRng::seed_from_u64(args.seed),
            method: String::new(),
        };
        source.method = format!(
            "{} pictures and {} texts of {} ({of_file} components), drawn {how}",
            source.images.len(),
            source.texts.len(),
            path.display()
        );
        if size != of_file {
            source.lay_into(size, args.seed)?;
        }
        Ok(source)
    }

    /// Components of a vector.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The next vector of a picture, of unit length.
    pub(super) fn next(&mut self) -> Vec<f32> {
        let person = self.random.random_range(0..self.persons.len());
        let views = self.persons.get(person).cloned().unwrap_or_default();
        let [a, b] = [0, 1].map(|_| views.get(self.random.random_range(0..views.len())).copied());
        let share: f32 = self.random.random();
        let mut vector = vec![0.0; self.size];
        add(&mut vector, self.images.get(a.unwrap_or(0)), share);
        add(&mut vector, self.images.get(b.unwrap_or(0)), 1.0 - share);
        for _ in 0..NOISE_PARTS {
            // The sum of twelve even draws is near enough to a normal one.
            let normal: f32 = (0..12).map(|_| self.random.random::<f32>()).sum::<f32>() - 6.0;
            let part = self.random.random_range(0..self.rests.len());
            add(
                &mut vector,
                self.rests.get(part),
                normal * self.share / (NOISE_PARTS as f32).sqrt(),
            );
        }
        unit(vector)
    }

    /// Texts, spread over the file; pictures where it has none.
    pub(super) fn queries(&self, count: usize) -> Vec<Vec<f32>> {
        let all = if self.texts.is_empty() { &self.images } else { &self.texts };
        let step = (all.len() / count.max(1)).max(1);
        all.iter().step_by(step).take(count).cloned().map(unit).collect()
    }

    fn lay_into(&mut self, size: usize, seed: u64) -> Result<()> {
        if size < self.images.first().map_or(0, Vec::len) || !size.is_multiple_of(64) {
            bail!("--dim: use a multiple of 64 that is not below the file's");
        }
        let rotation = Rotation::new(size, seed);
        let mut out = Vec::new();
        for row in [&mut self.images, &mut self.texts, &mut self.rests].into_iter().flatten() {
            rotation.apply(row, &mut out);
            row.clone_from(&out);
        }
        self.method += &format!(", laid into {size} by a random rotation");
        Ok(())
    }
}

fn rows(file: &SafeTensors<'_>, path: &Path, name: &str) -> Result<Vec<Vec<f32>>> {
    let Ok(view) = file.tensor(name) else { return Ok(Vec::new()) };
    let (&[_, size], Dtype::F32) = (view.shape(), view.dtype()) else {
        bail!("{}: {name} is no table of f32", path.display());
    };
    let (words, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    Ok(values.chunks_exact(size.max(1)).map(<[f32]>::to_vec).collect())
}

/// Rows by person; each row alone where the file does not say.
fn persons(file: &SafeTensors<'_>, rows: usize) -> Vec<Vec<usize>> {
    let alone = || (0..rows).map(|row| vec![row]).collect();
    let Ok(view) = file.tensor("person") else { return alone() };
    let (words, _) = view.data().as_chunks::<8>();
    let mut persons: std::collections::BTreeMap<i64, Vec<usize>> =
        std::collections::BTreeMap::new();
    for (row, word) in words.iter().enumerate().take(rows) {
        persons.entry(i64::from_le_bytes(*word)).or_default().push(row);
    }
    persons.into_values().collect()
}

fn rests(images: &[Vec<f32>], persons: &[Vec<usize>]) -> Vec<Vec<f32>> {
    let everybody: Vec<usize> = (0..images.len()).collect();
    let groups =
        if persons.len() < images.len() { persons } else { std::slice::from_ref(&everybody) };
    let mut rests = Vec::with_capacity(images.len());
    for group in groups {
        let mut mean = vec![0.0; images.first().map_or(0, Vec::len)];
        group.iter().for_each(|row| add(&mut mean, images.get(*row), 1.0 / group.len() as f32));
        // A mean of few is nearer to each of them than the true one.
        let few = (group.len() as f32 / (group.len() as f32 - 1.0).max(1.0)).sqrt();
        for row in group.iter().filter_map(|row| images.get(*row)) {
            rests.push(row.iter().zip(&mean).map(|(v, m)| few * (v - m)).collect());
        }
    }
    rests
}

fn add(to: &mut [f32], from: Option<&Vec<f32>>, share: f32) {
    let from = from.map(Vec::as_slice).unwrap_or_default();
    to.iter_mut().zip(from).for_each(|(to, from)| *to += share * from);
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|v| *v /= length);
    vector
}
