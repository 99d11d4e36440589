//! Joins with a table: every row of the stream looks up its partners where it is, without an exchange. What would have
//! to know all rows of the batch (rows of the table without a partner) runs in one place instead.

use super::aggregate::scan;
use super::stages::{Lane, Rows, column};
use super::together::Keys;
use super::{Compiler, Failure};
use crate::exec::{FixedExec, FixedTable, OneBatch, OverExec};
use crate::session::Shape;
use datafusion::arrow::datatypes::Schema;
use datafusion::common::{Column, JoinType, Result};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, when};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, HashJoinExecBuilder, PartitionMode};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::repartition::RepartitionExec;
use std::sync::Arc;
use tidemill_job::{JoinKind, Name, On};

/// A join of a stream and a table, as it was written.
struct LookUp<'a> {
    kind: JoinKind,
    /// Columns of both sides.
    schemas: [&'a Schema; 2],
    keys: &'a Keys,
    table: &'a FixedTable,
    /// Whether the table is the left side.
    table_first: bool,
    /// What comes out, from columns of `left` and `right`; absent where whole rows do.
    columns: Option<Vec<Expr>>,
}

impl Compiler<'_> {
    /// `join` and its kin with a table on one side: the columns of the join of two streams, in the order of the stream,
    /// for each of its rows in the order of the table. Rows of the stream without a partner may come behind others of
    /// their unit; rows of the table without a partner come behind all others.
    pub(super) fn look_up(
        &mut self,
        input: &Rows,
        table: &FixedTable,
        from: &[Name],
        (kind, on): (JoinKind, &On),
        name: &Name,
    ) -> Option<Rows> {
        let table_first = from[0].text == table.name();
        let (stream, of_table) = (input.schema(), table.columns());
        let schemas = if table_first { [&*of_table, &*stream] } else { [&*stream, &*of_table] };
        let keys = self.common_keys(schemas[0], schemas[1], from, on)?;
        let columns = match kind {
            JoinKind::Semi | JoinKind::Anti => None,
            _ => {
                let named = self.named(schemas, [&keys.left, &keys.right], from)?;
                let merged = named.keys.iter().enumerate().map(|(number, name)| {
                    let (left, right) =
                        (side(LEFT, schemas[0], keys.left[number]), side(RIGHT, schemas[1], keys.right[number]));
                    let key = match kind {
                        JoinKind::RightOuter => right,
                        JoinKind::FullOuter => when(left.clone().is_not_null(), left).otherwise(right)?,
                        _ => left,
                    };
                    Ok(key.alias(name))
                });
                let merged: Result<Vec<_>> = merged.collect();
                let mut columns = self.checked(merged)?;
                columns.extend(named.left.iter().map(|(index, name)| side(LEFT, schemas[0], *index).alias(name)));
                columns.extend(named.right.iter().map(|(index, name)| side(RIGHT, schemas[1], *index).alias(name)));
                Some(columns)
            }
        };
        let look_up = LookUp { kind, schemas, keys: &keys, table, table_first, columns };
        let rows = self.planned(std::slice::from_ref(input), name, |shape| look_up.logical(shape));
        self.checked(rows)
    }
}

const LEFT: &str = "left";
const RIGHT: &str = "right";

fn side(name: &str, schema: &Schema, index: usize) -> Expr {
    Expr::Column(Column::new(Some(name), schema.field(index).name()))
}

impl LookUp<'_> {
    fn logical(&self, shape: Shape) -> Result<LogicalPlan> {
        let table = provider_as_source(Arc::new(self.table.planned_for(shape)));
        let table = LogicalPlanBuilder::scan(self.table.name(), table, None)?;
        let stream = scan(&Arc::new(self.schemas[usize::from(self.table_first)].clone()), shape)?;
        let (left, right) = if self.table_first { (table, stream) } else { (stream, table) };
        let Keys { left: left_keys, right: right_keys, .. } = self.keys;
        let left = self.with_keys(left, self.schemas[0], left_keys)?.alias(LEFT)?;
        let right = self.with_keys(right, self.schemas[1], right_keys)?.alias(RIGHT)?;
        let names = |name: &str, schema: &Schema, keys: &[usize]| -> Vec<Column> {
            keys.iter().map(|&key| Column::new(Some(name), schema.field(key).name())).collect()
        };
        let (left_keys, right_keys) =
            (names(LEFT, self.schemas[0], left_keys), names(RIGHT, self.schemas[1], right_keys));
        let join_type = match self.kind {
            JoinKind::Inner => JoinType::Inner,
            JoinKind::LeftOuter => JoinType::Left,
            JoinKind::RightOuter => JoinType::Right,
            JoinKind::FullOuter => JoinType::Full,
            JoinKind::Semi => JoinType::LeftSemi,
            JoinKind::Anti => JoinType::LeftAnti,
        };
        // The table comes first: the other side gives the order.
        let joined = match self.table_first {
            true => left.join(right.build()?, join_type, (left_keys, right_keys), None)?,
            false => right.join(left.build()?, join_type.swap(), (right_keys, left_keys), None)?,
        };
        match &self.columns {
            Some(columns) => joined.project(columns.clone())?.build(),
            None => joined.build(),
        }
    }

    /// All columns of a side, keys in the types in which they are compared.
    fn with_keys(&self, rows: LogicalPlanBuilder, schema: &Schema, keys: &[usize]) -> Result<LogicalPlanBuilder> {
        let columns = schema.fields().iter().enumerate().map(|(index, field)| {
            let plain = Expr::Column(Column::new_unqualified(field.name()));
            let Some(number) = keys.iter().position(|&key| key == index) else { return plain };
            let data_type = &self.keys.types[number];
            let key = if field.data_type() == data_type { plain } else { cast(plain, data_type.clone()) };
            key.alias(field.name())
        });
        rows.project(columns.collect::<Vec<_>>())
    }
}

/// A plan that reads nothing but a table, row by row, and so gives the same everywhere: for one partition.
pub(super) fn fixed(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(table) = plan.downcast_ref::<FixedExec>() {
        return Ok(Some(Arc::new(table.planned_for(Shape::Single))));
    }
    let [child] = plan.children()[..] else { return Ok(None) };
    let Some(child) = fixed(child)? else { return Ok(None) };
    if plan.is::<RepartitionExec>() {
        return Ok(Some(child));
    }
    let row_by_row =
        plan.is::<ProjectionExec>() || plan.downcast_ref::<FilterExec>().is_some_and(|f| f.fetch().is_none());
    match row_by_row {
        true => replace_children_if_necessary(plan.clone(), vec![child]).map(Some),
        false => Ok(None),
    }
}

/// The columns of `join`, one of whose sides is a table (`table_first`: the left one), for the rows of a lane.
///
/// Rows of an outer join without a partner come when a batch of the plan ends. The lane runs per unit, or in one place:
/// where that is depends on nothing but the rows.
pub(super) fn look_up(
    join: &HashJoinExec,
    table: Arc<dyn ExecutionPlan>,
    table_first: bool,
    lane: Lane,
) -> Result<Lane, Failure> {
    let (on, join_type, filter) = match table_first {
        true => (join.on().to_vec(), *join.join_type(), join.filter().cloned()),
        false => {
            let on = join.on().iter().map(|(left, right)| (right.clone(), left.clone())).collect();
            (on, join.join_type().swap(), join.filter().map(|filter| filter.swap()))
        }
    };
    let width = table.schema().fields().len();
    let visible = lane.schema().fields().len();
    // What comes out of the join, in the order of the one that was planned.
    let columns: Vec<usize> = match join_type {
        JoinType::Inner | JoinType::Right if table_first => (0..width + visible).collect(),
        JoinType::Inner | JoinType::Right => (width..width + visible).chain(0..width).collect(),
        JoinType::RightSemi | JoinType::RightAnti => (0..visible).collect(),
        _ => return Err(Failure::Uncuttable),
    };
    let plan = HashJoinExecBuilder::new(OverExec::try_new(table, OneBatch)?, lane.plan.clone(), on, join_type)
        .with_filter(filter)
        .with_partition_mode(PartitionMode::Partitioned)
        .with_null_equality(join.null_equality())
        .build()?;
    let schema = plan.schema();
    let columns: Vec<ProjectionExpr> = match &join.projection {
        Some(chosen) => chosen.iter().map(|&index| column(&schema, columns[index])).collect(),
        None => columns.into_iter().map(|index| column(&schema, index)).collect(),
    };
    Ok(lane.with(Arc::new(plan)).projected(columns)?)
}
