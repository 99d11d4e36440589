use crate::ipc::to_ipc;
use crate::keys::encode_keys;
use datafusion::arrow::array::*;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::io::Write;
use std::sync::Arc;
use tidemill_common::testkit::{Decoder, has_target};
use tidemill_rows::Compression;
use tidemill_rows::Compressor;

fn run(name: &str, decode: fn(&[u8]), seeds: Vec<Vec<u8>>, most_bytes: u64, one_in: u32) {
    let peak = |run: &mut dyn FnMut()| allocation_counter::measure(run).bytes_max;
    assert!(has_target("tidemill_plan", name));
    Decoder { name, decode, seeds, most_bytes, one_in, peak }.run();
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

const ROW: &str = "ana,1,-9007199254740993,1.5,1e16,true,2024-05-06,2024-05-06T07:08:09.123456Z,12.34,YWJj,1.0 2.0\n";

fn csv_seeds() -> Vec<Vec<u8>> {
    let nulls = "\"a \"\"b\"\",\nc\",,,,,,,,,,\nNA,NA,NA,NA,NA,NA,NA,NA,NA,NA,NA\n";
    texts(&[ROW, nulls, &[ROW, nulls, "short,1\n", ROW].concat()])
}

fn json_seeds() -> Vec<Vec<u8>> {
    let row = r#"{"s":"ana \u00e9","i":1,"n":-9007199254740993,"f":1.5,"x":1e16,"b":true,"d":"2024-05-06","t":"2024-05-06T07:08:09Z","m":"12.34","y":"YWJj","v":[1.0,2.0]}"#;
    let other = r#"{"s":null,"more":{"a":[1,{"b":[]}]},"m":12.3,"n":1.0,"i":2e0}"#;
    texts(&[row, &format!("{row}\n{other}\n\n[1]\n{row}\n")])
}

#[test]
fn csv() {
    run("csv", super::csv, csv_seeds(), 4 << 20, 10);
}

#[test]
fn json() {
    run("json", super::json, json_seeds(), 4 << 20, 2);
}

#[test]
fn block() {
    let mut seeds = [csv_seeds(), json_seeds()].concat();
    seeds.push(b"\xfewhy\xfewhat\n\"a\xffb\",1\n\xfe\n\xfe\xfe\n".to_vec());
    run("block", super::block, seeds, 4 << 20, 10);
}

fn rows() -> RecordBatch {
    let columns: [(&str, ArrayRef); 7] = [
        ("s", Arc::new(StringArray::from(vec![Some("ana"), None, Some("")]))),
        ("i", Arc::new(Int32Array::from(vec![Some(1), Some(-1), None]))),
        ("x", Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN)]))),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("t", Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None, Some(-1)]))),
        ("y", Arc::new(BinaryArray::from(vec![Some(&b"a"[..]), None, Some(b"")]))),
        ("d", Arc::new(Date32Array::from(vec![Some(1), None, Some(-1)]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn parquet_file(codec: Codec, dictionary: bool) -> Vec<u8> {
    let properties = WriterProperties::builder().set_compression(codec).set_dictionary_enabled(dictionary).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows().schema(), Some(properties)).unwrap();
    writer.write(&rows()).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn parquet() {
    let codecs = [Codec::UNCOMPRESSED, Codec::SNAPPY, Codec::ZSTD(ZstdLevel::default()), Codec::LZ4_RAW];
    let seeds = codecs.into_iter().flat_map(|codec| [true, false].map(|dictionary| parquet_file(codec, dictionary)));
    run("parquet", super::parquet, seeds.collect(), 64 << 20, 2);
}

#[test]
fn compressed() {
    let kinds = [Compression::Gzip, Compression::Zstd, Compression::Lz4, Compression::Snappy, Compression::Brotli];
    let text = "ana,1\nbob,2\n".repeat(20);
    let mut seeds: Vec<Vec<u8>> = kinds
        .into_iter()
        .map(|kind| {
            let mut out = Compressor::new(Some(kind), Vec::new()).unwrap();
            out.write_all(text.as_bytes()).unwrap();
            out.finish().unwrap()
        })
        .collect();
    // Blocks as Hadoop writes them.
    let length = (text.len() as u32).to_be_bytes();
    for chunk in
        [snap::raw::Encoder::new().compress_vec(text.as_bytes()).unwrap(), lz4_flex::block::compress(text.as_bytes())]
    {
        seeds.push([&length[..], &(chunk.len() as u32).to_be_bytes(), &chunk].concat());
    }
    run("compressed", super::compressed, seeds, 160 << 20, 1);
}

#[test]
fn rows_on_the_way() {
    let encoded = |batches: &[RecordBatch]| {
        let mut bytes = to_ipc(batches, &rows().schema()).unwrap();
        bytes.truncate(bytes.len() - 8);
        bytes
    };
    let seeds = vec![encoded(&[rows(), rows().slice(1, 2)]), encoded(&[]), encoded(&[rows().slice(0, 0)])];
    run("rows", super::rows, seeds, 1 << 20, 1);
}

#[test]
fn key() {
    let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a\0b"), None, Some("")]));
    let number: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MIN)]));
    let double: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(f64::NAN)]));
    let truth: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]));
    let as_type = |of: DataType| cast(&Int32Array::from(vec![Some(1), None, Some(2)]), &of).unwrap();
    let keys = [
        vec![text.clone()],
        vec![text.clone(), number.clone()],
        vec![cast(&text, &DataType::Binary).unwrap(), double, text],
        vec![truth, as_type(DataType::Int32), as_type(DataType::Float32), as_type(DataType::Date32)],
        vec![
            as_type(DataType::Decimal128(10, 2)),
            cast(&number, &DataType::Timestamp(TimeUnit::Microsecond, None)).unwrap(),
            as_type(DataType::UInt16),
        ],
    ];
    let encoded = keys.iter().map(|columns| encode_keys(columns).unwrap());
    let seeds = encoded.flat_map(|keys| keys.iter().flatten().map(<[u8]>::to_vec).collect::<Vec<_>>());
    run("key", super::key, seeds.collect(), 1 << 20, 4);
}

#[test]
fn job() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/jobs");
    let seeds = ["revenue_per_user", "word_count", "last_minute", "simple_model", "analytics"];
    let seeds = seeds.map(|name| std::fs::read(format!("{examples}/{name}.toml")).unwrap());
    run("job", super::job, seeds.to_vec(), 64 << 20, 20);
}
