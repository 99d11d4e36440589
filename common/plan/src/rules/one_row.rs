//! A query in the place of a value gives one row, or none, which is null. DataFusion plans it as a join with all of its
//! rows, so that more than one would multiply the rows outside.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, UInt64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, LogicalPlan, LogicalPlanBuilder, Signature, Subquery, Volatility,
};
use datafusion::optimizer::analyzer::AnalyzerRule;
use std::mem::size_of_val;
use std::sync::Arc;

/// Has a query that may give more rows than one fail when it does. One that looks at the row outside is an aggregation
/// without keys, or DataFusion refuses it.
#[derive(Debug)]
pub(super) struct OneRow;

impl AnalyzerRule for OneRow {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let has_place = matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Filter(_));
            plan.map_expressions(|expr| {
                expr.transform_up(|expr| match expr {
                    Expr::ScalarSubquery(_) if !has_place => plan_err!(
                        "a query as a value stands in `where`, `having` or among what is selected: select it in a query within \
                         this one, and use its column here"
                    ),
                    expr => limited(expr),
                })
            })
        })
        .data()
    }

    fn name(&self) -> &str {
        "one_row"
    }
}

fn limited(expr: Expr) -> Result<Transformed<Expr>> {
    match expr {
        Expr::ScalarSubquery(query) if may_give_more(&query) => {
            let Subquery { subquery, outer_ref_columns, spans } = query;
            let columns = subquery.schema().columns();
            let [column] = &columns[..] else {
                return Ok(Transformed::no(Expr::ScalarSubquery(Subquery { subquery, outer_ref_columns, spans })));
            };
            let only = AggregateUDF::from(Only::new()).call(vec![Expr::Column(column.clone())]);
            let only = only.alias_qualified(column.relation.clone(), &column.name);
            let no_keys: [Expr; 0] = [];
            let plan = LogicalPlanBuilder::from(subquery).aggregate(no_keys, [only])?.build()?;
            Ok(Transformed::yes(Expr::ScalarSubquery(Subquery { subquery: plan.into(), outer_ref_columns, spans })))
        }
        expr => Ok(Transformed::no(expr)),
    }
}

fn may_give_more(query: &Subquery) -> bool {
    query.outer_ref_columns.is_empty() && query.subquery.max_rows().is_none_or(|rows| rows > 1)
}

/// The value of the only row. Users cannot name it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Only {
    signature: Signature,
}

impl Only {
    fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Only {
    fn name(&self) -> &str {
        "only"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Null))
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        let columns: Vec<_> = params.args.iter().map(|column| column.human_display().to_string()).collect();
        Ok(format!("(select {} ..)", columns.join(", ")))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let value = args.return_field.data_type().clone();
        Ok(vec![
            Arc::new(Field::new(format_state_name(args.name, "rows"), DataType::UInt64, true)),
            Arc::new(Field::new(format_state_name(args.name, "value"), value, true)),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OnlyRow { rows: 0, value: ScalarValue::try_from(args.return_field.data_type())? }))
    }
}

#[derive(Debug)]
struct OnlyRow {
    rows: u64,
    value: ScalarValue,
}

impl OnlyRow {
    /// Takes this many rows, of which the first is at a place.
    fn take(&mut self, rows: u64, values: &ArrayRef, place: usize) -> Result<()> {
        self.rows = self.rows.saturating_add(rows);
        match (rows, self.rows) {
            (0, _) => Ok(()),
            (_, 1) => {
                self.value = ScalarValue::try_from_array(values, place)?;
                Ok(())
            }
            _ => exec_err!(
                "a query that stands in the place of a value gives more than one row: make it one with an aggregate, or with \
                 `order by` and `limit 1`"
            ),
        }
    }
}

impl Accumulator for OnlyRow {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.take(values[0].len() as u64, &values[0], 0)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states[0].as_primitive::<UInt64Type>();
        rows.iter().flatten().enumerate().try_for_each(|(place, rows)| self.take(rows, &states[1], place))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::UInt64(Some(self.rows)), self.value.clone()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of_val(self) - size_of_val(&self.value) + self.value.size()
    }
}
