use super::*;
use datafusion::arrow::array::{Array, ArrayRef, Float64Array, Int64Array, StringArray};

fn call<M, F: ScalarFunction<M>>(function: F, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef, String> {
    function.call(columns, rows).map_err(|error| error.strip_backtrace())
}

fn longs(column: &ArrayRef) -> Vec<Option<i64>> {
    column.as_any().downcast_ref::<Int64Array>().unwrap().iter().collect()
}

#[test]
fn closures_over_plain_values() {
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("ana"), None, Some("bob")]));
    let prices: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.5), Some(2.5), None]));
    let length = |name: &str| name.len() as i64;
    assert_eq!(longs(&call(length, std::slice::from_ref(&names), 3).unwrap()), [Some(3), None, Some(3)]);
    let both = |name: &str, price: f64| (name.len() as f64 + price) as i64;
    assert_eq!(longs(&call(both, &[names.clone(), prices.clone()], 3).unwrap()), [Some(4), None, None]);
    let any = |name: Option<&str>, price: Option<f64>| name.is_some() as i64 + price.is_some() as i64;
    assert_eq!(longs(&call(any, &[names.clone(), prices], 3).unwrap()), [Some(2), Some(1), Some(1)]);
    let fails = |name: &str| if name == "bob" { Err("no bob") } else { Ok(Some(1i64)) };
    assert!(call(fails, &[names], 3).unwrap_err().contains("no bob"));
    assert_eq!(longs(&call(|| 7i64, &[], 2).unwrap()), [Some(7), Some(7)]);
}

#[test]
fn columns_of_other_types_are_refused() {
    let longs: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    assert!(call(|name: &str| name.len() as i64, &[longs], 1).unwrap_err().contains("argument 1 is not a Utf8"));
}

#[test]
fn names_are_checked() {
    let mut functions = Functions::new();
    functions.scalar("one", 1, || 1i64).unwrap();
    let twice = functions.scalar("one", 2, || 2i64);
    assert_eq!(twice, Err(RegisterError::Twice("one".into())));
    assert_eq!(functions.scalar("1st", 1, || 1i64), Err(RegisterError::Name("1st".into())));
    assert_eq!(functions.scalar("Upper", 1, || 1i64), Err(RegisterError::BuiltIn("Upper".into())));
    let same = |rows: &crate::arrow::array::RecordBatch| Ok(rows.clone());
    let wrong = functions.batch_map("same", 1, &[("n", "long")], same);
    assert!(matches!(wrong, Err(RegisterError::Type { .. })));
    let none = functions.batch_map("same", 1, &[("n", "int"), ("n", "int")], same);
    assert_eq!(none, Err(RegisterError::Columns("same".into())));
}

#[test]
fn what_another_process_lacks_is_told() {
    let mut functions = Functions::new();
    functions.scalar("one", 1, || 1i64).unwrap();
    let wanted = |name: &str, version| FunctionRef { kind: FunctionKind::Scalar, name: name.into(), version };
    assert_eq!(functions.lack(&wanted("one", 1)), None);
    let other = functions.lack(&wanted("one", 2)).unwrap();
    assert_eq!(other, "scalar `one` version 2 is wanted, but version 1 is known there");
    assert_eq!(functions.lack(&wanted("two", 1)).unwrap(), "scalar `two` version 1 is not known there");
}
