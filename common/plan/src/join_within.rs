//! Joins within a time: rows of either side wait for partners in later batches.
//!
//! What waits is kept per key: the rows of each side as a list, each with the time of its batch and whether it has had a
//! partner. A pair comes out in the batch that brings the later of the two rows. A row whose time is over is let go in
//! the first batch after that; where unmatched rows come out, it does then.

use crate::error::PlanError;
use crate::plan::BatchContext;
use crate::visit::{KeyVisits, Mapped, UPDATED_COLUMN, Visit};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, RecordBatch, StructArray, UInt32Array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{concat, take};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type, Schema, SchemaRef};
use std::ops::Range;
use std::sync::Arc;
use tidemill_job::JoinKind;

/// A prepared join within a time. It sits behind a head that gives key columns, those of the left side, those of the
/// right one (null in rows of the other side), and whether a row is of the right side; left rows come first.
#[derive(Debug)]
pub struct JoinOp {
    kind: JoinKind,
    /// How long a row waits, in milliseconds of batch time.
    within_ms: i64,
    key_fields: Fields,
    /// What lists of each side hold.
    held_fields: [Fields; 2],
    stored_fields: Fields,
    emitted: SchemaRef,
}

/// Columns of a row that waits, before its own: the time of its batch, and whether it has had a partner.
const HELD: [(&str, DataType); 2] = [("since", DataType::Int64), ("matched", DataType::Boolean)];

/// All rows of one side: those that waited, and behind them the records of the batch. A row is a position in these.
struct Side {
    columns: Vec<ArrayRef>,
    since: Vec<i64>,
    matched: Vec<bool>,
    /// Waiting rows of each key.
    held: Vec<Range<u32>>,
    /// Of the first record of the batch.
    first_new: u32,
    /// Those that wait from now on, key by key, and where those of each key end.
    kept: Vec<u32>,
    ends: Vec<usize>,
}

/// A key that is visited.
struct Key {
    /// Its position among the keys.
    place: u32,
    /// Its records of the batch, of each side.
    new: [Range<u32>; 2],
    /// Whether it equals itself, which a null does not.
    matches: bool,
}

/// What comes out: positions on both sides, absent where there is no partner.
#[derive(Default)]
struct Pairs {
    keys: Vec<u32>,
    left: Vec<Option<u32>>,
    right: Vec<Option<u32>>,
}

impl JoinOp {
    /// A join of rows with these columns: keys, then those of the left side, then those of the right one. The right ones
    /// do not come out of `semi` and `anti`.
    pub(crate) fn new(
        kind: JoinKind,
        within_ms: i64,
        keys: &[FieldRef],
        left: &[FieldRef],
        right: &[FieldRef],
    ) -> Self {
        let held_fields = [held_fields(left), held_fields(right)];
        let list = |name: &str, fields: &Fields| Field::new(name, DataType::List(item(fields)), true);
        let stored_fields = Fields::from(vec![
            list("left", &held_fields[0]),
            list("right", &held_fields[1]),
            Field::new(UPDATED_COLUMN, DataType::Int64, true),
        ]);
        let seen = if whole_rows(kind) { &[] } else { right };
        let nullable = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
        let emitted: Vec<_> = keys.iter().chain(left).chain(seen).map(nullable).collect();
        Self {
            kind,
            within_ms,
            key_fields: keys.into(),
            held_fields,
            stored_fields,
            emitted: Arc::new(Schema::new(emitted)),
        }
    }

    /// Whether a row is let go.
    fn is_over(&self, since: i64, ctx: &BatchContext) -> bool {
        ctx.time_ms.saturating_sub(since) > self.within_ms
    }

    /// The pairs of one key, in the order of the left rows, and for each in that of the right ones; then right rows that
    /// are let go without a partner. Notes what waits from now on.
    fn pair(&self, key: &Key, sides: &mut [Side; 2], pairs: &mut Pairs, ctx: &BatchContext) {
        let [left, right] = sides;
        let [new_left, new_right] = &key.new;
        let held_right = right.held[key.place as usize].clone();
        let still = held_right.clone().filter(|&other| !self.is_over(right.since[other as usize], ctx));
        let waiting: Vec<u32> = still.filter(|_| key.matches).collect();
        let arrived = if key.matches { new_right.clone() } else { 0..0 };
        for one in left.held[key.place as usize].clone().chain(new_left.clone()) {
            if self.is_over(left.since[one as usize], ctx) {
                self.let_go(key.place, one, left, pairs);
                continue;
            }
            // Two rows that both waited have been paired before.
            let waiting = if new_left.contains(&one) { &waiting[..] } else { &[] };
            for other in waiting.iter().copied().chain(arrived.clone()) {
                if !whole_rows(self.kind) {
                    pairs.push(key.place, Some(one), Some(other));
                } else if self.kind == JoinKind::Semi && !left.matched[one as usize] {
                    pairs.push(key.place, Some(one), None);
                }
                left.matched[one as usize] = true;
                right.matched[other as usize] = true;
            }
            // All is said of a whole row that has a partner.
            if !(whole_rows(self.kind) && left.matched[one as usize]) {
                left.kept.push(one);
            }
        }
        for other in held_right.chain(new_right.clone()) {
            let unmatched = matches!(self.kind, JoinKind::RightOuter | JoinKind::FullOuter);
            if !self.is_over(right.since[other as usize], ctx) {
                right.kept.push(other);
            } else if unmatched && !right.matched[other as usize] {
                pairs.push(key.place, None, Some(other));
            }
        }
    }

    /// A left row whose time is over.
    fn let_go(&self, key: u32, one: u32, left: &Side, pairs: &mut Pairs) {
        let unmatched = matches!(self.kind, JoinKind::LeftOuter | JoinKind::FullOuter | JoinKind::Anti);
        if unmatched && !left.matched[one as usize] {
            pairs.push(key, Some(one), None);
        }
    }

    fn rows(&self, visit: &Visit, sides: &[Side; 2], pairs: Pairs) -> Result<(RecordBatch, UInt32Array), PlanError> {
        let keys = UInt32Array::from(pairs.keys);
        let mut columns = Vec::with_capacity(self.emitted.fields().len());
        for key in &visit.keys {
            columns.push(take(key, &keys, None)?);
        }
        for (side, positions) in sides.iter().zip([pairs.left, pairs.right]) {
            let positions = UInt32Array::from(positions);
            for column in side.columns.iter().take(self.emitted.fields().len() - columns.len()) {
                columns.push(take(column, &positions, None)?);
            }
        }
        Ok((RecordBatch::try_new(self.emitted.clone(), columns)?, keys))
    }
}

impl KeyVisits for JoinOp {
    fn key_fields(&self) -> &Fields {
        &self.key_fields
    }

    fn stored_fields(&self) -> &Fields {
        &self.stored_fields
    }

    fn emitted(&self) -> &SchemaRef {
        &self.emitted
    }

    fn due_before(&self, ctx: &BatchContext) -> Option<i64> {
        Some(ctx.time_ms.saturating_sub(self.within_ms))
    }

    fn visit(&self, visit: &Visit, ctx: &BatchContext) -> Result<Mapped, PlanError> {
        let width = self.held_fields[0].len() - HELD.len();
        let (left, rest) = visit.records.split_at(width);
        let Some((is_right, right)) = rest.split_last() else {
            return Err(PlanError::Internal("records of a join do not say which side they are of".into()));
        };
        let (is_right, time_ms) = (is_right.as_boolean(), ctx.time_ms);
        let new = is_right.len();
        let left = Side::new(&visit.stored[0], left, new, time_ms)?;
        let mut sides = [left, Side::new(&visit.stored[1], right, new, time_ms)?];
        let (mut pairs, mut start) = (Pairs::default(), 0);
        let mut oldest = Vec::with_capacity(visit.counts.len());
        for (key, count) in visit.counts.iter().enumerate() {
            let end = start + count;
            let middle = (start..end).find(|&record| is_right.value(record)).unwrap_or(end);
            let new = [sides[0].records(start..middle), sides[1].records(middle..end)];
            let matches = visit.keys.iter().all(|column| column.is_valid(key));
            self.pair(&Key { place: key as u32, new, matches }, &mut sides, &mut pairs, ctx);
            oldest.push(sides.iter_mut().filter_map(Side::end_key).min());
            start = end;
        }
        let (rows, row_keys) = self.rows(visit, &sides, pairs)?;
        let removed = BooleanArray::from_iter(oldest.iter().map(|oldest| Some(oldest.is_none())));
        let [left, right] = &sides;
        let stored: Vec<ArrayRef> = vec![
            left.stored(&self.held_fields[0])?,
            right.stored(&self.held_fields[1])?,
            Arc::new(Int64Array::from(oldest)),
        ];
        Ok(Mapped { stored, removed, rows, row_keys })
    }
}

impl Side {
    /// What waited, and so many records of the batch.
    fn new(stored: &ArrayRef, records: &[ArrayRef], new: usize, time_ms: i64) -> Result<Self, PlanError> {
        let lists = stored.as_list::<i32>();
        let held =
            |(key, ends): (usize, &[i32])| if lists.is_null(key) { 0..0 } else { ends[0] as u32..ends[1] as u32 };
        let rows = lists.values().as_struct();
        let columns = rows.columns()[HELD.len()..].iter().zip(records);
        let times = rows.column(0).as_primitive::<Int64Type>().values();
        let matched = rows.column(1).as_boolean();
        Ok(Self {
            columns: columns.map(|(held, new)| concat(&[held, new])).collect::<Result<_, _>>()?,
            since: times.iter().copied().chain(std::iter::repeat_n(time_ms, new)).collect(),
            matched: (0..rows.len()).map(|row| matched.value(row)).chain(std::iter::repeat_n(false, new)).collect(),
            held: lists.value_offsets().windows(2).enumerate().map(held).collect(),
            first_new: rows.len() as u32,
            kept: Vec::new(),
            ends: Vec::new(),
        })
    }

    /// The rows that these records of the batch are.
    fn records(&self, records: Range<usize>) -> Range<u32> {
        self.first_new + records.start as u32..self.first_new + records.end as u32
    }

    /// Ends what waits of a key; gives the time of the oldest.
    fn end_key(&mut self) -> Option<i64> {
        let start = self.ends.last().copied().unwrap_or(0);
        self.ends.push(self.kept.len());
        self.kept[start..].iter().map(|&row| self.since[row as usize]).min()
    }

    /// What waits, a list per key; null where nothing does, which takes no room.
    fn stored(&self, fields: &Fields) -> Result<ArrayRef, PlanError> {
        let rows = || self.kept.iter().map(|&row| row as usize);
        let kept = UInt32Array::from(self.kept.clone());
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(rows().map(|row| Some(self.since[row])).collect::<Int64Array>()),
            Arc::new(rows().map(|row| Some(self.matched[row])).collect::<BooleanArray>()),
        ];
        for column in &self.columns {
            columns.push(take(column, &kept, None)?);
        }
        let rows = StructArray::try_new(fields.clone(), columns, None)?;
        let starts = std::iter::once(&0).chain(&self.ends);
        let lengths: Vec<usize> = starts.zip(&self.ends).map(|(start, end)| end - start).collect();
        let some = NullBuffer::from_iter(lengths.iter().map(|length| *length > 0));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::try_new(item(fields), offsets, Arc::new(rows), Some(some))?))
    }
}

impl Pairs {
    fn push(&mut self, key: u32, left: Option<u32>, right: Option<u32>) {
        self.keys.push(key);
        self.left.push(left);
        self.right.push(right);
    }
}

/// Whether left rows come out as they are.
pub(crate) fn whole_rows(kind: JoinKind) -> bool {
    matches!(kind, JoinKind::Semi | JoinKind::Anti)
}

/// The columns of rows that wait. Their names do not matter, so they are numbers.
fn held_fields(columns: &[FieldRef]) -> Fields {
    let own = columns.iter().enumerate().map(|(i, column)| Field::new(i.to_string(), column.data_type().clone(), true));
    HELD.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).chain(own).collect()
}

fn item(fields: &Fields) -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Struct(fields.clone()), true))
}
