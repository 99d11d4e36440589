//! Comparing outputs with what was expected.

use crate::exit::{Done, Failure, Outcome};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Lines of differences shown.
const SHOWN: usize = 40;

/// Expected rows per (batch, output).
pub(super) struct Expected {
    rows: Lines,
}

type Lines = BTreeMap<(u64, String), Vec<Value>>;

#[derive(serde::Deserialize)]
struct Line {
    batch: u64,
    output: String,
    rows: Vec<Value>,
}

impl Expected {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let rows = parse(lines).map_err(|(line, error)| {
            Failure::usage(format!(
                "{}:{line}: {error}; expected {{\"batch\": .., \"output\": .., \"rows\": [..]}}",
                path.display()
            ))
        })?;
        Ok(Self { rows })
    }

    /// Prints how `lines` differ; rows as multisets unless `ordered`, doubles within a relative `tolerance`.
    pub(super) fn compare(&self, lines: &[String], ordered: bool, tolerance: f64) -> Done {
        let found = parse(lines.iter().map(String::as_str)).map_err(|(_, error)| Failure::failed(error.to_string()))?;
        let differences = self.differences(found, ordered, tolerance);
        if differences.is_empty() {
            _ = say!("as expected: {} outputs", self.rows.len());
            return Ok(Outcome::Fine);
        }
        for difference in differences.iter().take(SHOWN) {
            _ = say!("{difference}");
        }
        if differences.len() > SHOWN {
            _ = say!("and {} more differences", differences.len() - SHOWN);
        }
        Ok(Outcome::Differs)
    }

    fn differences(&self, mut found: Lines, ordered: bool, tolerance: f64) -> Vec<String> {
        let mut differences = Vec::new();
        for ((batch, output), expected) in &self.rows {
            let place = format!("batch {batch}, output `{output}`");
            match found.remove(&(*batch, output.clone())) {
                None => differences.push(format!("{place}: expected, but did not fire")),
                Some(rows) => differences.extend(compare_rows(&place, expected, rows, ordered, tolerance)),
            }
        }
        let unexpected =
            found.into_keys().map(|(batch, output)| format!("batch {batch}, output `{output}`: not expected"));
        differences.extend(unexpected);
        differences
    }
}

fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Lines, (usize, serde_json::Error)> {
    let mut parsed = Lines::new();
    for (number, line) in lines.enumerate() {
        let line: Line = serde_json::from_str(line).map_err(|error| (number + 1, error))?;
        parsed.insert((line.batch, line.output), line.rows);
    }
    Ok(parsed)
}

fn compare_rows(place: &str, expected: &[Value], found: Vec<Value>, ordered: bool, tolerance: f64) -> Vec<String> {
    let mut differences = Vec::new();
    if ordered {
        for number in 0..expected.len().max(found.len()) {
            match (expected.get(number), found.get(number)) {
                (Some(expected), Some(found)) if same(expected, found, tolerance) => {}
                (Some(expected), Some(found)) => {
                    differences.push(format!("{place}, row {}: expected {expected}, found {found}", number + 1));
                }
                (Some(expected), None) => differences.push(format!("{place}: missing row {expected}")),
                (None, Some(found)) => differences.push(format!("{place}: surplus row {found}")),
                (None, None) => {}
            }
        }
        return differences;
    }
    let mut left = found;
    for row in expected {
        match left.iter().position(|candidate| same(row, candidate, tolerance)) {
            Some(position) => {
                left.swap_remove(position);
            }
            None => differences.push(format!("{place}: missing row {row}")),
        }
    }
    differences.extend(left.iter().map(|row| format!("{place}: surplus row {row}")));
    differences
}

fn same(a: &Value, b: &Value, tolerance: f64) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let whole = |n: &serde_json::Number| n.is_i64() || n.is_u64();
            if whole(a) && whole(b) {
                return a == b;
            }
            let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) else { return false };
            a == b || (a - b).abs() <= tolerance * a.abs().max(b.abs())
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, tolerance)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b, tolerance)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rows: &str) -> String {
        format!(r#"{{"batch": 1, "time_ms": 1000, "output": "o", "rows": {rows}}}"#)
    }

    fn differences(expected: &str, found: &str, ordered: bool, tolerance: f64) -> usize {
        let (expected, found) = (line(expected), line(found));
        let expected = Expected { rows: parse([expected.as_str()].into_iter()).unwrap() };
        expected.differences(parse([found.as_str()].into_iter()).unwrap(), ordered, tolerance).len()
    }

    #[test]
    fn rows_are_multisets_unless_ordered() {
        assert_eq!(differences(r#"[{"a":1},{"a":2}]"#, r#"[{"a":2},{"a":1}]"#, false, 0.0), 0);
        assert_eq!(differences(r#"[{"a":1},{"a":2}]"#, r#"[{"a":2},{"a":1}]"#, true, 0.0), 2);
        assert_eq!(differences(r#"[{"a":1},{"a":1}]"#, r#"[{"a":1}]"#, false, 0.0), 1);
    }

    #[test]
    fn tolerance_is_relative_and_for_doubles_only() {
        assert_eq!(differences(r#"[{"a":100.0}]"#, r#"[{"a":100.5}]"#, true, 0.01), 0);
        assert_eq!(differences(r#"[{"a":100.0}]"#, r#"[{"a":100.5}]"#, true, 0.0), 1);
        assert_eq!(differences(r#"[{"a":100}]"#, r#"[{"a":101}]"#, true, 0.1), 1);
    }
}
