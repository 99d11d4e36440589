//! Functions that make much of little, such as `repeat('a', 1000000000)`: each has a bound on what it makes of one row,
//! and on what it makes of a batch of rows.
//!
//! What a function would make is estimated from its arguments before it is called. So a constant cannot fill the memory of
//! whoever folds it, which is everybody who compiles the job, nor can a record that of a worker.

mod estimate;
mod joined;

pub(crate) use joined::{NAME as JOINED, joined};

use crate::planning::count_folded;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, ExprSchema, Result, ScalarValue};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, StructFieldMapping,
};
use estimate::{Arguments, Bound};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A function with its bound.
#[derive(Debug)]
struct Guarded {
    inner: Arc<ScalarUDF>,
    bound: &'static Bound,
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Guarded {}

impl Hash for Guarded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

/// The function, with a bound if it needs one.
pub(crate) fn guarded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match estimate::bound(function.name()) {
        Some(bound) if !function.inner().is::<Guarded>() => {
            Arc::new(ScalarUDF::new_from_impl(Guarded { inner: function, bound }))
        }
        _ => function,
    }
}

/// What is wrong with the first call in an expression whose arguments are constants and which makes too much of them.
pub(crate) fn huge_constant(expr: &Expr) -> Result<()> {
    expr.apply(|node| {
        if let Expr::ScalarFunction(call) = node
            && let Some(guarded) = call.func.inner().downcast_ref::<Guarded>()
            && let Some(args) = call.args.iter().map(constant).collect::<Option<Vec<_>>>()
        {
            guarded.check(&args, 1)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map(drop)
}

fn constant(expr: &Expr) -> Option<ColumnarValue> {
    match expr {
        Expr::Literal(value, _) => Some(ColumnarValue::Scalar(value.clone())),
        _ => None,
    }
}

impl Guarded {
    /// Refuses what would make too much.
    fn check(&self, args: &[ColumnarValue], rows: usize) -> Result<()> {
        let (name, Bound { unit, per_value, per_call, .. }) = (self.inner.name(), self.bound);
        let args = Arguments::new(args)?;
        let at_most = args.bytes_at_most(rows);
        if self.bound.sum && at_most <= u128::from(*per_value) {
            return count_folded(at_most);
        }
        let mut total: u128 = 0;
        for row in 0..args.rows(rows) {
            let made = (self.bound.estimate)(&args.row(row));
            if made > u128::from(*per_value) {
                let message = format!("`{name}` would make {made} {unit} of one row; it can make {per_value}");
                return Err(DataFusionError::Execution(message));
            }
            total += made;
        }
        count_folded(total)?;
        match total > u128::from(*per_call) {
            true => Err(DataFusionError::ResourcesExhausted(format!(
                "`{name}` would make {total} {unit} of {rows} rows at once; it can make {per_call}"
            ))),
            false => Ok(()),
        }
    }
}

/// Simplified, a call may become one of another function, or of DataFusion's own.
fn guarded_calls(expr: Expr) -> Result<Expr> {
    expr.transform_up(|node| match node {
        Expr::ScalarFunction(mut call) if !call.func.inner().is::<Guarded>() => {
            call.func = guarded(call.func);
            Ok(Transformed::yes(Expr::ScalarFunction(call)))
        }
        node => Ok(Transformed::no(node)),
    })
    .data()
}

#[deny(clippy::missing_trait_methods)]
impl ScalarUDFImpl for Guarded {
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args.args, args.number_rows)?;
        self.inner.invoke_with_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match self.inner.simplify(args, info)? {
            ExprSimplifyResult::Simplified(expr) => ExprSimplifyResult::Simplified(guarded_calls(expr)?),
            same => same,
        })
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = Arc::new(self.inner.inner().with_updated_config(config)?);
        Some(ScalarUDF::new_from_impl(Self { inner, bound: self.bound }))
    }

    // All else is as it is.

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        #[expect(deprecated)]
        self.inner.display_name(args)
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn is_nullable(&self, args: &[Expr], schema: &dyn ExprSchema) -> bool {
        #[expect(deprecated)]
        self.inner.is_nullable(args, schema)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        self.inner.preimage(args, literal, info)
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(inputs)
    }

    fn propagate_constraints(&self, interval: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.inner.propagate_constraints(interval, inputs)
    }

    fn struct_field_mapping(&self, literals: &[Option<ScalarValue>]) -> Option<StructFieldMapping> {
        self.inner.struct_field_mapping(literals)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.inner.placement(args)
    }
}
