//! Words on standard error.

use std::io::Write as _;

/// Writes a line there. That nobody can hear it, as with a closed terminal or a full disk, ends no work.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
