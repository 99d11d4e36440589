//! Operators over windows: `window`, the aggregating ones, `slice`.
//!
//! A window is a stage of key groups without a head: what comes over its exchange is remembered as panes. Rows are
//! remembered as they are; aggregates as what each batch's rows add up to, which is what a partial aggregation gives.

use super::aggregate::{Aggregates, column_expr, keyed_logical, plan_physical};
use super::cut::cut;
use super::stages::{Lane, Rows, column};
use super::state::defaults;
use super::{Compiler, Failure};
use crate::exec::LeafExec;
use crate::fragment::Fragment;
use crate::keys::is_encodable;
use crate::rhythm::Rhythm;
use crate::session::{self, Shape};
use crate::window::{Contents, Folds, WindowOp, Zero};
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::functions_aggregate::expr_fn::{array_agg, count};
use datafusion::logical_expr::lit;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use std::sync::Arc;
use std::time::Duration;
use tidemill_common::diag::Diagnostic;
use tidemill_common::ids::StageId;
use tidemill_job::{Frame, Name, NamedSql, Operator, Period, StreamDef};

/// In front of the rows that are folded: which of many folds they belong to.
const FOLD: &str = "__fold";

/// Which batches a window covers, in ms.
#[derive(Debug, Clone, Copy)]
struct Cover {
    /// When the input fires.
    input: Rhythm,
    /// When the window does.
    fires: Rhythm,
    /// From one firing of the input to the next.
    step_ms: i64,
    length_ms: i64,
}

/// A stage that remembers partial aggregates, under construction.
pub(super) struct Folded {
    stage: StageId,
    cover: Cover,
    /// Columns of the partial aggregates.
    partial: SchemaRef,
    fold: Fragment,
    keys: usize,
    /// What makes aggregates of partial ones, where keys stay for ever, and the aggregates over no rows.
    zero: Option<(Arc<dyn ExecutionPlan>, Vec<ArrayRef>)>,
}

impl Compiler<'_> {
    /// `window`
    pub(super) fn window(&mut self, input: Rows, frame: &Frame, name: &Name) -> Option<Rows> {
        let cover = self.cover(&input, frame)?;
        self.remembered(input, cover, name)
    }

    /// `slice`: a window that fires once.
    pub(super) fn slice(&mut self, input: Rows, from_ms: i64, to_ms: i64, name: &Name) -> Option<Rows> {
        let fires = Rhythm::Once { at_ms: to_ms };
        let input_rhythm = self.stages.rhythm(&input);
        let length_ms = to_ms - from_ms + 1;
        let cover = Cover { input: input_rhythm, fires, step_ms: 1, length_ms };
        self.remembered(input, cover, name)
    }

    fn remembered(&mut self, input: Rows, cover: Cover, name: &Name) -> Option<Rows> {
        let (visible, keyed) = (input.schema(), input.is_keyed());
        let stage = self.stages.remember(input, &name.text);
        let stage = self.checked(stage)?;
        let keys = if keyed { vec![visible.fields().len()] } else { Vec::new() };
        let pane = super::stages::with_key(&visible);
        let window = WindowOp::new(cover.input, cover.fires, cover.length_ms, pane, Contents::Rows);
        Some(self.stages.seal_window(stage, window, &visible, keys, self.rhythm(cover)))
    }

    /// Operators over a `window` stream that have a form of their own over windows, which does not look at all rows
    /// again. None for all others.
    pub(super) fn over_window(&mut self, stream: &StreamDef) -> Option<Option<Rows>> {
        let [from] = &stream.from[..] else {
            return None;
        };
        let window = self.def.stream(&from.text)?;
        let (Operator::Window(frame), [from]) = (&window.operator, &window.from[..]) else {
            return None;
        };
        let input = self.streams.get(from.text.as_str())?.clone();
        let name = &stream.name;
        Some(match &stream.operator {
            Operator::ReduceByKey { key, aggregates } => {
                self.reduce_by_key_and_window(input, key, aggregates, frame, false, name)
            }
            Operator::Reduce(columns) => self.reduce_by_window(input, columns, frame, name),
            Operator::Count => self.count_by_window(input, frame, name),
            Operator::CountByValue => self.count_by_value_and_window(input, frame, name),
            Operator::Distinct if has_keys_only(&input.schema()) => self.distinct_in_window(input, frame, name),
            // A window of rows with keys has them by key first, and so have lists.
            Operator::GroupByKey { key, values } if !input.is_keyed() => {
                self.group_by_key_and_window(input, key, values.as_deref(), frame, name)
            }
            _ => return None,
        })
    }

    /// `reduce_by_key_and_window`
    pub(super) fn reduce_by_key_and_window(
        &mut self,
        input: Rows,
        key: &[Name],
        columns: &[NamedSql],
        frame: &Frame,
        keep_keys: bool,
        name: &Name,
    ) -> Option<Rows> {
        let schema = input.schema();
        let cover = self.cover(&input, frame);
        let (keys, reduction) = self.keyed_reduction(&schema, key, columns)?;
        let (folded, rows) = self.folded(input, &keys, &reduction.aggregates, cover?, keep_keys, name)?;
        let exprs = (0..keys.len()).map(|i| column(&rows.plan.schema(), i)).collect();
        let rows = self.finish(rows, reduction, exprs)?;
        Some(self.seal_folded(folded, rows))
    }

    /// `reduce_by_window`: nothing for an empty window.
    pub(super) fn reduce_by_window(
        &mut self,
        input: Rows,
        columns: &[NamedSql],
        frame: &Frame,
        name: &Name,
    ) -> Option<Rows> {
        let schema = input.schema();
        let cover = self.cover(&input, frame);
        let (mut reduction, rows_counted) = self.whole_reduction(&schema, columns)?;
        let (folded, rows) = self.folded(input, &[], &reduction.aggregates, cover?, false, name)?;
        let rows = self.unless_empty(rows, &rows_counted, &mut reduction, &schema)?;
        let rows = self.finish(rows, reduction, Vec::new())?;
        Some(self.seal_folded(folded, rows))
    }

    /// `count_by_window`
    pub(super) fn count_by_window(&mut self, input: Rows, frame: &Frame, name: &Name) -> Option<Rows> {
        let cover = self.cover(&input, frame)?;
        let aggregates = Aggregates { calls: vec![count(lit(1))] };
        let (folded, rows) = self.folded(input, &[], &aggregates, cover, false, name)?;
        self.renamed(folded, rows, &["count"])
    }

    /// `count_by_value_and_window`: all columns are the key.
    pub(super) fn count_by_value_and_window(&mut self, input: Rows, frame: &Frame, name: &Name) -> Option<Rows> {
        let cover = self.cover(&input, frame)?;
        let schema = input.schema();
        let keys = self.counted(&schema)?;
        let columns: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).chain(["count"]).collect();
        let aggregates = Aggregates { calls: vec![count(lit(1))] };
        let (folded, rows) = self.folded(input, &keys, &aggregates, cover, false, name)?;
        self.renamed(folded, rows, &columns)
    }

    /// `distinct` over a window: keys without aggregates.
    fn distinct_in_window(&mut self, input: Rows, frame: &Frame, name: &Name) -> Option<Rows> {
        let cover = self.cover(&input, frame)?;
        let keys: Vec<_> = (0..input.schema().fields().len()).collect();
        let (folded, rows) = self.folded(input, &keys, &Aggregates::default(), cover, false, name)?;
        Some(self.seal_folded(folded, rows))
    }

    /// `group_by_key_and_window`: a list per column.
    pub(super) fn group_by_key_and_window(
        &mut self,
        input: Rows,
        key: &[Name],
        values: Option<&[Name]>,
        frame: &Frame,
        name: &Name,
    ) -> Option<Rows> {
        let schema = input.schema();
        let cover = self.cover(&input, frame);
        let (keys, values) = self.lists(&schema, key, values)?;
        let calls = values.iter().map(|&i| array_agg(column_expr(&schema, i))).collect();
        let (folded, rows) = self.folded(input, &keys, &Aggregates { calls }, cover?, false, name)?;
        let names: Vec<_> = keys.iter().chain(&values).map(|&i| schema.field(i).name().as_str()).collect();
        self.renamed(folded, rows, &names)
    }

    /// The results under these names.
    fn renamed(&mut self, folded: Folded, rows: Lane, names: &[&str]) -> Option<Rows> {
        let schema = rows.plan.schema();
        let named = names.iter().enumerate().map(|(i, name)| {
            let alias = (*name).to_string();
            ProjectionExpr { alias, ..column(&schema, i) }
        });
        let plan = self.checked(ProjectionExec::try_new(named.collect::<Vec<_>>(), rows.plan.clone()))?;
        Some(self.seal_folded(folded, rows.with(Arc::new(plan))))
    }

    /// Checks a window against what it reads.
    fn cover(&mut self, input: &Rows, frame: &Frame) -> Option<Cover> {
        let input = self.stages.rhythm(input);
        let interval = self.def.settings.batch_interval;
        let (step, what) = match input {
            Rhythm::EveryBatch => (interval, "the batch interval"),
            Rhythm::Every { slide_ms } => (Duration::from_millis(slide_ms as u64), "the slide of what it reads"),
            Rhythm::Once { .. } => {
                let wrong =
                    Diagnostic::new("a `slice` fires only once, so there is nothing for a window to slide over");
                self.report([wrong.at(self.place.clone()).help("put the window before the slice")]);
                return None;
            }
        };
        let mut multiple = |period: &Period, name: &str| {
            let fits = period.duration.as_micros().is_multiple_of(step.as_micros());
            if !fits {
                let wrong = format!("the {name} of a window is a multiple of {what}, {step:?}");
                self.report([Diagnostic::new(wrong).at(period.span.clone()).label(format!("no multiple of {step:?}"))]);
            }
            fits
        };
        let fits = multiple(&frame.length, "length");
        let fits = frame.slide.as_ref().is_none_or(|slide| multiple(slide, "slide")) && fits;
        let ms = |duration: Duration| duration.as_millis() as i64;
        let slide_ms = ms(frame.slide.as_ref().map_or(step, |slide| slide.duration));
        let cover =
            Cover { input, fires: Rhythm::Every { slide_ms }, step_ms: ms(step), length_ms: ms(frame.length.duration) };
        fits.then_some(cover)
    }

    /// What a window's stream says of when it fires. Where batches are never cut early, one per batch interval is every batch.
    fn rhythm(&self, cover: Cover) -> Rhythm {
        let settings = &self.def.settings;
        let cuts = settings.cut_at_records.is_some() || settings.cut_at_bytes.is_some();
        let interval_ms = settings.batch_interval.as_millis() as i64;
        match cover.fires {
            Rhythm::Every { slide_ms } if slide_ms == interval_ms && !cuts => Rhythm::EveryBatch,
            other => other,
        }
    }

    /// A stage that remembers partial aggregates per key (all rows are one key without any), and what finishes them:
    /// rows of key columns, then aggregates.
    fn folded(
        &mut self,
        input: Rows,
        keys: &[usize],
        aggregates: &Aggregates,
        cover: Cover,
        keep_keys: bool,
        name: &Name,
    ) -> Option<(Folded, Lane)> {
        let made = self.try_folded(input, keys, aggregates, cover, keep_keys, name);
        match made {
            Err(Failure::Uncuttable) => {
                self.report([Diagnostic::new("these aggregates cannot be spread over workers").at(name.span.clone())]);
                None
            }
            made => self.checked(made),
        }
    }

    fn try_folded(
        &mut self,
        input: Rows,
        keys: &[usize],
        aggregates: &Aggregates,
        cover: Cover,
        keep_keys: bool,
        name: &Name,
    ) -> Result<(Folded, Lane), Failure> {
        let schema = input.schema();
        let session = session::mergeable(self.session.clone());
        let plan = plan_physical(&session, &keyed_logical(&schema, keys, aggregates)?)?;
        let (partial, last) = halves(&plan).ok_or(Failure::Uncuttable)?;
        let rows = cut(&partial, &[input], &mut self.stages, &name.text)?;
        let columns = rows.schema();
        let hash = (0..keys.len()).collect();
        let rows = self.stages.hash(rows, hash, &name.text)?;
        let fold = fold(&last, &columns, keys.len(), &name.text)?;
        let leaf = Arc::new(LeafExec::new(0..1, columns.clone(), Shape::Distributed));
        let last = replace_children_if_necessary(last, vec![leaf])?;
        let mut folded = Folded { stage: rows.stage, cover, partial: columns, fold, keys: keys.len(), zero: None };
        if !keep_keys {
            return Ok((folded, rows.with(last)));
        }
        let leaf = Arc::new(LeafExec::new(0..1, last.schema(), Shape::Distributed));
        let none = defaults(self, &schema, aggregates)?.into_iter().map(|value| value.to_array_of_size(1));
        folded.zero = Some((last, none.collect::<Result<_>>()?));
        Ok((folded, rows.with(leaf)))
    }

    fn seal_folded(&mut self, folded: Folded, rows: Lane) -> Rows {
        let Folded { stage, cover, partial, fold, keys, zero } = folded;
        let visible = rows.plan.schema();
        let name = self.stages.name(stage);
        let results = Fragment::new(rows.plan, 1, name);
        let (finish, zero) = match zero {
            None => (results, None),
            Some((last, aggregates)) => (Fragment::new(last, 1, name), Some(Zero { aggregates, select: results })),
        };
        let keys_of_panes = partial.fields()[..keys].to_vec();
        let folds = Folds { step_ms: cover.step_ms, fold, finish, keys: keys_of_panes, zero };
        let contents = Contents::Folds(Box::new(folds));
        let window = WindowOp::new(cover.input, cover.fires, cover.length_ms, partial, contents);
        self.stages.seal_window(stage, window, &visible, (0..keys).collect(), self.rhythm(cover))
    }
}

/// Whether all columns can be keys.
fn has_keys_only(schema: &Schema) -> bool {
    schema.fields().iter().all(|field| is_encodable(field.data_type()))
}

/// The two aggregations of a plan: the one before the exchange, and the last one.
fn halves(plan: &Arc<dyn ExecutionPlan>) -> Option<(Arc<dyn ExecutionPlan>, Arc<dyn ExecutionPlan>)> {
    let last = plan.downcast_ref::<AggregateExec>()?;
    let [exchange] = last.children()[..] else {
        return None;
    };
    let [partial] = exchange.children()[..] else {
        return None;
    };
    let is_partial = |a: &AggregateExec| *a.mode() == AggregateMode::Partial;
    partial.downcast_ref::<AggregateExec>().filter(|a| is_partial(a))?;
    Some((partial.clone(), plan.clone()))
}

/// From partial aggregates to partial aggregates of a stream, for each [`FOLD`] for itself.
fn fold(last: &Arc<dyn ExecutionPlan>, partial: &SchemaRef, keys: usize, stream: &str) -> Result<Fragment, Failure> {
    let last = last.downcast_ref::<AggregateExec>().ok_or(Failure::Uncuttable)?;
    let number = Arc::new(Field::new(FOLD, DataType::Int64, false));
    let fields: Vec<_> = std::iter::once(number).chain(partial.fields().iter().cloned()).collect();
    let schema = Arc::new(Schema::new(fields));
    let group = |i: usize| {
        let name = schema.field(i).name().clone();
        (Arc::new(Column::new(&name, i)) as Arc<dyn PhysicalExpr>, name)
    };
    let by = PhysicalGroupBy::new_single((0..=keys).map(group).collect());
    let calls = last.aggr_expr().to_vec();
    let filters = vec![None; calls.len()];
    let leaf = Arc::new(LeafExec::new(0..1, schema.clone(), Shape::Distributed));
    let plan = AggregateExec::try_new(AggregateMode::PartialReduce, by, calls, filters, leaf, schema)?;
    Ok(Fragment::new(Arc::new(plan), 1, stream))
}
