//! The WebSocket push gateway. ARCHITECTURE.md at the root of the repository draws how these rooms relate.

pub mod allocator;
pub mod app;
pub mod auth;
pub mod broker;
pub mod capacity;
pub mod config;
pub mod drain;
pub mod engine;
pub mod few;
pub mod health;
pub mod history;
pub mod http;
pub mod hub;
pub mod keys;
pub mod limits;
pub mod memory;
pub mod memory_guard;
pub mod message;
pub mod message_path;
pub mod metrics;
pub mod name;
pub mod policy;
pub mod presence;
pub mod protocol;
pub mod registry;
pub mod reload;
pub mod router;
pub mod running;
pub mod self_test;
pub mod session;
pub mod shards;
pub mod slack;
pub mod sse;
pub mod tls;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(test)]
mod purity;
