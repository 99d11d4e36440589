//! A driver and workers as processes of their own, started from this very program.

use crate::exit::Failure;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A process says that it is ready within this time.
const START: Duration = Duration::from_secs(30);

/// A cluster's processes and their directory; both end with it, however it ends.
pub(crate) struct Processes {
    pub(crate) driver_url: String,
    driver: Option<Child>,
    workers: BTreeMap<u64, Child>,
    dir: TempDir,
}

impl Processes {
    pub(crate) async fn start(workers: usize) -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let mut processes = Self { driver_url: String::new(), driver: None, workers: BTreeMap::new(), dir };
        let driver_dir = processes.dir.path().join("driver").to_string_lossy().into_owned();
        let arguments = ["driver", "--listen", "127.0.0.1:0", "--data-dir", &driver_dir];
        let line = first_line(processes.driver.insert(spawn(&arguments)?), &arguments).await?;
        processes.driver_url = line.split_whitespace().last().unwrap_or_default().to_string();
        for number in 0..workers {
            let data_dir = processes.dir.path().join(format!("worker-{number}")).to_string_lossy().into_owned();
            let url = processes.driver_url.clone();
            let arguments = ["worker", "--driver", &url, "--data-dir", &data_dir];
            // Until it has said its number it is known by one that no worker gets.
            let unnamed = u64::MAX - number as u64;
            let worker = processes.workers.entry(unnamed).or_insert(spawn(&arguments)?);
            let line = first_line(worker, &arguments).await?;
            let id = line.split_whitespace().nth(1).and_then(|id| id.parse().ok());
            let id = id.ok_or_else(|| Failure::failed(format!("a worker said `{line}` instead of its id")))?;
            if let Some(worker) = processes.workers.remove(&unnamed) {
                processes.workers.insert(id, worker);
            }
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
        self.driver.iter().chain(self.workers.values()).filter_map(Child::id).collect()
    }

    /// Ends all processes in order.
    pub(crate) async fn stop(mut self) {
        for child in self.workers.values_mut().chain(&mut self.driver) {
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

/// What has not ended in order is killed, so that nothing writes to the directory any more when that is removed.
impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.workers.values_mut().chain(&mut self.driver) {
            // One that has ended cannot be killed, which is fine.
            let _ = child.start_kill();
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        for child in self.workers.values_mut().chain(&mut self.driver) {
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Starts this program with these arguments.
fn spawn(arguments: &[&str]) -> Result<Child, Failure> {
    let program = std::env::current_exe()?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::failed(format!("cannot start `tidemill {}`: {error}", arguments.join(" "))))
}

/// What a process says first: that it is ready.
async fn first_line(child: &mut Child, arguments: &[&str]) -> Result<String, Failure> {
    let failed = || Failure::failed(format!("`tidemill {}` did not start; see above", arguments.join(" ")));
    let stdout = child.stdout.take().ok_or_else(failed)?;
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(START, lines.next_line()).await.map_err(|_| failed())??.ok_or_else(failed)?;
    // The rest of its output is not needed, but must not fill the pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(line)
}
