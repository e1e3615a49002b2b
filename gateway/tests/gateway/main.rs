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
mod redis_server;
mod wait;
