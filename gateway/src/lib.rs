//! The WebSocket push gateway. ARCHITECTURE.md at the root of the repository draws how these rooms relate.

pub mod auth;
pub mod broker;
pub mod engine;
pub mod hub;
pub mod message;
pub mod metrics;
pub mod name;
pub mod protocol;
pub mod router;
pub mod session;
