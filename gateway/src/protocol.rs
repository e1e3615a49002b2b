//! Bytes to meaning and back. Pure: no clock, no socket, no task.

pub mod close;
pub mod deflate;
pub mod frame;
pub mod native;
