use super::*;
use datafusion::arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int32Array, Int64Array, StringArray, StringViewArray, TimestampMicrosecondArray, UInt64Array,
};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{Field, FieldRef};
use datafusion::arrow::row::{RowConverter, SortField};
use proptest::prelude::*;
use std::sync::Arc;

fn fields(columns: &[ArrayRef]) -> Vec<FieldRef> {
    columns.iter().map(|c| Arc::new(Field::new("c", c.data_type().clone(), true))).collect()
}

fn round_trip(columns: Vec<ArrayRef>) {
    let keys = encode_keys(&columns).unwrap();
    assert_eq!(decode_keys(&keys, &fields(&columns)).unwrap(), columns);
}

#[test]
fn vectors_of_version_1() {
    let hex = |column: ArrayRef| -> Vec<String> {
        let keys = encode_keys(&[column]).unwrap();
        keys.iter().map(|key| key.unwrap().iter().map(|b| format!("{b:02x}")).collect()).collect()
    };
    assert_eq!(
        hex(Arc::new(Int64Array::from(vec![None, Some(-1), Some(1)]))),
        ["00", "017fffffffffffffff", "018000000000000001"]
    );
    assert_eq!(hex(Arc::new(StringArray::from(vec![Some(""), Some("ana")]))), ["01", "01616e61"]);
    assert_eq!(hex(Arc::new(Float64Array::from(vec![-0.0, -f64::NAN]))), ["018000000000000000", "01fff8000000000000"]);
    assert_eq!(key_group(b"\x01ana", 64), 59);
    assert_eq!(key_group(b"", 1), 0);
}

#[test]
fn every_type_comes_back() {
    round_trip(vec![Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))]);
    round_trip(vec![Arc::new(Int8Array::from(vec![Some(i8::MIN), None, Some(i8::MAX)]))]);
    round_trip(vec![Arc::new(Float32Array::from(vec![Some(-1.5), None, Some(f32::INFINITY)]))]);
    round_trip(vec![Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(0)]))]);
    round_trip(vec![Arc::new(Date32Array::from(vec![Some(-1), None, Some(20_000)]))]);
    let timestamps = TimestampMicrosecondArray::from(vec![Some(-1), None]).with_timezone("+00:00");
    round_trip(vec![Arc::new(timestamps)]);
    let decimals = Decimal128Array::from(vec![Some(-12345), None, Some(1)]);
    round_trip(vec![Arc::new(decimals.with_precision_and_scale(20, 3).unwrap())]);
    round_trip(vec![
        Arc::new(StringViewArray::from(vec![Some("a longer text than twelve bytes"), None])),
        Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None])),
    ]);
}

#[test]
fn text_types_encode_alike() {
    let plain: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    let view: ArrayRef = Arc::new(StringViewArray::from(vec!["x", "y"]));
    assert_eq!(encode_keys(&[plain]).unwrap(), encode_keys(&[view]).unwrap());
}

#[test]
fn malformed_keys_are_refused() {
    let fields = fields(&[Arc::new(Int32Array::from(vec![0])), Arc::new(StringArray::from(vec![""]))]);
    for bad in [&b""[..], b"\x02", b"\x01\x00", b"\x00\x01\xff\xfe", b"\x00\x00\x00"] {
        assert!(decode_keys(&BinaryArray::from(vec![bad]), &fields).is_err(), "{bad:?}");
    }
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), Just(0.0), Just(-0.0), Just(f64::NAN), Just(f64::NEG_INFINITY)]
}

type Row = (Option<String>, Option<i64>, Option<f64>, Option<Vec<u8>>);

fn row() -> impl Strategy<Value = Row> {
    (
        prop::option::of("[\u{0}a\u{ff}]{0,3}"),
        prop::option::of(any::<i64>()),
        prop::option::of(float()),
        prop::option::of(prop::collection::vec(prop_oneof![Just(0u8), Just(255), any::<u8>()], 0..4)),
    )
}

fn columns(rows: &[Row]) -> Vec<ArrayRef> {
    vec![
        Arc::new(rows.iter().map(|r| r.0.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>()),
        // The expected order comes from arrow-row, which knows two zeros and many NaNs.
        Arc::new(
            rows.iter().map(|r| r.2.map(|v| if v.is_nan() { f64::NAN } else { v + 0.0 })).collect::<Float64Array>(),
        ),
        Arc::new(rows.iter().map(|r| r.3.as_deref()).collect::<BinaryArray>()),
    ]
}

proptest! {
    #[test]
    fn round_trip_and_order(rows in prop::collection::vec(row(), 1..30)) {
        let columns = columns(&rows);
        let keys = encode_keys(&columns).unwrap();
        let fields = fields(&columns);
        prop_assert_eq!(&decode_keys(&keys, &fields).unwrap(), &columns);

        let options = SortOptions { descending: false, nulls_first: true };
        let sort = fields.iter().map(|f| SortField::new_with_options(f.data_type().clone(), options)).collect();
        let expected = RowConverter::new(sort).unwrap().convert_columns(&columns).unwrap();
        for a in 0..rows.len() {
            for b in 0..rows.len() {
                prop_assert_eq!(keys.value(a).cmp(keys.value(b)), expected.row(a).cmp(&expected.row(b)));
            }
        }
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..20)) {
        let fields = fields(&columns(&[]));
        if let Ok(columns) = decode_keys(&BinaryArray::from(vec![bytes.as_slice()]), &fields) {
            // Only what `encode_keys` cannot have written (other NaNs, -0.0, other booleans) may differ.
            prop_assert_eq!(columns.len(), 4);
        }
    }
}
