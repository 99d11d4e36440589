//! From the text of a definition, with the files it refers to, to a plan: the one way that driver and workers go.

use crate::planning::{COMPILE_TIME, CompileError, on_planning_thread};
use crate::{Functions, JobPlan, compile};
use bytes::Bytes;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::diag::{Diagnostic, Diagnostics};
use tidemill_job::{self as job, JobDef, Operator};

/// A definition that parsed and compiled.
#[derive(Debug)]
pub struct CompiledJob {
    /// As it was parsed, with attachments in place of paths.
    pub def: Arc<JobDef>,
    /// Its plan.
    pub plan: Arc<JobPlan>,
}

/// Parses and compiles a definition with its attachments and the functions that this process knows, within a time. Driver
/// and workers all go this way.
///
/// # Errors
/// All mistakes of the definition, and what else [`CompileError`] says.
pub fn compile_text(
    definition: &str,
    attachments: &[impl AsRef<[u8]>],
    functions: &Functions,
    within: Duration,
) -> Result<CompiledJob, CompileError> {
    let (definition, functions) = (definition.to_string(), functions.clone());
    let attachments: Vec<Bytes> = attachments.iter().map(|bytes| Bytes::copy_from_slice(bytes.as_ref())).collect();
    on_planning_thread(within, move || parse_and_compile(&definition, &attachments, &functions))
}

/// Parses a definition: what can be said of it without compiling it.
///
/// # Errors
/// The same.
pub fn parse_text(definition: &str, functions: &Functions) -> Result<JobDef, CompileError> {
    let (definition, connectors) = (definition.to_string(), functions.connectors().clone());
    on_planning_thread(COMPILE_TIME, move || job::parse_with(&definition, &connectors))
}

fn parse_and_compile(
    definition: &str,
    attachments: &[Bytes],
    functions: &Functions,
) -> Result<CompiledJob, Diagnostics> {
    let mut def = job::parse_with(definition, functions.connectors())
        .map_err(|mistakes| with_mistakes_of_expressions(mistakes, definition, functions))?;
    let folder = tempfile::tempdir();
    let written = folder.as_ref().map_err(|e| io::Error::new(e.kind(), e.to_string())).and_then(|folder| {
        for (number, name) in attachment_names(&mut def).into_iter().enumerate() {
            // Under its own name, for messages.
            *name = format!("{number}/{}", file_name(name));
            let bytes = attachments.get(number).map_or(&[][..], |bytes| bytes.as_ref());
            std::fs::create_dir(folder.path().join(number.to_string()))?;
            std::fs::write(folder.path().join(name.as_str()), bytes)?;
        }
        Ok(())
    });
    if let (Ok(folder), Ok(())) = (&folder, &written) {
        let def = Arc::new(def);
        let plan = Arc::new(compile(def.clone(), folder.path(), functions)?);
        return Ok(CompiledJob { def, plan });
    }
    let error = written.err().map(|e| e.to_string()).unwrap_or_default();
    Err(Diagnostic::new(format!("cannot write to the temporary directory: {error}")).into())
}

/// Adds to the mistakes of a definition those in expressions of the streams that do not depend on them.
fn with_mistakes_of_expressions(mut mistakes: Diagnostics, definition: &str, functions: &Functions) -> Diagnostics {
    if let Some(part) = job::good_part(definition, functions.connectors())
        && let Err(more) = compile(Arc::new(part), Path::new(""), functions)
    {
        mistakes.extend(more);
    }
    mistakes
}

/// The last part of a path: what users know a file by.
pub(crate) fn file_name(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or("file")
}

/// Names of the files that a definition refers to: those of streams in their order, then those of models and
/// of tables.
pub fn attachment_names(def: &mut JobDef) -> Vec<&mut String> {
    let models = def.models.iter_mut().filter_map(|model| model.initial.as_mut());
    let streams = def.streams.iter_mut().filter_map(|stream| match &mut stream.operator {
        Operator::UpdateStateByKey(update) => update.initial.as_mut(),
        Operator::MapWithState(map) => map.initial.as_mut(),
        _ => None,
    });
    let files = streams.chain(models).map(|name| &mut name.text);
    files.chain(def.tables.iter_mut().map(|table| &mut table.path.text)).collect()
}
