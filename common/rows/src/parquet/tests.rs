use super::*;
use arrow::array::*;
use arrow::datatypes::{Float64Type, Int64Type};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::data_type::{Int96, Int96Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

fn file(columns: Vec<(&str, ArrayRef)>) -> Bytes {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap().into()
}

fn read(file: Bytes, fields: Vec<Field>) -> Result<Vec<ParquetRows>, String> {
    parquet_rows(file, &Arc::new(Schema::new(fields)))?.collect()
}

/// The good values of a column, as JSON, and why others are none.
fn values(column: impl Array + 'static, declared: DataType) -> (Vec<String>, Vec<String>) {
    let read = read(file(vec![("v", Arc::new(column))]), vec![Field::new("v", declared, true)]).unwrap();
    let ParquetRows { rows, bad } = read.into_iter().next().unwrap();
    let (mut good, mut reasons) = (Vec::new(), Vec::new());
    for (row, line) in rows_to_json(&rows).unwrap().into_iter().enumerate() {
        match bad.iter().find(|bad| bad.row == row) {
            Some(bad) => reasons.push(bad.reason.strip_prefix("column `v`: ").unwrap().to_string()),
            None => good.push(line[r#"{"v":"#.len()..line.len() - 1].to_string()),
        }
    }
    (good, reasons)
}

fn micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

#[test]
fn columns_come_as_they_were_declared() {
    let ids = Int32Array::from(vec![Some(1), None]);
    let file = file(vec![("id", Arc::new(ids)), ("name", Arc::new(StringArray::from(vec!["a", "7"])))]);
    let fields = vec![Field::new("more", DataType::Utf8, true), Field::new("id", DataType::Int64, true)];
    let batches = read(file.clone(), fields).unwrap();
    assert_eq!((batches.len(), batches[0].rows.column(0).null_count(), batches[0].bad.len()), (1, 2, 0));
    assert_eq!(batches[0].rows.column(1).as_ref(), &Int64Array::from(vec![Some(1), None]) as &dyn Array);
    let batches = read(file, vec![Field::new("name", DataType::Int64, true)]).unwrap();
    let bad = BadRow { row: 0, reason: "column `name`: a does not fit bigint".into(), text: r#"{"name":"a"}"#.into() };
    assert_eq!(batches[0].bad, [bad]);
    assert!(parquet_rows(Bytes::from("no parquet"), &Arc::new(Schema::empty())).is_err());
}

#[test]
fn numbers_that_fit() {
    let doubles = vec![Some(9.0), Some(9.5), Some(-0.0), None, Some(f64::NAN), Some(1e300), Some(-1.9)];
    let (good, bad) = values(Float64Array::from(doubles), DataType::Int64);
    assert_eq!(good, ["9", "0", "null"]);
    assert_eq!(bad, ["9.5", "NaN", "1e300", "-1.9"].map(|value| format!("{value} does not fit bigint")));
    let (good, bad) = values(Int64Array::from(vec![i64::MAX, 7, i64::MIN]), DataType::Int32);
    assert_eq!((good.len(), bad[0].as_str()), (1, "9223372036854775807 does not fit int"));
    let (good, bad) = values(UInt64Array::from(vec![1 << 63, 5]), DataType::Int64);
    assert_eq!((good, bad.len()), (vec!["5".to_string()], 1));
    let (good, bad) = values(Int64Array::from(vec![0, 1, 2, -1]), DataType::Boolean);
    assert_eq!((good, bad.len()), (vec!["false".to_string(), "true".to_string()], 2));
    let decimals = Decimal128Array::from(vec![1_000, 1_500]).with_precision_and_scale(10, 3).unwrap();
    assert_eq!(values(decimals, DataType::Int64), (vec!["1".into()], vec!["1.500 does not fit bigint".into()]));
    let decimals = Decimal128Array::from(vec![1_005, -1_999, 99_999_999_999]).with_precision_and_scale(20, 3).unwrap();
    let (good, bad) = values(decimals, DataType::Decimal128(6, 2));
    assert_eq!(good, ["\"1.01\"", "\"-2.00\""]);
    assert_eq!(bad, ["99999999.999 does not fit decimal(6, 2)"]);
    assert_eq!(values(Float64Array::from(vec![0.1]), DataType::Float32).0, ["0.1"]);
    let (good, bad) = values(Float64Array::from(vec![1e39, f64::INFINITY]), DataType::Float32);
    assert_eq!((good.len(), bad), (1, vec!["1e39 does not fit float".to_string()]));
    let (good, bad) = values(Int64Array::from(vec![9_007_199_254_740_993, 7, i64::MAX]), DataType::Float64);
    assert_eq!((good, bad.len()), (vec!["7.0".to_string()], 2));
    let (good, bad) = values(StringArray::from(vec!["1e400", "-Infinity", "2.5"]), DataType::Float64);
    assert_eq!((good.len(), bad), (2, vec!["1e400 does not fit double".to_string()]));
    let (good, bad) = values(StringArray::from(vec!["TRUE", "t", "1", "yes"]), DataType::Boolean);
    assert_eq!((good, bad.len()), (vec!["true".to_string()], 3));
    assert_eq!(values(Int64Array::from(vec![7]), DataType::Utf8).0, ["\"7\""]);
}

#[test]
fn days_and_times_that_fit() {
    let times = TimestampMicrosecondArray::from(vec![0, 86_399_000_000, -86_400_000_000, i64::MAX]);
    let (good, bad) = values(times.clone(), DataType::Date32);
    assert_eq!((good, bad.len()), (vec!["\"1970-01-01\"".to_string(), "\"1969-12-31\"".to_string()], 2));
    assert_eq!(values(times, micros()).1.len(), 1);
    let zoned = TimestampNanosecondArray::from(vec![1_500]).with_timezone("Europe/Berlin");
    assert_eq!(values(zoned, micros()).0, ["\"1970-01-01T00:00:00.000001Z\""]);
    let seconds = TimestampSecondArray::from(vec![253_402_300_799, 253_402_300_800]);
    let (good, bad) = values(seconds, micros());
    assert_eq!((good, bad.len()), (vec!["\"9999-12-31T23:59:59Z\"".to_string()], 1));
    assert_eq!(values(Date32Array::from(vec![0, 2_932_897]), micros()).1.len(), 1);
    assert_eq!(values(StringArray::from(vec!["2024-02-30", "2024-02-29"]), DataType::Date32).1.len(), 1);
    let (good, bad) = values(StringArray::from(vec!["2024-01-31T10:00:00", "2024-01-31 00:00:00"]), DataType::Date32);
    assert_eq!((good, bad.len()), (vec!["\"2024-01-31\"".to_string()], 1));
}

#[test]
fn lists_dictionaries_and_bytes() {
    let lists = [Some(vec![Some(1.0), Some(2.0)]), Some(vec![Some(1.0)]), None];
    let lists = ListArray::from_iter_primitive::<Float64Type, _, _>(lists);
    let item = Arc::new(Field::new_list_field(DataType::Float64, true));
    let (good, bad) = values(lists, DataType::FixedSizeList(item, 2));
    assert_eq!((good, bad.len()), (vec!["[1.0,2.0]".to_string(), "null".to_string()], 1));
    let words: DictionaryArray<arrow::datatypes::Int32Type> = ["a", "b", "a"].into_iter().collect();
    assert_eq!(values(words, DataType::Utf8).0, ["\"a\"", "\"b\"", "\"a\""]);
    let bytes = BinaryArray::from(vec![&b"ok"[..], b"\xff"]);
    assert_eq!(values(bytes, DataType::Utf8).0, ["\"ok\""]);
}

#[test]
fn a_column_that_can_never_fit_refuses_the_file() {
    let booleans: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
    let days: ArrayRef = Arc::new(Date32Array::from(vec![1]));
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1)])]));
    for (column, declared) in [
        (&booleans, DataType::Date32),
        (&booleans, DataType::Int64),
        (&days, DataType::Int64),
        (&days, DataType::Float64),
        (&list, DataType::Utf8),
        (&list, DataType::Int64),
    ] {
        let refused = read(file(vec![("v", column.clone())]), vec![Field::new("v", declared, true)]).unwrap_err();
        assert!(refused.starts_with("column `v` is declared as "), "{refused}");
    }
}

#[test]
fn times_of_96_bits_reach_far() {
    let schema = Arc::new(parse_message_type("message m { required int96 at; required int64 id; }").unwrap());
    let mut writer =
        SerializedFileWriter::new(Vec::new(), schema, Arc::new(WriterProperties::builder().build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    // The first of January 9999, as nanoseconds and a Julian day.
    let mut at = Int96::new();
    at.set_data(0, 0, 2_440_588 + 2_932_532);
    column.typed::<Int96Type>().write_batch(&[at], None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<parquet::data_type::Int64Type>().write_batch(&[5], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    let fields = vec![Field::new("at", micros(), true), Field::new("id", DataType::Int64, true)];
    let read = read(writer.into_inner().unwrap().into(), fields).unwrap();
    assert_eq!(rows_to_json(&read[0].rows).unwrap(), [r#"{"at":"9999-01-01T00:00:00Z","id":5}"#]);
}

/// Over some of these the reader panics: lengths below zero, types that there are not.
#[test]
fn files_with_any_byte_changed() {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let good = file(vec![("id", column)]);
    let mut refused = 0;
    for (at, byte) in (0..good.len()).flat_map(|at| [0x01, 0x7f, 0x95, 0xff].map(|byte| (at, byte))) {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        refused += usize::from(read(bytes.into(), vec![Field::new("id", DataType::Int64, true)]).is_err());
    }
    assert!(refused > 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// A damaged file gives rows or a reason.
    #[test]
    fn damaged_files(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        footer_only: bool,
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter((0..200).map(|i| (i % 7 > 0).then_some(i))));
        let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..200).map(|i| format!("name {}", i % 9))));
        let mut bytes = file(vec![("id", ids), ("name", names)]).to_vec();
        let footer = bytes.len() - 8 - u32::from_le_bytes(bytes[bytes.len() - 8..][..4].try_into().unwrap()) as usize;
        for (at, byte) in damage {
            let from = if footer_only { footer } else { 0 };
            let at = from + at.index(bytes.len() - from);
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let fields = vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)];
        if let Ok(rows) = read(bytes.into(), fields) {
            prop_assert!(rows.iter().all(|rows| rows.rows.num_columns() == 2));
        }
    }
}

#[test]
fn a_column_of_nulls_is_null_in_every_type() {
    let vector = DataType::FixedSizeList(Arc::new(Field::new_list_field(DataType::Float64, true)), 2);
    let times = [DataType::Date32, micros()];
    let plain = [
        DataType::Boolean,
        DataType::Int32,
        DataType::Float64,
        DataType::Utf8,
        DataType::Binary,
        DataType::Decimal128(9, 2),
    ];
    for declared in plain.into_iter().chain(times).chain([vector]) {
        let (good, bad) = values(NullArray::new(2), declared.clone());
        assert_eq!((good, bad.len()), (vec!["null".to_string(); 2], 0), "{declared}");
    }
}

#[test]
fn intervals_are_refused() {
    let months = IntervalYearMonthArray::from(vec![1, 2]);
    for declared in [DataType::Utf8, DataType::Int64] {
        let file = file(vec![("v", Arc::new(months.clone()))]);
        let wrong = read(file, vec![Field::new("v", declared, true)]).unwrap_err();
        assert_eq!(wrong, "column `v` has intervals, which cannot be read from Parquet: write texts or numbers");
    }
}
