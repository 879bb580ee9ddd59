//! Links what a stream turns out to hold to a decoder and on to the sink.
//!
//! Called from GStreamer's own threads when it knows what comes. It must not block, must not stop
//! anything (an element's thread that stops its element waits for itself), and reports by leaving a
//! [`Reason`] and posting an error that makes the pipeline's owner look.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;
use gstreamer_video::VideoMeta;

use super::{
    decoder::{Codec, DecoderChoice},
    pipeline::{Opening, Stream},
    reason::Reason,
    recording::Progress,
    spec::SourceSpec,
};

/// A Jetson's decoder, whose frames lie in the device's memory.
const NVIDIA_DECODER: &str = "nvv4l2decoder";

/// Links one source's video, and knows what became of it.
pub(super) struct Linker {
    pipeline: gst::glib::WeakRef<gst::Pipeline>,
    sink: gst_app::AppSink,
    choice: DecoderChoice,
    /// Whether frames are decoded, or kept as they come.
    decodes: bool,
    place: String,
    /// A file may use every core for one stream; of many cameras each has one thread, because frame
    /// threads delay each frame by as many frames as there are threads.
    single_thread: bool,
    /// Whether frames are turned as the recording says: a telephone that was held upright records them
    /// lying.
    turns: bool,
    /// Whether an RTSP server described a video.
    offered: AtomicBool,
    /// Whether a stream was found to be decoded, or refused.
    claimed: AtomicBool,
    progress: Arc<Progress>,
    /// Encoded frames that reached the decoder.
    fed: Arc<AtomicU64>,
    fault: Mutex<Option<Reason>>,
    stream: Mutex<Option<Stream>>,
}

impl Linker {
    pub(super) fn new(
        pipeline: &gst::Pipeline,
        sink: &gst_app::AppSink,
        opening: &Opening<'_>,
    ) -> Result<Arc<Self>, Reason> {
        let pad = sink.static_pad("sink").ok_or_else(|| Reason::Internal {
            place: opening.spec.place(),
            problem: "an appsink without a pad".into(),
        })?;
        allow_padding(&pad);
        Ok(Arc::new(Self {
            pipeline: pipeline.downgrade(),
            sink: sink.clone(),
            choice: opening.decoder.clone(),
            decodes: opening.decodes,
            place: opening.spec.place(),
            single_thread: !opening.spec.is_lossless(),
            turns: matches!(opening.spec, SourceSpec::File { .. }),
            offered: AtomicBool::new(false),
            claimed: AtomicBool::new(false),
            progress: Arc::default(),
            fed: Arc::default(),
            fault: Mutex::new(None),
            stream: Mutex::new(None),
        }))
    }

    /// What the stream turned out to be.
    pub(super) fn stream(&self) -> Option<Stream> {
        lock(&self.stream).clone()
    }

    /// Whether an RTSP server described a video.
    pub(super) fn offered(&self) -> bool {
        self.offered.load(Ordering::SeqCst)
    }

    /// Whether a stream was found to be decoded, or refused.
    pub(super) fn claimed(&self) -> bool {
        self.claimed.load(Ordering::SeqCst)
    }

    /// How far the tracks came.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Encoded frames that reached the decoder, 0 where there is none.
    pub(super) fn fed(&self) -> u64 {
        self.fed.load(Ordering::Relaxed)
    }

    /// The reason for the error that was posted last, if it was ours.
    pub(super) fn take_fault(&self) -> Option<Reason> {
        lock(&self.fault).take()
    }

    /// Takes the first video of an RTSP session; sound and metadata are not even asked for.
    pub(super) fn watch_rtsp(self: &Arc<Self>, source: &gst::Element) {
        let chosen = Mutex::new(None);
        let linker = self.clone();
        source.connect("select-stream", false, move |values| {
            let number = values.get(1).and_then(|value| value.get::<u32>().ok());
            let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok());
            let video = caps.as_ref().and_then(|caps| caps.structure(0)).is_some_and(|media| {
                media.get::<&str>("media").is_ok_and(|media| media == "video")
            });
            let mut chosen = lock(&chosen);
            let take = video && (chosen.is_none() || *chosen == number);
            if take {
                linker.offered.store(true, Ordering::SeqCst);
                *chosen = number;
            }
            Some(take.to_value())
        });
        let linker = self.clone();
        source.connect_pad_added(move |source, pad| {
            linker.attempt(source, || linker.link_rtp(pad));
        });
        let linker = self.clone();
        source.connect_no_more_pads(move |source| linker.refuse_if_nothing(source));
    }

    /// Takes the first video that a `parsebin` finds.
    pub(super) fn watch_parser(self: &Arc<Self>, parser: &gst::Element) {
        let linker = self.clone();
        parser.connect_pad_added(move |parser, pad| {
            linker.progress.follow(pad);
            linker.attempt(parser, || linker.link_parsed(pad));
        });
        let linker = self.clone();
        parser.connect_pad_removed(move |parser, pad| {
            // At the end of a pipeline its pads go too; then nobody reads this.
            if pad.is_linked() {
                linker.attempt(parser, || Err(Reason::Changed { place: linker.place.clone() }));
            }
        });
        let linker = self.clone();
        parser.connect_no_more_pads(move |parser| linker.refuse_if_nothing(parser));
    }

    /// Links frames that need no decoder.
    pub(super) fn link_raw(&self, from: &gst::Element) -> Result<(), Reason> {
        from.link(&self.sink).map_err(|error| self.internal(error))?;
        *lock(&self.stream) = Some(Stream { codec: None, decoder: None });
        Ok(())
    }

    /// Runs a step on GStreamer's thread and reports its failure to the pipeline's owner.
    fn attempt(&self, element: &gst::Element, step: impl FnOnce() -> Result<(), Reason>) {
        if let Err(reason) = step() {
            lock(&self.fault).get_or_insert(reason);
            gst::element_error!(element, gst::LibraryError::Failed, ["see the linker's reason"]);
        }
    }

    fn refuse_if_nothing(&self, element: &gst::Element) {
        if !self.claimed.load(Ordering::SeqCst) {
            self.attempt(element, || {
                Err(Reason::NotAVideo {
                    place: self.place.clone(),
                    problem: "it holds no video stream".into(),
                })
            });
        }
    }

    fn link_rtp(&self, pad: &gst::Pad) -> Result<(), Reason> {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let encoding = caps
            .structure(0)
            .and_then(|media| media.get::<String>("encoding-name").ok())
            .unwrap_or_default();
        let (depay, codec) = match encoding.as_str() {
            "H264" => ("rtph264depay", Codec::H264),
            "H265" => ("rtph265depay", Codec::H265),
            "JPEG" => ("rtpjpegdepay", Codec::Mjpeg),
            _ => {
                self.claimed.store(true, Ordering::SeqCst);
                return Err(self.unsupported(&encoding));
            }
        };
        if self.claimed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let depay = self.make(depay)?;
        let parse = self.make(codec.parser())?;
        if !self.decodes {
            self.keep(codec, &parse);
            return self.chain(pad, &[&depay, &parse]);
        }
        let decoder = self.decoder(codec)?;
        self.chain(pad, &[&depay, &parse, &decoder])
    }

    fn link_parsed(&self, pad: &gst::Pad) -> Result<(), Reason> {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let name = caps.structure(0).map(|media| media.name().to_string()).unwrap_or_default();
        let is_video = name.starts_with("video/") || name.starts_with("image/");
        if !is_video || self.claimed.swap(true, Ordering::SeqCst) {
            return self.discard(pad);
        }
        if name == "video/x-raw" {
            *lock(&self.stream) = Some(Stream { codec: None, decoder: None });
            return self.chain(pad, &[]);
        }
        let codec = Codec::of(&name).ok_or_else(|| self.unsupported(&name))?;
        // A second parser, because `parsebin` ends with the stream's own form, and decoders differ in
        // what they take: it costs nothing where nothing is to be changed.
        let parse = self.make(codec.parser())?;
        if !self.decodes {
            self.keep(codec, &parse);
            return self.chain(pad, &[&parse]);
        }
        let decoder = self.decoder(codec)?;
        let in_device = decoder.factory().is_some_and(|factory| factory.name() == NVIDIA_DECODER);
        if !self.turns || in_device {
            return self.chain(pad, &[&parse, &decoder]);
        }
        // Both pass frames on untouched where there is nothing to be done; the first is for formats of
        // pixels that the second does not take.
        let convert = self.make("videoconvert")?;
        let turn = self.make("videoflip")?;
        turn.set_property_from_str("video-direction", "auto");
        self.chain(pad, &[&parse, &decoder, &convert, &turn])
    }

    /// Has frames come whole, key frames with all that a decoder needs to begin with them.
    fn keep(&self, codec: Codec, parse: &gst::Element) {
        if parse.has_property("config-interval") {
            parse.set_property("config-interval", -1_i32);
        }
        let whole = gst::Caps::builder(codec.media_type());
        let whole = match codec {
            Codec::H264 | Codec::H265 => {
                whole.field("stream-format", "byte-stream").field("alignment", "au")
            }
            Codec::Mjpeg => whole,
        };
        self.sink.set_caps(Some(&whole.build()));
        *lock(&self.stream) = Some(Stream { codec: Some(codec), decoder: None });
    }

    /// Opens the decoder that was asked for and notes which it became.
    fn decoder(&self, codec: Codec) -> Result<gst::Element, Reason> {
        let decoder = self.choice.open(codec)?;
        let name = decoder.factory().map(|factory| factory.name().to_string());
        self.tune(&decoder);
        if let Some(pad) = decoder.static_pad("sink") {
            let fed = self.fed.clone();
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                fed.fetch_add(1, Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            });
        }
        // A Jetson's decoder leaves frames in the device's memory; others are asked for system memory,
        // which without this some would not choose.
        let memory = if name.as_deref() == Some(NVIDIA_DECODER) {
            gst::Caps::builder("video/x-raw").features(["memory:NVMM"]).build()
        } else {
            gst::Caps::new_empty_simple("video/x-raw")
        };
        self.sink.set_caps(Some(&memory));
        *lock(&self.stream) = Some(Stream { codec: Some(codec), decoder: name });
        Ok(decoder)
    }

    fn tune(&self, decoder: &gst::Element) {
        if decoder.has_property("max-errors") {
            // A broken middle is counted, not fatal: the next key frame mends it.
            decoder.set_property("max-errors", -1_i32);
        }
        if self.single_thread && decoder.has_property("max-threads") {
            decoder.set_property("max-threads", 1_i32);
        }
    }

    fn make(&self, name: &str) -> Result<gst::Element, Reason> {
        gst::ElementFactory::make(name).build().map_err(|error| {
            self.internal(format!("GStreamer's element {name} is not installed ({error})"))
        })
    }

    /// Adds the elements and links `pad` through them to the sink. Linked from the sink's end, so that
    /// nothing flows before all is in place.
    fn chain(&self, pad: &gst::Pad, elements: &[&gst::Element]) -> Result<(), Reason> {
        let Some(pipeline) = self.pipeline.upgrade() else { return Ok(()) };
        let mut next: gst::Element = self.sink.clone().upcast();
        pipeline.add_many(elements).map_err(|error| self.internal(error))?;
        for element in elements.iter().rev() {
            element.link(&next).map_err(|error| self.internal(error))?;
            element.sync_state_with_parent().map_err(|error| self.internal(error))?;
            next = (*element).clone();
        }
        let entry = next.static_pad("sink").ok_or_else(|| self.internal("no entry"))?;
        pad.link(&entry).map_err(|error| self.internal(error))?;
        Ok(())
    }

    /// Lets a stream that nobody wants flow into nothing: left unlinked, it stops a file that holds no
    /// other with an error about links.
    fn discard(&self, pad: &gst::Pad) -> Result<(), Reason> {
        let Some(pipeline) = self.pipeline.upgrade() else { return Ok(()) };
        let nothing = self.make("fakesink")?;
        nothing.set_property("sync", false);
        nothing.set_property("async", false);
        pipeline.add(&nothing).map_err(|error| self.internal(error))?;
        let entry = nothing.static_pad("sink").ok_or_else(|| self.internal("no entry"))?;
        pad.link(&entry).map_err(|error| self.internal(error))?;
        nothing.sync_state_with_parent().map_err(|error| self.internal(error))
    }

    fn unsupported(&self, codec: &str) -> Reason {
        let codec = codec.strip_prefix("video/x-").unwrap_or(codec);
        let codec = if codec.is_empty() { "an unknown codec" } else { codec };
        Reason::Codec { place: self.place.clone(), codec: codec.to_string() }
    }

    fn internal(&self, problem: impl std::fmt::Display) -> Reason {
        Reason::Internal { place: self.place.clone(), problem: problem.to_string() }
    }
}

/// Lets decoders know that rows may be padded: without that they copy each frame to pack it.
fn allow_padding(pad: &gst::Pad) {
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, probe| {
        if let Some(gst::PadProbeData::Query(query)) = &mut probe.data
            && let gst::QueryViewMut::Allocation(allocation) = query.view_mut()
            && allocation.find_allocation_meta::<VideoMeta>().is_none()
        {
            allocation.add_allocation_meta::<VideoMeta>(None);
        }
        gst::PadProbeReturn::Ok
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
