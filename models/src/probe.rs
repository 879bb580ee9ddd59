//! Golden inputs and outputs that travel in every bundle, and how exactly a machine must agree.
//!
//! Inputs are pictures and texts, not tensors, so that preprocessing and tokenizer are pinned too.
//! Outputs are those of the unfolded graphs, so that the folding is proved as well. The daemon runs
//! the probe before it switches to a bundle.

mod inputs;

use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

pub use inputs::Inputs;

use crate::{
    Error, Result, Rgb,
    bundle::Bundle,
    manifest::Precision,
    rows::{self, find, to_le},
    towers::Config,
};

/// Largest probe file in bytes.
const MAX_BYTES: usize = 64 << 20;

/// Most pictures and most texts.
const MOST_INPUTS: usize = 64;

/// Golden inputs with their embeddings.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    inputs: Inputs,
    images: Vec<Vec<f32>>,
    texts: Vec<Vec<f32>>,
}

impl Probe {
    /// Pairs inputs with their embeddings, which must be of unit length and all of one size.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where counts, sizes or lengths do not fit.
    pub fn new(inputs: Inputs, images: Vec<Vec<f32>>, texts: Vec<Vec<f32>>) -> Result<Self> {
        let pairs = [
            ("pictures", inputs.pictures.len(), images.len()),
            ("texts", inputs.texts.len(), texts.len()),
        ];
        for (what, count, embeddings) in pairs {
            if count == 0 || count > MOST_INPUTS || count != embeddings {
                return Err(Error::mismatch(
                    format!("probe {what}"),
                    format!("{count} with {embeddings} embeddings; 1 to {MOST_INPUTS} are meant"),
                ));
            }
        }
        let size = images.first().map_or(0, Vec::len);
        let all = images.iter().chain(&texts).map(Vec::as_slice);
        rows::check_unit("probe embeddings", size, all)?;
        Ok(Self { inputs, images, texts })
    }

    /// The golden inputs.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The embeddings of the pictures, each of unit length.
    pub fn image_embeddings(&self) -> &[Vec<f32>] {
        &self.images
    }

    /// The embeddings of the texts, each of unit length.
    pub fn text_embeddings(&self) -> &[Vec<f32>] {
        &self.texts
    }

    /// The probe of an open bundle.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the file changed, is no probe, or is that of another model.
    pub fn of(bundle: &Bundle) -> Result<Self> {
        let name = &bundle.manifest().probe;
        let path = bundle.path_of(name);
        let probe = Self::parse(&path, &bundle.read(name)?)?;
        probe
            .check_shapes(&bundle.manifest().config)
            .map_err(|error| Error::corrupt(&path, error.to_string()))?;
        Ok(probe)
    }

    /// Reads a probe file; `path` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let corrupt = |reason: String| Error::corrupt(path, format!("is no probe: {reason}"));
        if bytes.len() > MAX_BYTES {
            return Err(corrupt(format!("larger than {MAX_BYTES} bytes")));
        }
        let file = SafeTensors::deserialize(bytes).map_err(|error| corrupt(error.to_string()))?;
        let read = || -> Result<Self> {
            let inputs = Inputs { pictures: read_pictures(&file)?, texts: read_texts(&file)? };
            if file.len() != inputs.pictures.len() + inputs.texts.len() + 2 {
                return Err(Error::mismatch("tensors", "has others than a probe's"));
            }
            Self::new(inputs, rows::read(&file, IMAGES)?, rows::read(&file, TEXTS)?)
        };
        read().map_err(|error| corrupt(error.to_string()))
    }

    /// The bytes of the file; the same probe gives the same bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is larger than a probe may be, [`Error::Internal`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let fault = |error: safetensors::SafeTensorError| Error::internal("probe", error);
        let (images, texts) = (to_le(&self.images), to_le(&self.texts));
        let mut tensors = Vec::new();
        for (name, rows, bytes) in [(IMAGES, &self.images, &images), (TEXTS, &self.texts, &texts)] {
            let shape = vec![rows.len(), rows.first().map_or(0, Vec::len)];
            let view = TensorView::new(Dtype::F32, shape, bytes).map_err(fault)?;
            tensors.push((name.to_string(), view));
        }
        for (index, picture) in self.inputs.pictures.iter().enumerate() {
            let shape = vec![picture.height() as usize, picture.width() as usize, 3];
            let view = TensorView::new(Dtype::U8, shape, picture.data()).map_err(fault)?;
            tensors.push((picture_name(index), view));
        }
        for (index, text) in self.inputs.texts.iter().enumerate() {
            let view =
                TensorView::new(Dtype::U8, vec![text.len()], text.as_bytes()).map_err(fault)?;
            tensors.push((text_name(index), view));
        }
        let bytes = safetensors::serialize(tensors, None).map_err(fault)?;
        if bytes.len() > MAX_BYTES {
            return Err(Error::invalid("probe", format!("{} bytes are too many", bytes.len())));
        }
        Ok(bytes)
    }

    /// Whether its embeddings have the size of a model's.
    ///
    /// # Errors
    /// [`Error::Mismatch`].
    pub fn check_shapes(&self, config: &Config) -> Result<()> {
        let size = self.images.first().map_or(0, Vec::len);
        if size != config.embed {
            return Err(Error::mismatch(
                "probe embeddings",
                format!("{size} values where the model has {}", config.embed),
            ));
        }
        Ok(())
    }
}

const IMAGES: &str = "image_embedding";
const TEXTS: &str = "text_embedding";

fn picture_name(index: usize) -> String {
    format!("picture.{index}")
}

fn text_name(index: usize) -> String {
    format!("text.{index}")
}

fn read_pictures(file: &SafeTensors<'_>) -> Result<Vec<Rgb>> {
    let mut pictures = Vec::new();
    while let Some(view) = find(file, &picture_name(pictures.len()), Dtype::U8)? {
        let wrong = || Error::mismatch("picture", format!("has shape {:?}", view.shape()));
        let &[height, width, 3] = view.shape() else {
            return Err(wrong());
        };
        let width = u32::try_from(width).map_err(|_| wrong())?;
        let height = u32::try_from(height).map_err(|_| wrong())?;
        pictures.push(Rgb::new(width, height, view.data().to_vec())?);
    }
    Ok(pictures)
}

fn read_texts(file: &SafeTensors<'_>) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    while let Some(view) = find(file, &text_name(texts.len()), Dtype::U8)? {
        let text = std::str::from_utf8(view.data());
        texts.push(text.map_err(|error| Error::mismatch("text", error.to_string()))?.to_string());
    }
    Ok(texts)
}

/// How far two sets of embeddings are apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Largest difference of two components; NaN where any is.
    pub worst_abs: f32,
    /// Smallest cosine of a pair; NaN where any is.
    pub worst_cosine: f32,
    /// Median cosine of the pairs; NaN where any is.
    pub median_cosine: f32,
}

/// Compares embeddings pair by pair.
///
/// # Errors
/// [`Error::Mismatch`] where counts or sizes differ, or there is nothing to compare.
pub fn compare<A: AsRef<[f32]>, B: AsRef<[f32]>>(expected: &[A], got: &[B]) -> Result<Report> {
    if expected.is_empty() || expected.len() != got.len() {
        return Err(Error::mismatch(
            "probe",
            format!("{} embeddings where {} are expected", got.len(), expected.len()),
        ));
    }
    let mut worst_abs = 0f32;
    let mut cosines = Vec::with_capacity(got.len());
    for (expected, got) in expected.iter().zip(got) {
        let (expected, got) = (expected.as_ref(), got.as_ref());
        if expected.is_empty() || expected.len() != got.len() {
            return Err(Error::mismatch(
                "probe",
                format!("{} values where {} are expected", got.len(), expected.len()),
            ));
        }
        for (a, b) in expected.iter().zip(got) {
            let difference = (a - b).abs();
            // `max` would drop a NaN.
            if difference.is_nan() || difference > worst_abs {
                worst_abs = if worst_abs.is_nan() { worst_abs } else { difference };
            }
        }
        cosines.push(cosine(expected, got));
    }
    cosines.sort_by(f32::total_cmp);
    let of_cosines = |index: usize| {
        let any_nan = cosines.iter().any(|cosine| cosine.is_nan());
        cosines.get(index).copied().filter(|_| !any_nan).unwrap_or(f32::NAN)
    };
    // The lower of the two middle ones where their number is even: the stricter choice.
    let median = (cosines.len() - 1) / 2;
    Ok(Report { worst_abs, worst_cosine: of_cosines(0), median_cosine: of_cosines(median) })
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()) as f32
}

/// How exactly a tower of some precision must agree with its bundle's probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Largest difference of two components.
    pub worst_abs: f32,
    /// Smallest cosine of a pair.
    pub worst_cosine: f32,
    /// Median cosine of the pairs.
    pub median_cosine: f32,
}

impl Tolerance {
    /// The tolerance of a precision.
    ///
    /// Each covers the order of sums in another library or device beside what was measured on the
    /// processor: f32 2e-7 (the folding); f16 4e-4 with cosines of 0.999999 on small towers and 1.2e-4
    /// at full size; int8 cosines of 0.9996 and more at full size, and of 0.9995 on small towers. A
    /// device that sums in f16 may be further off, and what int8 may cost is bounded by what it may
    /// change in a ranking.
    pub fn of(precision: Precision) -> Self {
        // Components of unit vectors cannot differ by more than 2.
        const ANY: f32 = 2.0;
        let (worst_abs, worst_cosine, median_cosine) = match precision {
            Precision::F32 => (1e-4, 0.9999, 0.9999),
            Precision::F16 => (0.02, 0.999, 0.9999),
            Precision::Int8 => (ANY, 0.99, 0.999),
        };
        Self { worst_abs, worst_cosine, median_cosine }
    }
}

impl Report {
    /// Whether the difference is within what a precision may cost.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with the figures; NaN never passes.
    pub fn check(&self, precision: Precision) -> Result<()> {
        let Tolerance { worst_abs, worst_cosine, median_cosine } = Tolerance::of(precision);
        let within = self.worst_abs <= worst_abs
            && self.worst_cosine >= worst_cosine
            && self.median_cosine >= median_cosine;
        if within {
            return Ok(());
        }
        Err(Error::mismatch(
            format!("probe at {precision}"),
            format!(
                "this machine computes other embeddings than the exporter: {self}; allowed are a \
                 difference of {worst_abs} and cosines of {worst_cosine} (median \
                 {median_cosine}). Choose another provider or precision",
            ),
        ))
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "largest difference {:.2e}, smallest cosine {:.6}, median {:.6}",
            self.worst_abs, self.worst_cosine, self.median_cosine
        )
    }
}

#[cfg(feature = "ort")]
mod run {
    use super::{Inputs, Probe, Report, compare};
    use crate::{
        Generation, Result,
        preprocess::{Preprocess, Preprocessor},
        session::{Model, Runtime, SessionOptions, TextTower, VisionTower},
        tokenize::Tokenizer,
        towers::{Config, Weights, unfolded_text, unfolded_vision},
    };
    use std::path::Path;

    impl Probe {
        /// Makes the probe of some weights: standard inputs through the unfolded graphs.
        ///
        /// # Errors
        /// Those of the export, of ONNX Runtime and of [`Probe::new`].
        pub fn record(
            runtime: &Runtime,
            weights: &Weights,
            config: &Config,
            preprocess: Preprocess,
        ) -> Result<Self> {
            let inputs = Inputs::standard()?;
            // Less optimised: the reference should share as little as possible with what it checks.
            let options = SessionOptions { optimise: false, ..SessionOptions::default() };
            let base = Model {
                name: Path::new("unfolded vision tower"),
                bytes: &[],
                config,
                preprocess,
                generation: Generation([0; 16]),
            };
            // A tower's file and the tower itself are gone before the next one is made.
            let images = {
                let bytes = unfolded_vision(weights, config)?;
                let model = Model { bytes: &bytes, ..base };
                let mut tower = VisionTower::from_model(runtime, model, &options)?;
                drop(bytes);
                embed_pictures(&inputs, &mut tower)?
            };
            let bytes = unfolded_text(weights, config)?;
            let name = Path::new("unfolded text tower");
            let model = Model { name, bytes: &bytes, ..base };
            let mut tower = TextTower::from_model(runtime, model, &options)?;
            drop(bytes);
            let texts = embed_texts(&inputs, &mut tower)?;
            Self::new(inputs, images, texts)
        }

        /// Runs the inputs through two open towers and compares. [`Report::check`] judges.
        ///
        /// # Errors
        /// Those of the towers; [`Error::Mismatch`](crate::Error::Mismatch) where the probe is of
        /// another model.
        pub fn run(&self, vision: &mut VisionTower, text: &mut TextTower) -> Result<Report> {
            let mut got = embed_pictures(&self.inputs, vision)?;
            got.extend(embed_texts(&self.inputs, text)?);
            let expected: Vec<&[f32]> =
                self.images.iter().chain(&self.texts).map(Vec::as_slice).collect();
            compare(&expected, &got)
        }
    }

    /// One by one, so that a precision whose scale depends on the batch gives the same each time.
    fn embed_pictures(inputs: &Inputs, tower: &mut VisionTower) -> Result<Vec<Vec<f32>>> {
        let mut preprocessor = Preprocessor::new(*tower.preprocess())?;
        let mut pixels = vec![0.0; tower.preprocess().len()];
        let mut rows = Vec::with_capacity(inputs.pictures.len());
        for picture in &inputs.pictures {
            preprocessor.run(picture.view(), &mut pixels)?;
            rows.extend(tower.embed(&pixels, 1)?.iter().map(|row| row.values().to_vec()));
        }
        Ok(rows)
    }

    fn embed_texts(inputs: &Inputs, tower: &mut TextTower) -> Result<Vec<Vec<f32>>> {
        let tokenizer = Tokenizer::clip()?;
        let mut rows = Vec::with_capacity(inputs.texts.len());
        for text in &inputs.texts {
            let input = tokenizer.encode(text)?.fit(tower.config())?;
            rows.extend(tower.embed(&[input])?.iter().map(|row| row.values().to_vec()));
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Probe {
        let inputs = Inputs::standard().unwrap();
        let row = |i: usize| if i.is_multiple_of(2) { vec![0.6, 0.8] } else { vec![-1.0, 0.0] };
        let images = (0..inputs.pictures.len()).map(row).collect();
        let texts = (0..inputs.texts.len()).map(row).collect();
        Probe::new(inputs, images, texts).unwrap()
    }

    #[test]
    fn a_probe_survives_writing_and_reading() {
        let bytes = probe().to_bytes().unwrap();
        assert_eq!(bytes, probe().to_bytes().unwrap());
        assert!(bytes.len() < 1 << 20, "{} bytes", bytes.len());
        assert_eq!(Probe::parse(Path::new("p"), &bytes).unwrap(), probe());
    }

    #[test]
    fn a_damaged_probe_is_refused() {
        let bytes = probe().to_bytes().unwrap();
        for length in [0, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
            let error = Probe::parse(Path::new("p"), &bytes[..length]).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{length}: {error:?}");
        }
        // A byte of the header, then a component that is no longer of unit length.
        let mut flipped = bytes.clone();
        flipped[20] ^= 0xff;
        assert!(Probe::parse(Path::new("p"), &flipped).is_err());
        let missing = safetensors::serialize::<String, TensorView, _>([], None).unwrap();
        assert!(Probe::parse(Path::new("p"), &missing).is_err());
    }

    #[test]
    fn embeddings_must_be_unit_vectors_of_the_models_size() {
        let inputs = || Inputs::standard().unwrap();
        let (pictures, texts) = (inputs().pictures.len(), inputs().texts.len());
        let rows = |row: &[f32], count| vec![row.to_vec(); count];
        let unit = [0.6, 0.8];
        for (images, captions) in [
            (rows(&unit, pictures), rows(&unit, texts - 1)),
            (rows(&unit, pictures), rows(&[0.6, 0.7], texts)),
            (rows(&unit, pictures), rows(&[1.0], texts)),
            (rows(&[f32::NAN, 1.0], pictures), rows(&unit, texts)),
        ] {
            assert!(Probe::new(inputs(), images, captions).is_err());
        }
        assert!(probe().check_shapes(&Config::vit_b16()).is_err());
        assert!(probe().check_shapes(&Config { embed: 2, ..Config::vit_b16() }).is_ok());
    }

    #[test]
    fn a_report_holds_the_worst_and_the_median() {
        let expected = [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.6, 0.8]];
        let got = [[1.0, 0.0], [0.8, 0.6], [1.0, 0.0], [0.8, 0.6]];
        let report = compare(&expected, &got).unwrap();
        assert!((report.worst_abs - 0.6).abs() < 1e-6);
        assert!((report.worst_cosine - 0.8).abs() < 1e-6);
        assert!((report.median_cosine - 0.96).abs() < 1e-6);
        assert!(report.check(Precision::Int8).is_err());
    }

    #[test]
    fn equal_embeddings_pass_and_nan_never_does() {
        let unit = [[0.6f32, 0.8], [1.0, 0.0]];
        for precision in Precision::ALL {
            assert!(compare(&unit, &unit).unwrap().check(precision).is_ok());
            for place in 0..4 {
                let mut broken = unit;
                broken[place / 2][place % 2] = f32::NAN;
                let report = compare(&unit, &broken).unwrap();
                assert!(report.worst_abs.is_nan() && report.worst_cosine.is_nan(), "{report:?}");
                assert!(report.check(precision).is_err());
                assert!(compare(&broken, &unit).unwrap().check(precision).is_err());
            }
        }
        assert!(compare(&unit, &[[0.0f32; 2]; 2]).unwrap().check(Precision::Int8).is_err());
    }

    #[test]
    fn each_precision_has_its_tolerance() {
        let off = |by: f32| {
            let got = [[0.6 + by, 0.8 - by], [1.0, 0.0], [0.0, 1.0]];
            compare(&[[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]], &got).unwrap()
        };
        assert!(off(0.9e-4).check(Precision::F32).is_ok());
        let error = off(1.2e-4).check(Precision::F32).unwrap_err().to_string();
        assert!(error.contains("1.20e-4") && error.contains("other embeddings"), "{error}");
        assert!(off(0.01).check(Precision::F16).is_ok());
        assert!(off(0.03).check(Precision::F16).is_err());
        assert!(off(0.02).check(Precision::Int8).is_ok());
        assert!(off(0.2).check(Precision::Int8).is_err());
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        let none: [[f32; 2]; 0] = [];
        assert!(compare(&none, &none).is_err());
        assert!(compare(&[[0.0; 2]], &[[0.0; 2]; 2]).is_err());
        assert!(compare(&[vec![0.0; 2]], &[vec![0.0; 3]]).is_err());
    }
}
