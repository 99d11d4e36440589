//! From a definition to a plan: types are checked, stages are made, and two processes can tell that they made the same.

mod aggregate;
mod cut;
mod expr;
mod initial;
mod narrow;
mod query;
mod stages;
mod state;
mod window;

use crate::decode::SourcePlan;
use crate::fragment::Fragment;
use crate::keys::KEY_ENCODING_VERSION;
use crate::plan::{JobPlan, OutputPlan};
use crate::session::{self, Shape};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::context::SessionState;
use stages::{Rows, Stages};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use tidemill_common::diag::{Diagnostic, Diagnostics};
use tidemill_common::ids::{OutputIdx, SourceIdx};
use tidemill_common::job::{Format, JobDef, Operator, Span, StreamDef};
use twox_hash::XxHash3_64;

/// Compiles a job; `base_dir` is the folder of the job file, for the files it names.
///
/// # Errors
/// All mistakes of all expressions at once, except in streams over a stream that is itself wrong.
pub fn compile(def: Arc<JobDef>, base_dir: &Path) -> Result<JobPlan, Diagnostics> {
    let mut compiler = Compiler {
        def: &def,
        base_dir,
        session: session::state(Shape::Distributed),
        single_session: session::state(Shape::Single),
        stages: Stages::default(),
        streams: HashMap::new(),
        diagnostics: Diagnostics::new(),
        place: 0..0,
    };
    let sources: Vec<_> = def.sources.iter().map(SourcePlan::new).collect();
    compiler.sources(&sources);
    for index in def.topological() {
        compiler.stream(&def.streams[index]);
    }
    let outputs = compiler.outputs();
    if !compiler.diagnostics.is_empty() {
        return Err(compiler.diagnostics);
    }
    let Stages { stages, exchanges } = compiler.stages;
    let mut plan = JobPlan { def: def.clone(), sources, stages, exchanges, outputs, fingerprint: 0 };
    plan.fingerprint = fingerprint(&plan);
    Ok(plan)
}

/// Why a plan was not made.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It cannot be spread over workers.
    #[error("this cannot be spread over workers")]
    Uncuttable,
    /// DataFusion refused.
    #[error(transparent)]
    DataFusion(#[from] DataFusionError),
}

struct Compiler<'a> {
    def: &'a JobDef,
    base_dir: &'a Path,
    /// Plans to be cut.
    session: SessionState,
    /// Plans to run in one piece.
    single_session: SessionState,
    stages: Stages,
    /// What is known of each source and stream; finished rows. Absent if something is wrong with it.
    streams: HashMap<&'a str, Rows>,
    diagnostics: Diagnostics,
    /// The operator at hand.
    place: Span,
}

impl<'a> Compiler<'a> {
    fn sources(&mut self, sources: &[SourcePlan]) {
        for (i, (source, def)) in sources.iter().zip(&self.def.sources).enumerate() {
            if let Format::Csv { columns, .. } | Format::Json { columns } = &def.format {
                let names = columns.iter().map(|c| (c.name.text.as_str(), &c.name.span));
                self.report(expr::check_names(names));
            }
            if matches!(def.format, Format::Csv { delimiter, .. } if !delimiter.is_ascii()) {
                let wrong = Diagnostic::new("a delimiter is one ASCII character");
                self.report([wrong.at(def.name.span.clone())]);
            }
            let rows = self.stages.source(SourceIdx(i as u32), &source.name, source.schema.clone());
            self.streams.insert(&def.name.text, rows);
        }
    }

    fn stream(&mut self, stream: &'a StreamDef) {
        self.place = stream.operator_span.clone();
        let Some(input) = self.streams.get(stream.from.text.as_str()).cloned() else {
            return;
        };
        let name = &stream.name;
        let over_window = self.over_window(stream);
        let rows = match &stream.operator {
            _ if over_window.is_some() => over_window.flatten(),
            Operator::Select(columns) => self.select(input, columns),
            Operator::Filter(condition) => self.filter(input, condition),
            Operator::FlatMap { each, name, keep } => self.flat_map(input, each, name, keep),
            Operator::ReduceByKey { key, aggregates } => self.reduce_by_key(input, key, aggregates, name),
            Operator::Count => self.count(input, name),
            Operator::Reduce(columns) => self.reduce(input, columns, name),
            Operator::Distinct => self.distinct(input, name),
            Operator::Sql(sql) => self.sql(input, &stream.from, sql, name),
            Operator::UpdateStateByKey(update) => self.update_state_by_key(input, update, name),
            Operator::Window(frame) => self.window(input, frame, name),
            Operator::ReduceByKeyAndWindow { key, aggregates, frame, keep_zero_keys } => {
                self.reduce_by_key_and_window(input, key, aggregates, frame, *keep_zero_keys, name)
            }
            Operator::ReduceByWindow { aggregates, frame } => self.reduce_by_window(input, aggregates, frame, name),
            Operator::CountByWindow(frame) => self.count_by_window(input, frame, name),
            Operator::CountByValueAndWindow(frame) => self.count_by_value_and_window(input, frame, name),
            Operator::GroupByKeyAndWindow { key, values, frame } => {
                self.group_by_key_and_window(input, key, values.as_deref(), frame, name)
            }
            Operator::Slice { from_ms, to_ms } => self.slice(input, *from_ms, *to_ms, name),
        };
        if let Some(rows) = rows {
            let rows = self.stages.seal(rows);
            self.streams.insert(&name.text, rows);
        }
    }

    fn outputs(&mut self) -> Vec<OutputPlan> {
        let mut ends = Vec::with_capacity(self.def.outputs.len());
        for (i, output) in self.def.outputs.iter().enumerate() {
            if let Some(rows) = self.streams.get(output.from.text.as_str()) {
                self.stages.output(rows, OutputIdx(i as u32));
                ends.push((output, rows.schema()));
            }
        }
        self.stages.prune();
        ends.into_iter()
            .enumerate()
            .map(|(i, (output, schema))| OutputPlan {
                name: output.name.text.clone(),
                sink: output.sink.clone(),
                schema,
                from_stage: self.stages.end_of(OutputIdx(i as u32)),
            })
            .collect()
    }

    fn report(&mut self, mistakes: impl IntoIterator<Item = Diagnostic>) {
        mistakes.into_iter().for_each(|mistake| self.diagnostics.push(mistake));
    }

    /// Notes a mistake with its place.
    fn reported<T>(&mut self, result: Result<T, Diagnostic>) -> Option<T> {
        result.map_err(|mistake| self.diagnostics.push(mistake)).ok()
    }

    /// Notes what should not go wrong after all checks, at the operator.
    fn checked<T, E: Into<Failure>>(&mut self, result: Result<T, E>) -> Option<T> {
        let mistake = |error: E| match error.into() {
            Failure::Uncuttable => Failure::Uncuttable.to_string(),
            Failure::DataFusion(error) => error.strip_backtrace(),
        };
        let result = result.map_err(|error| Diagnostic::new(mistake(error)).at(self.place.clone()));
        self.reported(result)
    }

    fn df_schema(&mut self, schema: &SchemaRef) -> Option<DFSchema> {
        self.checked(DFSchema::try_from(schema.clone()))
    }
}

/// What every process has to find the same: the definition, the plans as displayed, all schemas, the key encoding.
fn fingerprint(plan: &JobPlan) -> u64 {
    let mut text = format!("keys {KEY_ENCODING_VERSION}\n{:?}\n", plan.def);
    let shown = |fragment: &Option<Fragment>| fragment.as_ref().map(Fragment::display);
    // Writing to a String cannot fail.
    for stage in &plan.stages {
        let _ = writeln!(text, "{} {:?} {:?} {:?}", stage.id, stage.input, stage.placement, stage.rhythm);
        let _ = writeln!(text, "{:?} {:?} {:?}", stage.row_keys, columns(&stage.schema), shown(&stage.head));
        if let Some(state) = &stage.state {
            let _ = writeln!(text, "{state:?}");
        }
        for branch in &stage.branches {
            let _ = writeln!(text, "{:?} {:?}", branch.target, shown(&branch.fragment));
        }
    }
    for exchange in &plan.exchanges {
        let _ = writeln!(text, "{} {:?} {:?}", exchange.id, exchange.kind, columns(&exchange.schema));
    }
    XxHash3_64::oneshot(text.as_bytes())
}

/// Without metadata, which is a hash map and has no order.
fn columns(schema: &SchemaRef) -> Vec<(&String, &DataType)> {
    schema.fields().iter().map(|field| (field.name(), field.data_type())).collect()
}

#[cfg(test)]
mod tests;
