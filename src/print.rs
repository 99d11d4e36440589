//! Rows as Spark's `print` shows them.

use serde_json::Value;
use std::fmt::Write;
use tidemill_common::terminal::one_line;

const DASHES: &str = "-------------------------------------------";

/// A batch of one output: header, the first rows one per line, `...` if there are more, an empty line.
///
/// `rows` are JSON objects; `total` is the number of rows in all.
pub fn batch(time_ms: i64, rows: &[String], total: u64) -> String {
    let mut text = format!("{DASHES}\nTime: {time_ms} ms\n{DASHES}\n");
    for row in rows {
        text.push_str(&element(row));
        text.push('\n');
    }
    if total > rows.len() as u64 {
        text.push_str("...\n");
    }
    text.push('\n');
    text
}

/// A row as Scala shows it: the value itself if it is one column, else a tuple. Control characters are escaped.
pub fn element(row: &str) -> String {
    // Objects keep the order of columns only in the text, so it is read field by field.
    let values = columns(row);
    match values.as_slice() {
        [one] => one.clone(),
        many => format!("({})", many.join(",")),
    }
}

fn columns(row: &str) -> Vec<String> {
    let ordered: Result<Ordered, _> = serde_json::from_str(row);
    ordered
        .map(|ordered| ordered.0.iter().map(|(_, value)| scala(value)).collect())
        .unwrap_or_else(|_| vec![one_line(row).into_owned()])
}

/// The fields of a JSON object in the order in which they are written.
#[derive(Debug)]
pub struct Ordered(pub Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Ordered {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> serde::de::Visitor<'de> for Fields {
            type Value = Ordered;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Ordered(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

pub(crate) fn scala(value: &Value) -> String {
    match value {
        Value::String(text) => one_line(text).into_owned(),
        Value::Number(number) if !number.is_i64() && !number.is_u64() => {
            number.as_f64().map_or_else(|| number.to_string(), java_double)
        }
        Value::Array(values) => format!("List({})", values.iter().map(scala).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => format!("({})", fields.values().map(scala).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// A double as Java's `Double.toString` writes it: scientific outside of 10^-3 to 10^7.
pub fn java_double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{value:?}");
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let mut text = digits.to_string();
    if !text.contains('.') {
        text.push_str(".0");
    }
    // Writing to a string cannot fail.
    let _ = write!(text, "E{exponent}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_as_java_writes_them() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (18.939999999999998, "18.939999999999998"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (123_456_789.125, "1.23456789125E8"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (-1e22, "-1.0E22"),
        ];
        for (value, text) in cases {
            assert_eq!(java_double(value), text);
        }
    }

    #[test]
    fn a_batch_looks_as_in_spark() {
        let rows = vec![r#"{"user":"Eric","n":2,"sum":15.48}"#.to_string()];
        let expected = format!("{DASHES}\nTime: 1000 ms\n{DASHES}\n(Eric,2,15.48)\n...\n\n");
        assert_eq!(batch(1000, &rows, 5), expected);
        assert_eq!(element(r#"{"value":"a,b"}"#), "a,b");
        assert_eq!(element(r#"{"value":"\u001b[2J\n\tb"}"#), "\\u{1b}[2J\\n\tb");
        assert_eq!(element(r#"{"k":null,"l":[1,2]}"#), "(null,List(1, 2))");
    }
}
