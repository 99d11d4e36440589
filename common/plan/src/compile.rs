//! From a definition to a plan: types are checked, stages are made, and two processes can tell that they made the same.

mod aggregate;
mod assign;
mod batch_map;
mod bounds;
mod cut;
mod declare;
mod expr;
mod initial;
mod join;
mod join_within;
mod learn;
mod look_up;
mod map_state;
mod narrow;
mod order;
mod query;
mod refused;
mod scope;
mod shared;
mod stages;
mod state;
mod stays_null;
mod table;
mod together;
mod train;
mod tried;
mod waits;
mod window;

use crate::decode::{SourcePlan, bad_schema};
use crate::error::PlanError;
use crate::exec::FixedTable;
use crate::fragment::Fragment;
use crate::keys::KEY_ENCODING_VERSION;
use crate::learn::predict::Declared;
use crate::plan::{JobPlan, OutputPlan, StageInput};
use crate::planning::in_time;
use crate::registry::{FunctionKind, Functions, Uses};
use crate::session::{self, Shape};
use crate::words::said;
pub(crate) use aggregate::LEAF;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::context::SessionState;
use stages::{Lane, Rows, Stages};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use tidemill_common::diag::{Diagnostic, Diagnostics};
use tidemill_common::ids::{OutputIdx, SourceIdx};
use tidemill_job::limits::MAX_COLUMNS;
use tidemill_job::{self as job, Format, JobDef, Name, Operator, OutputDef, Span, StreamDef, Target};
use twox_hash::XxHash3_64;

/// Compiles a job; `base_dir` is the folder of the job file, for the files it names; `functions` are those that its
/// expressions may use beside SQL's.
///
/// # Errors
/// All mistakes of all expressions at once, except in streams over a stream that is itself wrong.
pub fn compile(def: Arc<JobDef>, base_dir: &Path, functions: &Functions) -> Result<JobPlan, Diagnostics> {
    let uses = Uses::default();
    let mut compiler = Compiler {
        def: &def,
        base_dir,
        session: session::state(Shape::Distributed, functions, &uses, &Declared::default()),
        single_session: session::state(Shape::Single, functions, &uses, &Declared::default()),
        functions,
        uses: uses.clone(),
        stages: Stages::default(),
        streams: HashMap::new(),
        declared: Vec::new(),
        models: Declared::default(),
        shown: HashMap::new(),
        tables: HashMap::new(),
        diagnostics: Diagnostics::new(),
        warnings: job::warnings(&def),
        place: 0..0,
    };
    compiler.declare();
    let sources: Vec<_> = def.sources.iter().map(SourcePlan::new).collect();
    compiler.sources(&sources);
    compiler.read_tables();
    for index in def.topological() {
        compiler.stream(&def.streams[index]);
        if compiler.checked(in_time()).is_none() {
            return Err(compiler.diagnostics);
        }
    }
    let outputs = compiler.outputs();
    let models = compiler.homes();
    if !compiler.diagnostics.is_empty() {
        return Err(compiler.diagnostics);
    }
    let warnings = compiler.warnings;
    let Stages { stages, exchanges, .. } = compiler.stages;
    let mut plan = JobPlan {
        def: def.clone(),
        sources,
        stages,
        exchanges,
        models,
        outputs,
        functions: uses.all(),
        warnings,
        fingerprint: 0,
    };
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
    functions: &'a Functions,
    /// Of `functions`, those that are used.
    uses: Uses,
    stages: Stages,
    /// What is known of each source and stream; finished rows. Absent if something is wrong with it.
    streams: HashMap<String, Rows>,
    /// Models as they are declared.
    declared: Vec<declare::Declaration>,
    /// What functions know of them.
    models: Declared,
    /// What each trained model shows.
    shown: HashMap<String, Rows>,
    /// The tables, which streams read beside others.
    tables: HashMap<&'a str, FixedTable>,
    diagnostics: Diagnostics,
    warnings: Diagnostics,
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
            if let Some(function) = def.connector.function() {
                self.registered(FunctionKind::Receiver, function);
            }
            if let Some(source) = self.functions.find_source(def.connector.name()) {
                self.uses.add(source);
            }
            let number = SourceIdx(i as u32);
            let rows = self.stages.source(StageInput::Source(number), &source.name, source.schema.clone());
            self.streams.insert(def.name.text.clone(), rows);
            if let Some(bad) = def.bad_stream() {
                let rows = self.stages.source(StageInput::BadRecords(number), &bad.text, bad_schema());
                self.streams.insert(bad.text, rows);
            }
        }
    }

    fn stream(&mut self, stream: &'a StreamDef) {
        self.place = stream.operator_span.clone();
        self.stages.waits.place = self.place.clone();
        let is_table = |from: &&Name| self.def.tables.iter().any(|table| table.name.text == from.text);
        let (tables, streams): (Vec<_>, Vec<_>) = stream.from.iter().partition(is_table);
        let tables = tables.into_iter().map(|from| self.tables.get(from.text.as_str()).cloned());
        let inputs = streams.into_iter().map(|from| self.streams.get(from.text.as_str()).cloned());
        let (Some(tables), Some(mut inputs)) = (tables.collect::<Option<Vec<_>>>(), inputs.collect::<Option<Vec<_>>>())
        else {
            return;
        };
        let read: Vec<Name> = stream.from.iter().filter(|from| !is_table(from)).cloned().collect();
        if !self.fire_together(&inputs, &read) {
            return;
        }
        let name = &stream.name;
        let over_window = self.over_window(stream);
        let rows = match &stream.operator {
            _ if over_window.is_some() => over_window.flatten(),
            Operator::Union => self.union(inputs, &stream.from),
            Operator::Join { kind, on, within } => match (&tables[..], &inputs[..], within) {
                ([_], _, Some(within)) => self.refuse_within(within),
                ([table], [input], None) => self.look_up(input, table, &stream.from, (*kind, on), name),
                (_, _, None) => self.join(inputs, &stream.from, *kind, on, name),
                (_, _, Some(within)) => self.join_within(inputs, &stream.from, (*kind, on, within.duration), name),
            },
            Operator::Cogroup(on) => self.cogroup(inputs, &stream.from, on, name),
            Operator::Sql(sql) => self.sql(&inputs, &tables, &stream.from, sql, name),
            Operator::StateSnapshots => self.state_snapshots(&inputs, &stream.from),
            one => inputs.pop().and_then(|input| self.over_one(input, one, name)),
        };
        if let Some(rows) = rows.filter(|rows| self.few_columns(rows, name)) {
            let rows = self.stages.share(rows, &name.text);
            self.streams.insert(name.text.clone(), rows);
        }
    }

    /// Whether a stream has no more columns than there can be. Notes it if it has.
    fn few_columns(&mut self, rows: &Rows, name: &Name) -> bool {
        let columns = rows.schema().fields().len();
        let many = format!("the stream has {columns} columns; it can have {MAX_COLUMNS}");
        let wrong = (columns > MAX_COLUMNS).then(|| Diagnostic::new(many).at(name.span.clone()));
        let fine = wrong.is_none();
        self.report(wrong);
        fine
    }

    /// Whether all inputs of a stream have rows in the same batches. Notes those that do not.
    fn fire_together(&mut self, inputs: &[Rows], from: &[Name]) -> bool {
        let Some((first, others)) = inputs.split_first() else {
            return true;
        };
        let rhythm = self.stages.rhythm(first);
        let wrong = others.iter().zip(&from[1..]).filter_map(|(rows, name)| {
            let other = self.stages.rhythm(rows);
            let fires = format!("`{}` fires {rhythm}, `{}` {other}", from[0].text, name.text);
            (other != rhythm).then(|| Diagnostic::new(fires).at(name.span.clone()).label("fires in other batches"))
        });
        let wrong: Vec<_> = wrong.collect();
        let fine = wrong.is_empty();
        let help = "what one stream reads has to fire together: put a `window` with the same `slide` over each of them";
        self.report(wrong.into_iter().map(|wrong| wrong.help(help)));
        fine
    }

    /// An operator over one stream.
    fn over_one(&mut self, input: Rows, operator: &Operator, name: &Name) -> Option<Rows> {
        match operator {
            Operator::Select(columns) => self.each_lane(input, |it, lane| it.select(lane, columns)),
            Operator::Filter(condition) => self.each_lane(input, |it, lane| it.filter(lane, condition)),
            Operator::FlatMap { each, name, keep } => {
                self.each_lane(input, |it, lane| it.flat_map(lane, each, name, keep))
            }
            Operator::ReduceByKey { key, aggregates } => self.reduce_by_key(input, key, aggregates, name),
            Operator::Count => self.count(input, name),
            Operator::Reduce(columns) => self.reduce(input, columns, name),
            Operator::Distinct => self.distinct(input, name),
            Operator::Train(train) => self.train(input, train, name),
            Operator::Evaluate(evaluate) => self.evaluate(input, evaluate, name),
            Operator::AbTest(test) => self.ab_test(input, test, name),
            Operator::Choose(choose) => self.choose(input, choose, name),
            Operator::DetectDrift(detect) => self.detect_drift(input, detect, name),
            Operator::UpdateStateByKey(update) => self.update_state_by_key(input, update, name),
            Operator::BatchMap(function) => self.each_lane(input, |it, lane| it.batch_map(lane, function)),
            Operator::MapWithState(map) => self.map_with_state(input, map, name),
            Operator::GroupByKey { key, values } => self.group_by_key(input, key, values.as_deref(), name),
            Operator::CountByValue => self.count_by_value(input, name),
            Operator::Sort { by, limit } => self.sort(input, by, *limit, name),
            Operator::TopK { k, by, per } => self.top_k(input, *k, by, per, name),
            Operator::Repartition { by } => self.repartition(input, by, name),
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
            Operator::Union
            | Operator::Join { .. }
            | Operator::Cogroup(_)
            | Operator::Sql(_)
            | Operator::StateSnapshots => None,
        }
    }

    /// What looks at one row at a time does so in every lane. What is wrong in the first lane would be in all.
    fn each_lane(&mut self, input: Rows, step: impl Fn(&mut Self, Lane) -> Option<Lane>) -> Option<Rows> {
        let before = self.diagnostics.len();
        let mut lanes = Vec::with_capacity(input.0.len());
        for lane in input.0 {
            lanes.push(step(self, lane)?);
            if self.diagnostics.len() > before {
                return None;
            }
        }
        Some(Rows(lanes))
    }

    fn outputs(&mut self) -> Vec<OutputPlan> {
        let mut ends = Vec::with_capacity(self.def.outputs.len());
        for (i, output) in self.def.outputs.iter().enumerate() {
            let from = output.from.text.as_str();
            let rows = if output.of_model { self.shown.get(from) } else { self.streams.get(from) };
            if let Some(rows) = rows.cloned() {
                self.place = output.name.span.clone();
                let Some(rows) = self.for_output(rows, output) else { continue };
                self.stages.output(&rows, OutputIdx(i as u32));
                ends.push((output, rows.schema(), self.stages.rhythm(&rows)));
            }
        }
        ends.iter().for_each(|(output, schema, _)| self.sink(output, schema));
        self.stages.prune();
        let settled = self.stages.settle_shared();
        self.checked(settled);
        let output = |(output, schema, rhythm): (&OutputDef, _, _)| {
            let (name, target) = (output.name.text.clone(), output.target.clone());
            OutputPlan { name, target, schema, rhythm }
        };
        ends.into_iter().map(output).collect()
    }

    /// Rows as the output needs them: in an order, or all in one place.
    fn for_output(&mut self, rows: Rows, output: &OutputDef) -> Option<Rows> {
        let rows = match &output.target {
            Target::ForEachBatch(function) => {
                self.registered(FunctionKind::ForEachBatch, function)?;
                self.stages.in_one_place(rows, &output.name.text)
            }
            Target::Print { .. } => self.stages.in_order(rows, &output.name.text),
            Target::Sink(sink) => {
                if let Some(sink) = self.functions.find_sink(sink.name()) {
                    self.uses.add(sink);
                }
                self.stages.in_order(rows, &output.name.text)
            }
        };
        self.checked(rows)
    }

    /// Notes what a sink cannot take.
    fn sink(&mut self, output: &OutputDef, schema: &SchemaRef) {
        if let Target::Sink(sink) = &output.target {
            self.reported(sink.check(schema, output.from.span.clone()));
        }
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
            Failure::DataFusion(error) => said(&PlanError::reason(&error)),
        };
        let result = result.map_err(|error| Diagnostic::new(mistake(error)).at(self.place.clone()));
        self.reported(result)
    }

    fn df_schema(&mut self, schema: &SchemaRef) -> Option<DFSchema> {
        self.checked(DFSchema::try_from(schema.clone()))
    }
}

/// What every process has to find the same: the definition, the functions with their versions, the plans as displayed,
/// all schemas, the key encoding.
fn fingerprint(plan: &JobPlan) -> u64 {
    let mut text = format!("keys {KEY_ENCODING_VERSION}\n{:?}\n{:?}\n", plan.def, plan.functions);
    let shown = |fragment: &Option<Fragment>| fragment.as_ref().map(Fragment::display);
    // Writing to a String cannot fail.
    for stage in &plan.stages {
        let _ = writeln!(text, "{} {:?} {:?} {:?}", stage.id, stage.input, stage.placement, stage.rhythm);
        let _ = writeln!(text, "{:?} {:?} {:?}", stage.row_keys, columns(&stage.schema), shown(&stage.head));
        if let Some(state) = &stage.state {
            let _ = writeln!(text, "{state:?}");
        }
        for shared in &stage.shared {
            let _ = writeln!(text, "{:?} {}", shared.reads, shared.fragment.display());
        }
        for branch in &stage.branches {
            let _ = writeln!(text, "{:?} {:?} {:?}", branch.reads, branch.target, shown(&branch.fragment));
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
