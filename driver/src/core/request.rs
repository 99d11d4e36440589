//! Why clients are refused.

use tidemill_common::location::Location;

/// Why a client's request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no such job.
    #[error("there is no job `{0}`")]
    NoSuchJob(String),
    /// The name is taken.
    #[error("a job named `{0}` is running; stop it first, or choose another name")]
    NameTaken(String),
    /// The job is over.
    #[error("job `{0}` has ended already")]
    Ended(String),
    /// The log does not know the job, and workers have something of it.
    #[error(
        "this driver does not know job {job}; workers {workers:?} keep what they have of it aside, for a driver whose log does. To let go of that, use `stop --now`"
    )]
    KeptAside {
        /// The job.
        job: String,
        /// Those workers.
        workers: Vec<u64>,
    },
    /// Another job writes to the same directory.
    #[error("job `{job}` writes to {directory} already; give each output a directory of its own")]
    DirectoryTaken {
        /// The job.
        job: String,
        /// The directory, or the prefix of directories.
        directory: Location,
    },
    /// Not every process has the functions that the job uses.
    #[error("the job uses functions in Rust that not every worker knows:\n  {}\nstart the driver and all workers from the same program", .0.join("\n  "))]
    Functions(Vec<String>),
    /// No running job has such a model.
    #[error("no running job has a model called `{model}`; there are: {}", if .known.is_empty() { "none".into() } else { .known.join(", ") })]
    NoSuchModel {
        /// What was asked for.
        model: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// Several running jobs have such a model.
    #[error("several running jobs have a model called `{model}`: {}; say which with `job`", .jobs.join(", "))]
    ModelOfSeveral {
        /// What was asked for.
        model: String,
        /// The jobs.
        jobs: Vec<String>,
    },
    /// The model cannot take the place of the job's.
    #[error("it cannot take the place of model `{model}`: {reason}")]
    Import {
        /// The job's model.
        model: String,
        /// What does not fit.
        reason: String,
    },
}
