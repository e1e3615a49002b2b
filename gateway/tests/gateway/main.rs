//! The gateway from outside: the broker's contract, and the real program on real sockets.

#![allow(
    unreachable_pub,
    reason = "one binary; `pub` means for the other modules"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that is not as expected"
)]

mod broker;
mod client;
mod coming_back;
mod command_line;
mod drain;
mod event_source;
mod given;
mod handshake;
mod history;
mod hostile;
mod http_api;
mod http_batch;
mod http_disconnect;
mod http_history;
mod http_idempotency;
mod key_server;
mod limits;
mod memory;
mod messages;
mod policies;
mod presence;
mod program;
mod redis_away;
mod redis_backends;
mod redis_cluster;
mod redis_failover;
mod redis_password;
mod redis_sentinel;
mod redis_server;
mod redis_silent;
mod redis_slots;
mod redis_tls;
mod redis_trouble;
mod registry;
mod reload;
mod rounds;
mod self_test;
mod sse;
mod three_nodes;
mod tls;
mod tokens;
mod two_nodes;
mod wait;
mod watching;
