//! Threads that definitions are read and compiled on, and what becomes of one that takes too much.
//!
//! DataFusion and what belongs to it walk expressions and plans by recursion: they show, copy, compare, hash and drop
//! them so, and not everything looks after its stack. So whoever compiles does it here, on a thread with a stack that what
//! is within [`limits`](tidemill_job::limits) fits into, in any build. A panic ends the thread, and time is
//! bounded: neither does harm to the process.

use datafusion::common::DataFusionError;
use std::any::Any;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tidemill_common::diag::Diagnostics;

/// The stack of a thread that compiles, in bytes. Only what is used of it is memory.
pub(crate) const PLANNING_STACK_BYTES: usize = 256 << 20;
/// The stack of a thread that runs [`Fragment`](crate::Fragment)s, in bytes: expressions are evaluated by recursion, too.
pub const COMPUTE_STACK_BYTES: usize = 64 << 20;
/// How long compiling may take where somebody waits for it.
pub const COMPILE_TIME: Duration = Duration::from_secs(30);
/// How long it may take where a job goes on that was accepted before: it took less than [`COMPILE_TIME`] then.
pub const RECOMPILE_TIME: Duration = Duration::from_secs(300);
/// Threads that compile at once in a process; others wait.
const AT_ONCE: usize = 2;

/// Why a definition was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is wrong.
    #[error(transparent)]
    Wrong(#[from] Diagnostics),
    /// It takes too long, or others do.
    #[error("compiling the definition took longer than {} s: make its queries smaller, or several jobs of it", .0.as_secs())]
    TooLong(Duration),
    /// A defect.
    #[error("compiling the definition failed, which is a defect: {0}")]
    Panicked(String),
    /// The system gives no thread.
    #[error("there is no thread to compile the definition on: {0}")]
    NoThread(io::Error),
}

/// Does work that reads or compiles a definition, on a thread of its own.
///
/// # Errors
/// See [`CompileError`]. Work that takes too long ends by itself where it asks [`in_time`]; nobody waits for that.
pub(crate) fn on_planning_thread<T: Send + 'static>(
    within: Duration,
    work: impl FnOnce() -> Result<T, Diagnostics> + Send + 'static,
) -> Result<T, CompileError> {
    let until = Instant::now() + within;
    let place = Place::wait(until).ok_or(CompileError::TooLong(within))?;
    let (done, result) = sync_channel(1);
    let thread = std::thread::Builder::new().name("compile".into()).stack_size(PLANNING_STACK_BYTES);
    let run = move || {
        UNTIL.set(Some(until));
        // Nothing that the work has touched is seen by anybody after a panic.
        let outcome = catch_unwind(AssertUnwindSafe(work));
        drop(place);
        // Whoever waited may have given up.
        let _ = done.send(outcome);
    };
    thread.spawn(run).map_err(CompileError::NoThread)?;
    match result.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(Ok(outcome)) => Ok(outcome?),
        Ok(Err(panic)) => Err(CompileError::Panicked(message(panic.as_ref()))),
        Err(RecvTimeoutError::Timeout) => Err(CompileError::TooLong(within)),
        Err(RecvTimeoutError::Disconnected) => Err(CompileError::Panicked("the thread was lost".into())),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".into())
}

thread_local! {
    /// When the work of this thread has to be done.
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
    /// What functions have made of constants so far.
    static FOLDED: Cell<u128> = const { Cell::new(0) };
}

/// What functions may make of constants while a definition is compiled, all together: bytes, elements, comparisons.
const MAX_FOLDED: u128 = 64 << 20;

/// Counts what a function makes of constants, where that is on a thread that compiles.
///
/// # Errors
/// That all of them have made too much.
pub(crate) fn count_folded(made: u128) -> Result<(), DataFusionError> {
    if UNTIL.get().is_none() {
        return Ok(());
    }
    let all = FOLDED.get().saturating_add(made);
    FOLDED.set(all);
    match all > MAX_FOLDED {
        true => Err(DataFusionError::Execution(format!(
            "functions would make more than {MAX_FOLDED} bytes of the constants of this definition"
        ))),
        false => Ok(()),
    }
}

/// Ends work that nobody waits for any more.
///
/// # Errors
/// That the time of this thread's work is over.
pub(crate) fn in_time() -> Result<(), DataFusionError> {
    match UNTIL.get().filter(|until| Instant::now() >= *until) {
        None => Ok(()),
        Some(_) => Err(DataFusionError::Plan("compiling took too long".into())),
    }
}

/// One of [`AT_ONCE`] places.
struct Place;

static FREE: Mutex<usize> = Mutex::new(AT_ONCE);
static FREED: Condvar = Condvar::new();

impl Place {
    fn wait(until: Instant) -> Option<Self> {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_duration_since(Instant::now());
        let (mut free, _) =
            FREED.wait_timeout_while(free, left, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(1)?;
        Some(Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        FREED.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_panic_is_an_error() {
        let panicked = on_planning_thread(LONG, || -> Result<(), _> { panic!("a {}", "defect") });
        assert!(matches!(panicked, Err(CompileError::Panicked(text)) if text == "a defect"));
        assert_eq!(on_planning_thread(LONG, || Ok(1)).unwrap(), 1);
    }

    #[test]
    fn what_takes_too_long_is_left_and_ends_by_itself() {
        let within = Duration::from_millis(50);
        loop {
            let (ended, end) = channel();
            let (given_up, nobody_waits) = channel();
            let never = move || {
                while in_time().is_ok() {
                    std::thread::yield_now();
                }
                let _ = nobody_waits.recv();
                let _ = ended.send(());
                Ok(())
            };
            assert!(matches!(on_planning_thread(within, never), Err(CompileError::TooLong(limit)) if limit == within));
            // Where other tests have all places, the work has not begun.
            if given_up.send(()).is_ok() {
                end.recv_timeout(LONG).unwrap();
                break;
            }
        }
        assert!(in_time().is_ok(), "this thread has no time to keep");
    }

    #[test]
    fn only_so_many_at_once() {
        let running = std::sync::Arc::new((Mutex::new((0, 0)), Condvar::new()));
        let workers = (0..3 * AT_ONCE).map(|_| {
            let running = running.clone();
            std::thread::spawn(move || {
                on_planning_thread(LONG, move || {
                    let mut counts = running.0.lock().unwrap();
                    counts.0 += 1;
                    counts.1 = counts.1.max(counts.0);
                    // Gives the others the chance to be there, too.
                    let (mut counts, _) = running.1.wait_timeout(counts, Duration::from_millis(20)).unwrap();
                    counts.0 -= 1;
                    Ok(())
                })
            })
        });
        let workers: Vec<_> = workers.collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap().unwrap());
        let most = running.0.lock().unwrap().1;
        assert!((1..=AT_ONCE).contains(&most), "{most}");
    }

    /// Each frame of this takes more than 4 KiB.
    fn deep(levels: usize) -> usize {
        let frame = std::hint::black_box([levels; 512]);
        if levels == 0 { 0 } else { std::hint::black_box(deep(frame[levels % 512] - 1)) + 1 }
    }

    #[test]
    fn the_stack_is_as_large_as_it_says() {
        let levels = PLANNING_STACK_BYTES / 4 / (4 << 10);
        assert_eq!(on_planning_thread(LONG, move || Ok(deep(levels))).unwrap(), levels);
    }
}
