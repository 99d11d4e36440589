//! The driver's core in a simulated cluster: thousands of seeded schedules with faults, judged by an oracle
//! that evaluates the frozen log plainly.
//!
//! `SEED=n cargo test -p tidemill-driver --test sim` runs one schedule, `SEEDS=n` that many.

mod compute;
mod exposed;
mod faults;
mod files;
mod links;
mod machine;
mod models;
mod net;
mod oracle;
mod receiving;
mod scenario;
mod script;
mod shapes;
mod state;
mod tables;
mod tasks;
mod told;
mod world;

use files::Counts;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Schedules run by default.
const SEEDS: u64 = 2_000;
/// Failures after which no more are looked for.
const FAILURES: usize = 10;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs seeds on all cores; panics with those that fail.
fn run_seeds(seeds: u64) -> Counts {
    let next = AtomicU64::new(0);
    let counts = Mutex::new(Counts::default());
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.lock().unwrap_or_else(PoisonError::into_inner).len() >= FAILURES {
                        return;
                    }
                    match std::panic::catch_unwind(|| script::run(seed)) {
                        Ok(of_seed) => counts.lock().unwrap().add(&of_seed),
                        Err(_) => {
                            eprintln!("SEED={seed} failed");
                            failed.lock().unwrap_or_else(PoisonError::into_inner).push(seed);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "failed: {failed:?}; run one again with SEED=n");
    counts.into_inner().unwrap()
}

#[test]
fn every_schedule_is_exact_and_comes_to_an_end() {
    if let Some(seed) = from_env("SEED") {
        println!("{:#?}", script::run(seed));
        return;
    }
    let seeds = from_env("SEEDS").unwrap_or(SEEDS);
    let counts = run_seeds(seeds);
    println!("{seeds} schedules: {counts:?}");
    if seeds >= SEEDS {
        assert!(counts.missing().is_empty(), "never happened: {:?}", counts.missing());
    }
}
