//! The operator: turns `PushCluster` objects into gateways, a Redis, Services and autoscaling, and keeps them so.

pub mod autoscale;
pub mod backoff;
pub mod certificate;
pub mod clients;
pub mod contest;
pub mod controller;
pub mod cordons;
pub mod failure;
pub mod keda;
pub mod kept;
pub mod lease;
pub mod looks;
pub mod metrics;
pub mod metrics_api;
pub mod owner;
pub mod push_cluster;
pub mod readiness;
pub mod reason;
pub mod redis_metrics;
pub mod scaling;
