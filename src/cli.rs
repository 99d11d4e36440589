//! The command line.

use crate::exit::{Done, Failure};
use crate::{bench, demo, models, producers, replay, roles, show, watch};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use nix::sys::signal::Signal;
use std::io::IsTerminal;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use tidemill_plan::Functions;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A distributed micro-batch stream engine: one small program, exact through failures.
///
/// Exit codes: 0 done; 1 results differ from what was expected; 2 the definition or the command line is
/// wrong; 3 the run failed; 4 nobody answers, or a port or directory is taken; 130 or 143 `demo` or `bench`
/// was interrupted.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, max_term_width = 100)]
struct Cli {
    /// Log filter, for example `info` or `tidemill_driver=debug`; logs go to standard error.
    #[arg(long, global = true, env = "TIDEMILL_LOG", default_value = "warn")]
    log: String,
    /// Logs as JSON lines.
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster and a producer, kill a worker, and show that the results are exact.
    Demo(demo::DemoArgs),
    /// Run a driver: schedules, remembers, shows.
    Driver(roles::DriverArgs),
    /// Run a worker: receives, holds, computes, keeps state.
    Worker(roles::WorkerArgs),
    /// Submit a job to a driver.
    Submit(watch::SubmitArgs),
    /// Print what a job puts out, batch by batch.
    Watch(watch::WatchArgs),
    /// Show jobs, or one job in full.
    Status(show::StatusArgs),
    /// Show workers.
    Workers(show::WorkersArgs),
    /// Stop a job: receivers drain, and batches run until nothing is left.
    Stop(show::StopArgs),
    /// Run a job with driver and workers in this process: the way to try one.
    Local(roles::LocalArgs),
    /// Measure throughput, latency, recovery and memory with a driver and workers as processes.
    Bench(bench::BenchArgs),
    /// Run a job on given batches with a manual clock, and print or compare its outputs.
    Replay(replay::ReplayArgs),
    /// What jobs have learnt: list, show, export, import, name versions.
    #[command(subcommand)]
    Model(models::ModelCommand),
    /// Check a job definition without running it.
    Check {
        /// The definition.
        job: PathBuf,
    },
    /// Print the JSON Schema of job definitions, for editors.
    Schema,
    /// Send lines over TCP for receivers to read.
    #[command(subcommand)]
    Produce(producers::ProduceCommand),
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Where the driver is.
#[derive(Debug, Args)]
pub(crate) struct DriverUrl {
    /// The driver, `http://host:port`.
    #[arg(long, env = "TIDEMILL_DRIVER", default_value = "http://127.0.0.1:7070")]
    pub(crate) driver: String,
}

/// Parses the command line and runs the command, with these functions for jobs to use.
pub(crate) fn main(functions: Functions) -> ExitCode {
    let cli = Cli::parse();
    if let Err(message) = start_logging(&cli.log, cli.log_json) {
        note!("error: {message}");
        return crate::exit::Outcome::Usage.into();
    }
    match run(cli.command, functions) {
        Ok(outcome) => outcome.into(),
        Err(Failure { outcome, message }) => {
            if !message.is_empty() {
                note!("error: {message}");
            }
            outcome.into()
        }
    }
}

fn start_logging(filter: &str, json: bool) -> Result<(), String> {
    check_filter(filter)?;
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log {filter}: {error}"))?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    if json {
        builder.json().init()
    } else {
        builder.init()
    }
    Ok(())
}

/// A word that is no level would be taken for the name of a module, and nothing would be logged.
fn check_filter(filter: &str) -> Result<(), String> {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level =
        |word: &str| levels.iter().any(|level| word.eq_ignore_ascii_case(level)) || word.parse::<u8>().is_ok();
    let words = filter.split(',').map(str::trim).filter(|word| !word.is_empty() && !word.contains(['=', '[']));
    match words.into_iter().find(|word| !is_level(word) && !word.starts_with("tidemill")) {
        None => Ok(()),
        Some(word) => {
            let expected = levels.join(", ");
            Err(format!("--log {filter}: `{word}` is not a level; expected {expected}, or MODULE=LEVEL"))
        }
    }
}

/// Reads `host:port`; a host with several addresses is taken by its first one of version 4, if it has any.
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let found: Vec<SocketAddr> =
        text.to_socket_addrs().map_err(|error| format!("{error}; expected host:port"))?.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| format!("`{text}` has no address; expected host:port"))
}

fn run(command: Command, functions: Functions) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(async {
        match command {
            Command::Demo(args) => unless_interrupted(demo::run(args)).await,
            Command::Driver(args) => roles::driver(args, functions).await,
            Command::Worker(args) => roles::worker(args, functions).await,
            Command::Submit(args) => watch::submit(args, &functions).await,
            Command::Watch(args) => watch::watch(args).await,
            Command::Status(args) => show::status(args).await,
            Command::Workers(args) => show::workers(args).await,
            Command::Stop(args) => show::stop(args).await,
            Command::Local(args) => roles::local(args, functions).await,
            Command::Bench(args) => unless_interrupted(bench::run(args)).await,
            Command::Model(command) => models::run(command).await,
            Command::Replay(args) => replay::run(args, functions).await,
            Command::Check { job } => crate::definition::check(&job, &functions),
            Command::Schema => show::schema(&functions),
            Command::Produce(command) => producers::run(command).await,
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "tidemill", &mut script);
                crate::say::text(&script)?;
                Ok(crate::exit::Outcome::Fine)
            }
        }
    });
    // A connection that hangs must not keep the command from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

/// Resolves at Ctrl-C or SIGTERM, which are listened to from the call on, not from the first wait.
pub(crate) fn interrupted() -> impl Future<Output = ()> {
    let signal = signalled();
    async move {
        signal.await;
    }
}

/// The same; gives back which it was.
fn signalled() -> impl Future<Output = Signal> {
    let listeners = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    async move {
        let [interrupt, terminate] = listeners.map(|listener| async {
            match listener {
                Ok(mut signal) => signal.recv().await,
                Err(_) => std::future::pending().await,
            }
        });
        tokio::select! {
            _ = interrupt => Signal::SIGINT,
            _ = terminate => Signal::SIGTERM,
        }
    }
}

/// Runs what has to be taken down when it is interrupted: what it has started ends as it is dropped.
async fn unless_interrupted(command: impl Future<Output = Done>) -> Done {
    let signal = signalled();
    tokio::select! {
        signal = signal => Err(Failure::interrupted(signal)),
        done = command => done,
    }
}

/// Binds a port, with an error that says what to do.
pub(crate) async fn bind(address: SocketAddr) -> Result<tokio::net::TcpListener, Failure> {
    let bound = tokio::net::TcpListener::bind(address).await;
    bound.map_err(|error| {
        Failure::unavailable(format!("cannot listen on {address}: {error}; choose another address or port"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_filter_has_levels() {
        for filter in ["warn", "DEBUG", "tidemill_driver", "info,h2=off", "tidemill_worker[task]=trace", "", "3"] {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
        assert!(check_filter("verbose").unwrap_err().contains("`verbose` is not a level"));
        assert!(check_filter("info,verbose").is_err());
    }

    #[test]
    fn hosts_may_have_names() {
        assert_eq!(parse_address("127.0.0.1:7070").unwrap().port(), 7070);
        assert!(parse_address("localhost:0").unwrap().ip().is_loopback());
        assert!(parse_address("7070").unwrap_err().contains("expected host:port"));
    }
}
