//! `min` and `max`: of floats NaN is the greatest; of all else as DataFusion has them.

use datafusion::arrow::array::types::{ArrowPrimitiveType, Float32Type, Float64Type};
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute;
use datafusion::arrow::datatypes::{ArrowNativeTypeOp, DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::min_max::{Max, Min};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;
use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Which end of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum End {
    Least,
    Greatest,
}

/// The least or the greatest value.
#[derive(Debug, Clone)]
pub(super) struct Extreme {
    end: End,
    plain: Arc<dyn AggregateUDFImpl>,
}

impl PartialEq for Extreme {
    fn eq(&self, other: &Self) -> bool {
        self.end == other.end
    }
}

impl Eq for Extreme {}

impl Hash for Extreme {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.end.hash(state);
    }
}

impl Extreme {
    pub(super) fn least() -> Self {
        Self { end: End::Least, plain: Arc::new(Min::new()) }
    }

    pub(super) fn greatest() -> Self {
        Self { end: End::Greatest, plain: Arc::new(Max::new()) }
    }
}

/// Floats, of which NaN is the greatest.
trait Float: ArrowPrimitiveType<Native: PartialOrd> + fmt::Debug + Send {
    const LEAST: Self::Native;
    const GREATEST: Self::Native;
    fn is_nan(value: Self::Native) -> bool;
}

impl Float for Float64Type {
    const LEAST: f64 = f64::NEG_INFINITY;
    const GREATEST: f64 = f64::NAN;

    fn is_nan(value: f64) -> bool {
        value.is_nan()
    }
}

impl Float for Float32Type {
    const LEAST: f32 = f32::NEG_INFINITY;
    const GREATEST: f32 = f32::NAN;

    fn is_nan(value: f32) -> bool {
        value.is_nan()
    }
}

impl End {
    /// Where every value is at least as near to this end.
    fn start<T: Float>(self) -> T::Native {
        match self {
            Self::Least => T::GREATEST,
            Self::Greatest => T::LEAST,
        }
    }

    fn groups<T: Float>(self, data_type: &DataType) -> Box<dyn GroupsAccumulator> {
        match self {
            Self::Least => {
                let groups = PrimitiveGroupsAccumulator::<T, _>::new(data_type, lower::<T>);
                Box::new(groups.with_starting_value(T::GREATEST))
            }
            Self::Greatest => {
                let groups = PrimitiveGroupsAccumulator::<T, _>::new(data_type, raise::<T>);
                Box::new(groups.with_starting_value(T::LEAST))
            }
        }
    }
}

/// Takes a value if it is less.
#[inline]
fn lower<T: Float>(least: &mut T::Native, value: T::Native) {
    if value < *least || T::is_nan(*least) {
        *least = value;
    }
}

/// Takes a value if it is greater.
#[inline]
fn raise<T: Float>(greatest: &mut T::Native, value: T::Native) {
    if value > *greatest || T::is_nan(value) {
        *greatest = value;
    }
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        self.plain.name()
    }

    fn signature(&self) -> &Signature {
        self.plain.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.plain.return_type(types)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.plain.coerce_types(types)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.plain.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match args.return_field.data_type() {
            DataType::Float64 => Ok(Box::new(One::<Float64Type> { end: self.end, value: None })),
            DataType::Float32 => Ok(Box::new(One::<Float32Type> { end: self.end, value: None })),
            _ => self.plain.accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.plain.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        match args.return_field.data_type() {
            data_type @ DataType::Float64 => Ok(self.end.groups::<Float64Type>(data_type)),
            data_type @ DataType::Float32 => Ok(self.end.groups::<Float32Type>(data_type)),
            _ => self.plain.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match args.return_field.data_type() {
            DataType::Float64 => Ok(Box::new(Sliding::<Float64Type>::new(self.end))),
            DataType::Float32 => Ok(Box::new(Sliding::<Float32Type>::new(self.end))),
            _ => self.plain.create_sliding_accumulator(args),
        }
    }

    fn is_descending(&self) -> Option<bool> {
        self.plain.is_descending()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.plain.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.plain.set_monotonicity(data_type)
    }
}

/// The extreme of all rows.
#[derive(Debug)]
struct One<T: Float> {
    end: End,
    value: Option<T::Native>,
}

impl<T: Float> Accumulator for One<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        // Over floats in their one form these go by the order of the bits, NaN last.
        let values = values[0].as_primitive::<T>();
        let found = match self.end {
            End::Least => compute::min(values),
            End::Greatest => compute::max(values),
        };
        let Some(found) = found else {
            return Ok(());
        };
        let mut value = self.value.unwrap_or(self.end.start::<T>());
        match self.end {
            End::Least => lower::<T>(&mut value, found),
            End::Greatest => raise::<T>(&mut value, found),
        }
        self.value = Some(value);
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::new_primitive::<T>(self.value, &T::DATA_TYPE)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The extreme of a frame that slides: values that later ones do not make needless, each nearer to the end than those
/// behind it.
#[derive(Debug)]
struct Sliding<T: Float> {
    end: End,
    kept: VecDeque<(u64, T::Native)>,
    came: u64,
    gone: u64,
}

impl<T: Float> Sliding<T> {
    fn new(end: End) -> Self {
        Self { end, kept: VecDeque::new(), came: 0, gone: 0 }
    }

    /// Whether a value is as near to the end as another, or nearer.
    fn replaces(&self, value: T::Native, other: T::Native) -> bool {
        let mut nearest = value;
        match self.end {
            End::Least => lower::<T>(&mut nearest, other),
            End::Greatest => raise::<T>(&mut nearest, other),
        }
        nearest.compare(value).is_eq()
    }
}

impl<T: Float> Accumulator for Sliding<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<T>().iter().flatten() {
            while self.kept.back().is_some_and(|(_, last)| self.replaces(value, *last)) {
                self.kept.pop_back();
            }
            self.kept.push_back((self.came, value));
            self.came += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.gone += (values[0].len() - values[0].null_count()) as u64;
        while self.kept.front().is_some_and(|(number, _)| *number < self.gone) {
            self.kept.pop_front();
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::new_primitive::<T>(self.kept.front().map(|(_, value)| *value), &T::DATA_TYPE)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.kept.capacity() * size_of::<(u64, T::Native)>()
    }
}
