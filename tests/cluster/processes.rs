//! A driver and workers as processes of their own, and what they say of themselves.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Nothing here takes longer than this, even beside other work.
const PATIENCE: Duration = Duration::from_secs(60);
/// A process ends within this time after SIGTERM.
const END: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// One cluster at a time: they would take the processor from each other.
static TURN: Mutex<()> = Mutex::new(());

/// Asks until there is an answer.
pub(crate) fn wait_for<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(POLL);
    }
}

/// A finished command of the command line.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:#?}");
        serde_json::from_str(&self.stdout).expect("it prints JSON")
    }
}

/// The plain program.
pub(crate) fn plain() -> PathBuf {
    env!("CARGO_BIN_EXE_tidemill").into()
}

/// The example with functions of its own.
pub(crate) fn own_functions() -> PathBuf {
    example("own_functions")
}

/// An example, which `cargo test` has built too.
pub(crate) fn example(name: &str) -> PathBuf {
    let built = plain().with_file_name("examples").join(name);
    assert!(built.exists(), "{} is not there: build the examples", built.display());
    built
}

fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    // To see more when a test fails: TIDEMILL_TEST_LOG=info.
    let log = std::env::var("TIDEMILL_TEST_LOG").unwrap_or("warn".into());
    command.args(arguments).env("TIDEMILL_LOG", log).env_remove("TIDEMILL_DRIVER").env("NO_COLOR", "1");
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Run {
    run_with(&plain(), arguments)
}

/// Runs a command of some program to its end.
pub(crate) fn run_with(program: &Path, arguments: &[&str]) -> Run {
    let Output { status, stdout, stderr } = command(program, arguments).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Run { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
}

/// A running process.
pub(crate) struct Process {
    child: Child,
    /// Its first line of output.
    pub(crate) said: String,
    /// Its last lines, as they come.
    pub(crate) lines: mpsc::Receiver<String>,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(arguments: &[&str], log: PathBuf) -> Self {
        Self::start_with(&plain(), arguments, log)
    }

    fn start_with(program: &Path, arguments: &[&str], log: PathBuf) -> Self {
        let errors = File::options().create(true).append(true).open(&log).expect("the log file opens");
        let mut command = command(program, arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().expect("the program starts");
        let output = child.stdout.take().expect("its output is piped");
        let (line, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let all = BufReader::new(output).lines().map_while(Result::ok);
            // Whoever does not care has dropped the receiver.
            all.for_each(|text| drop(line.send(text)));
        });
        let mut process = Self { child, said: String::new(), lines, log };
        match process.lines.recv_timeout(PATIENCE) {
            Ok(said) => process.said = said,
            Err(_) => {
                process.signal(Signal::SIGKILL);
                panic!("`{}` said nothing; its log: {}", arguments.join(" "), process.log());
            }
        }
        process
    }

    fn signal(&self, signal: Signal) {
        // One that has ended already needs no signal.
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
    }

    /// `kill -9`; gives back what it said and nobody has looked at.
    fn kill(mut self) -> Vec<String> {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
        self.lines.iter().collect()
    }

    /// SIGTERM, and its exit code.
    pub(crate) fn terminate(mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + END;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "`{}` did not end within {END:?} after SIGTERM", self.said);
            std::thread::sleep(POLL);
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// A worker of a cluster, found by the number of its data directory: its id changes when it was counted as lost.
pub(crate) type Slot = usize;

/// A driver and workers.
pub(crate) struct Cluster {
    pub(crate) url: String,
    /// `host:port` of the driver's HTTP face.
    pub(crate) http: String,
    driver_options: Vec<String>,
    driver: Option<Process>,
    workers: BTreeMap<Slot, Process>,
    /// What driver, workers and commands are, unless it is said otherwise.
    program: PathBuf,
    dir: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    pub(crate) fn start(workers: usize) -> Self {
        Self::of(plain(), workers)
    }

    /// A cluster of some program.
    pub(crate) fn of(program: PathBuf, workers: usize) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut cluster = Self {
            url: "http://127.0.0.1:0".into(),
            http: "127.0.0.1:0".into(),
            driver_options: Vec::new(),
            driver: None,
            workers: BTreeMap::new(),
            program,
            dir,
            _turn: turn,
        };
        cluster.start_driver();
        (0..workers).for_each(|slot| cluster.start_worker(slot));
        cluster
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text_path(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// Starts the driver, on the port that it had before.
    pub(crate) fn start_driver(&mut self) {
        self.start_driver_with(&[]);
    }

    /// Starts the driver, on the port that it had before, with further options.
    pub(crate) fn start_driver_with(&mut self, more: &[&str]) {
        let listen = self.url.trim_start_matches("http://").to_string();
        let data_dir = self.text_path("driver");
        let options = ["driver", "--listen", &listen, "--data-dir", &data_dir];
        let arguments = [&options[..], &["--http", &self.http], more].concat();
        let driver = Process::start_with(&self.program, &arguments, self.path("driver.log"));
        let second = driver.lines.recv_timeout(PATIENCE).expect("it says where it serves models");
        self.http = second.split('/').nth(2).expect("a URL").to_string();
        self.url = driver.said.split_whitespace().last().expect("it says where it listens").to_string();
        self.driver_options = options.map(str::to_string).to_vec();
        self.driver = Some(driver);
    }

    /// What a worker has logged.
    pub(crate) fn worker_log(&self, slot: Slot) -> String {
        self.workers[&slot].log()
    }

    /// What the driver has logged.
    pub(crate) fn driver_log(&self) -> String {
        self.driver.as_ref().map(Process::log).unwrap_or_default()
    }

    /// The command line of the driver.
    pub(crate) fn driver_options(&self) -> Vec<&str> {
        self.driver_options.iter().map(String::as_str).collect()
    }

    /// Starts a worker, on the data directory of its slot.
    pub(crate) fn start_worker(&mut self, slot: Slot) {
        self.start_worker_of(&self.program.clone(), slot);
    }

    /// Starts a worker that is another program.
    pub(crate) fn start_worker_of(&mut self, program: &Path, slot: Slot) {
        self.start_worker_with(program, slot, &[]);
    }

    /// Starts a worker that serves metrics; gives back where.
    pub(crate) fn start_worker_with_http(&mut self, slot: Slot) -> String {
        self.start_worker_with(&self.program.clone(), slot, &["--http", "127.0.0.1:0"]);
        let second = self.workers[&slot].lines.recv_timeout(PATIENCE).expect("it says where it serves metrics");
        second.split('/').nth(2).expect("a URL").to_string()
    }

    fn start_worker_with(&mut self, program: &Path, slot: Slot, more: &[&str]) {
        let data_dir = self.text_path(&format!("worker-{slot}"));
        let log = self.path(&format!("worker-{slot}.log"));
        let arguments = ["worker", "--driver", &self.url, "--data-dir", &data_dir, "--slots", "2"];
        let worker = Process::start_with(program, &[&arguments[..], more].concat(), log);
        self.workers.insert(slot, worker);
    }

    /// `kill -9`
    pub(crate) fn kill_driver(&mut self) {
        self.driver.take().expect("it runs").kill();
    }

    /// `kill -9`
    pub(crate) fn kill_worker(&mut self, slot: Slot) {
        self.kill_and_hear(slot);
    }

    /// `kill -9` of several at once: none is waited for before all have got it.
    pub(crate) fn kill_workers(&mut self, slots: &[Slot]) {
        slots.iter().for_each(|slot| self.workers[slot].signal(Signal::SIGKILL));
        slots.iter().for_each(|slot| self.kill_worker(*slot));
    }

    /// `kill -9`; gives back what the worker said and nobody has looked at.
    pub(crate) fn kill_and_hear(&mut self, slot: Slot) -> Vec<String> {
        self.workers.remove(&slot).expect("it runs").kill()
    }

    /// What a worker has said since the last look.
    pub(crate) fn said(&self, slot: Slot) -> Vec<String> {
        self.workers[&slot].lines.try_iter().collect()
    }

    /// SIGTERM; gives back its exit code.
    pub(crate) fn terminate_worker(&mut self, slot: Slot) -> i32 {
        self.workers.remove(&slot).expect("it runs").terminate()
    }

    pub(crate) fn pause_worker(&self, slot: Slot) {
        self.workers[&slot].signal(Signal::SIGSTOP);
    }

    pub(crate) fn resume_worker(&self, slot: Slot) {
        self.workers[&slot].signal(Signal::SIGCONT);
    }

    /// The slots of running workers.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.workers.keys().copied().collect()
    }

    /// Runs a command that talks to the driver.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Run {
        self.ask_as(&self.program, arguments)
    }

    /// Runs a command of another program that talks to the driver.
    pub(crate) fn ask_as(&self, program: &Path, arguments: &[&str]) -> Run {
        run_with(program, &[arguments, &["--driver", &self.url]].concat())
    }

    /// Submits a definition; paths in it are relative to the cluster's folder.
    pub(crate) fn submit(&self, definition: &str) {
        let file = self.path("job.toml");
        fs::write(&file, definition).expect("the definition is written");
        let run = self.ask(&["submit", &file.to_string_lossy(), "--json"]);
        assert_eq!(run.code, 0, "{run:#?}");
    }

    /// How a job is doing.
    pub(crate) fn status(&self, job: &str) -> Value {
        self.ask(&["status", job, "--json"]).json()["jobs"][0].take()
    }

    /// Waits until a job's status is as wanted.
    pub(crate) fn wait_status(&self, job: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(what, || {
                last = self.status(job);
                wanted(&last).then(|| last.clone())
            })
        }));
        waited.unwrap_or_else(|_| panic!("waited for {what}, the job is at {last:#}"))
    }

    /// All live workers.
    pub(crate) fn workers(&self) -> Vec<Value> {
        let reply = self.ask(&["workers", "--json"]).json();
        reply["workers"].as_array().cloned().unwrap_or_default()
    }

    /// The live worker in a slot: its address stays, whatever its id.
    pub(crate) fn worker_in(&self, slot: Slot) -> Option<Value> {
        let address = self.workers[&slot].said.split_whitespace().last()?;
        self.workers().into_iter().find(|worker| worker["address"] == address)
    }

    /// The slot of a worker.
    pub(crate) fn slot_of(&self, worker: u64) -> Slot {
        let workers = self.workers();
        let worker = workers.iter().find(|status| status["worker_id"] == worker).expect("it is live");
        let address = worker["address"].as_str().expect("it has an address");
        let found = self.workers.iter().find(|(_, process)| process.said.ends_with(&format!(" {address}")));
        *found.expect("it is one of ours").0
    }

    /// Ends everything in order. What the logs say beyond `expected` is a failure.
    pub(crate) fn end(mut self, expected: &[&str]) {
        for (slot, worker) in std::mem::take(&mut self.workers) {
            assert_eq!(worker.terminate(), 0, "worker in slot {slot}");
        }
        let driver = self.driver.take().expect("it runs");
        assert_eq!(driver.terminate(), 0, "driver");
        let mut surprises = String::new();
        for (log, line) in logged(self.dir.path()) {
            let is_expected = expected.iter().any(|text| line.contains(text));
            if !is_expected && (line.contains(" WARN ") || line.contains(" ERROR ") || line.contains("panicked")) {
                surprises += &format!("{log}: {line}\n");
            }
        }
        assert!(surprises.is_empty(), "not expected in the logs:\n{surprises}");
    }
}

/// Lines of all logs in a folder.
fn logged(folder: &Path) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".log") {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            lines.extend(text.lines().map(|line| (name.clone(), line.to_string())));
        }
    }
    lines
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (log, line) in logged(self.dir.path()) {
                eprintln!("{log}: {line}");
            }
        }
    }
}
