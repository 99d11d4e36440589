//! Decoders of this crate, for tests that give them any bytes: each function panics when its decoder does not do as it should.

use crate::decode::{SourcePlan, arrow_type};
use crate::ipc::from_ipc;
use crate::keys::{decode_keys, encode_keys};
use crate::{CompileError, Functions, compile_text};
use bytes::Bytes;
use datafusion::arrow::array::BinaryArray;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};
use std::io::{Read, copy, sink};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tidemill_job::{ColumnDef, ColumnType, Format, Name, OnBadRecord};
use tidemill_rows::records::{self, Framing};
use tidemill_rows::{decompressed, parquet_rows, rows_to_json};
use twox_hash::XxHash3_64;

/// Bytes that are read of a compressed file.
const READ: u64 = 1 << 20;
/// Batches that are read of a Parquet file.
const BATCHES: usize = 8;
/// For compiling; longer is as bad as a panic.
const COMPILE_TIME: Duration = Duration::from_secs(30);

const COLUMNS: [(&str, ColumnType); 11] = [
    ("s", ColumnType::String),
    ("i", ColumnType::Int),
    ("n", ColumnType::BigInt),
    ("f", ColumnType::Float),
    ("x", ColumnType::Double),
    ("b", ColumnType::Boolean),
    ("d", ColumnType::Date),
    ("t", ColumnType::Timestamp),
    ("m", ColumnType::Decimal(10, 2)),
    ("y", ColumnType::Binary),
    ("v", ColumnType::Vector(2)),
];

fn columns() -> Vec<ColumnDef> {
    let column = |(name, data_type): &(&str, ColumnType)| ColumnDef {
        name: Name { text: (*name).to_string(), span: 0..0 },
        data_type: *data_type,
    };
    COLUMNS.iter().map(column).collect()
}

fn schema() -> Schema {
    Schema::new(COLUMNS.map(|(name, data_type)| Field::new(name, arrow_type(data_type), true)).to_vec())
}

fn source(format: Format) -> SourcePlan {
    SourcePlan::from_parts("s", format, schema(), OnBadRecord::SKIP)
}

static CSV: LazyLock<[SourcePlan; 2]> = LazyLock::new(|| {
    let of = |null: Option<&str>| Format::Csv { columns: columns(), delimiter: b',', null: null.map(String::from) };
    [source(of(None)), source(of(Some("NA")))]
});
static JSON: LazyLock<SourcePlan> = LazyLock::new(|| source(Format::Json { columns: columns() }));

/// Reads records of csv, as they come from outside.
pub fn csv(bytes: &[u8]) {
    let block = records::block_of(bytes, Framing::Csv { delimiter: b',' });
    CSV.iter().for_each(|source| decode(source, &block));
}

/// Reads lines of JSON, as they come from outside.
pub fn json(bytes: &[u8]) {
    decode(&JSON, &records::block_of(bytes, Framing::Lines));
}

/// Reads a block, of which any byte may be wrong, as text, csv and JSON.
pub fn block(bytes: &[u8]) {
    let text = SourcePlan::from_parts(
        "s",
        Format::Text,
        Schema::new(vec![Field::new("value", DataType::Utf8, true)]),
        OnBadRecord::SKIP,
    );
    decode(&text, bytes);
    decode(&CSV[1], bytes);
    decode(&JSON, bytes);
}

/// Every record is a row or a bad record, and which one does not depend on its neighbours.
fn decode(source: &SourcePlan, block: &[u8]) {
    let rows_of = |block: &[u8]| {
        let decoded = source.decode(block).expect("what cannot be read is a bad record");
        let rows: Vec<String> = decoded
            .batches
            .iter()
            .flat_map(|batch| rows_to_json(batch).expect("what was read can be written"))
            .collect();
        assert_eq!(rows.len() as u64 + decoded.bad.count, decoded.records);
        (rows, decoded.bad.count)
    };
    let (mut rows, mut bad) = (Vec::new(), 0);
    for line in block.split_inclusive(|byte| *byte == b'\n') {
        let (row, one) = rows_of(line);
        rows.extend(row);
        bad += one;
    }
    assert_eq!(rows_of(block), (rows, bad));
}

/// Reads a Parquet file.
pub fn parquet(bytes: &[u8]) {
    let schema = Arc::new(schema());
    let Ok(read) = parquet_rows(Bytes::copy_from_slice(bytes), &schema) else { return };
    for rows in read.take(BATCHES) {
        let Ok(rows) = rows else { return };
        assert!(rows.bad.iter().is_sorted_by(|a, b| a.row < b.row));
        assert!(rows.bad.last().is_none_or(|bad| bad.row < rows.rows.num_rows()));
    }
}

/// Reads the beginning of a compressed file, of any kind.
pub fn compressed(bytes: &[u8]) {
    for name in ["a", "a.gz", "a.zst", "a.lz4", "a.sz", "a.br"] {
        if let Ok(text) = decompressed(name, bytes) {
            let read = copy(&mut text.take(READ), &mut sink());
            assert!(read.is_err() || read.is_ok_and(|read| read <= READ));
        }
    }
}

/// Reads rows as they travel, also behind a checksum that is right.
pub fn rows(bytes: &[u8]) {
    let _ = from_ipc(bytes);
    let sealed = [bytes, &XxHash3_64::oneshot(bytes).to_le_bytes()].concat();
    if let Ok(batches) = from_ipc(&sealed) {
        for batch in batches {
            let _ = rows_to_json(&batch);
        }
    }
}

/// Reads an encoded key of columns of every type. What reads is encoded to the same key for ever.
pub fn key(bytes: &[u8]) {
    let types = [
        vec![DataType::Utf8],
        vec![DataType::Utf8, DataType::Int64],
        vec![DataType::Binary, DataType::Float64, DataType::Utf8],
        vec![DataType::Boolean, DataType::Int32, DataType::Float32, DataType::Date32],
        vec![DataType::Decimal128(10, 2), DataType::Timestamp(TimeUnit::Microsecond, None), DataType::UInt16],
    ];
    for types in types {
        let fields: Vec<FieldRef> = types.into_iter().map(|of| Arc::new(Field::new("k", of, true))).collect();
        let Ok(columns) = decode_keys(&BinaryArray::from_iter_values([bytes]), &fields) else { continue };
        let encoded = encode_keys(&columns).expect("a key that reads can be encoded");
        let again = decode_keys(&encoded, &fields).expect("a key that is encoded reads");
        assert_eq!(encode_keys(&again).expect("a key that reads can be encoded"), encoded);
    }
}

/// Compiles a job definition.
pub fn job(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match compile_text(&text, &[] as &[&[u8]], &Functions::default(), COMPILE_TIME) {
        Ok(_) | Err(CompileError::Wrong(_)) => {}
        Err(wrong) => panic!("{wrong}"),
    }
}

#[cfg(test)]
mod tests;
