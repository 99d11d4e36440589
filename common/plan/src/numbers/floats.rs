//! The one form of floats ([`canonical`]) in expressions and aggregates.

use datafusion::arrow::array::{ArrayRef, BooleanArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    Accumulator, ColumnarValue, EmitTo, Expr, GroupsAccumulator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;
use tidemill_rows::{canonical, canonical_array, canonical_single};

/// The same value; a float in its one form.
pub(crate) fn canonical_scalar(value: ScalarValue) -> ScalarValue {
    match value {
        ScalarValue::Float64(Some(value)) => ScalarValue::Float64(Some(canonical(value))),
        ScalarValue::Float32(Some(value)) => ScalarValue::Float32(Some(canonical_single(value))),
        value => value,
    }
}

/// The expression of this type with its floats in their one form.
pub(super) fn canonical_expr(expr: Expr, data_type: DataType) -> Expr {
    match expr {
        Expr::Literal(value, metadata) => Expr::Literal(canonical_scalar(value), metadata),
        expr => ScalarUDF::from(Canonical { returns: data_type, signature: Signature::any(1, Volatility::Immutable) })
            .call(vec![expr]),
    }
}

/// Brings floats into their one form. Users cannot name it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Canonical {
    pub(super) returns: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for Canonical {
    fn name(&self) -> &str {
        "canonical"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.returns.clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[..] {
            [ColumnarValue::Array(array)] => Ok(ColumnarValue::Array(canonical_array(array))),
            [ColumnarValue::Scalar(value)] => Ok(ColumnarValue::Scalar(canonical_scalar(value.clone()))),
            _ => internal_err!("one argument"),
        }
    }
}

/// The accumulator, with results in their one form.
pub(super) fn in_one_form(inner: Result<Box<dyn Accumulator>>) -> Result<Box<dyn Accumulator>> {
    Ok(Box::new(InOneForm(inner?)))
}

/// The accumulator, with results in their one form.
pub(super) fn groups_in_one_form(inner: Result<Box<dyn GroupsAccumulator>>) -> Result<Box<dyn GroupsAccumulator>> {
    Ok(Box::new(GroupsInOneForm(inner?)))
}

#[derive(Debug)]
struct InOneForm(Box<dyn Accumulator>);

impl Accumulator for InOneForm {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.evaluate().map(canonical_scalar)
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states)
    }
}

struct GroupsInOneForm(Box<dyn GroupsAccumulator>);

impl GroupsAccumulator for GroupsInOneForm {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        self.0.update_batch(values, groups, filter, count)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(canonical_array(&self.0.evaluate(emit_to)?))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.0.state(emit_to)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.0.merge_batch(values, groups, count)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.0.convert_to_state(values, filter)
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
