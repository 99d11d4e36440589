//! `median`: of decimals, the mean of the two in the middle is rounded, a half away from zero. DataFusion cuts it off.

use datafusion::arrow::array::{ArrayRef, BooleanArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::median::Median as Plain;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature};
use std::sync::Arc;

/// The median.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Median {
    plain: Plain,
}

/// The type that a median of these decimals is computed in: with one digit more, which is all that it needs.
fn longer(input: &DataType) -> Option<DataType> {
    match input {
        DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale) => {
            Some(DataType::Decimal256(DECIMAL128_MAX_PRECISION + 1, scale + 1))
        }
        DataType::Decimal128(digits, scale) => Some(DataType::Decimal128(digits + 1, scale + 1)),
        DataType::Decimal256(digits, scale) if *digits < DECIMAL256_MAX_PRECISION => {
            Some(DataType::Decimal256(digits + 1, scale + 1))
        }
        _ => None,
    }
}

/// A field of a longer type.
fn with(field: &FieldRef, data_type: &DataType) -> FieldRef {
    Arc::new(Field::clone(field).with_data_type(data_type.clone()))
}

impl Median {
    /// Does it over the longer type, if there is one.
    fn over<T>(
        &self,
        args: AccumulatorArgs<'_>,
        make: impl Fn(AccumulatorArgs<'_>) -> Result<T>,
        wrap: impl Fn(T, DataType, DataType) -> T,
    ) -> Result<T> {
        let input = args.expr_fields[0].data_type().clone();
        let Some(longer) = longer(&input) else { return make(args) };
        let fields = [with(&args.expr_fields[0], &longer)];
        let return_field = with(&args.return_field, &longer);
        let inner = make(AccumulatorArgs { expr_fields: &fields, return_field, ..args })?;
        Ok(wrap(inner, longer, input))
    }
}

impl AggregateUDFImpl for Median {
    fn name(&self) -> &str {
        "median"
    }

    fn signature(&self) -> &Signature {
        self.plain.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.plain.return_type(types)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        match longer(args.input_fields[0].data_type()) {
            Some(longer) => {
                let fields = [with(&args.input_fields[0], &longer)];
                self.plain.state_fields(StateFieldsArgs { input_fields: &fields, ..args })
            }
            None => self.plain.state_fields(args),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let wrap = |inner, longer, returns| -> Box<dyn Accumulator> { Box::new(One { inner, longer, returns }) };
        self.over(args, |args| self.plain.accumulator(args), wrap)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.plain.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let wrap =
            |inner, longer, returns| -> Box<dyn GroupsAccumulator> { Box::new(Groups { inner, longer, returns }) };
        self.over(args, |args| self.plain.create_groups_accumulator(args), wrap)
    }
}

/// The median of all rows.
#[derive(Debug)]
struct One {
    inner: Box<dyn Accumulator>,
    longer: DataType,
    returns: DataType,
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(&[cast(&values[0], &self.longer)?])
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(&[cast(&values[0], &self.longer)?])
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.inner.evaluate()?.cast_to(&self.returns)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size()
    }
}

/// A median per group.
struct Groups {
    inner: Box<dyn GroupsAccumulator>,
    longer: DataType,
    returns: DataType,
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        self.inner.update_batch(&[cast(&values[0], &self.longer)?], groups, filter, count)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.inner.merge_batch(values, groups, count)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(cast(&self.inner.evaluate(emit_to)?, &self.returns)?)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit_to)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(&[cast(&values[0], &self.longer)?], filter)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}
