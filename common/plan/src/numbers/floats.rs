//! The one form of floats: `-0.0` is `0.0`, and there is one NaN, which the order of the bits has as the greatest.

use datafusion::arrow::array::types::{Float32Type, Float64Type};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, make_array};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    Accumulator, ColumnarValue, EmitTo, Expr, GroupsAccumulator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// One zero and one NaN (`-0.0 + 0.0` is `0.0`).
pub(super) fn canonical(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value + 0.0 }
}

fn canonical_single(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value + 0.0 }
}

/// Whether values of this type are floats, or hold some.
pub(super) fn has_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float32 | DataType::Float64 => true,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            has_floats(field.data_type())
        }
        DataType::Struct(fields) => fields.iter().any(|field| has_floats(field.data_type())),
        _ => false,
    }
}

/// The same values, floats (also those in lists and structs) in their one form. No copy where they are.
pub(crate) fn canonical_array(array: &ArrayRef) -> ArrayRef {
    // Without an early end, which would keep it from being vectorised.
    if let Some(floats) = array.as_primitive_opt::<Float64Type>() {
        let other = |found, v: &f64| found | (v.to_bits() != canonical(*v).to_bits());
        return match floats.values().iter().fold(false, other) {
            true => Arc::new(floats.unary::<_, Float64Type>(canonical)),
            false => array.clone(),
        };
    }
    if let Some(floats) = array.as_primitive_opt::<Float32Type>() {
        let other = |found, v: &f32| found | (v.to_bits() != canonical_single(*v).to_bits());
        return match floats.values().iter().fold(false, other) {
            true => Arc::new(floats.unary::<_, Float32Type>(canonical_single)),
            false => array.clone(),
        };
    }
    if !has_floats(array.data_type()) {
        return array.clone();
    }
    let data = array.to_data();
    let before: Vec<_> = data.child_data().iter().map(|child| make_array(child.clone())).collect();
    let after: Vec<_> = before.iter().map(canonical_array).collect();
    if before.iter().zip(&after).all(|(before, after)| Arc::ptr_eq(before, after)) {
        return array.clone();
    }
    let children = after.iter().map(|child| child.to_data()).collect();
    // Children of the same types and lengths always fit.
    data.into_builder().child_data(children).build().map_or_else(|_| array.clone(), make_array)
}

/// The same rows, floats in their one form.
pub(crate) fn canonical_rows(rows: RecordBatch) -> RecordBatch {
    if !rows.schema().fields().iter().any(|field| has_floats(field.data_type())) {
        return rows;
    }
    let columns = rows.columns().iter().map(canonical_array).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    // Columns of the same types and lengths always fit.
    RecordBatch::try_new_with_options(rows.schema(), columns, &options).unwrap_or(rows)
}

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
