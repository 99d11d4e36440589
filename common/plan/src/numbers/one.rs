//! Exact sums without groups, and those of distinct values.

use super::exact::{Exact, Native, add, wide_type};
use super::frame::rows;
use datafusion::arrow::array::types::UInt64Type;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray, PrimitiveArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{ArrowNativeTypeOp, DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// From a sum and how many numbers are in it to the aggregate.
pub(super) type Finish<E> = Box<dyn Fn(Native<<E as Exact>::Wide>, u64) -> Result<ScalarValue> + Send + Sync>;

/// A sum of all rows.
pub(super) struct One<E: Exact> {
    sum: Native<E::Wide>,
    count: u64,
    /// The type of the sum.
    wide: DataType,
    /// Whether the state has the count, too. Else a state of no rows is null.
    counted: bool,
    finish: Finish<E>,
}

impl<E: Exact> One<E> {
    pub(super) fn new(input: &DataType, counted: bool, finish: Finish<E>) -> Self {
        Self { sum: Default::default(), count: 0, wide: wide_type::<E>(input), counted, finish }
    }
}

impl<E: Exact> fmt::Debug for One<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("One").field("sum", &self.sum).field("count", &self.count).finish_non_exhaustive()
    }
}

impl<E: Exact> Accumulator for One<E> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<E::In>();
        self.count += (values.len() - values.null_count()) as u64;
        if values.null_count() == 0 {
            return values.values().iter().try_for_each(|value| add(&mut self.sum, E::widen(*value)));
        }
        values.iter().flatten().try_for_each(|value| add(&mut self.sum, E::widen(value)))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<E::In>();
        self.count -= (values.len() - values.null_count()) as u64;
        values.iter().flatten().for_each(|value| self.sum = self.sum.sub_wrapping(E::widen(value)));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let sums = states[usize::from(self.counted)].as_primitive::<E::Wide>();
        match self.counted {
            true => self.count += states[0].as_primitive::<UInt64Type>().iter().flatten().sum::<u64>(),
            false => self.count += (sums.len() - sums.null_count()) as u64,
        }
        sums.iter().flatten().try_for_each(|sum| add(&mut self.sum, sum))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sum = ScalarValue::new_primitive::<E::Wide>((self.count > 0).then_some(self.sum), &self.wide)?;
        Ok(match self.counted {
            true => vec![ScalarValue::UInt64(Some(self.count)), sum],
            false => vec![sum],
        })
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        (self.finish)(self.sum, self.count)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// A sum of distinct numbers, which it counts, so that they can leave again.
pub(super) struct Distinct<E: Exact> {
    values: BTreeMap<Native<E::In>, u64>,
    input: DataType,
    finish: Finish<E>,
}

impl<E: Exact> Distinct<E> {
    pub(super) fn new(input: &DataType, finish: Finish<E>) -> Self {
        Self { values: BTreeMap::new(), input: input.clone(), finish }
    }
}

impl<E: Exact> fmt::Debug for Distinct<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distinct").field("values", &self.values).finish_non_exhaustive()
    }
}

impl<E: Exact> Accumulator for Distinct<E> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<E::In>().iter().flatten() {
            *self.values.entry(value).or_default() += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<E::In>().iter().flatten().for_each(|value| leave(&mut self.values, value));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0].as_list::<i32>().iter().flatten().try_for_each(|values| self.update_batch(&[values]))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = PrimitiveArray::<E::In>::from_iter_values(self.values.keys().copied());
        list(Arc::new(values.with_data_type(self.input.clone())))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut sum = Default::default();
        self.values.keys().try_for_each(|value| add(&mut sum, E::widen(*value)))?;
        (self.finish)(sum, self.values.len() as u64)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.len() * 2 * size_of::<(Native<E::In>, u64)>()
    }
}

/// From distinct doubles, in order, to the aggregate.
type OverDoubles = Box<dyn Fn(&mut dyn Iterator<Item = [f64; 1]>) -> ScalarValue + Send + Sync>;

/// Distinct doubles, by an order of their bits.
pub(super) struct Doubles {
    values: BTreeMap<u64, u64>,
    over: OverDoubles,
}

impl Doubles {
    pub(super) fn boxed(
        over: impl Fn(&mut dyn Iterator<Item = [f64; 1]>) -> ScalarValue + Send + Sync + 'static,
    ) -> Box<dyn Accumulator> {
        Box::new(Self { values: BTreeMap::new(), over: Box::new(over) })
    }
}

impl fmt::Debug for Doubles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doubles").field("values", &self.values).finish_non_exhaustive()
    }
}

impl Accumulator for Doubles {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for [value] in rows(values).flatten() {
            *self.values.entry(ordered(value)).or_default() += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        rows(values).flatten().for_each(|[value]| leave(&mut self.values, ordered(value)));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0].as_list::<i32>().iter().flatten().try_for_each(|values| self.update_batch(&[values]))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        list(Arc::new(Float64Array::from_iter_values(self.values.keys().map(|bits| value(*bits)))))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok((self.over)(&mut self.values.keys().map(|bits| [value(*bits)])))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.len() * 2 * size_of::<(u64, u64)>()
    }
}

/// Takes one of a value out.
fn leave<T: Ord>(values: &mut BTreeMap<T, u64>, value: T) {
    if let Some(count) = values.get_mut(&value) {
        *count -= 1;
        if *count == 0 {
            values.remove(&value);
        }
    }
}

/// Bits whose order is that of the doubles in their one form.
fn ordered(value: f64) -> u64 {
    let bits = value.to_bits();
    bits ^ if bits >> 63 == 1 { u64::MAX } else { 1 << 63 }
}

/// The double of [`ordered`] bits.
fn value(bits: u64) -> f64 {
    f64::from_bits(bits ^ if bits >> 63 == 1 { 1 << 63 } else { u64::MAX })
}

/// A state of one list.
fn list(values: ArrayRef) -> Result<Vec<ScalarValue>> {
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([values.len()]);
    Ok(vec![ScalarValue::List(Arc::new(ListArray::try_new(field, offsets, values, None)?))])
}

/// The field of a state of distinct values of this type.
pub(super) fn distinct_field(name: String, data_type: &DataType) -> FieldRef {
    Arc::new(Field::new_list(name, Field::new_list_field(data_type.clone(), true), false))
}
