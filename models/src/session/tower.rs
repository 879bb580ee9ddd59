//! The two towers, opened: tensors in, embeddings out.

use std::path::{Path, PathBuf};

use ort::{
    session::Session,
    value::{Outlet, TensorElementType, TensorRef},
};

use super::{
    Model, OUTPUT, Provider, Runtime, SessionOptions,
    bound::{Bound, Element, Input},
};
use crate::{
    Embedding, Error, Generation, Result,
    bundle::Bundle,
    manifest::Precision,
    preprocess::Preprocess,
    tokenize::TextInput,
    towers::{Config, fuse_attention},
};

/// The part that both towers share: sessions that were checked against their model.
struct Tower<T: Element> {
    sessions: Sessions<T>,
    name: PathBuf,
    config: Config,
    generation: Generation,
}

/// What runs a tower.
enum Sessions<T: Element> {
    /// One session that takes any number of inputs.
    Any(Session),
    /// One for each batch size, ascending, at least one.
    Sized(Vec<Bound<T>>),
}

/// The input of a tower.
struct Signature<'a> {
    name: &'a str,
    element: TensorElementType,
    /// Its sizes after that of the batch; `None` where a session for any number leaves them open.
    row: &'a [Option<usize>],
    /// The same with what is left open, which has this name.
    open: Option<(&'a str, usize)>,
}

impl Signature<'_> {
    /// The shape of a batch with everything known.
    fn shape(&self, batch: usize) -> Vec<usize> {
        let known = self.open.map_or(0, |(_, size)| size);
        [batch].into_iter().chain(self.row.iter().map(|size| size.unwrap_or(known))).collect()
    }
}

/// Name that the exported towers give the size of a batch.
const BATCH: &str = "N";

impl<T: Element> Tower<T> {
    fn open(
        runtime: &Runtime,
        model: Model<'_>,
        options: &SessionOptions,
        input: &Signature<'_>,
    ) -> Result<Self> {
        let sizes = options.sizes();
        let fused;
        let model = if options.half && options.provider == Provider::Cuda {
            fused = fuse_attention(model.bytes)?.0;
            Model { bytes: &fused, ..model }
        } else {
            model
        };
        let sessions = if sizes.is_empty() {
            let session = runtime.open(model.name, model.bytes, options)?;
            check(&session, &model, input, None)?;
            Sessions::Any(session)
        } else {
            let open = |size: &usize| open_sized(runtime, &model, options, input, *size);
            Sessions::Sized(sizes.iter().map(open).collect::<Result<_>>()?)
        };
        Ok(Self {
            sessions,
            name: model.name.to_path_buf(),
            config: model.config.clone(),
            generation: model.generation,
        })
    }

    /// The batch sizes that have a session; none where one session takes any.
    fn batches(&self) -> Vec<usize> {
        match &self.sessions {
            Sessions::Any(_) => Vec::new(),
            Sessions::Sized(bound) => bound.iter().map(Bound::rows).collect(),
        }
    }

    /// Runs a batch and reads its embeddings. `shape` is that of `values`, of which there are some.
    fn run(&mut self, input: &str, shape: Vec<usize>, values: &[T]) -> Result<Vec<Embedding>> {
        let batch = shape.first().copied().unwrap_or(0);
        let Self { sessions, name, config, generation } = self;
        let bound = match sessions {
            Sessions::Any(session) => {
                let fault = |error: ort::Error| Error::internal(name.display().to_string(), error);
                let tensor = TensorRef::from_array_view((shape, values)).map_err(fault)?;
                let outputs = session.run(ort::inputs![input => tensor]).map_err(fault)?;
                let output = outputs.get(OUTPUT).ok_or_else(|| {
                    Error::internal(name.display().to_string(), format!("gave no `{OUTPUT}`"))
                })?;
                let (_, values) = output.try_extract_tensor::<f32>().map_err(fault)?;
                return embeddings(name, values, (batch, config.embed), *generation);
            }
            Sessions::Sized(bound) => bound,
        };
        let row = values.len() / batch.max(1);
        let mut all = Vec::with_capacity(batch);
        while all.len() < batch {
            let bound = fitting(bound, batch - all.len());
            let count = bound.rows().min(batch - all.len());
            bound.load(&values[all.len() * row..][..count * row])?;
            bound.compute()?;
            let values = bound.read()?;
            let values = values.get(..count * config.embed).unwrap_or(values);
            all.extend(embeddings(name, values, (count, config.embed), *generation)?);
        }
        Ok(all)
    }

    /// Computes again what was loaded last at this batch size, and leaves the result where it is.
    fn recompute(&mut self, batch: usize) -> Result<()> {
        let bound = match &mut self.sessions {
            Sessions::Sized(bound) => bound.iter_mut().find(|bound| bound.rows() == batch),
            Sessions::Any(_) => None,
        };
        let bound = bound.ok_or_else(|| {
            Error::invalid("batch", format!("no session was opened for batches of {batch}"))
        })?;
        bound.compute()
    }

    /// Ends the profile that the options asked for: its file.
    fn end_profile(&mut self) -> Result<PathBuf> {
        let session = match &mut self.sessions {
            Sessions::Any(session) => Some(session),
            Sessions::Sized(bound) => bound.first_mut().map(Bound::session),
        };
        let ended = session.map(|session| session.end_profiling());
        match ended {
            Some(Ok(file)) if !file.is_empty() => Ok(file.into()),
            Some(Err(error)) => Err(Error::internal("profile", error)),
            _ => Err(Error::invalid("profile", "none was asked for when the tower was opened")),
        }
    }
}

/// The smallest session that takes `count` at once, else the largest.
fn fitting<T: Element>(bound: &mut [Bound<T>], count: usize) -> &mut Bound<T> {
    let last = bound.len() - 1;
    let index = bound.iter().position(|bound| bound.rows() >= count).unwrap_or(last);
    &mut bound[index]
}

/// Rows of a tower's output.
fn embeddings(
    name: &Path,
    values: &[f32],
    (count, embed): (usize, usize),
    generation: Generation,
) -> Result<Vec<Embedding>> {
    if values.len() != count * embed {
        return Err(Error::mismatch(
            name.display().to_string(),
            format!("gave {} values for a batch of {count}", values.len()),
        ));
    }
    values
        .chunks_exact(embed)
        .map(|row| {
            // A value that is no number here means a model or library that must not be used.
            Embedding::new(row.to_vec(), generation)
                .map_err(|error| Error::internal(name.display().to_string(), error))
        })
        .collect()
}

/// A session for batches of `size`, checked.
fn open_sized<T: Element>(
    runtime: &Runtime,
    model: &Model<'_>,
    options: &SessionOptions,
    input: &Signature<'_>,
    size: usize,
) -> Result<Bound<T>> {
    let shape = input.shape(size);
    let open: Vec<_> = [(BATCH, size)].into_iter().chain(input.open).collect();
    let known = Input { name: input.name, shape: &shape, open: &open };
    let file = (model.name, model.bytes);
    let mut bound = Bound::open(runtime, file, options, known, model.config.embed)?;
    check(bound.session(), model, input, Some(size))?;
    Ok(bound)
}

/// Requires the input and the output that a tower has. With a batch size, sizes may be known.
fn check(
    session: &Session,
    model: &Model<'_>,
    input: &Signature<'_>,
    batch: Option<usize>,
) -> Result<()> {
    let open = batch.and(input.open).map(|(_, size)| size);
    let row = input.row.iter().map(|size| size.or(open));
    let shape: Vec<_> = [batch].into_iter().chain(row).collect();
    let wanted = (input.name, input.element, &shape[..]);
    check_outlet(model.name, "input", session.inputs(), wanted)?;
    let shape = [batch, Some(model.config.embed)];
    let wanted = (OUTPUT, TensorElementType::Float32, &shape[..]);
    check_outlet(model.name, "output", session.outputs(), wanted)
}

/// Requires exactly one input or output of a name, type and shape; `None` stands for any size, and so
/// does what a model leaves open.
fn check_outlet(
    model: &Path,
    what: &str,
    outlets: &[Outlet],
    (name, element, shape): (&str, TensorElementType, &[Option<usize>]),
) -> Result<()> {
    let wanted = |size: Option<usize>| size.map_or(-1, |size| i64::try_from(size).unwrap_or(-1));
    let shape: Vec<i64> = shape.iter().map(|size| wanted(*size)).collect();
    let fits = match outlets {
        [outlet] => {
            outlet.name() == name
                && outlet.dtype().tensor_type() == Some(element)
                && outlet.dtype().tensor_shape().is_some_and(|actual| actual[..] == shape)
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
    precision: Precision,
    (file, options): (String, &SessionOptions),
    open: impl FnOnce(Model<'_>, &SessionOptions) -> Result<T>,
) -> Result<T> {
    let (manifest, provider) = (bundle.manifest(), options.provider);
    let options = SessionOptions { half: precision == Precision::F16, ..options.clone() };
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
    let model = Model {
        name: &bundle.path_of(&file),
        bytes: &bundle.read(&file)?,
        config: &manifest.config,
        preprocess: manifest.preprocess,
        generation: bundle.generation(),
    };
    open(model, &options)
}

/// Pictures to embeddings.
pub struct VisionTower {
    tower: Tower<f32>,
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
        open_file(bundle, precision, (precision.vision_file(), options), |model, options| {
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
        let preprocess = model.preprocess;
        let row = [3, preprocess.height, preprocess.width].map(Some);
        let element = TensorElementType::Float32;
        let input = Signature { name: Self::INPUT, element, row: &row, open: None };
        Ok(Self { tower: Tower::open(runtime, model, options, &input)?, preprocess })
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

    /// The batch sizes that have a session of their own, ascending; none where one session takes any.
    pub fn batches(&self) -> Vec<usize> {
        self.tower.batches()
    }

    /// Computes once more on the pictures loaded last at a batch size of [`VisionTower::batches`], and leaves
    /// the result where it is: what the computation takes without the copies around it, to be measured.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the size has no session, [`Error::Internal`] where ONNX Runtime fails.
    pub fn recompute(&mut self, batch: usize) -> Result<()> {
        self.tower.recompute(batch)
    }

    /// Ends the profile that [`SessionOptions::profile`] asked for: its file. Of several sessions it is
    /// that of the smallest batch size.
    ///
    /// # Errors
    /// [`Error::Invalid`] where none was asked for, [`Error::Internal`] where ONNX Runtime fails.
    pub fn end_profile(&mut self) -> Result<PathBuf> {
        self.tower.end_profile()
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
    tower: Tower<i64>,
    /// Ids of each row, where that is fixed.
    length: Option<usize>,
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
        open_file(bundle, precision, (precision.text_file(), options), |model, options| {
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
        // Where shapes are fixed every text is as long as one can be: a GPU that computes one does not
        // notice, and a session for each length would cost more memory than it is worth.
        let length = model.config.word_limit() + 2;
        let (element, open) = (TensorElementType::Int64, Some(("L", length)));
        let input = Signature { name: Self::INPUT, element, row: &[None], open };
        let tower = Tower::open(runtime, model, options, &input)?;
        let length = (!tower.batches().is_empty()).then_some(length);
        Ok(Self { tower, length })
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

    /// The batch sizes that have a session of their own, ascending; none where one session takes any.
    pub fn batches(&self) -> Vec<usize> {
        self.tower.batches()
    }

    /// Computes once more on the texts loaded last at a batch size of [`TextTower::batches`], and leaves
    /// the result where it is: what the computation takes without the copies around it, to be measured.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the size has no session, [`Error::Internal`] where ONNX Runtime fails.
    pub fn recompute(&mut self, batch: usize) -> Result<()> {
        self.tower.recompute(batch)
    }

    /// Ends the profile that [`SessionOptions::profile`] asked for: its file. Of several sessions it is
    /// that of the smallest batch size.
    ///
    /// # Errors
    /// [`Error::Invalid`] where none was asked for, [`Error::Internal`] where ONNX Runtime fails.
    pub fn end_profile(&mut self) -> Result<PathBuf> {
        self.tower.end_profile()
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
        let longest = texts.iter().map(|text| text.ids().len()).max().unwrap_or(0);
        let length = self.length.unwrap_or(longest);
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
