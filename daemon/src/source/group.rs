//! GROUP: a camera's large stream, kept encoded from a key frame on and decoded only where somebody is worth a look.
//!
//! Many cameras offer the same picture twice, large and small. Persons are found and followed in the small stream, which
//! costs little to decode. Of the large one the last two groups of pictures wait as they came; a crop decodes from the
//! key frame before it up to its own frame, and the next crop goes on from there. So a camera that shows nobody costs no
//! decoding of its large stream, one that is busy no more than decoding all of it, and no crop waits for a key frame.
//!
//! Which frame of the large stream is which of the small one is told by when they arrived.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gstreamer as gst;
use spotter_models::Rgb;

use super::{decoder::DecoderChoice, ondemand::Decoding};
use crate::{
    clock::Mono,
    error::Result,
    frame::{CameraId, Frame, Pixels},
    geometry::PixelRect,
    mask::Mask,
    metrics,
};

/// Most bytes that wait of one camera: two groups of 4 s at 8 Mbit/s.
const MAX_BYTES: usize = 8 << 20;

/// How long a frame waits at least: longer than a detector takes to find somebody in it.
const KEPT: Duration = Duration::from_millis(1500);

/// Most frames that wait of one camera.
const MAX_UNITS: usize = 600;

/// A crop is taken from a frame that is at most so far from the one that it was found in.
const MAX_APART: Duration = Duration::from_millis(500);

/// A frame that was decoded already is taken for one that came so many before it.
const NEARLY: u64 = 3;

/// Frames that are decoded for a crop that somebody could do without: a tenth of a usual group.
const AT_HAND: usize = 5;

/// By how much the shapes of a camera's streams may differ, as a part: 704x396 and 1920x1080 are the same.
const SHAPES_APART: f64 = 0.03;

/// A decoder that nobody asked for this long is let go, with the frames that it holds.
const IDLE: Duration = Duration::from_secs(10);

/// A frame as it came.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The encoded frame.
    pub buffer: gst::Buffer,
    /// Whether it can be decoded without those before it.
    pub is_key: bool,
    /// When it arrived.
    pub at: Mono,
}

/// What waits of one camera's large stream.
pub struct Group {
    camera: CameraId,
    units: Mutex<Units>,
    decoding: Mutex<Decoding>,
    /// Whether somebody was told that the two streams do not belong together.
    is_warned: AtomicBool,
}

#[derive(Default)]
struct Units {
    caps: Option<gst::Caps>,
    size: Option<(u32, u32)>,
    /// The first is a key frame.
    waiting: VecDeque<Unit>,
    /// The number of the first: they are numbered as they come.
    first: u64,
    bytes: usize,
}

impl Group {
    /// Nothing came yet. Crops are decoded on the processor: a decoder that works beside it gives a frame when it
    /// likes, and a few frames are no work for one.
    pub fn new(camera: CameraId) -> Arc<Self> {
        let decoding = Mutex::new(Decoding::new(DecoderChoice::Software));
        let (units, is_warned) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { camera, units, decoding, is_warned })
    }

    /// The next frame of the stream, which looks like this.
    pub fn push(&self, unit: Unit, (caps, size): (&gst::Caps, (u32, u32))) {
        let at = unit.at;
        self.units().push(unit, caps, size);
        // Where a crop is being decoded it is not idle.
        if let Ok(mut decoding) = self.decoding.try_lock()
            && decoding.used().is_some_and(|used| at.since(used) > IDLE)
        {
            decoding.stop();
        }
    }

    /// The stream broke off: what waits belongs to nothing that comes.
    pub fn clear(&self) {
        let mut units = self.units();
        *units = Units { first: units.end(), size: units.size, ..Units::default() };
    }

    /// The frame of the small stream, as large as the large one: what is asked of it whole comes from the small stream,
    /// and parts from the large one, as long as that is there. The frame as it is before anything of the large stream came.
    ///
    /// What is masked of the small frame already is masked of the large one by `mask`.
    pub fn over(self: &Arc<Self>, frame: Frame, mask: Option<Arc<Mask>>) -> Frame {
        let size = self.units().size;
        let same_shape = |size: &(u32, u32)| is_same_shape((frame.width, frame.height), *size);
        let Some((width, height)) = size.filter(same_shape) else {
            if size.is_some() && !self.is_warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    camera = %self.camera, small = ?(frame.width, frame.height), large = ?size,
                    "The two streams have not the same shape, so they may not show the same: crops come from the small one."
                );
            }
            let why = if size.is_some() { "shape" } else { "gone" };
            let pixels = Small { pixels: frame.pixels, camera: self.camera.clone(), why };
            return Frame { pixels: Box::new(pixels), ..frame };
        };
        let pixels = Both {
            small: frame.pixels,
            small_size: (frame.width, frame.height),
            group: self.clone(),
            at: frame.decoded_at,
            size: (width, height),
            mask,
        };
        Frame { width, height, pixels: Box::new(pixels), ..frame }
    }

    /// A part of the frame that arrived when that did, at the large stream's resolution; nothing where no such frame
    /// waits any more.
    fn region(&self, rect: PixelRect, (at, size): (Mono, (u32, u32))) -> Result<Option<Rgb>> {
        let mut decoding = self.decoding.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Wanted { caps, units, first }) = self.wanted(at, decoding.last()) else {
            return Ok(None);
        };
        let frame = decoding.frame(&caps, (first, &units), at)?;
        // A stream that has just become another is cut by no box, and hidden by no mask, of the one before.
        let frame = frame.filter(|pixels| pixels.size() == size);
        frame.map(|pixels| pixels.region(rect)).transpose()
    }

    /// Whether few frames have to be decoded for the one that arrived then.
    fn is_at_hand(&self, at: Mono) -> bool {
        let last = self.decoding.try_lock().ok().and_then(|decoding| decoding.last());
        self.wanted(at, last).is_none_or(|wanted| wanted.units.len() <= AT_HAND)
    }

    /// The frames to decode for the one that arrived then, where a decoder that took frame `last` goes on with the next.
    fn wanted(&self, at: Mono, last: Option<u64>) -> Option<Wanted> {
        let units = self.units();
        let index = units.nearest(at)?;
        let key = units.waiting.iter().take(index + 1).rposition(|unit| unit.is_key)?;
        let from = match last.and_then(|last| last.checked_sub(units.first)) {
            // Goes on, or has it already.
            Some(last) if (key as u64..=index as u64 + NEARLY).contains(&last) => {
                (last as usize + 1).min(index + 1)
            }
            _ => key,
        };
        let to_decode = units.waiting.range(from..=index).map(|unit| unit.buffer.clone());
        Some(Wanted {
            caps: units.caps.clone()?,
            units: to_decode.collect(),
            first: units.first + from as u64,
        })
    }

    fn units(&self) -> MutexGuard<'_, Units> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frames to decode.
struct Wanted {
    caps: gst::Caps,
    units: Vec<gst::Buffer>,
    /// The number of the first of them.
    first: u64,
}

impl Units {
    fn push(&mut self, unit: Unit, caps: &gst::Caps, size: (u32, u32)) {
        if self.caps.as_ref().is_none_or(|known| known != caps) {
            let caps = Some(caps.clone());
            *self = Self { first: self.end(), caps, size: Some(size), ..Self::default() };
        }
        if unit.is_key {
            // What was there a moment ago stays: a person who was found then is decoded from there.
            let is_old = |old: &Unit| old.is_key && unit.at.since(old.at) >= KEPT;
            let before = self.waiting.iter().rposition(is_old).unwrap_or(0);
            self.drop_first(before);
        } else if self.waiting.is_empty() {
            self.first += 1;
            return;
        }
        self.bytes += unit.buffer.size();
        self.waiting.push_back(unit);
        while self.bytes > MAX_BYTES || self.waiting.len() > MAX_UNITS {
            let next = self.waiting.iter().skip(1).position(|unit| unit.is_key);
            // A group that is too large alone goes as a whole: the rest of it cannot be decoded.
            self.drop_first(next.map_or(self.waiting.len(), |next| next + 1));
        }
    }

    fn drop_first(&mut self, count: usize) {
        for unit in self.waiting.drain(..count) {
            self.bytes -= unit.buffer.size();
            self.first += 1;
        }
    }

    /// The number of the next.
    fn end(&self) -> u64 {
        self.first + self.waiting.len() as u64
    }

    /// The frame that arrived nearest to this time.
    fn nearest(&self, at: Mono) -> Option<usize> {
        let apart = |unit: &Unit| unit.at.since(at).max(at.since(unit.at));
        let after = self.waiting.partition_point(|unit| unit.at < at);
        let near = [after.checked_sub(1), Some(after)].into_iter().flatten();
        let near = near.filter_map(|index| Some((apart(self.waiting.get(index)?), index)));
        near.min().filter(|(apart, _)| *apart <= MAX_APART).map(|(_, index)| index)
    }
}

/// Pixels of one moment in two sizes.
struct Both {
    small: Box<dyn Pixels>,
    small_size: (u32, u32),
    group: Arc<Group>,
    at: Mono,
    /// Of the large stream.
    size: (u32, u32),
    /// What nobody may look at of it.
    mask: Option<Arc<Mask>>,
}

impl Pixels for Both {
    fn scaled(&self, width: u32, height: u32) -> Result<Rgb> {
        self.small.scaled(width, height)
    }

    fn region(&self, rect: PixelRect) -> Result<Rgb> {
        let why = match self.group.region(rect, (self.at, self.size)) {
            Ok(Some(crop)) => {
                return match &self.mask {
                    Some(mask) => mask.part(crop, rect, self.size),
                    None => Ok(crop),
                };
            }
            Ok(None) => "gone",
            Err(error) => {
                tracing::debug!(camera = %self.group.camera, %error, "A crop of the large stream cannot be had.");
                "failed"
            }
        };
        // Better a poor picture of somebody than none.
        metrics::small_crop(&self.group.camera, why);
        self.small.region(scaled_down(rect, self.size, self.small_size))
    }

    fn is_at_hand(&self) -> bool {
        self.group.is_at_hand(self.at)
    }
}

/// Pixels of the small stream alone, counted where a crop comes from them.
struct Small {
    pixels: Box<dyn Pixels>,
    camera: CameraId,
    why: &'static str,
}

impl Pixels for Small {
    fn scaled(&self, width: u32, height: u32) -> Result<Rgb> {
        self.pixels.scaled(width, height)
    }

    fn region(&self, rect: PixelRect) -> Result<Rgb> {
        metrics::small_crop(&self.camera, self.why);
        self.pixels.region(rect)
    }
}

/// Whether two pictures are as wide for their height, but for a few rows that encoders leave out.
fn is_same_shape(one: (u32, u32), other: (u32, u32)) -> bool {
    let ratio = |(width, height): (u32, u32)| f64::from(width) / f64::from(height.max(1));
    (ratio(one) / ratio(other) - 1.0).abs() < SHAPES_APART
}

/// The same part of the smaller frame: at least a pixel, and inside it.
fn scaled_down(rect: PixelRect, (width, height): (u32, u32), small: (u32, u32)) -> PixelRect {
    let scale = |start: u32, span: u32, from: u32, to: u32| {
        let ratio = f64::from(to) / f64::from(from.max(1));
        let first = ((f64::from(start) * ratio) as u32).min(to.saturating_sub(1));
        let span = ((f64::from(span) * ratio).round() as u32).clamp(1, to - first);
        (first, span)
    };
    let (x, across) = scale(rect.x, rect.width, width, small.0);
    let (y, down) = scale(rect.y, rect.height, height, small.1);
    PixelRect { x, y, width: across, height: down }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mono(ms: u64) -> Mono {
        Mono(Duration::from_millis(ms))
    }

    fn unit(ms: u64, is_key: bool, bytes: usize) -> Unit {
        Unit { buffer: gst::Buffer::with_size(bytes).unwrap(), is_key, at: mono(ms) }
    }

    /// So many frames a group, 40 ms apart, from this one to that.
    fn pushed(of_group: u64, frames: std::ops::Range<u64>, bytes: usize) -> Arc<Group> {
        gst::init().unwrap();
        let group = Group::new(CameraId::new("gate").unwrap());
        let caps = gst::Caps::new_empty_simple("video/x-h264");
        for number in frames {
            let unit = unit(40 * number, number % of_group == 0, bytes);
            group.push(unit, (&caps, (1920, 1080)));
        }
        group
    }

    #[test]
    fn two_groups_wait_and_begin_with_a_key_frame() {
        let group = pushed(50, 3..130, 1000);
        let units = group.units();
        // 3 to 49 came without their key frame; 50 to 99 and 100 to 129 wait.
        assert_eq!((units.waiting.len(), units.first, units.bytes), (80, 47, 80_000));
        assert!(units.waiting[0].is_key && units.waiting[50].is_key);
        assert_eq!(units.waiting[0].at, mono(2000));
    }

    #[test]
    fn where_every_frame_is_a_key_frame_those_of_the_last_seconds_wait() {
        let group = pushed(1, 0..130, 1000);
        let first = group.units().waiting[0].at;
        assert!(mono(40 * 129).since(first) >= KEPT, "{first:?}");
        assert!(group.units().waiting.len() < 60);
    }

    #[test]
    fn memory_is_bounded_by_whole_groups() {
        let group = pushed(50, 0..130, 150_000);
        let units = group.units();
        assert!(units.bytes <= MAX_BYTES && units.waiting.front().unwrap().is_key);
        assert_eq!(units.waiting.len(), 30);
        drop(units);
        // One that never ends: nothing of it can be kept.
        let group = pushed(10_000, 0..130, 100_000);
        assert!(group.units().bytes <= MAX_BYTES);
        assert!(group.wanted(mono(40 * 129), None).is_none());
    }

    #[test]
    fn a_crop_decodes_from_its_key_frame_and_the_next_goes_on_from_there() {
        let group = pushed(50, 0..130, 1000);
        let wanted = |ms, last| {
            let wanted = group.wanted(mono(ms), last)?;
            Some((wanted.first, wanted.units.len()))
        };
        assert_eq!(wanted(40 * 120, None), Some((100, 21)));
        assert_eq!(wanted(40 * 120 + 15, Some(110)), Some((111, 10)));
        assert_eq!(wanted(40 * 120, Some(120)), Some((121, 0)), "it is decoded already");
        assert_eq!(wanted(40 * 120, Some(123)), Some((121, 0)), "and nearly this");
        assert_eq!(wanted(40 * 120, Some(80)), Some((100, 21)), "of the group before");
        assert_eq!(wanted(40 * 110, Some(120)), Some((100, 11)), "older than what was decoded");
        assert_eq!(wanted(40 * 90, None), Some((50, 41)), "in the group before");
        assert_eq!(wanted(40 * 129 + 400, None), Some((100, 30)));
        assert_eq!(wanted(40 * 129 + 600, None), None, "too far apart");
        assert_eq!(wanted(100, None), None, "gone");
        group.clear();
        assert_eq!(wanted(40 * 120, None), None);
        assert_eq!(group.units().first, 130);
    }

    #[test]
    fn streams_of_another_shape_do_not_belong_together() {
        for (one, other, same) in [
            ((640, 360), (1920, 1080), true),
            ((704, 400), (1920, 1080), true),
            ((640, 368), (1920, 1088), true),
            ((640, 480), (1920, 1080), false),
            ((704, 576), (1920, 1080), false),
        ] {
            assert_eq!(is_same_shape(one, other), same, "{one:?} {other:?}");
        }
    }

    #[test]
    fn the_same_part_of_the_small_frame_is_inside_it() {
        let rect = |x, y, width, height| PixelRect { x, y, width, height };
        for (large, small) in [
            (rect(0, 0, 1920, 1080), rect(0, 0, 640, 360)),
            (rect(300, 150, 90, 240), rect(100, 50, 30, 80)),
            (rect(1919, 1079, 1, 1), rect(639, 359, 1, 1)),
            (rect(1800, 900, 120, 180), rect(600, 300, 40, 60)),
        ] {
            assert_eq!(scaled_down(large, (1920, 1080), (640, 360)), small);
        }
    }
}
