//! Serves videos over RTSP in real time, round and round, until it is killed.
//!
//! `rtsp-server --mount /gate=VIDEO[@WIDTHxHEIGHT] [--mount …] [--codec h264|h265|mjpeg] [--switch]
//! [--live FPS] [--user NAME:PASSWORD] [--port N] [--udp-only]`
//!
//! Prints `listening PORT since MS` when it can be connected to. With `--live` all videos run on one clock, since that
//! many milliseconds after 1970, with key frames every two seconds. A video that is not `.h264`, `.h265` or `.mjpeg`
//! already is encoded first. `--switch` changes the frame size in the middle of the video.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use spotter_e2e::{
    clip::{Clip, Codec, Form},
    rtsp::{Serving, Transports, serve},
};

/// Frame sizes of the two halves of a video with `--switch`.
const SWITCH: [(u32, u32); 2] = [(320, 240), (640, 360)];

/// A recording and the size at which it is sent.
type Encoding = (PathBuf, Option<(u32, u32)>);

fn main() -> Result<()> {
    let mut videos = Vec::new();
    let (mut codec, mut sizes, mut credentials, mut port) = (Codec::H264, &SWITCH[..0], None, 0);
    let (mut transports, mut live) = (Transports::Any, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{option} needs a value"));
        match option.as_str() {
            "--mount" => {
                let value = value()?;
                let (mount, file) = value.split_once('=').context("--mount /PATH=VIDEO")?;
                let (file, size) = file.split_once('@').unwrap_or((file, ""));
                let size = size.split_once('x').map(|(width, height)| {
                    Ok::<_, std::num::ParseIntError>((width.parse()?, height.parse()?))
                });
                let size = size.transpose().context("--mount /PATH=VIDEO@WIDTHxHEIGHT")?;
                videos.push((mount.to_string(), PathBuf::from(file), size));
            }
            "--codec" => codec = value()?.parse()?,
            "--switch" => sizes = &SWITCH,
            "--user" => {
                let value = value()?;
                let (user, password) = value.split_once(':').context("--user NAME:PASSWORD")?;
                credentials = Some((user.to_string(), password.to_string()));
            }
            "--live" => live = Some(value()?.parse::<u32>().context("--live FPS")?),
            "--udp-only" => transports = Transports::UdpOnly,
            "--port" => port = value()?.parse().context("--port N")?,
            _ => bail!("unknown option {option}"),
        }
    }
    let mut mounts = HashMap::new();
    // What several mounts send is encoded once.
    let mut encoded: HashMap<Encoding, Arc<Clip>> = HashMap::new();
    for (mount, file, size) in videos {
        if let Some(clip) = encoded.get(&(file.clone(), size)) {
            mounts.insert(mount, clip.clone());
            continue;
        }
        let clip = Arc::new(match live {
            Some(fps) => {
                // About what cameras of these sizes send.
                let kbps = if size.is_some_and(|(_, height)| height <= 480) { 500 } else { 4000 };
                Clip::encode(&file, codec, &Form { size, fps, keys_s: 2, kbps })?
            }
            None => Clip::load(&file, codec, sizes)?,
        });
        encoded.insert((file, size), clip.clone());
        mounts.insert(mount, clip);
    }
    let is_live = live.is_some();
    serve(Serving { mounts, credentials, port, transports, is_live })
}
