//! What takes the operator or a node away, brings a kind into the cluster, or measures a pace: each has the cluster for itself, while the others run
//! beside each other. `e2e/run.sh` runs these after the others, so that none of them waits for the other kind.

mod keda;
mod lifecycle;
mod metrics_api;
mod next_version;
mod nodes;
mod outages;
mod scale;
mod upgrade;
