//! Clusters of real processes: killed, paused, restarted, and compared with what the producer itself counted.

mod disk;
mod faults;
mod large;
mod learning;
mod lost_log;
mod metrics;
mod models;
mod outputs;
mod own;
mod processes;
mod refusals;
mod revenue;
mod serving;
mod sources;
mod tables;
