//! One step: from a batch to changed parameters.

use tch::{Device, Tensor};

use crate::{
    adam::Adam,
    dataset::Batch,
    error::{Error, Result},
    net::{Captions, Net, Parameters},
    recipe::Recipe,
};

/// What a step measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Before the step.
    pub loss: f64,
    /// Length of all gradients together, before it was shortened.
    pub gradient: f64,
}

/// A model in training.
pub struct Trainee {
    /// Its tensors.
    pub parameters: Parameters,
    /// Its towers.
    pub net: Net,
    /// Its optimiser.
    pub adam: Adam,
}

impl Trainee {
    /// Makes a step with `factor` of the learning rate.
    ///
    /// # Errors
    /// [`Error::Diverged`] where loss or gradients are no numbers any more: nothing is changed then.
    /// [`Error::Torch`] where memory runs out.
    pub fn step(&mut self, batch: &Batch, recipe: &Recipe, factor: f64) -> Result<Measured> {
        let device = self.parameters.device();
        let pixels = batch.pixels.f_to_device(device)?;
        let captions = Captions::new(&batch.words, self.net.config(), device)?;
        let persons = match batch.meant == batch.persons {
            true => Tensor::f_from_slice(&batch.persons)?,
            false => Tensor::f_from_slice(&[batch.persons.as_slice(), &batch.meant].concat())?
                .f_reshape([2, -1])?,
        };
        let persons = persons.f_to_device(device)?;
        let inputs = Inputs { pixels: &pixels, captions: &captions, persons: &persons };
        let loss = gradients(&self.net, self.parameters.scale(), recipe, &inputs)?;
        let gradient = self.adam.clip(&self.parameters)?;
        if !loss.is_finite() || !gradient.is_finite() {
            return Err(Error::diverged_step(loss, gradient));
        }
        self.adam.step(&self.parameters, factor)?;
        Ok(Measured { loss, gradient })
    }
}

/// What a step reads.
pub struct Inputs<'a> {
    /// `[N, 3, height, width]`.
    pub pixels: &'a Tensor,
    /// As many captions.
    pub captions: &'a Captions,
    /// `[N]`: whom each pair shows; or `[2, N]`, as [`crate::loss::LossKind::of`] says.
    pub persons: &'a Tensor,
}

/// The loss of a batch, whose gradients are added to those of the trained parameters. `scale`: the
/// temperature where that is trained.
///
/// # Errors
/// [`Error::Torch`] where memory runs out.
pub fn gradients(
    net: &Net,
    scale: Option<&Tensor>,
    recipe: &Recipe,
    inputs: &Inputs<'_>,
) -> Result<f64> {
    let Inputs { pixels, captions, persons } = *inputs;
    let loss = |images: &Tensor, texts: &Tensor| recipe.loss.of(images, texts, persons, scale);
    let size = pixels.size().first().copied().unwrap_or(0);
    let part = match recipe.batch.part {
        0 => size,
        part => (part as i64).min(size),
    };
    if part == size && !recipe.batch.recompute {
        let loss = loss(&net.images(pixels)?, &net.texts(captions)?)?;
        loss.f_backward()?;
        return Ok(loss.f_double_value(&[])?);
    }
    // Gradient caching (arXiv 2101.06983): embeddings of all parts, the loss and its gradients by
    // embedding, then each part once more for the gradients of the parameters.
    let parts: Vec<(i64, i64)> =
        (0..size).step_by(part as usize).map(|from| (from, part.min(size - from))).collect();
    let (images, texts) = tch::no_grad(|| -> Result<(Tensor, Tensor)> {
        let mut rows = (Vec::new(), Vec::new());
        for (from, count) in &parts {
            rows.0.push(net.images(&pixels.f_narrow(0, *from, *count)?)?);
            rows.1.push(net.texts(&captions.part(*from as usize, *count as usize)?)?);
        }
        Ok((Tensor::f_cat(&rows.0, 0)?, Tensor::f_cat(&rows.1, 0)?))
    })?;
    let (images, texts) = (images.f_set_requires_grad(true)?, texts.f_set_requires_grad(true)?);
    let loss = loss(&images, &texts)?;
    loss.f_backward()?;
    let (by_image, by_text) = (images.f_grad()?, texts.f_grad()?);
    for (from, count) in parts {
        let frugal = recipe.batch.recompute;
        let pixels = pixels.f_narrow(0, from, count)?;
        net.pull_images(&pixels, &by_image.f_narrow(0, from, count)?, frugal)?;
        let captions = captions.part(from as usize, count as usize)?;
        net.pull_texts(&captions, &by_text.f_narrow(0, from, count)?, frugal)?;
    }
    Ok(loss.f_double_value(&[])?)
}

/// The processor, or a graphics card where one is asked for.
///
/// # Errors
/// [`Error::Invalid`] for an unknown name, or where this libtorch reaches no card.
pub fn device(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "cuda" if tch::Cuda::is_available() => Ok(Device::Cuda(0)),
        "cuda" => Err(Error::invalid(
            "device",
            "cuda: this libtorch reaches no graphics card; leave the option out to use the processor, \
             or build with a libtorch for CUDA (docs/guide/training.md)",
        )),
        name => Err(Error::invalid("device", format!("`{name}` is none of cpu, cuda"))),
    }
}
