//! Drives a cluster from outside, as a user does.
