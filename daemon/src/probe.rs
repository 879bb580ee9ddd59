//! What this machine can decode and run on, and why not: `spotterd probe`.
//!
//! Nothing is taken on trust: each decoder is brought to READY, where it opens its hardware, and each
//! provider opens a model. Changes nothing and needs no configuration.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use gstreamer as gst;
use serde::Serialize;
use spotter_models::session::{Provider, Runtime, SessionOptions};

use crate::source::{
    Codec,
    decoder::{self, Known},
};

/// The smallest ONNX model: `y = Relu(x)` on one float (IR 8, operator set 17), field by field.
const MODEL: &[u8] = b"\x08\x08\x3a\x37\
    \x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\
    \x12\x05probe\
    \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    \x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    \x42\x02\x10\x11";

/// Where the kernel lists cameras.
const CAMERAS: &str = "/sys/class/video4linux";

/// What this machine has.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of GStreamer, or why it does not start.
    pub gstreamer: Result<String, String>,
    /// Decoders of each codec.
    pub codecs: Vec<CodecReport>,
    /// ONNX Runtime.
    pub runtime: RuntimeReport,
    /// Cameras at this machine.
    pub cameras: Vec<CameraReport>,
}

/// Decoders of one codec.
#[derive(Clone, Debug, Serialize)]
pub struct CodecReport {
    /// The codec.
    pub codec: Codec,
    /// The decoder that `auto` takes, `None` where none works.
    pub auto: Option<&'static str>,
    /// All that we know, in the order in which `auto` tries them.
    pub decoders: Vec<DecoderReport>,
}

/// One decoder.
#[derive(Clone, Debug, Serialize)]
pub struct DecoderReport {
    /// GStreamer's name of the element.
    pub element: &'static str,
    /// Whether it decodes outside the processor.
    pub hardware: bool,
    /// Why it cannot be used; `None` where it can.
    pub problem: Option<String>,
}

/// ONNX Runtime and what it runs on.
#[derive(Clone, Debug, Serialize)]
pub struct RuntimeReport {
    /// The library that was loaded, or why none was.
    pub library: Result<PathBuf, String>,
    /// What a model can run on; empty where there is no library.
    pub providers: Vec<ProviderReport>,
}

/// One provider.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderReport {
    /// The provider.
    pub provider: Provider,
    /// Why no model can be opened on it; `None` where one was.
    pub problem: Option<String>,
}

/// One camera at this machine.
#[derive(Clone, Debug, Serialize)]
pub struct CameraReport {
    /// The device file.
    pub device: PathBuf,
    /// What the driver calls it.
    pub name: String,
}

/// Looks at this machine. `library` is ONNX Runtime's, where the configuration names one.
pub fn probe(library: Option<&Path>) -> Report {
    let gstreamer =
        gst::init().map(|()| gst::version_string().to_string()).map_err(|error| error.to_string());
    let codecs = match gstreamer {
        Ok(_) => Codec::ALL.into_iter().map(codec_report).collect(),
        Err(_) => Vec::new(),
    };
    Report { gstreamer, codecs, runtime: runtime(library), cameras: cameras(Path::new(CAMERAS)) }
}

fn codec_report(codec: Codec) -> CodecReport {
    let decoders: Vec<_> = codec.decoders().iter().map(decoder_report).collect();
    let works = decoders.iter().find(|decoder| decoder.problem.is_none());
    CodecReport { codec, auto: works.map(|decoder| decoder.element), decoders }
}

fn decoder_report(known: &Known) -> DecoderReport {
    let problem = match decoder::ready(known.element) {
        Ok(element) => {
            decoder::release(&element);
            None
        }
        Err(problem) => Some(problem),
    };
    DecoderReport { element: known.element, hardware: known.hardware, problem }
}

fn runtime(library: Option<&Path>) -> RuntimeReport {
    match Runtime::load(library) {
        Err(error) => RuntimeReport { library: Err(error.to_string()), providers: Vec::new() },
        Ok(runtime) => {
            let all = [Provider::Cpu, Provider::Cuda, Provider::TensorRt];
            RuntimeReport {
                library: Ok(runtime.library().to_path_buf()),
                providers: all.into_iter().map(|one| provider(&runtime, one)).collect(),
            }
        }
    }
}

fn provider(runtime: &Runtime, provider: Provider) -> ProviderReport {
    let problem = if runtime.offers(provider) {
        let options = SessionOptions { provider, ..SessionOptions::default() };
        runtime.open(Path::new("probe"), MODEL, &options).err().map(|error| error.to_string())
    } else {
        Some("the library was built without it".into())
    };
    ProviderReport { provider, problem }
}

/// Cameras that the kernel lists in a folder, by device.
fn cameras(folder: &Path) -> Vec<CameraReport> {
    // Without the folder the kernel has no driver for any camera.
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut cameras: Vec<_> = entries
        .flatten()
        .map(|entry| CameraReport {
            device: Path::new("/dev").join(entry.file_name()),
            name: std::fs::read_to_string(entry.path().join("name"))
                .map(|name| name.trim().to_string())
                .unwrap_or_default(),
        })
        .collect();
    cameras.sort_by(|a, b| a.device.cmp(&b.device));
    cameras
}

/// `yes`, or `no:` and why.
fn verdict(problem: Option<&str>) -> String {
    problem.map_or_else(|| "yes".into(), |problem| format!("no: {problem}"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.gstreamer {
            Ok(version) => writeln!(f, "{version}")?,
            Err(problem) => writeln!(f, "GStreamer does not start: {problem}")?,
        }
        for codec in &self.codecs {
            match codec.auto {
                Some(element) => writeln!(f, "{}: auto takes {element}", codec.codec)?,
                None => writeln!(f, "{}: cannot be decoded here", codec.codec)?,
            }
            for decoder in &codec.decoders {
                let kind = if decoder.hardware { "hardware" } else { "software" };
                let works = verdict(decoder.problem.as_deref());
                writeln!(f, "  {:14} {kind}  {works}", decoder.element)?;
            }
        }
        match &self.runtime.library {
            Ok(library) => writeln!(f, "ONNX Runtime: {}", library.display())?,
            Err(problem) => writeln!(f, "ONNX Runtime: {problem}")?,
        }
        for provider in &self.runtime.providers {
            let works = verdict(provider.problem.as_deref());
            writeln!(f, "  {:14} {works}", provider.provider.to_string())?;
        }
        if self.cameras.is_empty() {
            writeln!(f, "Cameras at this machine: none")?;
        }
        for camera in &self.cameras {
            writeln!(f, "Camera {}: {}", camera.device.display(), camera.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_decodes_in_software_and_runs_on_its_processor() {
        let report = probe(None);
        for codec in &report.codecs {
            let software = codec.decoders.iter().any(|one| !one.hardware && one.problem.is_none());
            assert!(software && codec.auto.is_some(), "{codec:?}");
        }
        assert_eq!(report.codecs.len(), 3);
        assert_eq!(report.runtime.providers[0].provider, Provider::Cpu);
        assert_eq!(report.runtime.providers[0].problem, None, "a model opens");
        let text = report.to_string();
        for part in ["GStreamer 1.", "H.264: auto takes", "avdec_h264", "ONNX Runtime", "cpu"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["codecs"][0]["codec"], "h264");
    }

    #[test]
    fn a_missing_library_is_named_and_cameras_are_listed() {
        let report = runtime(Some(Path::new("/nonexistent/libonnxruntime.so")));
        assert!(report.library.unwrap_err().contains("/nonexistent/libonnxruntime.so"));
        assert!(report.providers.is_empty());
        let folder = tempfile::tempdir().unwrap();
        for (device, name) in [("video1", "Back\n"), ("video0", "Front\n")] {
            std::fs::create_dir(folder.path().join(device)).unwrap();
            std::fs::write(folder.path().join(device).join("name"), name).unwrap();
        }
        let found = cameras(folder.path());
        assert_eq!(found[0].device, Path::new("/dev/video0"));
        assert_eq!((found[0].name.as_str(), found[1].name.as_str()), ("Front", "Back"));
    }
}
