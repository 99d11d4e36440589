//! Exit codes and the errors behind them.

use nix::sys::signal::Signal;
use std::process::ExitCode;

/// What a command comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 0: done.
    Fine,
    /// 1: results differ from what was expected.
    Differs,
    /// 2: the definition or the command line is wrong.
    Usage,
    /// 3: the run failed.
    Failed,
    /// 4: nobody answers, or a resource (port, directory) is taken.
    Unavailable,
    /// 128 and the number of the signal: it was interrupted before it was over.
    Interrupted(Signal),
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        ExitCode::from(match outcome {
            Outcome::Fine => 0,
            Outcome::Differs => 1,
            Outcome::Usage => 2,
            Outcome::Failed => 3,
            Outcome::Unavailable => 4,
            Outcome::Interrupted(signal) => 128 + signal as u8,
        })
    }
}

/// A message for the user, and the exit code that goes with it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) outcome: Outcome,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { outcome: Outcome::Usage, message: message.into() }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, message: message.into() }
    }

    pub(crate) fn interrupted(signal: Signal) -> Self {
        Self {
            outcome: Outcome::Interrupted(signal),
            message: format!("interrupted by {signal}; all that was started has ended"),
        }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self { outcome: Outcome::Unavailable, message: message.into() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            // Whoever read the output has seen enough.
            return Self { outcome: Outcome::Fine, message: String::new() };
        }
        Self::failed(error.to_string())
    }
}

/// What a command returns.
pub(crate) type Done = Result<Outcome, Failure>;
