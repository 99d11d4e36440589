//! `and` and `or` from left to right.

use super::fallible::may_fail;
use datafusion::arrow::array::{Array, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::kernels::boolean::{and_kleene, not, or_kleene};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::expressions;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr, create_physical_expr};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The expression over columns of this schema with what decides and can fail asked in order. Nothing may optimise it
/// afterwards.
///
/// # Errors
/// When a part of it cannot be prepared.
pub(crate) fn lazily(expr: Expr, schema: &DFSchema, props: &ExecutionProps) -> Result<Transformed<Expr>> {
    expr.transform_down(|node| match node {
        Expr::BinaryExpr(BinaryExpr { op: op @ (Operator::And | Operator::Or), .. }) => {
            let count = |node: &Expr| operands(node, op).skip(1).any(|operand| may_fail(operand, schema));
            match count(&node) {
                true => {
                    let chain = Chain::of(operands(&node, op), op, schema, props)?;
                    Ok(Transformed::new(chain, true, TreeNodeRecursion::Jump))
                }
                // Below the operands, if anywhere.
                false => in_operands(node, op, schema, props),
            }
        }
        node => Ok(Transformed::no(node)),
    })
}

/// The operands of a chain of the same operator, however it is nested.
fn operands(node: &Expr, op: Operator) -> impl Iterator<Item = &Expr> {
    let mut rest = vec![node];
    std::iter::from_fn(move || {
        loop {
            match rest.pop()? {
                Expr::BinaryExpr(BinaryExpr { left, op: other, right }) if *other == op => {
                    rest.extend([&**right, &**left])
                }
                operand => return Some(operand),
            }
        }
    })
}

/// [`lazily`] in the first operand, the only one that can fail.
fn in_operands(node: Expr, op: Operator, schema: &DFSchema, props: &ExecutionProps) -> Result<Transformed<Expr>> {
    let fails = operands(&node, op).next().is_some_and(|first| may_fail(first, schema));
    if !fails {
        return Ok(Transformed::new(node, false, TreeNodeRecursion::Jump));
    }
    let parts: Vec<Expr> = operands(&node, op).cloned().collect();
    let parts = parts.into_iter().map(|part| lazily(part, schema, props)).collect::<Result<Vec<_>>>()?;
    let transformed = parts.iter().any(|part| part.transformed);
    let joined = |left: Expr, right: Expr| Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
    let whole = parts.into_iter().map(|part| part.data).reduce(joined).unwrap_or(node);
    Ok(Transformed::new(whole, transformed, TreeNodeRecursion::Jump))
}

/// Operands over the columns that are its arguments. Users cannot name it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Chain {
    op: Operator,
    operands: Vec<Arc<dyn PhysicalExpr>>,
    /// Of the arguments.
    schema: SchemaRef,
    signature: Signature,
}

impl Chain {
    fn of<'a>(
        operands: impl Iterator<Item = &'a Expr>,
        op: Operator,
        schema: &DFSchema,
        props: &ExecutionProps,
    ) -> Result<Expr> {
        let operands = operands.map(|operand| lazily(operand.clone(), schema, props).data());
        let operands = operands.collect::<Result<Vec<_>>>()?;
        let columns: BTreeSet<Column> = operands.iter().flat_map(Expr::column_refs).cloned().collect();
        let fields = columns.iter().map(|column| {
            let (relation, field) = schema.qualified_field_from_column(column)?;
            Ok((relation.cloned(), field.clone()))
        });
        let seen = DFSchema::new_with_metadata(fields.collect::<Result<_>>()?, HashMap::new())?;
        let prepared =
            |operand: &Expr| create_physical_expr(operand, &seen, props, &PhysicalPlanningContext::default());
        let chain = Self {
            op,
            operands: operands.iter().map(prepared).collect::<Result<_>>()?,
            schema: seen.inner().clone(),
            signature: Signature::any(columns.len(), Volatility::Immutable),
        };
        Ok(ScalarUDF::from(chain).call(columns.into_iter().map(Expr::Column).collect()))
    }

    /// Null decides nothing.
    fn undecided(&self, decided: &BooleanArray) -> Result<BooleanArray> {
        let open = if self.op == Operator::And { decided.clone() } else { not(decided)? };
        Ok(match open.nulls() {
            Some(nulls) => BooleanArray::new(open.values() | &!nulls.inner(), None),
            None => open,
        })
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let mut decided = BooleanArray::from(vec![self.op == Operator::And; rows.num_rows()]);
        for operand in &self.operands {
            let undecided = self.undecided(&decided)?;
            if !undecided.has_true() {
                break;
            }
            let next = operand.evaluate_selection(rows, &undecided)?.into_array(rows.num_rows())?;
            // What is not asked for is already what it is, whatever stands beside it.
            decided = match self.op {
                Operator::And => and_kleene(&decided, next.as_boolean())?,
                _ => or_kleene(&decided, next.as_boolean())?,
            };
        }
        Ok(decided)
    }
}

impl ScalarUDFImpl for Chain {
    fn name(&self) -> &str {
        if self.op == Operator::And { "and" } else { "or" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = args.args.into_iter().map(|column| column.into_array(args.number_rows));
        let options = RecordBatchOptions::new().with_row_count(Some(args.number_rows));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns.collect::<Result<_>>()?, &options)?;
        Ok(ColumnarValue::Array(Arc::new(self.evaluate(&rows)?)))
    }
}

/// How a call of a [`Chain`] is written; `None` of any other.
pub(crate) fn as_operators(call: &ScalarFunctionExpr) -> Option<Arc<dyn PhysicalExpr>> {
    let chain = call.fun().inner().downcast_ref::<Chain>()?;
    let joined = |left, right| Arc::new(expressions::BinaryExpr::new(left, chain.op, right)) as Arc<dyn PhysicalExpr>;
    chain.operands.iter().cloned().reduce(joined)
}
