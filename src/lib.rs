//! The `tidemill` command: command line, printing, and the commands that start more than one part
//! (`local`, `replay`, `demo`). The engine is in `tidemill-driver` and `tidemill-worker`.

mod bench;
pub mod cli;
mod client;
mod cluster;
mod definition;
mod demo;
mod exit;
mod models;
pub mod print;
mod processes;
pub mod produce;
mod producers;
mod replay;
mod roles;
mod show;
mod watch;
