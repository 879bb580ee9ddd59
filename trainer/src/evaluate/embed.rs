//! What turns pictures and captions into embeddings: a bundle as the daemon runs it, or the model as it
//! is trained.

use serde::{Deserialize, Serialize};
use spotter_models::{
    Rgb,
    bundle::Bundle,
    preprocess::{Preprocess, Preprocessor},
    session::{Precision, Runtime, SessionOptions, TextTower, VisionTower},
    tokenize::{TextInput, Tokenizer},
    towers::Config,
};
use tch::{Device, Kind, Tensor};

use crate::{
    base::Base,
    error::{Error, Result},
    net::{Captions, Net, Parameters},
    run::Finished,
};

/// Which model was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// What it was read from: `bundle`, `base` or `run`.
    pub kind: String,
    /// What people call it.
    pub name: String,
    /// A bundle's generation, else the hash of the weights' file.
    pub identity: String,
    /// The number format that computed.
    pub precision: String,
    /// Who computed: `onnxruntime` or `libtorch`.
    pub engine: String,
    /// Height and width of its pictures in pixels.
    pub input: [usize; 2],
    /// Numbers that training changed; `None` where the file does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_parameters: Option<usize>,
}

/// The two towers of a model, whatever runs them.
pub trait Embedder {
    /// Shapes of the model.
    fn config(&self) -> &Config;

    /// How its pictures are made.
    fn preprocess(&self) -> Preprocess;

    /// How many pictures or captions it takes at once.
    fn batch(&self) -> usize;

    /// What it is.
    fn record(&self) -> ModelRecord;

    /// Unit embeddings of `count` pictures, `[count, 3, height, width]` as
    /// [`Embedder::preprocess`] makes them.
    ///
    /// # Errors
    /// Where the numbers do not fit or the engine fails.
    fn pixels(&mut self, pixels: &[f32], count: usize) -> Result<Vec<Vec<f32>>>;

    /// Unit embeddings of captions that were fitted to [`Embedder::config`].
    ///
    /// # Errors
    /// Where the engine fails.
    fn words(&mut self, captions: &[TextInput]) -> Result<Vec<Vec<f32>>>;
}

/// A picture's or caption's embedding, or why there is none.
pub type Row = Result<Vec<f32>>;

/// Embeddings of pictures in their order. A picture that cannot be read has its reason in its place;
/// a failing engine ends it all.
///
/// # Errors
/// Those of [`Embedder::pixels`].
pub fn images(
    embedder: &mut dyn Embedder,
    pictures: &mut dyn Iterator<Item = Result<Rgb>>,
) -> Result<Vec<Row>> {
    let mut preprocessor = Preprocessor::new(embedder.preprocess())?;
    let (size, batch) = (embedder.preprocess().len(), embedder.batch().max(1));
    let mut pixels = vec![0.0; batch * size];
    let mut rows: Vec<Row> = Vec::new();
    loop {
        // The rows that the pictures of this batch belong to.
        let mut waiting = Vec::with_capacity(batch);
        while let Some(slot) = pixels.chunks_exact_mut(size).nth(waiting.len()) {
            let Some(picture) = pictures.next() else { break };
            let made = picture.and_then(|picture| Ok(preprocessor.run(picture.view(), slot)?));
            if made.is_ok() {
                waiting.push(rows.len());
            }
            rows.push(made.map(|()| Vec::new()));
        }
        if waiting.is_empty() {
            return Ok(rows);
        }
        let filled = pixels.get(..waiting.len() * size).unwrap_or_default();
        put(&mut rows, &waiting, embedder.pixels(filled, waiting.len())?)?;
    }
}

/// Embeddings of captions in their order. One that holds no words has its reason in its place; what is
/// beyond a model's word limit is not read.
///
/// # Errors
/// Those of [`Embedder::words`].
pub fn texts(embedder: &mut dyn Embedder, captions: &[&str]) -> Result<Vec<Row>> {
    let (tokenizer, config) = (Tokenizer::clip()?, embedder.config().clone());
    let (mut rows, mut inputs): (Vec<Row>, Vec<(usize, TextInput)>) = (Vec::new(), Vec::new());
    for caption in captions {
        let fitted = tokenizer.encode(caption).and_then(|words| words.fit(&config));
        rows.push(match fitted {
            Ok(input) => {
                inputs.push((rows.len(), input));
                Ok(Vec::new())
            }
            Err(error) => Err(error.into()),
        });
    }
    // Captions of one length together: a batch is as long as its longest.
    inputs.sort_by_key(|(_, input)| input.ids().len());
    for batch in inputs.chunks(embedder.batch().max(1)) {
        let (waiting, inputs): (Vec<usize>, Vec<TextInput>) = batch.iter().cloned().unzip();
        put(&mut rows, &waiting, embedder.words(&inputs)?)?;
    }
    Ok(rows)
}

/// Puts embeddings into their places.
fn put(rows: &mut [Row], waiting: &[usize], embeddings: Vec<Vec<f32>>) -> Result<()> {
    if waiting.len() != embeddings.len() {
        let reason = format!("{} for {} inputs", embeddings.len(), waiting.len());
        return Err(spotter_models::Error::internal("embeddings", reason).into());
    }
    for (at, embedding) in waiting.iter().zip(embeddings) {
        if let Some(slot) = rows.get_mut(*at) {
            *slot = Ok(embedding);
        }
    }
    Ok(())
}

/// A bundle's exported towers in ONNX Runtime: what it computes here, the daemon computes.
pub struct BundleEmbedder {
    vision: VisionTower,
    text: TextTower,
    record: ModelRecord,
}

impl BundleEmbedder {
    /// Opens both towers in a precision.
    ///
    /// # Errors
    /// Where the bundle has no towers of this precision or ONNX Runtime cannot run them.
    pub fn open(
        runtime: &Runtime,
        bundle: &Bundle,
        precision: Precision,
        options: &SessionOptions,
    ) -> Result<Self> {
        let (manifest, config) = (bundle.manifest(), &bundle.manifest().config);
        let record = ModelRecord {
            kind: "bundle".into(),
            name: manifest.name.clone(),
            identity: bundle.generation().to_string(),
            precision: precision.to_string(),
            engine: "onnxruntime".into(),
            input: [config.height, config.width],
            trained_parameters: None,
        };
        Ok(Self {
            vision: VisionTower::open(runtime, bundle, precision, options)?,
            text: TextTower::open(runtime, bundle, precision, options)?,
            record,
        })
    }
}

impl Embedder for BundleEmbedder {
    fn config(&self) -> &Config {
        self.text.config()
    }

    fn preprocess(&self) -> Preprocess {
        *self.vision.preprocess()
    }

    /// One, as the daemon embeds: an int8 tower takes one scale for a whole batch, so more would
    /// give other numbers than the daemon's.
    fn batch(&self) -> usize {
        1
    }

    fn record(&self) -> ModelRecord {
        self.record.clone()
    }

    fn pixels(&mut self, pixels: &[f32], count: usize) -> Result<Vec<Vec<f32>>> {
        let embeddings = self.vision.embed(pixels, count)?;
        Ok(embeddings.iter().map(|embedding| embedding.values().to_vec()).collect())
    }

    fn words(&mut self, captions: &[TextInput]) -> Result<Vec<Vec<f32>>> {
        let embeddings = self.text.embed(captions)?;
        Ok(embeddings.iter().map(|embedding| embedding.values().to_vec()).collect())
    }
}

/// The model as it is trained, in libtorch.
pub struct NetEmbedder {
    net: Net,
    device: Device,
    preprocess: Preprocess,
    record: ModelRecord,
}

/// How many pictures or captions libtorch gets at once: enough to keep two cores or a GPU busy, and
/// little memory beside a training.
const NET_BATCH: usize = 32;

impl NetEmbedder {
    /// Takes a model whose parameters are on `device`.
    pub fn new(net: Net, device: Device, record: ModelRecord) -> Self {
        let config = net.config();
        let preprocess = Preprocess::clip(config.height, config.width);
        Self { net, device, preprocess, record }
    }

    /// A base model as it is, without anything trained: zero-shot.
    ///
    /// # Errors
    /// Where the weights do not fit together or memory runs out.
    pub fn of_base(base: &Base, device: Device) -> Result<Self> {
        let parameters = Parameters::new(base.weights(), base.config(), device, |_| false)?;
        let net = Net::new(base.config(), &parameters)?;
        let record = ModelRecord {
            kind: "base".into(),
            name: base.origin().name.clone(),
            identity: base.sha256().to_string(),
            precision: "f32".into(),
            engine: "libtorch".into(),
            input: [base.config().height, base.config().width],
            trained_parameters: Some(0),
        };
        Ok(Self::new(net, device, record))
    }

    /// The model that a run trained; `name` is what people call it.
    ///
    /// # Errors
    /// Where the weights do not fit together or memory runs out.
    pub fn of_run(run: &Finished, name: String, device: Device) -> Result<Self> {
        let parameters = Parameters::new(&run.weights, &run.config, device, |_| false)?;
        let net = Net::new(&run.config, &parameters)?;
        // Where the backbone was trained, it is the base that the run wrote.
        let identity = run.adapters_sha256.unwrap_or(run.base.sha256()).to_string();
        let record = ModelRecord {
            kind: "run".into(),
            name,
            identity,
            precision: "f32".into(),
            engine: "libtorch".into(),
            input: [run.config.height, run.config.width],
            trained_parameters: Some(run.ended.trained),
        };
        Ok(Self::new(net, device, record))
    }
}

impl Embedder for NetEmbedder {
    fn config(&self) -> &Config {
        self.net.config()
    }

    fn preprocess(&self) -> Preprocess {
        self.preprocess
    }

    fn batch(&self) -> usize {
        NET_BATCH
    }

    fn record(&self) -> ModelRecord {
        self.record.clone()
    }

    fn pixels(&mut self, pixels: &[f32], count: usize) -> Result<Vec<Vec<f32>>> {
        let Preprocess { height, width, .. } = self.preprocess;
        let pixels = Tensor::f_from_slice(pixels)?
            .f_reshape([count as i64, 3, height as i64, width as i64])?
            .f_to_device(self.device)?;
        rows(&tch::no_grad(|| self.net.images(&pixels))?, self.net.config().embed)
    }

    fn words(&mut self, captions: &[TextInput]) -> Result<Vec<Vec<f32>>> {
        // Without start and end of text, which the net adds itself.
        let words: Vec<Vec<u32>> = captions
            .iter()
            .map(|input| {
                let inner = input.ids().get(1..input.ids().len().saturating_sub(1));
                inner.unwrap_or_default().iter().filter_map(|id| u32::try_from(*id).ok()).collect()
            })
            .collect();
        let words: Vec<&[u32]> = words.iter().map(Vec::as_slice).collect();
        let captions = Captions::new(&words, self.net.config(), self.device)?;
        rows(&tch::no_grad(|| self.net.texts(&captions))?, self.net.config().embed)
    }
}

/// The rows of a tensor `[N, size]`.
fn rows(tensor: &Tensor, size: usize) -> Result<Vec<Vec<f32>>> {
    let plain = tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut values = vec![0f32; plain.numel()];
    let count = values.len();
    plain.f_copy_data(&mut values, count)?;
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(Error::invalid("embeddings", format!("hold {value}: the model is broken")));
    }
    Ok(values.chunks_exact(size.max(1)).map(<[f32]>::to_vec).collect())
}
