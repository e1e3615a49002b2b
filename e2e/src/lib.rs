//! Drives a cluster from outside, as a user does: manifests in, objects and messages out.
//!
//! Nothing here links the operator or the gateway; what it knows of them is what their documents say.

pub mod audit;
pub mod checker;
pub mod cluster;
pub mod crowd;
pub mod diagnosis;
pub mod fan_out;
pub mod gateway;
pub mod helm;
pub mod machine;
pub mod namespace;
pub mod push_client;
pub mod push_cluster;
pub mod redis;
pub mod steady;
pub mod tunnel;
pub mod wait;
