//! Third-party files that the repository does not hold: which they are, and where they lie here.

use std::path::PathBuf;

/// The user's cache folder of Spotter: `$XDG_CACHE_HOME/spotter`, else `~/.cache/spotter`.
pub fn cache_dir() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    named("XDG_CACHE_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("spotter"))
}
