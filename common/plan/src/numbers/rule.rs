//! Puts what this room owns into expressions: checked arithmetic, floats in their one form.

use super::checked::{Checked, Operation};
use super::convert::{self, Convert, convert, plain};
use super::floats::{Canonical, canonical_expr, canonical_scalar};
use crate::error::PlanError;
use crate::guarded::{guarded, joined};
use crate::times::{gives_dates_in_calendar, in_calendar};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, plan_datafusion_err};
use datafusion::logical_expr::expr::{Case, Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;
use tidemill_rows::has_floats;

/// Characters of an expression in a message.
const TEXT_CHARS: usize = 120;

/// Functions that give one of their arguments, in the form that this has.
const PASSED_ON: [&str; 8] = ["coalesce", "nullif", "nvl", "nvl2", "greatest", "least", "named_struct", "make_array"];

/// The rule, which comes after types have been coerced.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers {
    /// The whole expression as it was written, where that is known.
    written: Option<Arc<str>>,
}

impl AnalyzerRule for Numbers {
    fn name(&self) -> &str {
        "numbers"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| self.plan(plan)).data()
    }
}

impl Numbers {
    /// For one expression, which was written like this.
    pub(crate) fn written(text: &str) -> Self {
        Self { written: Some(shortened(text.trim()).into()) }
    }

    fn plan(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let mut schema = merge_schema(&plan.inputs());
        if let LogicalPlan::TableScan(scan) = &plan {
            schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
        }
        let names = NamePreserver::new(&plan);
        let rewritten = plan.map_expressions(|expr| self.under_its_name(expr, &schema, &names))?;
        match rewritten.transformed {
            true => rewritten.map_data(LogicalPlan::recompute_schema),
            false => Ok(rewritten),
        }
    }

    /// The expressions of grouping sets have names each for itself.
    fn under_its_name(&self, expr: Expr, schema: &DFSchema, names: &NamePreserver) -> Result<Transformed<Expr>> {
        if let Expr::GroupingSet(_) = expr {
            return expr.map_children(|expr| self.under_its_name(expr, schema, names));
        }
        let name = names.save(&expr);
        Ok(self.expr(expr, schema)?.update_data(|expr| name.restore(expr)))
    }

    /// An expression over columns of this schema, whose types have been coerced.
    ///
    /// # Errors
    /// When something constant in it does not fit its type.
    pub(crate) fn expr(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        expr.transform_up(|node| self.node(node, schema))
    }

    /// A node whose arguments have been rewritten.
    fn node(&self, node: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        Ok(match node {
            Expr::Literal(ref value, ref metadata) => {
                let canonical = canonical_scalar(value.clone());
                match same(&canonical, value) {
                    true => Transformed::no(node),
                    false => Transformed::yes(Expr::Literal(canonical, metadata.clone())),
                }
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if Operation::of(op).is_some() => {
                return self.arithmetic(*left, op, *right, schema);
            }
            Expr::Negative(inner) => {
                let data_type = type_of(&inner, schema)?;
                match is_exact(&data_type) {
                    true => Transformed::yes(self.checked(Operation::Negate, vec![*inner], data_type)?),
                    false if has_floats(&data_type) => {
                        let negative = Expr::Negative(Box::new(bare(*inner)));
                        Transformed::yes(canonical_expr(negative, data_type))
                    }
                    false => Transformed::no(Expr::Negative(inner)),
                }
            }
            Expr::Cast(Cast { ref expr, ref field }) | Expr::TryCast(TryCast { ref expr, ref field }) => {
                let (target, or_null) = (field.data_type().clone(), matches!(node, Expr::TryCast(_)));
                if convert::is_ours(&type_of(expr, schema)?, &target) {
                    let inner = expr.as_ref().clone();
                    return Ok(Transformed::yes(convert(inner, target, or_null)?));
                }
                match has_floats(&target) && !is_exact(&type_of(expr, schema)?) {
                    true => Transformed::yes(canonical_expr(node, target)),
                    false => Transformed::no(node),
                }
            }
            // Not all that the parser makes calls of is among the functions of the session, which have their bounds.
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right })
                if type_of(&left, schema)? == DataType::Utf8 && type_of(&right, schema)? == DataType::Utf8 =>
            {
                Transformed::yes(joined(*left, *right))
            }
            Expr::ScalarFunction(mut call) => {
                call.func = guarded(call.func);
                return self.call(call, schema);
            }
            Expr::Case(case) if self.guards(&case, schema)? => Transformed::yes(lazy(case)),
            node => Transformed::no(node),
        })
    }

    fn arithmetic(&self, left: Expr, op: Operator, right: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let (left_type, right_type) = (type_of(&left, schema)?, type_of(&right, schema)?);
        let exact = is_exact(&left_type) && is_exact(&right_type);
        if !exact && !has_floats(&left_type) && !has_floats(&right_type) {
            return Ok(Transformed::no(binary(left, op, right)));
        }
        let returns = BinaryTypeCoercer::new(&left_type, &op, &right_type).get_result_type()?;
        Ok(Transformed::yes(match Operation::of(op) {
            Some(operation) if exact => self.checked(operation, vec![left, right], returns)?,
            _ => canonical_expr(binary(bare(left), op, bare(right)), returns),
        }))
    }

    /// Whether a `case` gives booleans that may fail where they are not asked for.
    fn guards(&self, case: &Case, schema: &DFSchema) -> Result<bool> {
        let may_fail = |expr: &Expr| expr.exists(|expr| Ok(matches!(expr, Expr::ScalarFunction(_) | Expr::Cast(_))));
        let results = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
        for result in results {
            if may_fail(result)? {
                return Ok(type_of(result, schema)? == DataType::Boolean);
            }
        }
        Ok(false)
    }

    fn call(&self, call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let name = call.func.name();
        if name == "abs"
            && let [argument] = &call.args[..]
        {
            let data_type = type_of(argument, schema)?;
            if is_exact(&data_type) {
                return Ok(Transformed::yes(self.checked(Operation::Abs, call.args, data_type)?));
            }
        }
        let inner = call.func.inner();
        let own = inner.is::<Canonical>() || inner.is::<Checked>() || inner.is::<Convert>();
        let passed_on = own || PASSED_ON.contains(&name);
        let expr = Expr::ScalarFunction(call);
        if passed_on {
            return Ok(Transformed::no(expr));
        }
        let returns = expr.get_type(schema)?;
        Ok(match returns {
            returns if has_floats(&returns) => Transformed::yes(canonical_expr(expr, returns)),
            DataType::Date32 | DataType::Timestamp(..) if !gives_dates_in_calendar(&expr) => {
                Transformed::yes(in_calendar(expr))
            }
            _ => Transformed::no(expr),
        })
    }

    /// A checked operation, or what it gives if it is constant.
    fn checked(&self, operation: Operation, mut arguments: Vec<Expr>, returns: DataType) -> Result<Expr> {
        let text: Arc<str> = operation_text(operation, &arguments).into();
        let written = self.written.as_ref().unwrap_or(&text).clone();
        // What comes first goes on in the same call.
        let before = match arguments.first_mut() {
            Some(Expr::ScalarFunction(call)) => {
                let before = call.func.inner().downcast_ref::<Checked>().cloned();
                before.map(|before| (before, std::mem::take(&mut call.args)))
            }
            _ => None,
        };
        let checked = Checked::new(before.as_ref().map(|(before, _)| before), operation, text, written, returns);
        if let Some((_, first)) = before {
            arguments.splice(..1, first);
        }
        if let Some(values) = arguments.iter().map(constant).collect::<Option<Vec<_>>>() {
            let result =
                checked.apply(&values).map_err(|error| plan_datafusion_err!("{}", PlanError::reason(&error)))?;
            if let ColumnarValue::Scalar(value) = result {
                return Ok(Expr::Literal(value, None));
            }
        }
        Ok(ScalarUDF::from(checked).call(arguments))
    }
}

/// A `case` over booleans as one over integers: the optimiser makes `and` and `or` of the former, and with them every
/// result is computed for every row, also for those that the `case` keeps from it.
fn lazy(mut case: Case) -> Expr {
    let cast = |expr: Box<Expr>, to: DataType| Expr::Cast(Cast::new(expr, to));
    let integer = |expr: Box<Expr>| Box::new(cast(expr, DataType::Int8));
    case.when_then_expr = case.when_then_expr.into_iter().map(|(when, then)| (when, integer(then))).collect();
    case.else_expr = case.else_expr.map(integer);
    cast(Box::new(Expr::Case(case)), DataType::Boolean)
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

/// Integers and decimals.
fn is_exact(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_decimal()
}

/// As equal as bits are.
fn same(a: &ScalarValue, b: &ScalarValue) -> bool {
    match (a, b) {
        (ScalarValue::Float64(Some(a)), ScalarValue::Float64(Some(b))) => a.to_bits() == b.to_bits(),
        (ScalarValue::Float32(Some(a)), ScalarValue::Float32(Some(b))) => a.to_bits() == b.to_bits(),
        _ => true,
    }
}

/// The type of an expression, of which what this rule has made is known without a look at its arguments.
fn type_of(expr: &Expr, schema: &DFSchema) -> Result<DataType> {
    if let Expr::ScalarFunction(call) = expr {
        if let Some(checked) = call.func.inner().downcast_ref::<Checked>() {
            return Ok(checked.returns());
        }
        if let Some(canonical) = call.func.inner().downcast_ref::<Canonical>() {
            return Ok(canonical.returns.clone());
        }
        if let Some(convert) = call.func.inner().downcast_ref::<Convert>() {
            return Ok(convert.to.clone());
        }
    }
    expr.get_type(schema)
}

/// Without [`Canonical`] around it: what goes on to be computed with has time to be brought into the one form.
fn bare(expr: Expr) -> Expr {
    match expr {
        Expr::ScalarFunction(mut call) if call.func.inner().is::<Canonical>() && call.args.len() == 1 => {
            call.args.remove(0)
        }
        expr => expr,
    }
}

/// The value of a constant.
fn constant(expr: &Expr) -> Option<ColumnarValue> {
    match expr {
        Expr::Literal(value, _) if !value.is_null() => Some(ColumnarValue::Scalar(value.clone())),
        Expr::Cast(Cast { expr, field }) => match constant(expr)? {
            ColumnarValue::Scalar(value) => value.cast_to(field.data_type()).ok().map(ColumnarValue::Scalar),
            ColumnarValue::Array(_) => None,
        },
        _ => None,
    }
}

/// How people would write an expression: without casts, and without what this rule has put in.
fn text(expr: &Expr) -> String {
    let text = match expr {
        Expr::Cast(Cast { expr, .. }) => text(expr),
        Expr::Alias(alias) => text(&alias.expr),
        Expr::Column(column) => column.name.clone(),
        Expr::Literal(value, _) if value.data_type().is_decimal() => plain(value),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => format!("{} {op} {}", text(left), text(right)),
        Expr::ScalarFunction(call) => match call.func.inner().downcast_ref::<Checked>() {
            Some(checked) => checked.text.to_string(),
            None if call.func.inner().is::<Canonical>() || call.func.inner().is::<Convert>() => {
                call.args.iter().map(text).collect()
            }
            None => called(call.func.name(), &call.args),
        },
        other => other.human_display().to_string(),
    };
    shortened(&text)
}

fn called(name: &str, arguments: &[Expr]) -> String {
    format!("{name}({})", arguments.iter().map(text).collect::<Vec<_>>().join(", "))
}

fn operation_text(operation: Operation, arguments: &[Expr]) -> String {
    let sign = operation.sign();
    let text = match (operation, arguments) {
        (Operation::Negate, [a]) => format!("-{}", within(operation, a)),
        (_, [a, b]) => format!("{} {sign} {}", within(operation, a), within(operation, b)),
        (_, arguments) => called(sign, arguments),
    };
    shortened(&text)
}

/// The text of an argument, in parentheses where it needs them.
fn within(operation: Operation, argument: &Expr) -> String {
    let mut bare = argument;
    loop {
        bare = match bare {
            Expr::Cast(Cast { expr, .. }) => expr,
            Expr::ScalarFunction(call) if call.func.inner().is::<Convert>() && call.args.len() == 1 => &call.args[0],
            _ => break,
        };
    }
    let operator = match bare {
        Expr::BinaryExpr(binary) => Operation::of(binary.op),
        Expr::ScalarFunction(call) => match (call.func.inner().downcast_ref::<Checked>(), &call.args[..]) {
            (Some(checked), _) => checked.operation(),
            (None, [Expr::BinaryExpr(binary)]) if call.func.inner().is::<Canonical>() => Operation::of(binary.op),
            _ => None,
        },
        _ => None,
    };
    let text = text(argument);
    match operator {
        Some(Operation::Abs) | None => text,
        Some(_) if operation == Operation::Add => text,
        Some(_) => format!("({text})"),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS) {
        Some((at, _)) => format!("{}..", &text[..at]),
        None => text.to_string(),
    }
}
