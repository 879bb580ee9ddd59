//! A session for one shape of its input, with memory that is bound once.
//!
//! A GPU wants shapes that do not change: then nothing about them is computed while it waits, and the
//! launches of all kernels can be recorded and replayed in one go. On the processor it computes the same,
//! which is how it is tested there.

use std::path::{Path, PathBuf};

use ort::{
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, Session},
    value::{PrimitiveTensorElementType, Tensor},
};

use super::{OUTPUT, Provider, Runtime, SessionOptions};
use crate::{Error, Result};

/// What an input holds.
pub(super) trait Element:
    PrimitiveTensorElementType + std::fmt::Debug + Copy + Default + Send + 'static
{
}

impl Element for f32 {}
impl Element for i64 {}

/// The input of a model: its name, and its sizes by name, all of which must be known.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) name: &'a str,
    pub(super) shape: &'a [usize],
    /// The sizes that the model leaves open, by their names in it.
    pub(super) open: &'a [(&'a str, usize)],
}

/// A session of fixed shape and what it reads and writes.
pub(super) struct Bound<T: Element> {
    // In this order they are dropped: memory on a device belongs to the session.
    /// On the device at an address that stays, where launches are replayed.
    fixed: Option<Fixed<T>>,
    values: Tensor<T>,
    embeddings: Tensor<f32>,
    binding: IoBinding,
    session: Session,
    input: String,
    name: PathBuf,
    rows: usize,
}

/// Memory of the device.
struct Fixed<T: Element> {
    values: Tensor<T>,
    embeddings: Tensor<f32>,
}

impl<T: Element> Bound<T> {
    /// Opens a model that writes `[rows,embed]`, where `rows` is the first size of its input.
    ///
    /// # Errors
    /// Those of [`Runtime::open`].
    pub(super) fn open(
        runtime: &Runtime,
        (name, bytes): (&Path, &[u8]),
        options: &SessionOptions,
        input: Input<'_>,
        embed: usize,
    ) -> Result<Self> {
        let session = runtime.open_sized(name, bytes, options, input.open)?;
        let fault = |error: ort::Error| Error::internal(name.display().to_string(), error);
        let rows = input.shape.first().copied().unwrap_or(0);
        let host = Allocator::default();
        let values = Tensor::new(&host, input.shape).map_err(fault)?;
        let mut embeddings = Tensor::new(&host, [rows, embed]).map_err(fault)?;
        let mut binding = session.create_binding().map_err(fault)?;
        let fixed = if options.replays() {
            let device = device_memory(&session, options.provider).map_err(fault)?;
            let values = Tensor::new(&device, input.shape).map_err(fault)?;
            let mut embeddings = Tensor::new(&device, [rows, embed]).map_err(fault)?;
            binding.bind_input(input.name, &values).map_err(fault)?;
            binding.bind_output(OUTPUT, &mut embeddings).map_err(fault)?;
            Some(Fixed { values, embeddings })
        } else {
            binding.bind_output(OUTPUT, &mut embeddings).map_err(fault)?;
            None
        };
        let (input, name) = (input.name.to_owned(), name.to_path_buf());
        Ok(Self { fixed, values, embeddings, binding, session, input, name, rows })
    }

    /// Rows that it computes at once.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The session, to be looked at.
    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Takes values of at most [`Bound::rows`] rows to where they are computed on; what is missing is
    /// zero, or the last values of an earlier load would cost time in vain.
    pub(super) fn load(&mut self, values: &[T]) -> Result<()> {
        let (_, place) = self.values.try_extract_tensor_mut::<T>().map_err(fault(&self.name))?;
        if values.len() > place.len() {
            return Err(Error::internal(self.name.display().to_string(), "too many values"));
        }
        let (head, tail) = place.split_at_mut(values.len());
        head.copy_from_slice(values);
        tail.fill(T::default());
        match &mut self.fixed {
            Some(fixed) => self.values.copy_into(&mut fixed.values),
            // Binding copies to the device.
            None => self.binding.bind_input(&self.input, &self.values),
        }
        .map_err(fault(&self.name))
    }

    /// Computes on what was loaded last.
    pub(super) fn compute(&mut self) -> Result<()> {
        self.session.run_binding(&self.binding).map_err(fault(&self.name))?;
        Ok(())
    }

    /// What was computed last: `[rows,embed]`.
    pub(super) fn read(&mut self) -> Result<&[f32]> {
        if let Some(fixed) = &self.fixed {
            fixed.embeddings.copy_into(&mut self.embeddings).map_err(fault(&self.name))?;
        }
        let (_, values) = self.embeddings.try_extract_tensor::<f32>().map_err(fault(&self.name))?;
        Ok(values)
    }
}

fn fault(name: &Path) -> impl Fn(ort::Error) -> Error + '_ {
    |error| Error::internal(name.display().to_string(), error)
}

/// Memory of what runs the session. (Host memory that the GPU reads by itself would spare a copy; the
/// binding offers it only for libraries newer than a Jetson's.)
fn device_memory(session: &Session, provider: Provider) -> ort::Result<Allocator> {
    if provider == Provider::Cpu {
        return Ok(Allocator::default());
    }
    let place = (AllocationDevice::CUDA, AllocatorType::Device, MemoryType::Default);
    Allocator::new(session, MemoryInfo::new(place.0, 0, place.1, place.2)?)
}
