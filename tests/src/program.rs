//! The built programs, as a user runs them.

#![expect(clippy::expect_used, reason = "a test that cannot go on says so")]

use std::{
    path::PathBuf,
    process::{Command, Output},
    sync::OnceLock,
};

/// Path of a program of this workspace, in the profile that the test itself was built with.
///
/// # Panics
/// Where it is not built; `cargo test --workspace` builds it.
pub fn path(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("tests lie in deps/");
    let program = profile.join(name);
    assert!(program.is_file(), "{} is not built; run `make build`", program.display());
    program
}

/// A finished run of `spotterd`.
pub struct Run {
    /// Exit status; -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs `spotterd` to its end.
///
/// # Panics
/// Where it cannot be started.
pub fn spotterd(arguments: &[&str]) -> Run {
    let Output { status, stdout, stderr } =
        Command::new(path("spotterd")).args(arguments).output().expect("spotterd can be started");
    Run {
        code: status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// A file of `tests/data`.
pub fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// A bundle of tiny towers with random weights, made once a process; its scores mean nothing.
///
/// # Panics
/// Where it cannot be made.
pub fn tiny_bundle() -> &'static str {
    static BUNDLE: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    let (_, path) = BUNDLE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("bundle").display().to_string();
        let run = spotterd(&["bench", "random-bundle", "--size", "tiny", "--out", &path]);
        assert_eq!(run.code, 0, "{}", run.err);
        (folder, path)
    });
    path
}
