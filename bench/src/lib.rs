//! What `bench` and `pushbench` share, and the rooms of `pushbench`. A library, so that both can have it.

pub mod chart;
pub mod pushbench;
pub mod ramp;
pub mod report;
pub mod statistics;
pub mod wire;
