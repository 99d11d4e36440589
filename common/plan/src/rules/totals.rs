//! The total of `rollup`, `cube` and `grouping sets` has a row for no rows, too, as an aggregation without keys has.
//! DataFusion makes it of the rows of its group, of which there are none then.

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{
    Aggregate, Expr, GroupingSet, LogicalPlan, LogicalPlanBuilder, Projection, Union, cast, lit,
};
use datafusion::optimizer::analyzer::AnalyzerRule;
use std::sync::Arc;

/// Splits the empty grouping set off: an aggregation without keys.
#[derive(Debug)]
pub(super) struct GrandTotals;

impl AnalyzerRule for GrandTotals {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let LogicalPlan::Aggregate(aggregate) = plan else { return Ok(Transformed::no(plan)) };
            let [Expr::GroupingSet(sets)] = &aggregate.group_expr[..] else {
                return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
            };
            let (empty, others): (Vec<_>, Vec<_>) = written_out(sets).into_iter().partition(Vec::is_empty);
            if empty.is_empty() {
                return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
            }
            Ok(Transformed::yes(split(&aggregate, others, empty.len())?))
        })
        .data()
    }

    fn name(&self) -> &str {
        "grand_totals"
    }
}

/// The sets one by one, the fullest first.
fn written_out(sets: &GroupingSet) -> Vec<Vec<Expr>> {
    match sets {
        GroupingSet::GroupingSets(sets) => sets.clone(),
        GroupingSet::Rollup(keys) => (0..=keys.len()).rev().map(|width| keys[..width].to_vec()).collect(),
        GroupingSet::Cube(keys) => {
            let holds = |set: u64, place: usize| set >> (keys.len() - 1 - place) & 1 == 1;
            let of =
                |set| (0..keys.len()).filter(|place| holds(set, *place)).map(|place| keys[place].clone()).collect();
            (0..1u64 << keys.len()).rev().map(of).collect()
        }
    }
}

/// The other sets, then so many totals, under the names of the whole.
fn split(whole: &Aggregate, others: Vec<Vec<Expr>>, totals: usize) -> Result<LogicalPlan> {
    let total = Arc::new(total(whole)?);
    let mut parts = vec![total; totals];
    if !others.is_empty() {
        let sets = vec![Expr::GroupingSet(GroupingSet::GroupingSets(others))];
        let others = Aggregate::try_new(whole.input.clone(), sets, whole.aggr_expr.clone())?;
        let columns = others.schema.columns().into_iter().map(Expr::Column);
        parts.insert(0, Arc::new(numbered(LogicalPlan::Aggregate(others), columns)?));
    }
    let all = match &parts[..] {
        [one] => one.as_ref().clone(),
        _ => LogicalPlan::Union(Union::try_new_with_loose_types(parts)?),
    };
    let named = whole.schema.iter().enumerate().map(|(number, (relation, field))| {
        let column = Expr::Column(Column::from_name(column_name(number)));
        column.alias_qualified(relation.cloned(), field.name())
    });
    let named: Vec<_> = named.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(named, Arc::new(all))?))
}

/// The row of the empty set: no keys, all bits of the grouping id, aggregates over all rows.
fn total(whole: &Aggregate) -> Result<LogicalPlan> {
    let keys = whole.schema.fields().len() - whole.aggr_expr.len() - 1;
    let calls = if whole.aggr_expr.is_empty() { vec![count(lit(1))] } else { whole.aggr_expr.clone() };
    let aggregate = Aggregate::try_new(whole.input.clone(), Vec::new(), calls)?;
    let values = aggregate.schema.columns().into_iter().map(Expr::Column).take(whole.aggr_expr.len());
    let fields = whole.schema.fields();
    let none = fields[..keys].iter().map(|field| cast(lit(ScalarValue::Null), field.data_type().clone()));
    let all_bits = 1u64.checked_shl(keys as u32).map_or(u64::MAX, |above| above - 1);
    let id = cast(lit(all_bits), fields[keys].data_type().clone());
    let columns: Vec<_> = none.chain([id]).chain(values).collect();
    numbered(LogicalPlan::Aggregate(aggregate), columns)
}

fn numbered(plan: LogicalPlan, columns: impl IntoIterator<Item = Expr>) -> Result<LogicalPlan> {
    let columns = columns.into_iter().enumerate().map(|(number, column)| column.alias(column_name(number)));
    LogicalPlanBuilder::from(plan).project(columns.collect::<Vec<_>>())?.build()
}

fn column_name(number: usize) -> String {
    format!("__set_{number}")
}
