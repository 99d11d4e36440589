//! Values of one state column, by slot, in the narrowest form its type allows.

use super::StateError;
use super::index::ABSENT;
use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder, PrimitiveArray,
    downcast_primitive,
};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::datatypes::{ArrowNativeType, DataType, ToByteSlice};
use datafusion::common::ScalarValue;
use std::fmt::Debug;
use std::sync::Arc;

/// Values by slot. Arrays given to a column must have its type and the length of `slots`.
pub(super) trait Column: Debug + Send + Sync {
    /// Makes room for slots below `slots`; new ones are null.
    fn grow(&mut self, slots: usize);

    /// The values in `slots`; null for [`ABSENT`].
    fn gather(&self, slots: &[u32]) -> Result<ArrayRef, StateError>;

    /// Sets `changed[i]` where the value in `slots[i]` is not bit for bit `new[i]`. Skips [`ABSENT`].
    fn mark_changes(&self, slots: &[u32], new: &dyn Array, changed: &mut [bool]) -> Result<(), StateError>;

    /// Writes `new[i]` to `slots[i]`. Skips [`ABSENT`].
    fn scatter(&mut self, slots: &[u32], new: &dyn Array) -> Result<(), StateError>;

    /// The slots with an integer below `limit` or null, free ones among these; none in a column of other values.
    fn slots_below(&self, _limit: i64) -> Vec<u32> {
        Vec::new()
    }

    /// Memory held, in bytes.
    fn memory_bytes(&self) -> usize;
}

/// An empty column for values of `data_type`.
pub(super) fn column_for(data_type: &DataType) -> Box<dyn Column> {
    macro_rules! primitive {
        ($t:ty) => {
            Box::new(PrimitiveColumn::<$t>::new(data_type))
        };
    }
    downcast_primitive! {
        data_type => (primitive),
        DataType::Boolean => Box::new(BooleanColumn::default()),
        _ => Box::new(ScalarColumn::new(data_type)),
    }
}

/// The nulls of gathered values, none if there is no null.
fn gathered_nulls(slots: &[u32], valid: &BooleanBufferBuilder) -> Option<NullBuffer> {
    let bits = BooleanBuffer::collect_bool(slots.len(), |i| slots[i] != ABSENT && valid.get_bit(slots[i] as usize));
    Some(NullBuffer::new(bits)).filter(|nulls| nulls.null_count() > 0)
}

fn grow_bits(bits: &mut BooleanBufferBuilder, len: usize) {
    bits.append_n(len.saturating_sub(bits.len()), false);
}

/// Positions of `slots` that are not [`ABSENT`], with their slots.
fn present(slots: &[u32]) -> impl Iterator<Item = (usize, usize)> {
    let numbered = slots.iter().enumerate();
    numbered.filter(|&(_, &slot)| slot != ABSENT).map(|(i, &slot)| (i, slot as usize))
}

/// Numbers, dates, times, decimals.
struct PrimitiveColumn<T: ArrowPrimitiveType> {
    data_type: DataType,
    values: Vec<T::Native>,
    valid: BooleanBufferBuilder,
}

impl<T: ArrowPrimitiveType> Debug for PrimitiveColumn<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {}", self.data_type, self.values.len())
    }
}

impl<T: ArrowPrimitiveType> PrimitiveColumn<T> {
    fn new(data_type: &DataType) -> Self {
        Self { data_type: data_type.clone(), values: Vec::new(), valid: BooleanBufferBuilder::new(0) }
    }
}

impl<T: ArrowPrimitiveType> Column for PrimitiveColumn<T> {
    fn grow(&mut self, slots: usize) {
        let len = self.values.len().max(slots);
        self.values.resize(len, T::Native::default());
        grow_bits(&mut self.valid, len);
    }

    fn gather(&self, slots: &[u32]) -> Result<ArrayRef, StateError> {
        let value = |&slot: &u32| self.values.get(slot as usize).copied().unwrap_or_default();
        let values: Vec<T::Native> = slots.iter().map(value).collect();
        let nulls = gathered_nulls(slots, &self.valid);
        let array = PrimitiveArray::<T>::try_new(values.into(), nulls)?;
        Ok(Arc::new(array.with_data_type(self.data_type.clone())))
    }

    fn mark_changes(&self, slots: &[u32], new: &dyn Array, changed: &mut [bool]) -> Result<(), StateError> {
        let new = new.as_primitive::<T>();
        for (i, slot) in present(slots) {
            let valid = new.is_valid(i);
            changed[i] |= valid != self.valid.get_bit(slot)
                || (valid && self.values[slot].to_byte_slice() != new.value(i).to_byte_slice());
        }
        Ok(())
    }

    fn scatter(&mut self, slots: &[u32], new: &dyn Array) -> Result<(), StateError> {
        let new = new.as_primitive::<T>();
        for (i, slot) in present(slots) {
            let valid = new.is_valid(i);
            // What lies under a null is arbitrary, and would show in encoded state.
            self.values[slot] = if valid { new.value(i) } else { T::Native::default() };
            self.valid.set_bit(slot, valid);
        }
        Ok(())
    }

    fn slots_below(&self, limit: i64) -> Vec<u32> {
        if !self.data_type.is_integer() {
            return Vec::new();
        }
        let below = |(slot, value): (usize, &T::Native)| {
            let below = value.to_i64().is_some_and(|value| value < limit) || !self.valid.get_bit(slot);
            below.then_some(slot as u32)
        };
        self.values.iter().enumerate().filter_map(below).collect()
    }

    fn memory_bytes(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.valid.capacity() / 8
    }
}

/// Booleans.
#[derive(Debug)]
struct BooleanColumn {
    values: BooleanBufferBuilder,
    valid: BooleanBufferBuilder,
}

impl Default for BooleanColumn {
    fn default() -> Self {
        Self { values: BooleanBufferBuilder::new(0), valid: BooleanBufferBuilder::new(0) }
    }
}

impl Column for BooleanColumn {
    fn grow(&mut self, slots: usize) {
        grow_bits(&mut self.values, slots);
        grow_bits(&mut self.valid, slots);
    }

    fn gather(&self, slots: &[u32]) -> Result<ArrayRef, StateError> {
        let values =
            BooleanBuffer::collect_bool(slots.len(), |i| slots[i] != ABSENT && self.values.get_bit(slots[i] as usize));
        let nulls = gathered_nulls(slots, &self.valid);
        Ok(Arc::new(BooleanArray::new(values, nulls)))
    }

    fn mark_changes(&self, slots: &[u32], new: &dyn Array, changed: &mut [bool]) -> Result<(), StateError> {
        let new = new.as_boolean();
        for (i, slot) in present(slots) {
            let valid = new.is_valid(i);
            changed[i] |= valid != self.valid.get_bit(slot) || (valid && self.values.get_bit(slot) != new.value(i));
        }
        Ok(())
    }

    fn scatter(&mut self, slots: &[u32], new: &dyn Array) -> Result<(), StateError> {
        let new = new.as_boolean();
        for (i, slot) in present(slots) {
            let valid = new.is_valid(i);
            self.values.set_bit(slot, valid && new.value(i));
            self.valid.set_bit(slot, valid);
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        (self.values.capacity() + self.valid.capacity()) / 8
    }
}

/// Everything else, a value at a time: text, binary, lists.
#[derive(Debug)]
struct ScalarColumn {
    data_type: DataType,
    values: Vec<Option<ScalarValue>>,
    /// Bytes that the values hold beyond their own size.
    heap: usize,
}

impl ScalarColumn {
    fn new(data_type: &DataType) -> Self {
        Self { data_type: data_type.clone(), values: Vec::new(), heap: 0 }
    }
}

/// The value at `i`, or none for a null, holding on to nothing else of the array.
fn scalar_at(array: &dyn Array, i: usize) -> Result<Option<ScalarValue>, StateError> {
    if array.is_null(i) {
        return Ok(None);
    }
    Ok(Some(ScalarValue::try_from_array(array, i)?.compacted()))
}

fn heap_bytes(value: &Option<ScalarValue>) -> usize {
    let value = value.as_ref();
    value.map_or(0, |v| v.size() - size_of::<ScalarValue>())
}

impl Column for ScalarColumn {
    fn grow(&mut self, slots: usize) {
        self.values.resize(self.values.len().max(slots), None);
    }

    fn gather(&self, slots: &[u32]) -> Result<ArrayRef, StateError> {
        let null = ScalarValue::try_new_null(&self.data_type)?;
        if slots.is_empty() {
            return Ok(null.to_array_of_size(0)?);
        }
        let value = |&slot: &u32| {
            let value = self.values.get(slot as usize).cloned().flatten();
            value.unwrap_or_else(|| null.clone())
        };
        Ok(ScalarValue::iter_to_array(slots.iter().map(value))?)
    }

    fn mark_changes(&self, slots: &[u32], new: &dyn Array, changed: &mut [bool]) -> Result<(), StateError> {
        for (i, slot) in present(slots) {
            changed[i] = changed[i] || self.values[slot] != scalar_at(new, i)?;
        }
        Ok(())
    }

    fn scatter(&mut self, slots: &[u32], new: &dyn Array) -> Result<(), StateError> {
        for (i, slot) in present(slots) {
            let value = scalar_at(new, i)?;
            self.heap += heap_bytes(&value);
            self.heap -= heap_bytes(&self.values[slot]);
            self.values[slot] = value;
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.values.capacity() * size_of::<Option<ScalarValue>>() + self.heap
    }
}
