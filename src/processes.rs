//! A driver and workers as processes of their own, started from this very program.

use crate::exit::Failure;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A process says that it is ready within this time.
const START: Duration = Duration::from_secs(30);

/// A cluster's processes; they end with it.
pub(crate) struct Processes {
    pub(crate) driver_url: String,
    driver: Child,
    workers: BTreeMap<u64, Child>,
    _dir: TempDir,
}

impl Processes {
    pub(crate) async fn start(workers: usize) -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let driver_dir = dir.path().join("driver").to_string_lossy().into_owned();
        let (driver, line) = spawn(&["driver", "--listen", "127.0.0.1:0", "--data-dir", &driver_dir]).await?;
        let driver_url = line.split_whitespace().last().unwrap_or_default().to_string();
        let mut processes = Self { driver_url, driver, workers: BTreeMap::new(), _dir: dir };
        for number in 0..workers {
            let data_dir = processes._dir.path().join(format!("worker-{number}")).to_string_lossy().into_owned();
            let url = processes.driver_url.clone();
            let (worker, line) = spawn(&["worker", "--driver", &url, "--data-dir", &data_dir]).await?;
            let id = line.split_whitespace().nth(1).and_then(|id| id.parse().ok());
            let id = id.ok_or_else(|| Failure::failed(format!("a worker said `{line}` instead of its id")))?;
            processes.workers.insert(id, worker);
        }
        Ok(processes)
    }

    /// `kill -9`; gives back the process id.
    pub(crate) fn kill_worker(&mut self, worker: u64) -> Result<i32, Failure> {
        let child = self.workers.get(&worker).and_then(Child::id);
        let pid = child.ok_or_else(|| Failure::failed(format!("worker {worker} does not run")))? as i32;
        kill(Pid::from_raw(pid), Signal::SIGKILL)
            .map_err(|error| Failure::failed(format!("kill -9 {pid}: {error}")))?;
        Ok(pid)
    }

    /// Process ids: the driver, then the workers.
    pub(crate) fn pids(&self) -> Vec<u32> {
        std::iter::once(&self.driver).chain(self.workers.values()).filter_map(Child::id).collect()
    }

    /// Ends all processes in order.
    pub(crate) async fn stop(mut self) {
        let children = self.workers.values_mut().chain(std::iter::once(&mut self.driver));
        for child in children {
            if let Some(pid) = child.id() {
                // A process that has ended already needs no signal.
                let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
            }
            if tokio::time::timeout(Duration::from_secs(5), child.wait()).await.is_err() {
                tracing::warn!("a process did not end within 5 s");
            }
        }
    }
}

/// Starts this program with these arguments; gives back its first line of output.
async fn spawn(arguments: &[&str]) -> Result<(Child, String), Failure> {
    let program = std::env::current_exe()?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::failed(format!("cannot start `tidemill {}`: {error}", arguments.join(" "))))?;
    let failed = || Failure::failed(format!("`tidemill {}` did not start; see above", arguments.join(" ")));
    let stdout = child.stdout.take().ok_or_else(failed)?;
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(START, lines.next_line()).await.map_err(|_| failed())??.ok_or_else(failed)?;
    // The rest of its output is not needed, but must not fill the pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((child, line))
}
