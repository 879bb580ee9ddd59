//! What this process holds of the system: read from `/proc/self`, to find what grows.

use anyhow::{Context, Result};

/// Counts at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub files: u64,
    /// Open sockets, which are files too.
    pub sockets: u64,
    /// Resident memory in KiB.
    pub memory_kib: u64,
}

impl Census {
    /// Counts now.
    ///
    /// # Errors
    /// Where `/proc/self` cannot be read.
    pub fn take() -> Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next());
            Ok(number.with_context(|| format!("/proc/self/status has no {name}"))?.parse()?)
        };
        let (mut files, mut sockets) = (0, 0);
        for entry in std::fs::read_dir("/proc/self/fd")? {
            // One may be closed while we look.
            let Ok(target) = std::fs::read_link(entry?.path()) else { continue };
            files += 1;
            if target.to_string_lossy().starts_with("socket:") {
                sockets += 1;
            }
        }
        Ok(Self { threads: field("Threads:")?, files, sockets, memory_kib: field("VmRSS:")? })
    }
}
