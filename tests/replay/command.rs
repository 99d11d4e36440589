//! Running the built program.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// The outcome of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Standard output of a run that has to be fine.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout
    }
}

/// Runs `tidemill` with these arguments.
pub(crate) fn tidemill<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(arguments).env_remove("TIDEMILL_LOG").env("NO_COLOR", "1");
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("output is text");
    Run { code: status.code().expect("the program was not killed"), stdout: text(stdout), stderr: text(stderr) }
}

/// A job and its input in a folder of their own.
pub(crate) struct Case {
    dir: TempDir,
}

impl Case {
    pub(crate) fn new(definition: &str, input: &str) -> Self {
        let case = Self { dir: tempfile::tempdir().expect("a temporary folder") };
        case.file("job.toml", definition);
        case.file("input.json", input);
        case
    }

    /// Writes one more file; gives back its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("the file is written");
        path
    }

    pub(crate) fn job(&self) -> PathBuf {
        self.dir.path().join("job.toml")
    }

    pub(crate) fn replay(&self, options: &[&str]) -> Run {
        replay(&self.job(), &self.dir.path().join("input.json"), options)
    }

    /// With so many workers, and with one of three killed in these batches, the job prints what it did before.
    pub(crate) fn prints_the_same(&self, once: &str, workers: &[&str], kills: &[&str]) {
        for workers in workers {
            assert_eq!(self.replay(&["--workers", workers]).ok(), once, "{workers} workers");
        }
        for batch in kills {
            assert_eq!(self.replay(&["--workers", "3", "--kill", batch]).ok(), once, "killed in batch {batch}");
        }
    }
}

/// A job whose source `points` has these columns, and what else is in it. `settings` are those of the job, `format` those of the source.
pub(crate) fn job_over_points(settings: &str, format: &str, columns: &str, rest: &str) -> String {
    format!(
        r#"name = "points"
batch_interval = "1s"
{settings}

[source.points]
connector = "socket"
address = "127.0.0.1:9999"
{format}
columns = {{ {columns} }}
{rest}"#
    )
}

/// Runs `tidemill replay JOB --input INPUT OPTIONS`.
pub(crate) fn replay(job: &Path, input: &Path, options: &[&str]) -> Run {
    let arguments = ["replay".as_ref(), job.as_os_str(), "--input".as_ref(), input.as_os_str()];
    tidemill(arguments.into_iter().chain(options.iter().map(OsStr::new)))
}
