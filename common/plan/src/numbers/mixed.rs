//! Where decimals meet doubles. A double holds every decimal nearly, a decimal holds few doubles; so both are compared,
//! chosen from and listed as doubles. A number that is written beside a decimal is no double: it is a decimal with the
//! digits that it is written with.

use super::digits::{self, decimal};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Case, Cast, InSubquery, TryCast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Subquery, Union, cast,
};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

/// Functions that compare their arguments, give one of them, or list them.
const ALIKE: [&str; 7] = ["coalesce", "nvl", "nvl2", "nullif", "greatest", "least", "make_array"];

/// The rule, which comes before types are coerced.
#[derive(Debug)]
pub(crate) struct Mixed;

impl AnalyzerRule for Mixed {
    fn name(&self) -> &str {
        "mixed"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let mut schema = merge_schema(&plan.inputs());
            if let LogicalPlan::TableScan(scan) = &plan {
                schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
            }
            let names = NamePreserver::new(&plan);
            let plan = plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(mixed(expr, &schema)?.update_data(|expr| name.restore(expr)))
            })?;
            plan.map_data(|plan| match plan {
                LogicalPlan::Values(values) => LogicalPlanBuilder::values(values.values)?.build(),
                LogicalPlan::Union(union) => alike(union),
                LogicalPlan::Join(mut join) => {
                    for (left, right) in &mut join.on {
                        agree([left, right], &schema)?;
                    }
                    LogicalPlan::Join(join).recompute_schema()
                }
                plan => plan.recompute_schema(),
            })
        })
        .data()
    }
}

/// The expression over columns of this schema, before its types are coerced.
pub(crate) fn mixed(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    // What is written with many digits becomes a double only where nobody around it has taken it for a decimal.
    expr.transform_up(|node| beside(node, schema))?.transform_data(|expr| expr.transform_up(digits::nearest))
}

/// A node whose arguments have been rewritten.
fn beside(mut node: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let changed = match &mut node {
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => under_cast(expr, field),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(*op) => agree([left, right], schema)?,
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if computes(*op) => {
            beside_decimal(left, right, schema)? || beside_decimal(right, left, schema)?
        }
        Expr::Between(between) => agree([&mut between.expr, &mut between.low, &mut between.high], schema)?,
        Expr::InList(list) => agree(std::iter::once(&mut *list.expr).chain(&mut list.list), schema)?,
        Expr::InSubquery(within) => in_subquery(within, schema)?,
        Expr::Case(case) => in_case(case, schema)?,
        Expr::ScalarFunction(call) if ALIKE.contains(&call.func.name()) => {
            // The first argument of `nvl2` is only asked whether it is null.
            let first = usize::from(call.func.name() == "nvl2");
            agree(call.args.iter_mut().skip(first), schema)?
        }
        _ => false,
    };
    Ok(if changed { Transformed::yes(node) } else { Transformed::no(node) })
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn computes(op: Operator) -> bool {
    matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo)
}

/// A number that is cast to a decimal, or counts seconds, has the digits that it is written with.
fn under_cast(expr: &mut Expr, field: &Field) -> bool {
    match field.data_type() {
        DataType::Decimal128(..) | DataType::Decimal256(..) | DataType::Timestamp(..) => as_decimal(expr),
        _ => false,
    }
}

fn as_decimal(expr: &mut Expr) -> bool {
    match decimal(expr) {
        Some(decimal) => {
            *expr = Expr::Literal(decimal, None);
            true
        }
        None => false,
    }
}

/// Makes a decimal of a number that is written beside one.
fn beside_decimal(number: &mut Expr, other: &Expr, schema: &DFSchema) -> Result<bool> {
    Ok(digits::is_written(number) && other.get_type(schema)?.is_decimal() && as_decimal(number))
}

/// Brings expressions that are compared with each other, or of which one is chosen, to one kind of numbers.
fn agree<'a>(exprs: impl IntoIterator<Item = &'a mut (impl AsMutExpr + 'a)>, schema: &DFSchema) -> Result<bool> {
    let mut exprs: Vec<&mut Expr> = exprs.into_iter().map(AsMutExpr::expr).collect();
    let types = exprs.iter().map(|expr| expr.get_type(schema)).collect::<Result<Vec<_>>>()?;
    if !types.iter().any(DataType::is_decimal) || !types.iter().any(DataType::is_floating) {
        return Ok(false);
    }
    let decimals = exprs.iter().zip(&types).all(|(expr, found)| !found.is_floating() || decimal(expr).is_some());
    for (expr, found) in exprs.iter_mut().zip(&types) {
        match decimals {
            true if found.is_floating() => drop(as_decimal(expr)),
            false if found.is_decimal() => as_double(expr),
            _ => {}
        }
    }
    Ok(true)
}

/// What holds an expression.
trait AsMutExpr {
    fn expr(&mut self) -> &mut Expr;
}

impl AsMutExpr for Expr {
    fn expr(&mut self) -> &mut Expr {
        self
    }
}

impl AsMutExpr for Box<Expr> {
    fn expr(&mut self) -> &mut Expr {
        self
    }
}

fn as_double(expr: &mut Expr) {
    let decimal = std::mem::replace(expr, Expr::Literal(ScalarValue::Null, None));
    *expr = cast(decimal, DataType::Float64);
}

fn in_case(case: &mut Case, schema: &DFSchema) -> Result<bool> {
    let asked = match &mut case.expr {
        Some(value) => {
            let whens = case.when_then_expr.iter_mut().map(|(when, _)| when);
            agree(std::iter::once(value).chain(whens), schema)?
        }
        None => false,
    };
    let results = case.when_then_expr.iter_mut().map(|(_, then)| then).chain(case.else_expr.as_mut());
    Ok(agree(results, schema)? || asked)
}

fn in_subquery(within: &mut InSubquery, schema: &DFSchema) -> Result<bool> {
    let plan = &within.subquery.subquery;
    let (value, element) = (within.expr.get_type(schema)?, plan.schema().field(0).data_type().clone());
    if value.is_decimal() && element.is_floating() {
        as_double(&mut within.expr);
        return Ok(true);
    }
    if value.is_floating() && element.is_decimal() {
        let subquery = Arc::new(with_doubles(plan.clone(), &[true])?);
        within.subquery = Subquery { subquery, ..within.subquery.clone() };
        return Ok(true);
    }
    Ok(false)
}

/// A plan with some of its columns as doubles.
fn with_doubles(plan: Arc<LogicalPlan>, doubles: &[bool]) -> Result<LogicalPlan> {
    let column = |((relation, field), double): ((Option<_>, &Arc<Field>), &bool)| {
        let column = Expr::Column(Column::from((relation, field)));
        match *double {
            true => cast(column, DataType::Float64).alias_qualified(relation.cloned(), field.name()),
            false => column,
        }
    };
    let columns = plan.schema().iter().zip(doubles).map(column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, plan.clone())?))
}

/// A union whose columns are of one kind of numbers each. It keeps the types of its schema, whatever its inputs have.
fn alike(union: Union) -> Result<LogicalPlan> {
    let Union { inputs, schema } = union;
    let types = |column: usize| inputs.iter().map(move |input| input.schema().field(column).data_type());
    let columns = schema.fields().len();
    let mixed: Vec<bool> = (0..columns)
        .map(|column| types(column).any(DataType::is_decimal) && types(column).any(DataType::is_floating))
        .collect();
    let fields = schema.iter().enumerate().map(|(column, (relation, field))| {
        let first = types(column).next().filter(|first| types(column).all(|other| other == *first));
        let data_type = if mixed[column] { Some(&DataType::Float64) } else { first };
        let data_type = data_type.unwrap_or(field.data_type()).clone();
        (relation.cloned(), Arc::new(Field::clone(field).with_data_type(data_type)))
    });
    let schema = Arc::new(DFSchema::new_with_metadata(fields.collect(), schema.metadata().clone())?);
    let doubles = |input: &Arc<LogicalPlan>| -> Vec<bool> {
        let fields = input.schema().fields().iter();
        fields.zip(&mixed).map(|(field, mixed)| *mixed && field.data_type().is_decimal()).collect()
    };
    let inputs = inputs.iter().map(|input| {
        let doubles = doubles(input);
        Ok(if doubles.contains(&true) { Arc::new(with_doubles(input.clone(), &doubles)?) } else { input.clone() })
    });
    Ok(LogicalPlan::Union(Union { inputs: inputs.collect::<Result<_>>()?, schema }))
}
