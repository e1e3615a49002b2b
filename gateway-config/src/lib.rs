//! The gateway's configuration file: one YAML document that the operator writes and the gateway reads.
//!
//! Both programs link this crate, so they cannot disagree about a key. Every key has a default, so an
//! empty file is a working single-node gateway. Units are part of the key (`…Seconds`, `…Bytes`).
//! The crate reads no file, no environment and no clock: text in, [`Config`] or a list of [`Problem`]s out.

mod config;
mod parse;

pub use config::*;
pub use parse::{Override, Problem, parse};
