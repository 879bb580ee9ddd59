//! Another library in a process of its own, which searches when it is told to.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

use crate::error::Error;

/// Where the peers are.
#[derive(clap::Args, Clone)]
pub(super) struct Args {
    /// A Python that has the peers, as scripts/bench-peers makes it; they are left out without it
    #[arg(long, value_name = "FILE", default_value = "target/bench/venv/bin/python")]
    python: PathBuf,
    /// The peers' program
    #[arg(long, value_name = "FILE", default_value = "tests/bench/peer.py")]
    peer: PathBuf,
}

/// What a peer searches.
pub(super) struct Task<'a> {
    pub(super) items: &'a Path,
    pub(super) queries: &'a Path,
    pub(super) size: usize,
    pub(super) best: usize,
    pub(super) batch: usize,
}

/// A running peer. Ends when it is dropped.
pub(super) struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub(super) build_s: f64,
}

#[derive(Deserialize)]
struct Ready {
    ready: f64,
}

/// One round of a peer.
#[derive(Deserialize)]
pub(super) struct Round {
    /// Milliseconds of each batch.
    pub(super) ms: Vec<f64>,
    /// The best rows of each query.
    pub(super) ids: Vec<Vec<i64>>,
}

impl Args {
    /// Whether the peers are installed.
    pub(super) fn is_there(&self) -> bool {
        self.python.exists()
    }

    /// Starts a peer; returns when its index is built.
    pub(super) fn start(&self, kind: &str, task: &Task<'_>) -> Result<Peer> {
        let mut command = Command::new(&self.python);
        command.arg(&self.peer).arg(kind).args([task.items, task.queries]);
        command.args([task.size, task.best, task.batch].map(|number| number.to_string()));
        for variable in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(variable, "1");
        }
        Peer::run(&mut command, kind)
    }
}

impl Peer {
    /// Starts a program that says when it is ready, and from then on answers when it is told to go.
    pub(super) fn run(command: &mut Command, kind: &str) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or_else(|| anyhow!("{kind}: no pipes"))?;
        let (input, output) = (Some(input), BufReader::new(output));
        let mut peer = Peer { child, input, output, build_s: 0.0 };
        let ready: Ready = peer.line().with_context(|| format!("peer {kind}"))?;
        peer.build_s = ready.ready;
        Ok(peer)
    }

    /// Searches all queries once.
    pub(super) fn round(&mut self) -> Result<Round> {
        self.ask()
    }

    /// Tells it to go, and what it says then.
    pub(super) fn ask<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        if let Some(input) = &mut self.input {
            input.write_all(b"go\n")?;
        }
        self.line()
    }

    fn line<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the peer said {line:?}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.input = None;
        let _ = self.child.wait();
    }
}

/// Writes rows as f32 for a peer.
pub(super) fn write_rows(path: &Path, values: &[f32]) -> Result<()> {
    let mut out = std::io::BufWriter::new(fs::File::create(path).map_err(Error::io(path))?);
    for value in values {
        out.write_all(&value.to_le_bytes()).map_err(Error::io(path))?;
    }
    Ok(out.flush().map_err(Error::io(path))?)
}
