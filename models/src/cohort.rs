//! The background cohort: persons whom no alert means, as the bundle's own vision tower embeds them, and
//! what is said of each, as its text tower embeds it.
//!
//! What a text scores against them is what it scores by chance. Every text has another such range,
//! which is why one cut-off never fits all. Travels in a bundle, since only embeddings of the same
//! tower can be compared.

use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{
    Embedding, Error, Result, bundle::Bundle, embedding::dot, manifest::COHORT_FILE, rows,
    towers::Config,
};

/// Fewest persons: below, the spread of a text's scores is a guess.
pub const MIN_PERSONS: usize = 32;

/// Most persons, so that arming a text stays cheap.
pub const MAX_PERSONS: usize = 16_384;

/// Largest cohort file in bytes.
const MAX_BYTES: usize = 128 << 20;

/// The tensor of the persons.
const IMAGES: &str = "image_embedding";

/// The tensor of the captions, one of each person in the same order, which a file may lack.
const TEXTS: &str = "text_embedding";

/// Embeddings of persons whom no alert means, and of a caption of each, if there are any.
#[derive(Clone, Debug, PartialEq)]
pub struct Cohort {
    persons: Vec<Vec<f32>>,
    captions: Vec<Vec<f32>>,
}

/// How a text scores against a cohort.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Mean of the cosines.
    pub mean: f32,
    /// Their standard deviation; 0 where every person scores the same.
    pub deviation: f32,
}

impl Cohort {
    /// Takes one embedding for each person, all of unit length and one size.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for fewer than [`MIN_PERSONS`], more than [`MAX_PERSONS`], or what is no
    /// set of unit vectors.
    pub fn new(persons: Vec<Vec<f32>>) -> Result<Self> {
        check_count("persons", persons.len())?;
        let size = persons.first().map_or(0, Vec::len);
        rows::check_unit("cohort", size, persons.iter().map(Vec::as_slice))?;
        Ok(Self { persons, captions: Vec::new() })
    }

    /// The cohort with the embedding of one caption of each person, in their order.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for another number, or what is no set of unit vectors of the persons' size.
    pub fn with_captions(self, captions: Vec<Vec<f32>>) -> Result<Self> {
        if captions.len() != self.persons.len() {
            let (captions, persons) = (captions.len(), self.persons.len());
            let reason = format!("{captions} captions of {persons} persons; one of each is meant");
            return Err(Error::mismatch("cohort", reason));
        }
        rows::check_unit("cohort", self.size(), captions.iter().map(Vec::as_slice))?;
        Ok(Self { captions, ..self })
    }

    /// The cohort of an open bundle; `None` where it has none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the file changed, is no cohort, or is that of another model.
    pub fn of(bundle: &Bundle) -> Result<Option<Self>> {
        let Some(name) = &bundle.manifest().cohort else { return Ok(None) };
        let path = bundle.path_of(name);
        let cohort = Self::parse(&path, &bundle.read(name)?)?;
        cohort
            .check_shapes(&bundle.manifest().config)
            .map_err(|error| Error::corrupt(&path, error.to_string()))?;
        Ok(Some(cohort))
    }

    /// Reads a cohort file; `path` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let corrupt = |reason: String| Error::corrupt(path, format!("is no cohort: {reason}"));
        if bytes.len() > MAX_BYTES {
            return Err(corrupt(format!("larger than {MAX_BYTES} bytes")));
        }
        let file = SafeTensors::deserialize(bytes).map_err(|error| corrupt(error.to_string()))?;
        let captions = file.names().contains(&TEXTS);
        let meant = 1 + usize::from(captions);
        if file.len() != meant {
            return Err(corrupt(format!("has {} tensors and not {meant}", file.len())));
        }
        let read = || -> Result<Self> {
            let cohort = Self::new(rows::read(&file, IMAGES)?)?;
            let captions = if captions { rows::read(&file, TEXTS)? } else { Vec::new() };
            // A cohort of 0.1 may have captions of others, which say nothing of its persons.
            if captions.len() == cohort.persons() {
                cohort.with_captions(captions)
            } else {
                Ok(cohort)
            }
        };
        read().map_err(|error| corrupt(error.to_string()))
    }

    /// The bytes of the file; the same cohort gives the same bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is larger than a cohort may be, [`Error::Internal`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let fault = |error: safetensors::SafeTensorError| Error::internal(COHORT_FILE, error);
        let parts = [(IMAGES, &self.persons), (TEXTS, &self.captions)];
        let parts = parts.map(|(name, rows)| (name, rows.len(), rows::to_le(rows)));
        let mut tensors = Vec::new();
        for (name, count, bytes) in parts.iter().filter(|(_, count, _)| *count > 0) {
            let shape = vec![*count, self.size()];
            tensors.push((*name, TensorView::new(Dtype::F32, shape, bytes).map_err(fault)?));
        }
        let bytes = safetensors::serialize(tensors, None).map_err(fault)?;
        if bytes.len() > MAX_BYTES {
            return Err(Error::invalid("cohort", format!("{} bytes are too many", bytes.len())));
        }
        Ok(bytes)
    }

    /// Whether its embeddings have the size of a model's.
    ///
    /// # Errors
    /// [`Error::Mismatch`].
    pub fn check_shapes(&self, config: &Config) -> Result<()> {
        if self.size() != config.embed {
            return Err(Error::mismatch(
                "cohort",
                format!("{} values where the model has {}", self.size(), config.embed),
            ));
        }
        Ok(())
    }

    /// How many persons there are.
    pub fn persons(&self) -> usize {
        self.persons.len()
    }

    /// The embeddings of the persons, each of unit length.
    pub fn all(&self) -> &[Vec<f32>] {
        &self.persons
    }

    /// The embeddings of the persons' captions, in their order, each of unit length; none where it has
    /// none.
    pub fn captions(&self) -> &[Vec<f32>] {
        &self.captions
    }

    /// How a text of the same bundle scores against these persons.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the text has another size.
    pub fn spread(&self, text: &Embedding) -> Result<Spread> {
        let values = text.values();
        if values.len() != self.size() {
            return Err(Error::mismatch(
                "cohort",
                format!("{} values against a text of {}", self.size(), values.len()),
            ));
        }
        let scores: Vec<f64> =
            self.persons.iter().map(|person| f64::from(dot(person, values))).collect();
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
        let deviation = (squares / (scores.len() - 1) as f64).sqrt();
        Ok(Spread { mean: mean as f32, deviation: deviation as f32 })
    }

    fn size(&self) -> usize {
        self.persons.first().map_or(0, Vec::len)
    }
}

fn check_count(what: &str, count: usize) -> Result<()> {
    if (MIN_PERSONS..=MAX_PERSONS).contains(&count) {
        return Ok(());
    }
    let reason = format!("{count} {what}; {MIN_PERSONS} to {MAX_PERSONS} are meant");
    Err(Error::mismatch("cohort", reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Generation;

    /// Persons spread evenly over an arc of 90 degrees.
    fn arc(count: usize) -> Vec<Vec<f32>> {
        let angle = |n: usize| n as f32 / (count - 1) as f32 * std::f32::consts::FRAC_PI_2;
        (0..count).map(|n| vec![angle(n).cos(), angle(n).sin(), 0.0]).collect()
    }

    fn text(values: [f32; 3]) -> Embedding {
        Embedding::new(values.to_vec(), Generation([1; 16])).unwrap()
    }

    #[test]
    fn the_spread_is_that_of_the_cosines() {
        let cohort = Cohort::new(arc(1001)).unwrap();
        let Spread { mean, deviation } = cohort.spread(&text([1.0, 0.0, 0.0])).unwrap();
        // Mean of the cosine over a quarter of a turn: 2/pi; its variance: 1/2 - 4/pi².
        assert!((mean - std::f32::consts::FRAC_2_PI).abs() < 1e-3, "{mean}");
        assert!((deviation - 0.3078).abs() < 1e-3, "{deviation}");
        // At right angles to all of them: every person scores the same.
        let flat = cohort.spread(&text([0.0, 0.0, 1.0])).unwrap();
        assert_eq!(flat, Spread { mean: 0.0, deviation: 0.0 });
    }

    #[test]
    fn it_survives_writing_and_reading() {
        let cohort = Cohort::new(arc(40)).unwrap();
        let path = Path::new("cohort.safetensors");
        assert_eq!(Cohort::parse(path, &cohort.to_bytes().unwrap()).unwrap(), cohort);
        assert!(cohort.captions().is_empty());
        let described = cohort.clone().with_captions(arc(40)).unwrap();
        let read = Cohort::parse(path, &described.to_bytes().unwrap()).unwrap();
        assert_eq!((read.captions().len(), read.persons()), (40, 40));
        assert_eq!(read, described);
        assert_ne!(described.to_bytes().unwrap(), cohort.to_bytes().unwrap());
        let of_others = Cohort { captions: arc(33), ..cohort.clone() };
        assert_eq!(Cohort::parse(path, &of_others.to_bytes().unwrap()).unwrap(), cohort);
    }

    #[test]
    fn captions_that_do_not_fit_are_refused_with_the_reason() {
        let wide = vec![vec![1.0, 0.0, 0.0, 0.0]; 40];
        let mut long = arc(40);
        long[7] = vec![2.0, 0.0, 0.0];
        for (captions, word) in
            [(arc(39), "39 captions"), (Vec::new(), "0 captions"), (wide, "4 values"), (long, "2")]
        {
            let cohort = Cohort::new(arc(40)).unwrap();
            let error = cohort.with_captions(captions).unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
        }
        let bytes = rows::to_le(&arc(40));
        let view = || TensorView::new(Dtype::F32, vec![40, 3], &bytes).unwrap();
        let foreign = [(IMAGES, view()), ("other", view())];
        let bytes = safetensors::serialize(foreign, None).unwrap();
        let error = Cohort::parse(Path::new("c"), &bytes).unwrap_err().to_string();
        assert!(error.contains("2 tensors"), "{error}");
    }

    #[test]
    fn what_is_no_cohort_is_refused_with_the_reason() {
        let mut uneven = arc(40);
        uneven[7].push(0.0);
        let mut long = arc(40);
        long[7] = vec![2.0, 0.0, 0.0];
        let mut not_a_number = arc(40);
        not_a_number[7][0] = f32::NAN;
        for (persons, word) in [
            (Vec::new(), "0 persons"),
            (arc(31), "31 persons"),
            (arc(MAX_PERSONS + 1), "16385 persons"),
            (uneven, "4 values"),
            (long, "length 2"),
            (not_a_number, "length NaN"),
        ] {
            let error = Cohort::new(persons).unwrap_err().to_string();
            assert!(error.contains(word), "{word}: {error}");
        }
        let path = Path::new("cohort.safetensors");
        let good = Cohort::new(arc(40)).unwrap().to_bytes().unwrap();
        for bytes in [&b"rubbish"[..], &[], &good[..good.len() - 1]] {
            let error = Cohort::parse(path, bytes).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        }
        let cohort = Cohort::new(arc(40)).unwrap();
        assert!(cohort.check_shapes(&Config::vit_b16()).is_err());
        let other = Embedding::new(vec![1.0, 0.0], Generation([1; 16])).unwrap();
        assert!(cohort.spread(&other).is_err());
    }
}
