//! State on the move: what a batch changed, and whole partitions, in memory and as bytes.
//!
//! Encoded: a header of 24 bytes (format version, kind, 6 zeros, batch, xxh3 of the rest; numbers little
//! endian) and an Arrow IPC stream of one record batch. The hash is checked before Arrow sees a byte.

use super::StateError;
use bytes::Bytes;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch};
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::ipc::MetadataVersion;
use datafusion::arrow::ipc::reader::StreamDecoder;
use datafusion::arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use std::sync::Arc;
use tidemill_common::ids::BatchId;
use tidemill_rows::caught;
use twox_hash::XxHash3_64;

const FORMAT: u8 = 1;
const HEADER: usize = 24;
const KIND_DELTA: u8 = 1;
const KIND_SNAPSHOT: u8 = 2;

/// What one batch changed in a partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    /// The batch; the state is at this version afterwards.
    pub batch: BatchId,
    /// `__key` (binary), `__dropped` (boolean), then the state columns, null for dropped keys. Keys are distinct.
    pub rows: RecordBatch,
}

/// A whole partition at a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The version.
    pub version: BatchId,
    /// `__key` (binary, ascending), then the state columns.
    pub rows: RecordBatch,
}

impl Delta {
    /// The delta as bytes, to be read by [`Delta::decode`].
    pub fn encode(&self) -> Result<Bytes, StateError> {
        encode(KIND_DELTA, self.batch, &self.rows)
    }

    /// Reads what [`Delta::encode`] wrote. Damaged bytes are an error.
    pub fn decode(bytes: Bytes) -> Result<Self, StateError> {
        let (batch, rows) = decode(KIND_DELTA, bytes)?;
        Ok(Self { batch, rows })
    }

    /// Memory held, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.rows.get_array_memory_size()
    }
}

impl Snapshot {
    /// The snapshot as bytes, to be read by [`Snapshot::decode`].
    pub fn encode(&self) -> Result<Bytes, StateError> {
        encode(KIND_SNAPSHOT, self.version, &self.rows)
    }

    /// Reads what [`Snapshot::encode`] wrote. Damaged bytes are an error.
    pub fn decode(bytes: Bytes) -> Result<Self, StateError> {
        let (version, rows) = decode(KIND_SNAPSHOT, bytes)?;
        Ok(Self { version, rows })
    }
}

/// Layout of [`Snapshot::rows`].
pub(super) fn snapshot_schema(state: &Schema) -> SchemaRef {
    let key = Field::new("__key", DataType::Binary, false);
    Arc::new(Schema::new([key].into_iter().chain(nullable(state)).collect::<Vec<_>>()))
}

/// Layout of [`Delta::rows`].
pub(super) fn delta_schema(state: &Schema) -> SchemaRef {
    let key = Field::new("__key", DataType::Binary, false);
    let dropped = Field::new("__dropped", DataType::Boolean, false);
    Arc::new(Schema::new([key, dropped].into_iter().chain(nullable(state)).collect::<Vec<_>>()))
}

fn nullable(state: &Schema) -> impl Iterator<Item = Field> {
    let fields = state.fields().iter();
    fields.map(|field| Field::new(field.name(), field.data_type().clone(), true))
}

/// The parts of delta rows, if they have the types of `schema`.
pub(super) fn delta_parts<'a>(
    rows: &'a RecordBatch,
    schema: &Schema,
) -> Result<(&'a BinaryArray, &'a BooleanArray, &'a [ArrayRef]), StateError> {
    check_types(rows, schema)?;
    let columns = rows.columns();
    Ok((columns[0].as_binary(), columns[1].as_boolean(), &columns[2..]))
}

/// The parts of snapshot rows, if they have the types of `schema`.
pub(super) fn snapshot_parts<'a>(
    rows: &'a RecordBatch,
    schema: &Schema,
) -> Result<(&'a BinaryArray, &'a [ArrayRef]), StateError> {
    check_types(rows, schema)?;
    let columns = rows.columns();
    Ok((columns[0].as_binary(), &columns[1..]))
}

fn check_types(rows: &RecordBatch, schema: &Schema) -> Result<(), StateError> {
    let wanted = schema.fields().iter().map(|field| field.data_type());
    let found = rows.columns().iter().map(|column| column.data_type());
    if wanted.clone().eq(found.clone()) {
        return Ok(());
    }
    let list = |types: Vec<&DataType>| format!("{types:?}");
    Err(StateError::Shape(format!("expected columns {}, found {}", list(wanted.collect()), list(found.collect()))))
}

fn encode(kind: u8, batch: BatchId, rows: &RecordBatch) -> Result<Bytes, StateError> {
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?;
    let mut out = vec![0; HEADER];
    let mut writer = StreamWriter::try_new_with_options(&mut out, rows.schema_ref(), options)?;
    writer.write(rows)?;
    writer.finish()?;
    drop(writer);

    let hash = hash(kind, batch, &out[HEADER..]);
    out[0] = FORMAT;
    out[1] = kind;
    out[8..16].copy_from_slice(&batch.0.to_le_bytes());
    out[16..HEADER].copy_from_slice(&hash.to_le_bytes());
    Ok(out.into())
}

fn decode(kind: u8, bytes: Bytes) -> Result<(BatchId, RecordBatch), StateError> {
    let damaged = |what: &str| StateError::Decode(what.to_owned());
    let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(damaged("too short"));
    };
    if header[0] != FORMAT {
        return Err(StateError::Decode(format!("format {} is not known", header[0])));
    }
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let batch = BatchId(number(8));
    if header[1] != kind || header[2..8] != [0; 6] || number(16) != hash(kind, batch, body) {
        return Err(damaged("kind or hash is wrong"));
    }
    // Arrow panics over some bytes that make no sense, and a right hash does not make sense of them.
    let decode = move || {
        let mut buffer = Buffer::from(bytes.slice(HEADER..));
        StreamDecoder::new().decode(&mut buffer)
    };
    let rows = caught(decode).ok_or_else(|| damaged("no rows that Arrow reads"))??;
    rows.map(|rows| (batch, rows)).ok_or_else(|| damaged("no rows"))
}

/// Hash of everything but the format version, which has to be read first anyway.
fn hash(kind: u8, batch: BatchId, body: &[u8]) -> u64 {
    let seed = batch.0 ^ (u64::from(kind) << 56);
    XxHash3_64::oneshot_with_seed(seed, body)
}

/// These bytes with the header of a delta, or of a snapshot, that is right.
#[cfg(any(test, feature = "testkit"))]
pub(crate) fn sealed(bytes: &[u8], snapshot: bool) -> Bytes {
    let mut out = bytes.to_vec();
    if let Some((header, body)) = out.split_first_chunk_mut::<HEADER>() {
        let (kind, batch) = (if snapshot { KIND_SNAPSHOT } else { KIND_DELTA }, BatchId(u64::from(header[8])));
        header.fill(0);
        (header[0], header[1], header[8]) = (FORMAT, kind, batch.0 as u8);
        header[16..].copy_from_slice(&hash(kind, batch, body).to_le_bytes());
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Float64Array, StringArray};
    use proptest::prelude::*;

    fn delta() -> Delta {
        let state =
            Schema::new(vec![Field::new("total", DataType::Float64, true), Field::new("name", DataType::Utf8, true)]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(BinaryArray::from_vec(vec![b"a", b"b", b""])),
            Arc::new(BooleanArray::from(vec![false, false, true])),
            Arc::new(Float64Array::from(vec![Some(1.5), Some(-0.0), None])),
            Arc::new(StringArray::from(vec![Some("x"), None, None])),
        ];
        Delta { batch: BatchId(7), rows: RecordBatch::try_new(delta_schema(&state), columns).unwrap() }
    }

    #[test]
    fn delta_survives_encoding() {
        let bytes = delta().encode().unwrap();
        assert_eq!(Delta::decode(bytes).unwrap(), delta());
    }

    #[test]
    fn empty_delta_survives_encoding() {
        let mut empty = delta();
        empty.rows = empty.rows.slice(0, 0);
        let bytes = empty.encode().unwrap();
        assert_eq!(Delta::decode(bytes).unwrap(), empty);
    }

    #[test]
    fn delta_is_no_snapshot() {
        let bytes = delta().encode().unwrap();
        assert!(matches!(Snapshot::decode(bytes), Err(StateError::Decode(_))));
    }

    proptest! {
        #[test]
        fn damage_is_an_error(at in 0usize..1_000, bit in 0u8..8, cut in any::<bool>()) {
            let mut bytes = delta().encode().unwrap().to_vec();
            let at = at % bytes.len();
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1 << bit;
            }
            prop_assert!(matches!(Delta::decode(bytes.into()), Err(StateError::Decode(_))));
        }

        /// A right hash does not make sense of what it is of.
        #[test]
        fn nonsense_with_a_right_hash_does_not_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        ) {
            let mut bytes = delta().encode().unwrap().to_vec();
            let length = bytes.len() - HEADER;
            for (at, byte) in changes {
                bytes[HEADER + at.index(length)] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(HEADER + cut.index(length));
            }
            let hash = hash(KIND_DELTA, BatchId(7), &bytes[HEADER..]);
            bytes[16..HEADER].copy_from_slice(&hash.to_le_bytes());
            if let Ok(delta) = Delta::decode(bytes.into()) {
                let state = delta.rows.schema();
                let mut held = super::super::StatePartition::new(state);
                let _ = held.apply_delta(&delta);
            }
        }

        #[test]
        fn noise_is_an_error(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Delta::decode(noise.into()).is_err());
        }
    }
}
