//! The two towers, opened: tensors in, embeddings out.

use std::path::{Path, PathBuf};

use ort::{
    session::Session,
    value::{Outlet, TensorElementType, TensorRef},
};

use super::{Model, Provider, Runtime, SessionOptions};
use crate::{
    Embedding, Error, Generation, Result, bundle::Bundle, manifest::Precision,
    preprocess::Preprocess, tokenize::TextInput, towers::Config,
};

/// Name of every tower's output.
const OUTPUT: &str = "embedding";

/// The part that both towers share: a session that was checked against its model.
struct Tower {
    session: Session,
    name: PathBuf,
    config: Config,
    generation: Generation,
}

impl Tower {
    fn open(
        runtime: &Runtime,
        model: Model<'_>,
        options: &SessionOptions,
        input: (&str, TensorElementType, &[i64]),
    ) -> Result<Self> {
        let session = runtime.open(model.name, model.bytes, options)?;
        let embed = i64::try_from(model.config.embed).unwrap_or(i64::MAX);
        check_outlet(model.name, "input", session.inputs(), input)?;
        let output = (OUTPUT, TensorElementType::Float32, &[-1, embed][..]);
        check_outlet(model.name, "output", session.outputs(), output)?;
        Ok(Self {
            session,
            name: model.name.to_path_buf(),
            config: model.config.clone(),
            generation: model.generation,
        })
    }

    /// Runs a batch and reads `batch` embeddings.
    fn run<T>(&mut self, input: &str, shape: Vec<usize>, values: &[T]) -> Result<Vec<Embedding>>
    where
        T: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
    {
        let Self { session, name, config, generation } = self;
        let fault = |error: ort::Error| Error::internal(name.display().to_string(), error);
        let batch = shape.first().copied().unwrap_or(0);
        let tensor = TensorRef::from_array_view((shape, values)).map_err(fault)?;
        let outputs = session.run(ort::inputs![input => tensor]).map_err(fault)?;
        let output = outputs.get(OUTPUT).ok_or_else(|| {
            Error::internal(name.display().to_string(), format!("gave no `{OUTPUT}`"))
        })?;
        let (shape, values) = output.try_extract_tensor::<f32>().map_err(fault)?;
        if values.len() != batch * config.embed {
            return Err(Error::mismatch(
                name.display().to_string(),
                format!("gave a tensor of shape {shape:?} for a batch of {batch}"),
            ));
        }
        values
            .chunks_exact(config.embed)
            .map(|row| {
                // A value that is no number here means a model or library that must not be used.
                Embedding::new(row.to_vec(), *generation)
                    .map_err(|error| Error::internal(name.display().to_string(), error))
            })
            .collect()
    }
}

/// Requires exactly one input or output of a name, type and shape; -1 stands for any size.
fn check_outlet(
    model: &Path,
    what: &str,
    outlets: &[Outlet],
    (name, element, shape): (&str, TensorElementType, &[i64]),
) -> Result<()> {
    let fits = match outlets {
        [outlet] => {
            outlet.name() == name
                && outlet.dtype().tensor_type() == Some(element)
                && outlet.dtype().tensor_shape().is_some_and(|actual| actual[..] == *shape)
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let found: Vec<String> =
        outlets.iter().map(|outlet| format!("`{}` {}", outlet.name(), outlet.dtype())).collect();
    Err(Error::mismatch(
        model.display().to_string(),
        format!(
            "its {what} is not `{name}` {element} {shape:?} as its manifest asks, but {}; export \
             the bundle again",
            found.join(", ")
        ),
    ))
}

/// Opens a tower of a bundle. The file's bytes are dropped as soon as the session has its own copy.
fn open_file<T>(
    bundle: &Bundle,
    (precision, provider): (Precision, Provider),
    file: String,
    open: impl FnOnce(Model<'_>) -> Result<T>,
) -> Result<T> {
    let manifest = bundle.manifest();
    if precision == Precision::Int8 && provider != Provider::Cpu {
        return Err(Error::invalid(
            "precision",
            format!("int8 towers are for the processor; choose f16 or f32 for {provider}"),
        ));
    }
    if !manifest.precisions.contains(&precision) {
        let held: Vec<&str> = manifest.precisions.iter().map(|held| held.name()).collect();
        return Err(Error::invalid(
            "precision",
            format!(
                "bundle {} holds no {precision} towers; choose {}",
                manifest.name,
                held.join(" or ")
            ),
        ));
    }
    open(Model {
        name: &bundle.path_of(&file),
        bytes: &bundle.read(&file)?,
        config: &manifest.config,
        preprocess: manifest.preprocess,
        generation: bundle.generation(),
    })
}

/// Pictures to embeddings.
pub struct VisionTower {
    tower: Tower,
    preprocess: Preprocess,
}

impl VisionTower {
    /// Opens the vision tower of a bundle.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the bundle has no towers of this precision or the provider does not
    /// run them, [`Error::Mismatch`]
    /// where the file's inputs and outputs are not those of the manifest, and those of
    /// [`Bundle::read`] and [`Runtime::open`].
    pub fn open(
        runtime: &Runtime,
        bundle: &Bundle,
        precision: Precision,
        options: &SessionOptions,
    ) -> Result<Self> {
        open_file(bundle, (precision, options.provider), precision.vision_file(), |model| {
            Self::from_model(runtime, model, options)
        })
    }

    /// Opens a vision tower that is in no bundle.
    ///
    /// # Errors
    /// As [`VisionTower::open`].
    pub fn from_model(
        runtime: &Runtime,
        model: Model<'_>,
        options: &SessionOptions,
    ) -> Result<Self> {
        model.preprocess.validate()?;
        let side = |side: usize| i64::try_from(side).unwrap_or(i64::MAX);
        let shape = [-1, 3, side(model.preprocess.height), side(model.preprocess.width)];
        let input = (Self::INPUT, TensorElementType::Float32, &shape[..]);
        let preprocess = model.preprocess;
        Ok(Self { tower: Tower::open(runtime, model, options, input)?, preprocess })
    }

    const INPUT: &str = "pixels";

    /// How its pictures are made; a [`Preprocessor`](crate::preprocess::Preprocessor) does it.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// The bundle that its embeddings are tagged with.
    pub fn generation(&self) -> Generation {
        self.tower.generation
    }

    /// Embeds `batch` pictures, `[batch,3,height,width]` as the preprocessor writes them.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the number of values is another, [`Error::Internal`] where ONNX
    /// Runtime fails or an output is not finite.
    pub fn embed(&mut self, pixels: &[f32], batch: usize) -> Result<Vec<Embedding>> {
        let Preprocess { height, width, .. } = self.preprocess;
        if batch.checked_mul(self.preprocess.len()) != Some(pixels.len()) {
            return Err(Error::mismatch(
                "pixels",
                format!("{} values are no batch of {batch} at {height}x{width}", pixels.len()),
            ));
        }
        if batch == 0 {
            return Ok(Vec::new());
        }
        self.tower.run(Self::INPUT, vec![batch, 3, height, width], pixels)
    }
}

/// Texts to embeddings.
pub struct TextTower {
    tower: Tower,
}

impl TextTower {
    /// Opens the text tower of a bundle.
    ///
    /// # Errors
    /// As [`VisionTower::open`].
    pub fn open(
        runtime: &Runtime,
        bundle: &Bundle,
        precision: Precision,
        options: &SessionOptions,
    ) -> Result<Self> {
        open_file(bundle, (precision, options.provider), precision.text_file(), |model| {
            Self::from_model(runtime, model, options)
        })
    }

    /// Opens a text tower that is in no bundle.
    ///
    /// # Errors
    /// As [`VisionTower::open`].
    pub fn from_model(
        runtime: &Runtime,
        model: Model<'_>,
        options: &SessionOptions,
    ) -> Result<Self> {
        let input = (Self::INPUT, TensorElementType::Int64, &[-1, -1][..]);
        Ok(Self { tower: Tower::open(runtime, model, options, input)? })
    }

    const INPUT: &str = "ids";

    /// Shapes of the model, which [`Words::fit`](crate::tokenize::Words::fit) asks for.
    pub fn config(&self) -> &Config {
        &self.tower.config
    }

    /// The bundle that its embeddings are tagged with.
    pub fn generation(&self) -> Generation {
        self.tower.generation
    }

    /// Embeds a batch of texts, padded to the longest of them.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where a text was fitted to another model, [`Error::Internal`] where ONNX
    /// Runtime fails or an output is not finite.
    pub fn embed(&mut self, texts: &[TextInput]) -> Result<Vec<Embedding>> {
        let config = &self.tower.config;
        let ends = (i64::from(config.start_of_text()), i64::from(config.end_of_text()));
        for text in texts {
            let is_ours = text.ids().first() == Some(&ends.0)
                && text.ids().last() == Some(&ends.1)
                && text.ids().len() <= config.word_limit() + 2;
            if !is_ours {
                return Err(Error::mismatch("text", "was fitted to another model"));
            }
        }
        // Padding after the end of a text cannot change it.
        let length = texts.iter().map(|text| text.ids().len()).max().unwrap_or(0);
        let mut ids = vec![0i64; texts.len() * length];
        for (row, text) in ids.chunks_exact_mut(length.max(1)).zip(texts) {
            row.iter_mut().zip(text.ids()).for_each(|(slot, id)| *slot = *id);
        }
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        self.tower.run(Self::INPUT, vec![texts.len(), length], &ids)
    }
}
