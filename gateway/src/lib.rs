//! The WebSocket push gateway. ARCHITECTURE.md at the root of the repository draws how these rooms relate
//! and what must never be imported where.

pub mod broker;
pub mod message;
pub mod name;
pub mod protocol;
