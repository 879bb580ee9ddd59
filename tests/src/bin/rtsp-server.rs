//! Serves videos over RTSP in real time, round and round, until it is killed.
//!
//! `rtsp-server --mount /gate=VIDEO [--mount …] [--codec h264|h265|mjpeg] [--switch]
//! [--user NAME:PASSWORD] [--port N] [--udp-only]`
//!
//! Prints `listening PORT` when it can be connected to. A video that is not `.h264`, `.h265` or `.mjpeg`
//! already is encoded first. `--switch` changes the frame size in the middle of the video.

use std::{collections::HashMap, path::PathBuf};

use anyhow::{Context, Result, bail};
use spotter_e2e::{
    clip::{Clip, Codec},
    rtsp::{Serving, Transports, serve},
};

/// Frame sizes of the two halves of a video with `--switch`.
const SWITCH: [(u32, u32); 2] = [(320, 240), (640, 360)];

fn main() -> Result<()> {
    let mut videos = Vec::new();
    let (mut codec, mut sizes, mut credentials, mut port) = (Codec::H264, &SWITCH[..0], None, 0);
    let mut transports = Transports::Any;
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{option} needs a value"));
        match option.as_str() {
            "--mount" => {
                let value = value()?;
                let (mount, file) = value.split_once('=').context("--mount /PATH=VIDEO")?;
                videos.push((mount.to_string(), PathBuf::from(file)));
            }
            "--codec" => codec = value()?.parse()?,
            "--switch" => sizes = &SWITCH,
            "--user" => {
                let value = value()?;
                let (user, password) = value.split_once(':').context("--user NAME:PASSWORD")?;
                credentials = Some((user.to_string(), password.to_string()));
            }
            "--udp-only" => transports = Transports::UdpOnly,
            "--port" => port = value()?.parse().context("--port N")?,
            _ => bail!("unknown option {option}"),
        }
    }
    let mut mounts = HashMap::new();
    for (mount, file) in videos {
        mounts.insert(mount, Clip::load(&file, codec, sizes)?);
    }
    serve(Serving { mounts, credentials, port, transports })
}
