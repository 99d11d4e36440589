//! What functions make of their arguments, at most.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::ColumnarValue;

/// What a function may make.
#[derive(Debug)]
pub(super) struct Bound {
    name: &'static str,
    pub(super) unit: &'static str,
    /// Of one row.
    pub(super) per_value: u64,
    /// Of all rows of a call: a batch.
    pub(super) per_call: u64,
    pub(super) estimate: fn(&Row<'_>) -> u128,
    /// Whether it makes no more than all its arguments together are: then most batches need no look at their rows.
    pub(super) sum: bool,
}

/// A text that is made of a number.
const TEXT: u64 = 1 << 20;
/// A text that is made of texts, which may be as long as a record is.
const TEXTS: u64 = 64 << 20;
/// Texts of a batch, which have to fit into one column.
const COLUMN: u64 = 1 << 30;
/// Elements of a list.
const LIST: u64 = 1 << 20;
/// Elements of the lists of a batch.
const LISTS: u64 = 1 << 26;
/// Comparisons of characters.
const STEPS: u64 = 10_000_000;

const fn bytes(name: &'static str, per_value: u64, per_call: u64, estimate: fn(&Row<'_>) -> u128) -> Bound {
    Bound { name, unit: "bytes", per_value, per_call, estimate, sum: false }
}

const fn elements(name: &'static str, estimate: fn(&Row<'_>) -> u128) -> Bound {
    Bound { name, unit: "elements", per_value: LIST, per_call: LISTS, estimate, sum: false }
}

static BOUNDS: [Bound; 21] = [
    bytes("repeat", TEXT, COLUMN / 4, |row| row.bytes(0) * row.times(1)),
    // A character has at most 4 bytes.
    bytes("lpad", TEXT, COLUMN / 4, |row| 4 * row.times(1)),
    bytes("rpad", TEXT, COLUMN / 4, |row| 4 * row.times(1)),
    Bound { sum: true, ..bytes("concat", TEXTS, COLUMN, |row| row.all_bytes()) },
    Bound { sum: true, ..bytes(super::joined::NAME, TEXTS, COLUMN, |row| row.all_bytes()) },
    bytes("concat_ws", TEXTS, COLUMN, |row| row.all_bytes() + row.bytes(0) * row.count()),
    bytes("replace", TEXTS, COLUMN, |row| row.bytes(0) + (row.bytes(0) / row.bytes(1).max(1) + 1) * row.bytes(2)),
    bytes("regexp_replace", TEXTS, COLUMN, |row| {
        let everywhere = row.text(3).is_some_and(|flags| flags.contains('g'));
        row.bytes(0) + if everywhere { (row.bytes(0) + 1) * row.bytes(2) } else { row.bytes(2) }
    }),
    bytes("array_to_string", TEXTS, COLUMN, |row| row.elements(0) * (row.bytes(1) + row.bytes(2))),
    elements("array_repeat", |row| row.times(1) * row.weight(0)),
    elements("array_resize", |row| row.times(1) * row.weight(2) + row.weight(0)),
    elements("make_array", |row| row.all_weights()),
    elements("array_concat", |row| row.all_weights()),
    elements("array_append", |row| row.all_weights()),
    elements("array_prepend", |row| row.all_weights()),
    elements("array_union", |row| row.all_weights()),
    elements("array_insert", |row| row.all_weights()),
    elements("range", series),
    elements("generate_series", series),
    Bound {
        name: "levenshtein",
        unit: "comparisons",
        per_value: STEPS,
        per_call: 1000 * STEPS,
        estimate: |row| row.bytes(0) * row.bytes(1),
        sum: false,
    },
    // A pattern becomes as many parts.
    bytes("to_char", TEXT, COLUMN, |row| 32 * row.bytes(1)),
];

/// The bound of a function, by its name.
pub(super) fn bound(name: &str) -> Option<&'static Bound> {
    BOUNDS.iter().find(|bound| bound.name == name)
}

/// From, to, by: numbers, or times and an interval.
fn series(row: &Row<'_>) -> u128 {
    let (from, to, by) = match row.count() {
        1 => (Some(0), row.point(0), Some(1)),
        2 => (row.point(0), row.point(1), Some(1)),
        _ => (row.point(0), row.point(1), row.step(2)),
    };
    let (Some(from), Some(to), Some(by)) = (from, to, by) else { return 0 };
    (to.abs_diff(from)) / by.unsigned_abs().max(1) + 1
}

/// The arguments of a call.
pub(super) struct Arguments(Vec<Argument>);

struct Argument {
    values: ArrayRef,
    /// What of them are whole numbers: numbers, and times.
    numbers: Option<ArrayRef>,
    /// One for all rows.
    constant: bool,
}

impl Arguments {
    pub(super) fn new(args: &[ColumnarValue]) -> Result<Self> {
        let argument = |value: &ColumnarValue| {
            let (values, constant) = match value {
                ColumnarValue::Array(array) => (array.clone(), false),
                ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
            };
            let is_number = |data_type: &DataType| {
                data_type.is_integer() || matches!(data_type, DataType::Timestamp(..) | DataType::Date32)
            };
            let whole = match values.data_type() {
                // There is no way from days to numbers of 64 bits but this.
                DataType::Date32 => Some(cast(&cast(&values, &DataType::Int32)?, &DataType::Int64)?),
                data_type if is_number(data_type) => Some(cast(&values, &DataType::Int64)?),
                _ => None,
            };
            Ok(Argument { values, numbers: whole, constant })
        };
        Ok(Self(args.iter().map(argument).collect::<Result<_>>()?))
    }

    /// At least as much as all texts have together, in bytes.
    pub(super) fn bytes_at_most(&self, rows: usize) -> u128 {
        let bytes = |argument: &Argument| {
            let all = argument.values.get_buffer_memory_size() as u128;
            if argument.constant { all * rows as u128 } else { all }
        };
        self.0.iter().map(bytes).sum()
    }

    /// How many rows differ.
    pub(super) fn rows(&self, rows: usize) -> usize {
        if self.0.iter().all(|argument| argument.constant) { rows.min(1) } else { rows }
    }

    pub(super) fn row(&self, row: usize) -> Row<'_> {
        Row { args: &self.0, row }
    }
}

/// The arguments of one row. What is null, or not of the kind that is asked for, counts nothing.
pub(super) struct Row<'a> {
    args: &'a [Argument],
    row: usize,
}

/// Text of so many bytes is as much as an element.
const ELEMENT_BYTES: u128 = 64;

/// See [`Row::weight`].
fn weight(values: &ArrayRef) -> u128 {
    let rows = values.len() as u128;
    let bytes = |from: usize, to: usize| rows + (to - from) as u128 / ELEMENT_BYTES;
    match values.data_type() {
        DataType::List(_) => {
            let list = values.as_list::<i32>();
            let (from, to) = (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
            rows + weight(&list.values().slice(from, to - from))
        }
        DataType::LargeList(_) => {
            let list = values.as_list::<i64>();
            let (from, to) = (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
            rows + weight(&list.values().slice(from, to - from))
        }
        DataType::FixedSizeList(_, length) => {
            let list = values.as_fixed_size_list();
            let (from, length) = (list.value_offset(0) as usize, *length as usize * list.len());
            rows + weight(&list.values().slice(from, length))
        }
        DataType::Utf8 => {
            let offsets = values.as_string::<i32>().value_offsets();
            bytes(offsets[0] as usize, offsets[values.len()] as usize)
        }
        _ => rows,
    }
}

const DAY_NS: i128 = 86_400_000_000_000;

impl Row<'_> {
    fn count(&self) -> u128 {
        self.args.len() as u128
    }

    /// The argument, and where in it this row is; none if it is null.
    fn at(&self, index: usize) -> Option<(&Argument, usize)> {
        let argument = self.args.get(index)?;
        let row = if argument.constant { 0 } else { self.row };
        (!argument.values.is_null(row)).then_some((argument, row))
    }

    fn text(&self, index: usize) -> Option<&str> {
        let (argument, row) = self.at(index)?;
        match argument.values.data_type() {
            DataType::Utf8 => Some(argument.values.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => Some(argument.values.as_string::<i64>().value(row)),
            DataType::Utf8View => Some(argument.values.as_string_view().value(row)),
            _ => None,
        }
    }

    /// The length of a text.
    fn bytes(&self, index: usize) -> u128 {
        self.text(index).map_or(0, str::len) as u128
    }

    fn all_bytes(&self) -> u128 {
        (0..self.args.len()).map(|index| self.bytes(index)).sum()
    }

    fn number(&self, index: usize) -> Option<i128> {
        let (argument, row) = self.at(index)?;
        Some(i128::from(argument.numbers.as_ref()?.as_primitive::<Int64Type>().value(row)))
    }

    /// How often; never, for less than once.
    fn times(&self, index: usize) -> u128 {
        self.number(index).and_then(|number| u128::try_from(number).ok()).unwrap_or(0)
    }

    /// The length of a list.
    fn elements(&self, index: usize) -> u128 {
        let length = self.at(index).and_then(|(argument, row)| match argument.values.data_type() {
            DataType::List(_) => Some(argument.values.as_list::<i32>().value(row).len()),
            DataType::LargeList(_) => Some(argument.values.as_list::<i64>().value(row).len()),
            DataType::FixedSizeList(_, length) => Some(*length as usize),
            _ => None,
        });
        length.unwrap_or(0) as u128
    }

    /// How many elements a value is when it becomes one of a list: those of all lists in it, and one for some bytes of text.
    fn weight(&self, index: usize) -> u128 {
        self.at(index).map_or(1, |(argument, row)| weight(&argument.values.slice(row, 1)))
    }

    fn all_weights(&self) -> u128 {
        (0..self.args.len()).map(|index| self.weight(index)).sum()
    }

    /// A number; of a time, its nanoseconds.
    fn point(&self, index: usize) -> Option<i128> {
        let unit = match self.at(index)?.0.values.data_type() {
            DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
            DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
            DataType::Timestamp(TimeUnit::Microsecond, _) => 1000,
            DataType::Date32 => DAY_NS,
            _ => 1,
        };
        Some(self.number(index)? * unit)
    }

    /// A number; of an interval, about its nanoseconds, and rather fewer.
    fn step(&self, index: usize) -> Option<i128> {
        let (argument, row) = self.at(index)?;
        if *argument.values.data_type() != DataType::Interval(IntervalUnit::MonthDayNano) {
            return self.number(index);
        }
        let interval = argument.values.as_primitive::<IntervalMonthDayNanoType>().value(row);
        let days = 28 * i128::from(interval.months) + i128::from(interval.days);
        Some(days * DAY_NS + i128::from(interval.nanoseconds))
    }
}
