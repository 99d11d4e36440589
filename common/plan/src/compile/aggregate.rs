//! Operators that add up rows: `reduce_by_key`, `reduce`, `count`, `distinct`.

use super::cut::{cut, single};
use super::expr::{Allowed, check_names, find, parse, physical};
use super::stages::{Head, Lane, Part, Rows, column};
use super::tried::try_plan;
use super::{Compiler, Failure};
use crate::exec::LeafTable;
use crate::keys::is_encodable;
use crate::plan::Reads;
use crate::session::Shape;
use datafusion::arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::datasource::provider_as_source;
use datafusion::execution::context::SessionState;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::physical_expr::expressions::{self, BinaryExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use futures::executor::block_on;
use std::sync::Arc;
use tidemill_common::diag::Diagnostic;
use tidemill_job::{Name, NamedSql, Sql};
use tidemill_rows::type_name;

/// Aggregate calls taken out of expressions, each once.
#[derive(Debug, Default)]
pub(super) struct Aggregates {
    pub(super) calls: Vec<Expr>,
}

impl Aggregates {
    /// The column that holds a call.
    fn name(index: usize) -> String {
        format!("__aggregate_{index}")
    }

    /// The expression with a column in the place of every aggregate.
    pub(super) fn lift(&mut self, expr: Expr) -> Result<Expr> {
        // From the outside in, so that a call goes with all that is in it.
        expr.transform_down(|node| {
            if !matches!(node, Expr::AggregateFunction(_)) {
                return Ok(Transformed::no(node));
            }
            let index = self.calls.iter().position(|call| *call == node);
            let index = index.unwrap_or_else(|| {
                self.calls.push(node);
                self.calls.len() - 1
            });
            let column = Expr::Column(Column::new_unqualified(Self::name(index)));
            Ok(Transformed::new(column, true, datafusion::common::tree_node::TreeNodeRecursion::Jump))
        })
        .data()
    }

    /// What the calls give over rows of this schema.
    pub(super) fn fields(&self, input: &DFSchema) -> Result<Vec<Field>> {
        let field = |(i, call): (usize, &Expr)| {
            let (_, field) = call.to_field(input)?;
            Ok(Field::new(Self::name(i), field.data_type().clone(), true))
        };
        self.calls.iter().enumerate().map(field).collect()
    }

    /// The calls, named.
    pub(super) fn named(&self) -> impl Iterator<Item = Expr> + '_ {
        self.calls.iter().enumerate().map(|(i, call)| call.clone().alias(Self::name(i)))
    }
}

/// Named expressions over keys and aggregates.
pub(super) struct Reduction<'a> {
    pub(super) aggregates: Aggregates,
    /// Over the columns of `schema`.
    exprs: Vec<(&'a NamedSql, Expr)>,
    /// Keys, then one column per call.
    schema: DFSchema,
}

impl Compiler<'_> {
    /// `reduce_by_key`
    pub(super) fn reduce_by_key(
        &mut self,
        input: Rows,
        key: &[Name],
        columns: &[NamedSql],
        name: &Name,
    ) -> Option<Rows> {
        let schema = input.schema();
        let (keys, reduction) = self.keyed_reduction(&schema, key, columns)?;
        let plan = self.keyed_aggregate(input, &keys, &reduction.aggregates, name)?;
        let exprs = (0..keys.len()).map(|i| column(&plan.plan.schema(), i)).collect();
        Some(self.finish(plan, reduction, exprs)?.into())
    }

    /// Key columns, and expressions over aggregates per key.
    pub(super) fn keyed_reduction<'a>(
        &mut self,
        schema: &SchemaRef,
        key: &[Name],
        columns: &'a [NamedSql],
    ) -> Option<(Vec<usize>, Reduction<'a>)> {
        let names = key.iter().chain(columns.iter().map(|column| &column.name));
        self.report(check_names(names.map(|n| (n.text.as_str(), &n.span))));
        let keys = self.keys(schema, key);
        let key_fields: Vec<_> = match &keys {
            Some(keys) => keys.iter().map(|&i| schema.field(i).clone()).collect(),
            None => schema.fields().iter().map(|field| field.as_ref().clone()).collect(),
        };
        let reduction = self.reduction(schema, &key_fields, columns)?;
        Some((keys?, reduction))
    }

    /// `reduce`: a hidden count tells an empty batch.
    pub(super) fn reduce(&mut self, input: Rows, columns: &[NamedSql], name: &Name) -> Option<Rows> {
        let schema = input.schema();
        let (mut reduction, rows) = self.whole_reduction(&schema, columns)?;
        let plan = self.whole_aggregate(input, &reduction.aggregates, name)?;
        let plan = self.unless_empty(plan, &rows, &mut reduction, &schema)?;
        Some(self.finish(plan, reduction, Vec::new())?.into())
    }

    /// Expressions over aggregates of all rows, and the column that counts these.
    pub(super) fn whole_reduction<'a>(
        &mut self,
        schema: &SchemaRef,
        columns: &'a [NamedSql],
    ) -> Option<(Reduction<'a>, Column)> {
        self.report(check_names(columns.iter().map(|c| (c.name.text.as_str(), &c.name.span))));
        let mut reduction = self.reduction(schema, &[], columns)?;
        let rows = reduction.aggregates.lift(count(lit(1)));
        let Expr::Column(rows) = self.checked(rows)? else {
            return None;
        };
        Some((reduction, rows))
    }

    /// Drops the aggregates if they are over no rows at all.
    pub(super) fn unless_empty(
        &mut self,
        aggregated: Lane,
        rows: &Column,
        reduction: &mut Reduction<'_>,
        schema: &SchemaRef,
    ) -> Option<Lane> {
        let counted = self.checked(expressions::col(&rows.name, &aggregated.plan.schema()))?;
        let some = BinaryExpr::new(counted, datafusion::logical_expr::Operator::Gt, expressions::lit(0i64));
        let filter = self.checked(FilterExec::try_new(Arc::new(some), aggregated.plan.clone()))?;
        let input = self.df_schema(schema)?;
        let extra = self.checked(reduction.aggregates.fields(&input))?;
        reduction.schema = self.df_schema(&Arc::new(Schema::new(extra)))?;
        Some(aggregated.with(Arc::new(filter)))
    }

    /// `count`
    pub(super) fn count(&mut self, input: Rows, name: &Name) -> Option<Rows> {
        let rows = self.whole_aggregate(input, &Aggregates { calls: vec![count(lit(1))] }, name)?;
        let schema = rows.plan.schema();
        let count = ProjectionExpr { alias: "count".to_string(), ..column(&schema, 0) };
        let plan = self.checked(ProjectionExec::try_new([count], rows.plan.clone()))?;
        Some(rows.with(Arc::new(plan)).into())
    }

    /// `distinct`: all columns are the key.
    pub(super) fn distinct(&mut self, input: Rows, name: &Name) -> Option<Rows> {
        let schema = input.schema();
        let logical = |shape| scan(&schema, shape)?.distinct()?.build();
        let rows = self.planned(&[input], name, logical);
        self.checked(rows)
    }

    /// The positions of key columns that can be keys.
    pub(super) fn keys(&mut self, schema: &Schema, key: &[Name]) -> Option<Vec<usize>> {
        let mut keys = Vec::with_capacity(key.len());
        for name in key {
            let Some(index) = self.reported(find(schema, name)) else {
                continue;
            };
            let data_type = schema.field(index).data_type();
            if is_encodable(data_type) {
                keys.push(index);
            } else {
                let wrong = format!("a {} cannot be a key", type_name(data_type));
                self.report([Diagnostic::new(wrong).at(name.span.clone())]);
            }
        }
        (keys.len() == key.len()).then_some(keys)
    }

    fn reduction<'a>(
        &mut self,
        schema: &SchemaRef,
        key_fields: &[Field],
        columns: &'a [NamedSql],
    ) -> Option<Reduction<'a>> {
        let input = self.df_schema(schema)?;
        let mut aggregates = Aggregates::default();
        let mut exprs = Vec::with_capacity(columns.len());
        for column in columns {
            let lifted = parse(&self.session, &column.sql, &input, Allowed::Aggregates)
                .and_then(|expr| lift(&mut aggregates, expr, &input, &column.sql))
                .and_then(|expr| only_keys(&expr, key_fields, &column.sql).map(|()| expr));
            exprs.extend(self.reported(lifted).map(|expr| (column, expr)));
        }
        let fields = self.checked(aggregates.fields(&input))?;
        let fields: Fields = key_fields.iter().cloned().chain(fields).collect();
        let schema = self.df_schema(&Arc::new(Schema::new(fields)))?;
        for (column, expr) in &exprs {
            let checked = physical(&self.session, &column.sql, expr.clone(), &schema);
            self.reported(checked)?;
        }
        (exprs.len() == columns.len()).then_some(Reduction { aggregates, exprs, schema })
    }

    /// The named expressions, computed where the aggregates are.
    pub(super) fn finish(
        &mut self,
        rows: Lane,
        reduction: Reduction<'_>,
        mut exprs: Vec<ProjectionExpr>,
    ) -> Option<Lane> {
        for (column, expr) in reduction.exprs {
            let expr = physical(&self.session, &column.sql, expr, &reduction.schema);
            let expr = self.reported(expr)?;
            exprs.push(ProjectionExpr { expr, alias: column.name.text.clone() });
        }
        let plan = self.checked(ProjectionExec::try_new(exprs, rows.plan.clone()))?;
        Some(rows.with(Arc::new(plan)))
    }

    /// A head that gives these key columns and the aggregates, in order.
    pub(super) fn keyed_aggregate(
        &mut self,
        input: Rows,
        keys: &[usize],
        aggregates: &Aggregates,
        name: &Name,
    ) -> Option<Lane> {
        let schema = input.schema();
        let logical = self.checked(keyed_logical(&schema, keys, aggregates))?;
        let plan = self.checked(plan_physical(&self.session, &logical))?;
        let rows = cut(&plan, &[input], &mut self.stages, &name.text);
        let lane = self.checked(rows)?.0.pop()?;
        if lane.part != Part::Head(Head::Keys((0..keys.len()).collect())) {
            self.report([Diagnostic::new("these aggregates cannot be spread over workers").at(name.span.clone())]);
            return None;
        }
        Some(lane)
    }

    /// A head that gives one row: the aggregates.
    fn whole_aggregate(&mut self, input: Rows, aggregates: &Aggregates, name: &Name) -> Option<Lane> {
        let schema = input.schema();
        let logical = |shape| {
            let no_keys: [Expr; 0] = [];
            scan(&schema, shape)?.aggregate(no_keys, aggregates.named())?.build()
        };
        let rows = self.planned(&[input], name, logical);
        self.checked(rows)?.0.pop()
    }

    /// Rows of a logical plan over leaves that stand for the inputs: cut into stages if that is possible, else as one
    /// piece over all rows in one place.
    pub(super) fn planned(
        &mut self,
        inputs: &[Rows],
        name: &Name,
        logical: impl Fn(Shape) -> Result<LogicalPlan>,
    ) -> Result<Rows, Failure> {
        let plan = plan_physical(&self.session, &logical(Shape::Distributed)?)?;
        match cut(&plan, inputs, &mut self.stages, &name.text) {
            Err(Failure::Uncuttable) => {
                let plan = plan_physical(&self.single_session, &logical(Shape::Single)?)?;
                let (stage, all) = self.stages.gather_together(inputs.to_vec(), &name.text)?;
                let plan = single(plan, &all)?;
                Ok(Lane { stage, plan, part: Part::Head(Head::Single), reads: Reads::Rows }.into())
            }
            rows => rows,
        }
    }
}

/// Aggregates per key over a leaf of these columns.
pub(super) fn keyed_logical(schema: &SchemaRef, keys: &[usize], aggregates: &Aggregates) -> Result<LogicalPlan> {
    let group: Vec<_> = keys.iter().map(|&i| column_expr(schema, i)).collect();
    scan(schema, Shape::Distributed)?.aggregate(group, aggregates.named())?.build()
}

/// The name of the leaf that operators are planned over; users do not know it.
pub(crate) const LEAF: &str = "input";

/// Plans over a leaf of these columns.
pub(super) fn scan(schema: &SchemaRef, shape: Shape) -> Result<LogicalPlanBuilder> {
    let table = LeafTable::new(0, schema.clone(), shape);
    LogicalPlanBuilder::scan(LEAF, provider_as_source(Arc::new(table)), None)
}

/// Optimises and plans; nothing in it waits for anything.
pub(super) fn plan_physical(session: &SessionState, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = block_on(session.create_physical_plan(plan))?;
    try_plan(&plan)?;
    Ok(plan)
}

/// Takes aggregates out, which have to be right in themselves.
pub(super) fn lift(aggregates: &mut Aggregates, expr: Expr, input: &DFSchema, sql: &Sql) -> Result<Expr, Diagnostic> {
    let before = aggregates.calls.len();
    let lifted = aggregates.lift(expr).and_then(|lifted| {
        aggregates.calls[before..].iter().try_for_each(|call| call.get_type(input).map(drop))?;
        Ok(lifted)
    });
    lifted.map_err(|error| {
        aggregates.calls.truncate(before);
        super::expr::diagnose(&error, sql)
    })
}

/// Outside of aggregates only keys have one value per key.
fn only_keys(expr: &Expr, key_fields: &[Field], sql: &Sql) -> Result<(), Diagnostic> {
    let is_known = |name: &str| name.starts_with("__aggregate_") || key_fields.iter().any(|field| field.name() == name);
    match expr.column_refs().iter().map(|column| &column.name).filter(|name| !is_known(name)).min() {
        None => Ok(()),
        Some(other) => Err(Diagnostic::new(format!("`{other}` has many values here, not one"))
            .at(sql.span.clone())
            .label("expected an aggregate")
            .help(format!("say which one is meant, for example `max({other})`, or make it a key"))),
    }
}

/// A column as it is.
pub(super) fn column_expr(schema: &Schema, index: usize) -> Expr {
    Expr::Column(Column::new_unqualified(schema.field(index).name()))
}
