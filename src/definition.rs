//! Job definitions on disk: reading, checking, and what goes along when one is submitted.

use crate::exit::{Done, Failure, Outcome};
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use tidemill_common::diag::Diagnostics;
use tidemill_common::location::Location;
use tidemill_driver::MAX_ATTACHMENT_BYTES;
use tidemill_job::limits::MAX_DEFINITION_BYTES;
use tidemill_plan::{
    COMPILE_TIME, CompileError, CompiledJob, FunctionRef, Functions, attachment_names, compile_text, parse_text,
};
use tidemill_proto::client::SubmitRequest;
use tidemill_proto::common::Function;

/// A definition and the files it refers to.
pub(crate) struct Definition {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) attachments: Vec<Vec<u8>>,
}

impl Definition {
    /// Reads the file and what it refers to; says all that is wrong with it.
    pub(crate) fn read(path: &Path, functions: &Functions) -> Result<Self, Failure> {
        let wrong = |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", path.display()));
        let mut text = String::new();
        // One byte more tells that it is too long.
        let most = MAX_DEFINITION_BYTES as u64 + 1;
        File::open(path).and_then(|file| file.take(most).read_to_string(&mut text)).map_err(wrong)?;
        Self::of_text(path.to_path_buf(), text, functions)
    }

    /// A text that stands for a file of this path; reads what it refers to.
    pub(crate) fn of_text(path: PathBuf, text: String, functions: &Functions) -> Result<Self, Failure> {
        let mut definition = Self { path, text, attachments: Vec::new() };
        let mut def = match parse_text(&definition.text, functions) {
            Ok(def) => def,
            // One that is wrong is compiled without its files, for all of its mistakes.
            Err(CompileError::Wrong(_)) => return Ok(definition),
            Err(error) => return Err(definition.failed(&error)),
        };
        for name in attachment_names(&mut def) {
            let file = Location::resolve(&definition.base_dir(), name);
            let bytes = tidemill_store::read(&file, MAX_ATTACHMENT_BYTES as u64).map_err(|error| {
                Failure::usage(format!("{} refers to a file that cannot be read: {error}", definition.path.display()))
            })?;
            definition.attachments.push(bytes.to_vec());
        }
        Ok(definition)
    }

    /// Compiles it, to find every mistake.
    pub(crate) fn compile(&self, functions: &Functions) -> Result<CompiledJob, Failure> {
        compile_text(&self.text, &self.attachments, functions, COMPILE_TIME).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &CompileError) -> Failure {
        let message = format!("{}: {error}", self.path.display());
        match error {
            CompileError::Wrong(errors) => {
                Failure::usage(format!("the job definition is wrong\n{}", self.render(errors)))
            }
            CompileError::TooLong(_) => Failure::usage(message),
            CompileError::Panicked(_) | CompileError::NoThread(_) => Failure::failed(message),
        }
    }

    /// Says what is hardly meant as it stands; gives back how many warnings there are.
    pub(crate) fn warn(&self, compiled: &CompiledJob) -> usize {
        let warnings = &compiled.plan.warnings;
        if !warnings.is_empty() {
            note!("{}", self.render(warnings));
        }
        warnings.len()
    }

    fn render(&self, found: &Diagnostics) -> String {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        found.render(&self.path.display().to_string(), &self.text, colour)
    }

    fn base_dir(&self) -> PathBuf {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf())
    }

    /// The request that submits it, as it was compiled here.
    pub(crate) fn request(&self, compiled: &CompiledJob, capture: bool) -> SubmitRequest {
        SubmitRequest {
            definition: self.text.clone(),
            file_name: self.path.display().to_string(),
            attachments: self.attachments.iter().map(|bytes| bytes.clone().into()).collect(),
            base_dir: self.base_dir().to_string_lossy().into_owned(),
            capture,
            watched_rows: 0,
            functions: compiled.plan.functions.iter().map(on_wire).collect(),
        }
    }
}

fn on_wire(used: &FunctionRef) -> Function {
    Function { kind: used.kind.name().to_string(), name: used.name.clone(), version: used.version }
}

/// `tidemill check`.
pub(crate) fn check(path: &Path, functions: &Functions) -> Done {
    let definition = Definition::read(path, functions)?;
    let compiled = definition.compile(functions)?;
    let warnings = definition.warn(&compiled);
    let (def, plan) = (&compiled.def, &compiled.plan);
    let counts = [
        count(def.sources.len(), "source"),
        count(def.streams.len(), "stream"),
        count(def.outputs.len(), "output"),
        count(plan.stages.len(), "stage"),
    ];
    let warnings = if warnings == 0 { String::new() } else { format!("; {}", count(warnings, "warning")) };
    say!("{} is fine: job `{}`, {}{warnings}", path.display(), def.name, counts.join(", "))?;
    Ok(Outcome::Fine)
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
