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
    values: Host<T>,
    embeddings: Host<f32>,
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
        let mut binding = session.create_binding().map_err(fault)?;
        let (values, embeddings, fixed);
        if options.replays() {
            let device = device_memory(&session, options.provider).map_err(fault)?;
            let mut on_device = Fixed {
                values: Tensor::new(&device, input.shape).map_err(fault)?,
                embeddings: Tensor::new(&device, [rows, embed]).map_err(fault)?,
            };
            binding.bind_input(input.name, &on_device.values).map_err(fault)?;
            binding.bind_output(OUTPUT, &mut on_device.embeddings).map_err(fault)?;
            let pinned = pinned_memory(&session, options.provider);
            let to_device = |host: &mut Tensor<T>| host.copy_into(&mut on_device.values);
            values = Host::new(pinned.as_ref(), input.shape, to_device).map_err(fault)?;
            let to_host = |host: &mut Tensor<f32>| on_device.embeddings.copy_into(host);
            embeddings = Host::new(pinned.as_ref(), &[rows, embed], to_host).map_err(fault)?;
            fixed = Some(on_device);
        } else {
            let untried = |_: &mut _| Ok(());
            values = Host::new(None, input.shape, untried).map_err(fault)?;
            let mut host = Host::new(None, &[rows, embed], |_| Ok(())).map_err(fault)?;
            binding.bind_output(OUTPUT, &mut host.0).map_err(fault)?;
            (embeddings, fixed) = (host, None);
        }
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
        let place = self.values.host_mut();
        if values.len() > place.len() {
            return Err(Error::internal(self.name.display().to_string(), "too many values"));
        }
        let (head, tail) = place.split_at_mut(values.len());
        head.copy_from_slice(values);
        tail.fill(T::default());
        match &mut self.fixed {
            Some(fixed) => self.values.0.copy_into(&mut fixed.values),
            // Binding copies to the device.
            None => self.binding.bind_input(&self.input, &self.values.0),
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
            fixed.embeddings.copy_into(&mut self.embeddings.0).map_err(fault(&self.name))?;
        }
        Ok(self.embeddings.host())
    }
}

/// A tensor in memory of the host.
struct Host<T: Element>(Tensor<T>);

impl<T: Element> Host<T> {
    /// Zeros, in pinned memory where there is some and `copy`, which is tried, can use it; what a
    /// library cannot copy from there it copies from any memory, only more slowly.
    fn new(
        pinned: Option<&Allocator>,
        shape: &[usize],
        copy: impl FnOnce(&mut Tensor<T>) -> ort::Result<()>,
    ) -> ort::Result<Self> {
        if let Some(Ok(tensor)) = pinned.map(|memory| Tensor::new(memory, shape)) {
            let mut host = Self(tensor);
            host.host_mut().fill(T::default());
            if copy(&mut host.0).is_ok() {
                return Ok(host);
            }
        }
        let mut host = Self(Tensor::new(&Allocator::default(), shape)?);
        // Nothing is read that was not written.
        host.host_mut().fill(T::default());
        Ok(host)
    }

    /// Its values.
    fn host(&self) -> &[T] {
        let count = self.0.shape().num_elements();
        if count == 0 {
            return &[];
        }
        // SAFETY: the tensor owns `count` values of `T` in memory of the host, which was written whole
        // before it is read. (The library's binding refuses what CUDA has locked for its copies.)
        unsafe { std::slice::from_raw_parts(self.0.data_ptr().cast::<T>(), count) }
    }

    /// Its values, to be written.
    fn host_mut(&mut self) -> &mut [T] {
        let count = self.0.shape().num_elements();
        if count == 0 {
            return &mut [];
        }
        // SAFETY: as above, and nobody else has the tensor while nothing runs. Whatever bits are there,
        // they are numbers.
        unsafe { std::slice::from_raw_parts_mut(self.0.data_ptr_mut().cast::<T>(), count) }
    }
}

fn fault(name: &Path) -> impl Fn(ort::Error) -> Error + '_ {
    |error| Error::internal(name.display().to_string(), error)
}

/// Memory of the host that a GPU reads by itself (pinned), from where copies are several times as fast.
fn pinned_memory(session: &Session, provider: Provider) -> Option<Allocator> {
    if provider == Provider::Cpu {
        return None;
    }
    let place = (AllocationDevice::CUDA_PINNED, AllocatorType::Device, MemoryType::CPUOutput);
    let memory = MemoryInfo::new(place.0, 0, place.1, place.2).ok()?;
    Allocator::new(session, memory).ok()
}

/// Memory of what runs the session.
fn device_memory(session: &Session, provider: Provider) -> ort::Result<Allocator> {
    if provider == Provider::Cpu {
        return Ok(Allocator::default());
    }
    let place = (AllocationDevice::CUDA, AllocatorType::Device, MemoryType::Default);
    Allocator::new(session, MemoryInfo::new(place.0, 0, place.1, place.2)?)
}
