//! What every long-running program here needs and none should write twice: logs, signals, an admin port.
//!
//! The gateway and the operator both link this crate, so a person on call finds the same log lines,
//! the same `/live`, `/ready` and `/metrics`, and the same answer to SIGTERM in both.

use std::sync::LazyLock;

pub mod admin;
pub mod logs;
pub mod signals;

/// The release, and the commit it was built from when the build said so (`PUSHCLUSTER_REVISION` at compile time).
#[must_use]
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> =
        LazyLock::new(|| match option_env!("PUSHCLUSTER_REVISION") {
            Some(revision) => format!("{} ({revision})", env!("CARGO_PKG_VERSION")),
            None => env!("CARGO_PKG_VERSION").to_owned(),
        });
    &VERSION
}
