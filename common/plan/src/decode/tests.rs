use super::*;
use proptest::prelude::*;
use std::sync::Arc;
use tidemill_connect::sinks::files::{FileFormat, RowEncoding};
use tidemill_job::{ColumnDef, Name};
use tidemill_rows::rows_to_json;

fn columns(columns: &[(&str, ColumnType)]) -> Vec<ColumnDef> {
    let column = |(name, data_type): &(&str, ColumnType)| ColumnDef {
        name: Name { text: name.to_string(), span: 0..0 },
        data_type: *data_type,
    };
    columns.iter().map(column).collect()
}

fn source(format: Format) -> SourcePlan {
    let fields: Vec<_> = match &format {
        Format::Text => vec![Field::new("value", DataType::Utf8, true)],
        Format::Csv { columns, .. } | Format::Json { columns } => {
            columns.iter().map(|c| Field::new(&c.name.text, arrow_type(c.data_type), true)).collect()
        }
    };
    SourcePlan::from_parts("s", format, Schema::new(fields), OnBadRecord::SKIP)
}

fn csv_source(types: &[(&str, ColumnType)], null: Option<&str>) -> SourcePlan {
    source(Format::Csv { columns: columns(types), delimiter: b',', null: null.map(str::to_string) })
}

fn purchases() -> SourcePlan {
    csv_source(&[("user", ColumnType::String), ("n", ColumnType::Int), ("price", ColumnType::Double)], None)
}

fn rows(decoded: &Decoded) -> Vec<String> {
    decoded.batches.iter().flat_map(|batch| rows_to_json(batch).unwrap()).collect()
}

#[test]
fn good_csv() {
    let block = b"ana,1,9.99\r\n\nbob,,5\n\"a \"\"b\"\", c\",2,\n,3,1e16";
    let decoded = purchases().decode(block).unwrap();
    assert_eq!(
        rows(&decoded),
        [
            r#"{"user":"ana","n":1,"price":9.99}"#,
            r#"{"user":"bob","n":null,"price":5.0}"#,
            r#"{"user":"a \"b\", c","n":2,"price":null}"#,
            r#"{"user":"","n":3,"price":1e16}"#,
        ]
    );
    assert_eq!((decoded.records, decoded.bad.count), (4, 0));
}

#[test]
fn bad_lines_never_cost_their_neighbours() {
    let block = b"ana,1,1\nbob,x,2\n\ncid,\"3,3\ndee,4,4\nshort,1\nlong,1,1,1\n\xfd\xfc,5,5\neve,6,6\n";
    let decoded = purchases().decode(block).unwrap();
    let users: Vec<_> = rows(&decoded).iter().map(|row| row[9..12].to_string()).collect();
    assert_eq!(users, ["ana", "dee", "eve"]);
    assert_eq!((decoded.records, decoded.bad.count), (8, 5));
    let samples: Vec<_> = decoded.bad.samples.iter().map(|s| (s.line, s.text.as_str(), s.reason.as_str())).collect();
    assert_eq!(
        samples,
        [
            (1, "bob,x,2", "column `n`: `x` does not fit int"),
            (3, "cid,\"3,3", "a quoted field does not end"),
            (5, "short,1", "incorrect number of fields, expected 3 got 2"),
            (6, "long,1,1,1", "incorrect number of fields, expected 3 got more than 3"),
            (7, "\u{fffd}\u{fffd},5,5", "not UTF-8"),
        ]
    );
}

#[test]
fn null_is_a_text_without_quotes() {
    let source = csv_source(&[("s", ColumnType::String), ("n", ColumnType::BigInt)], Some("NA"));
    let decoded = source.decode(b"NA,NA\n\"NA\",\"NA\"\n\nx,\"1\"\n\"NA\",2\n\"N\"\"A\",\n").unwrap();
    let expected = [r#"{"s":null,"n":null}"#, r#"{"s":"NA","n":null}"#, r#"{"s":"x","n":1}"#, r#"{"s":"NA","n":2}"#];
    assert_eq!((rows(&decoded), decoded.bad.count), (expected.map(str::to_string).to_vec(), 1));
}

#[test]
fn csv_records_of_several_lines() {
    let source = csv_source(&[("s", ColumnType::String), ("n", ColumnType::BigInt)], None);
    let text = "\u{feff}\"a\nb\",1\r\n\u{feff}c,2\n\"x\n\"y,3\n\"crlf\r\n\"\"\",4\n\"open,4\nd,5";
    let mut block = records::block_of(text.as_bytes(), records::Framing::Csv { delimiter: b',' });
    records::push_record(b"e\nf,6", &mut block);
    records::push_bad("known", b"to be\nbad", &mut block);
    let decoded = source.decode(&block).unwrap();
    let expected = [
        r#"{"s":"a\nb","n":1}"#.to_string(),
        "{\"s\":\"\u{feff}c\",\"n\":2}".to_string(),
        r#"{"s":"crlf\r\n\"","n":4}"#.to_string(),
    ];
    assert_eq!(rows(&decoded), expected);
    let samples: Vec<_> = decoded.bad.samples.iter().map(|s| (s.line, s.text.as_str(), s.reason.as_str())).collect();
    assert_eq!(
        samples,
        [
            (2, "\"x\n\"y,3", "a field goes on behind its closing quote (a quote within quotes is written twice)"),
            (4, "\"open,4\nd,5", "a quoted field does not end"),
            (5, "e\nf,6", "a line break outside of quotes"),
            (6, "to be\nbad", "known"),
        ]
    );
    assert_eq!(decoded.records, 7);
}

#[test]
fn an_open_quote_does_not_turn_what_is_quoted_inside_out() {
    let source = csv_source(&[("s", ColumnType::String)], None);
    let mut block = b"\"open\n".to_vec();
    records::push_record(b"\"a\nb\"", &mut block);
    let decoded = source.decode(&block).unwrap();
    assert_eq!((rows(&decoded), decoded.bad.count), (vec![r#"{"s":"a\nb"}"#.to_string()], 1));
}

#[test]
fn strict_and_not_too_deep_json() {
    let source = source(Format::Json { columns: columns(&[("a", ColumnType::BigInt)]) });
    let deep = format!("{{\"a\":1,\"b\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let column = format!("{{\"a\":{}", "[".repeat(100_000));
    let block = ["{\"a\":1}", &deep, "{\"a\":2,}", &column, "{\"a\":3}", "\u{feff}{\"a\":4}"].join("\n");
    let decoded = source.decode(block.as_bytes()).unwrap();
    assert_eq!(rows(&decoded), [r#"{"a":1}"#, r#"{"a":3}"#]);
    let reasons: Vec<_> = decoded.bad.samples.iter().map(|s| s.reason.as_str()).collect();
    let deep = "arrays and objects more than 128 deep";
    assert_eq!(reasons, [deep, "key must be a string", deep, "expected value"]);
}

#[test]
fn null_text_and_binary() {
    let source =
        csv_source(&[("a", ColumnType::String), ("b", ColumnType::BigInt), ("c", ColumnType::Binary)], Some("NA"));
    let decoded = source.decode(b"NA,NA,NA\n,1,AP9h\nx,,\ny,1,%\n").unwrap();
    assert_eq!(rows(&decoded), [r#"{"a":null,"b":null,"c":null}"#, r#"{"a":"","b":1,"c":"AP9h"}"#]);
    let reasons: Vec<_> = decoded.bad.samples.iter().map(|s| s.reason.as_str()).collect();
    assert_eq!(reasons, ["column `b`: `` does not fit bigint", "column `c`: `%` is not base64"]);
}

#[test]
fn json_lines() {
    let source = source(Format::Json {
        columns: columns(&[("a", ColumnType::BigInt), ("t", ColumnType::Timestamp), ("s", ColumnType::String)]),
    });
    let block = br#"{"a":9007199254740993,"t":"2026-01-02T03:04:05Z","more":[1]}

{"s":"x","a":null}
{"a":1
,"s":"two lines"}
{"a":2}{"a":3}
5
{"a":"x"}
{"a":4,"s":7}
{"a":1.5}"#;
    let decoded = source.decode(block).unwrap();
    assert_eq!(
        rows(&decoded),
        [
            r#"{"a":9007199254740993,"t":"2026-01-02T03:04:05Z","s":null}"#,
            r#"{"a":null,"t":null,"s":"x"}"#,
            r#"{"a":4,"t":null,"s":"7"}"#,
        ]
    );
    let lines: Vec<_> = decoded.bad.samples.iter().map(|s| s.line).collect();
    assert_eq!((decoded.records, decoded.bad.count, lines), (9, 6, vec![3, 4, 5, 6, 7]));
}

/// The reasons of a column of one type whose values are all bad, in csv and in JSON.
fn refused(column_type: ColumnType, values: &[&str]) -> [Vec<String>; 2] {
    let csv: String = values.iter().map(|value| format!("\"{value}\"\n")).collect();
    let json: String = values.iter().map(|value| format!("{{\"v\":\"{value}\"}}\n")).collect();
    let columns = [("v", column_type)];
    let json_source = source(Format::Json { columns: self::columns(&columns) });
    [csv_source(&columns, None).decode(csv.as_bytes()), json_source.decode(json.as_bytes())].map(|decoded| {
        let decoded = decoded.unwrap();
        assert_eq!(rows(&decoded), [""; 0]);
        decoded.bad.samples.iter().map(|sample| sample.reason.clone()).collect()
    })
}

#[test]
fn dates_outside_of_the_calendar_and_with_a_time_are_bad() {
    for reasons in refused(ColumnType::Date, &["0000-01-01", "+10000-01-01", "2024-01-31T10:00:00", "x"]) {
        assert_eq!(
            reasons,
            [
                "column `v`: `0000-01-01` is outside of the years 1 to 9999",
                "column `v`: `+10000-01-01` is outside of the years 1 to 9999",
                "column `v`: `2024-01-31T10:00:00` has a time, which a date has not",
                "column `v`: `x` is not a date",
            ]
        );
    }
    for reasons in refused(ColumnType::Timestamp, &["9999-12-31T23:59:59-05:00", "1706695200", "1706695200.5"]) {
        assert_eq!(reasons[0], "column `v`: `9999-12-31T23:59:59-05:00` is outside of the years 1 to 9999");
        assert!(reasons[1..].iter().all(|reason| reason.contains("is a number, not a timestamp")), "{reasons:?}");
    }
}

#[test]
fn json_numbers_are_no_timestamps() {
    let source = source(Format::Json { columns: columns(&[("t", ColumnType::Timestamp), ("d", ColumnType::Date)]) });
    let decoded =
        source.decode(b"{\"t\":1706695200}\n{\"t\":1.5}\n{\"d\":19000}\n{\"t\":253402300800000000}\n").unwrap();
    assert_eq!((decoded.records, decoded.bad.count), (4, 4));
}

#[test]
fn what_is_too_large_is_bad_and_what_is_infinite_is_not() {
    let csv = &refused(ColumnType::Float, &["-1e39", "1e400"])[0];
    assert_eq!(csv, &["-1e39", "1e400"].map(|value| format!("column `v`: `{value}` is too large for a float")));
    let doubles = csv_source(&[("v", ColumnType::Double)], None).decode(b"1e400\n").unwrap();
    assert_eq!(doubles.bad.samples[0].reason, "column `v`: `1e400` is too large for a double");
    let columns = self::columns(&[("x", ColumnType::Double), ("f", ColumnType::Float), ("v", ColumnType::Vector(2))]);
    let json = source(Format::Json { columns });
    let lines = [
        r#"{"x":"Infinity","f":"-Infinity","v":[1,"-Infinity"]}"#,
        r#"{"x":1e400,"f":1e38,"v":[1e400,1]}"#,
        r#"{"f":1e39}"#,
        r#"{"x":"NaN","f":-1e400}"#,
    ];
    let decoded = json.decode(lines.join("\n").as_bytes()).unwrap();
    let reasons: Vec<_> = decoded.bad.samples.iter().map(|sample| (sample.line, sample.reason.as_str())).collect();
    assert_eq!(
        reasons,
        [(2, "column `f`: `1e39` is too large for a float"), (3, "column `f`: `-1e400` is too large for a float")]
    );
    let columns = self::columns(&[("x", ColumnType::Double), ("v", ColumnType::Vector(2))]);
    let csv = source(Format::Csv { columns, delimiter: b',', null: None });
    let decoded = csv.decode(b"-inf,\"1,Infinity\"\n1e400,\"1,2\"\n2,\"1,-1e400\"\n").unwrap();
    assert_eq!((rows(&decoded).len(), decoded.bad.count), (1, 2));
}

#[test]
fn text_keeps_blank_lines() {
    let source = source(Format::Text);
    let decoded = source.decode(b"a b\r\n\n\xff\nc\rd\n").unwrap();
    assert_eq!(rows(&decoded), [r#"{"value":"a b"}"#, r#"{"value":""}"#, r#"{"value":"c\rd"}"#]);
    assert_eq!((decoded.records, decoded.bad.count), (4, 1));
    assert_eq!(source.decode(b"").unwrap().records, 0);
    assert_eq!(source.decode(b"\n").unwrap().records, 1);
}

#[test]
fn batches_have_the_same_rows_whatever_is_bad() {
    let good: String = (0..20_000).map(|i| format!("u{i},{i},{i}\n")).collect();
    let decoded = purchases().decode(good.as_bytes()).unwrap();
    let sizes: Vec<_> = decoded.batches.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [BATCH_ROWS, BATCH_ROWS, 20_000 - 2 * BATCH_ROWS]);
    let with_bad = good.replacen("u777,", "u777,,", 1);
    let decoded = purchases().decode(with_bad.as_bytes()).unwrap();
    assert_eq!((rows(&decoded).len(), decoded.bad.count), (19_999, 1));
}

fn all_types() -> Vec<(&'static str, ColumnType)> {
    use ColumnType::*;
    vec![("a", Boolean), ("b", Int), ("c", Float), ("d", Date), ("e", Timestamp), ("f", Decimal(10, 2)), ("g", Binary)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_decode(block in prop::collection::vec(any::<u8>(), 0..200)) {
        for source in [purchases(), source(Format::Text), source(Format::Json { columns: columns(&all_types()) })] {
            let decoded = source.decode(&block).unwrap();
            prop_assert_eq!(decoded.records, rows(&decoded).len() as u64 + decoded.bad.count);
        }
    }

    /// What the csv output writes, the csv source reads, and null is told from every text.
    #[test]
    fn csv_files_are_read_as_written(
        texts in prop::collection::vec(
            prop::option::of(prop_oneof![
                3 => "(?s).{0,6}", 3 => "[ac,;\"\n\r\u{feff}]{0,5}", 1 => Just("NA".to_string()), 1 => Just(String::new()),
            ]),
            1..8,
        ),
        one_column: bool,
        null in prop_oneof![Just(""), Just("NA"), Just("a")],
        delimiter in prop_oneof![Just(b','), Just(b';')],
    ) {
        let strings: ArrayRef = Arc::new(StringArray::from(texts.clone()));
        let numbers: ArrayRef = Arc::new(datafusion::arrow::array::Int64Array::from_iter_values(0..texts.len() as i64));
        let mut columns = vec![("s", strings, true), ("n", numbers, true)];
        let mut types = vec![("s", ColumnType::String), ("n", ColumnType::BigInt)];
        if one_column {
            columns.pop();
            types.pop();
        }
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let encoding = RowEncoding::new(FileFormat::Csv { header: false, delimiter, null: null.into() }, batch.schema());
        let mut writer = encoding.writer(Vec::new()).unwrap();
        encoding.encode(&batch).unwrap().into_iter().for_each(|row| writer.write(row).unwrap());
        let block = records::block_of(&writer.finish().unwrap(), records::Framing::Csv { delimiter });
        for told in [Some(null.to_string()), None] {
            let source = source(Format::Csv { columns: self::columns(&types), delimiter, null: told.clone() });
            let decoded = source.decode(&block).unwrap();
            prop_assert_eq!((decoded.records, decoded.bad.count), (texts.len() as u64, 0));
            let read: Vec<Option<String>> = decoded.batches.iter().flat_map(|batch| {
                batch.column(0).as_string::<i32>().iter().map(|text| text.map(str::to_string)).collect::<Vec<_>>()
            }).collect();
            // Nobody says what null is; or it has no text, and a blank line is no record.
            let no_null = told.is_none() || (one_column && null.is_empty());
            let as_text = |text: &Option<String>| text.clone().or_else(|| no_null.then(|| null.to_string()));
            prop_assert_eq!(read, texts.iter().map(as_text).collect::<Vec<_>>());
        }
    }

    #[test]
    fn any_fields_decode(lines in prop::collection::vec("[-+0-9.eE:TZ\"{}, trufalse\r]{0,40}", 0..6)) {
        for kind in all_types() {
            let csv = csv_source(&[kind, ("z", ColumnType::String)], None);
            let json = source(Format::Json { columns: columns(&[kind]) });
            for source in [csv, json] {
                let decoded = source.decode(lines.join("\n").as_bytes()).unwrap();
                prop_assert_eq!(decoded.records, rows(&decoded).len() as u64 + decoded.bad.count);
            }
        }
    }
}
