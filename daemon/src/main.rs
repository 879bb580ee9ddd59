//! `spotterd`: see `spotterd --help`.

fn main() {}
