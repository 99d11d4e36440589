//! Declared columns and their types.

use super::Name;
use crate::diag::nearest;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A declared column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnDef {
    /// Its name.
    pub name: Name,
    /// Its type.
    pub data_type: ColumnType,
}

/// The types a column may be declared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ColumnType {
    /// `boolean`
    Boolean,
    /// `int`: 32 bits
    Int,
    /// `bigint`: 64 bits
    BigInt,
    /// `float`: 32 bits
    Float,
    /// `double`: 64 bits
    Double,
    /// `string`
    String,
    /// `date`
    Date,
    /// `timestamp`: microseconds, UTC
    Timestamp,
    /// `decimal(precision, scale)`
    Decimal(u8, i8),
    /// `binary`, base64 in text
    Binary,
    /// `vector(n)`: n doubles; in text separated by commas, in JSON an array
    Vector(u32),
}

/// The types without parameters.
const SIMPLE: [(&str, ColumnType); 9] = [
    ("boolean", ColumnType::Boolean),
    ("int", ColumnType::Int),
    ("bigint", ColumnType::BigInt),
    ("float", ColumnType::Float),
    ("double", ColumnType::Double),
    ("string", ColumnType::String),
    ("date", ColumnType::Date),
    ("timestamp", ColumnType::Timestamp),
    ("binary", ColumnType::Binary),
];

/// Names that other systems use, with ours.
const ELSEWHERE: [(&str, &str); 16] = [
    ("bool", "boolean"),
    ("integer", "int"),
    ("int32", "int"),
    ("i32", "int"),
    ("long", "bigint"),
    ("int64", "bigint"),
    ("i64", "bigint"),
    ("real", "float"),
    ("f64", "double"),
    ("float64", "double"),
    ("text", "string"),
    ("varchar", "string"),
    ("datetime", "timestamp"),
    ("bytes", "binary"),
    ("numeric", "decimal(10, 2)"),
    ("decimal", "decimal(10, 2)"),
];

/// Most digits a decimal can hold.
const MAX_PRECISION: u8 = 38;
/// Most numbers a vector can hold.
const MAX_VECTOR: u32 = 100_000;

impl ColumnType {
    /// What there is, for messages.
    pub const EXPECTED: &'static str = "boolean, int, bigint, float, double, string, date, timestamp, binary, decimal(precision, scale) or vector(length)";
    /// The names as a regular expression, for the JSON Schema.
    pub const PATTERN: &'static str = "^(boolean|int|bigint|float|double|string|date|timestamp|binary|decimal\\( *[0-9]+ *, *[0-9]+ *\\)|vector\\( *[0-9]+ *\\))$";

    /// The type of this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        if let Some((_, simple)) = SIMPLE.iter().find(|(simple, _)| *simple == name) {
            return Some(*simple);
        }
        if let Some(length) = name.strip_prefix("vector(") {
            let length = length.strip_suffix(')')?.trim().parse().ok()?;
            return (1..=MAX_VECTOR).contains(&length).then_some(Self::Vector(length));
        }
        let parameters = name.strip_prefix("decimal(")?.strip_suffix(')')?;
        let (precision, scale) = parameters.split_once(',')?;
        let precision: u8 = precision.trim().parse().ok()?;
        let scale: u8 = scale.trim().parse().ok()?;
        let good = (1..=MAX_PRECISION).contains(&precision) && scale <= precision;
        good.then_some(Self::Decimal(precision, i8::try_from(scale).ok()?))
    }

    /// The name that was most likely meant.
    pub fn suggestion(name: &str) -> Option<&'static str> {
        let name = name.to_lowercase();
        let ours = ELSEWHERE.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
        ours.or_else(|| nearest(&name, SIMPLE.iter().map(|(simple, _)| *simple)))
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Decimal(precision, scale) = self {
            return write!(f, "decimal({precision}, {scale})");
        }
        if let Self::Vector(length) = self {
            return write!(f, "vector({length})");
        }
        let name = SIMPLE.iter().find(|(_, simple)| simple == self).map_or("", |(name, _)| *name);
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let decimal = ("decimal(10, 2)", ColumnType::Decimal(10, 2));
        let vector = ("vector(100)", ColumnType::Vector(100));
        for (name, data_type) in SIMPLE.into_iter().chain([decimal, vector]) {
            assert_eq!(ColumnType::from_name(name), Some(data_type));
            assert_eq!(data_type.to_string(), name);
        }
        assert_eq!(ColumnType::from_name("decimal(38,0)"), Some(ColumnType::Decimal(38, 0)));
        for wrong in [
            "",
            "decimal",
            "decimal()",
            "decimal(0,0)",
            "decimal(39,1)",
            "decimal(3,4)",
            "Int",
            "vector(0)",
            "vector(x)",
        ] {
            assert_eq!(ColumnType::from_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn suggestions() {
        assert_eq!(ColumnType::suggestion("long"), Some("bigint"));
        assert_eq!(ColumnType::suggestion("doubel"), Some("double"));
        assert_eq!(ColumnType::suggestion("String"), Some("string"));
        assert_eq!(ColumnType::suggestion("geometry"), None);
    }
}
