//! What DataFusion and Arrow say, in the words of definitions: types as they are declared, and no names of parts that nobody
//! has written.

use std::borrow::Cow;

/// Where texts of those libraries begin with the kind of an error.
const KINDS: &[&str] = &[
    "Error during planning: ",
    "Execution error: ",
    "Internal error: ",
    "External error: ",
    "Invalid argument error: ",
    "Arrow error: ",
    "Cast error: ",
    "Parser error: ",
    "Schema error: ",
    "This feature is not implemented: ",
];

/// What is told of an expression that is left over once queries within queries have become joins.
pub(crate) const NO_JOIN: &str = "a query within this one looks at columns of the query around it in a way that cannot be made a join: \
                       join the two, or aggregate within and compare equal columns alone";

/// Begins what is said of a regular expression that is none.
const REGEX: &str = "regex parse error:";

/// A message, its first line at most, or what stands for it here.
pub(crate) fn said(text: &str) -> String {
    let all = without_kind(text);
    let line = all.lines().next().unwrap_or_default().trim_end_matches('.');
    let known = no_join(line)
        .or_else(|| not_of_these(line))
        .or_else(|| not_grouped(line))
        .or_else(|| no_table(line))
        .or_else(|| misfit(line))
        .or_else(|| reworded(line))
        .or_else(|| regex(all))
        .or_else(|| syntax_tree(line));
    in_types(&known.unwrap_or_else(|| line.to_string())).into_owned()
}

/// [`said`] with the lines that follow.
pub(crate) fn all_said(text: &str) -> String {
    let first = said(text);
    match text.trim_end().split_once('\n') {
        Some((_, rest)) if !text.contains(REGEX) => format!("{first}\n{rest}"),
        _ => first,
    }
}

fn without_kind(text: &str) -> &str {
    let mut text = text;
    while let Some(rest) = KINDS.iter().find_map(|kind| text.strip_prefix(kind)) {
        text = rest;
    }
    text
}

/// What is between two parts of a text.
fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

fn no_join(line: &str) -> Option<String> {
    let rest = line.strip_prefix("Physical plan does not support logical expression ")?;
    let query = ["ScalarSubquery", "OuterReferenceColumn", "Exists", "InSubquery", "SetComparison"];
    query.iter().any(|kind| rest.starts_with(kind)).then(|| NO_JOIN.to_string())
}

/// A call of a function with other types than it takes.
fn not_of_these(line: &str) -> Option<String> {
    if let Some(call) = between(line, "No function matches the given name and argument types '", "'. You might") {
        let (name, types) = call.split_once('(')?;
        return Some(format!("`{name}` does not take ({types}"));
    }
    let name = between(line, "Function '", "' failed to match any signature")?;
    let found = between(line, "(DataType: ", ").,").or_else(|| between(line, "(DataType: ", ")"))?;
    Some(format!("`{name}` does not take ({found})"))
}

fn not_grouped(line: &str) -> Option<String> {
    let column = between(line, "While expanding wildcard, column \"", "\" must appear in the GROUP BY clause")?;
    Some(format!("`{column}` must be in `group by` or within an aggregate"))
}

fn no_table(line: &str) -> Option<String> {
    let table = between(line, "table 'datafusion.public.", "' not found")?;
    Some(format!("there is no stream or table `{table}` here"))
}

/// Casts of Arrow's, which say the value.
fn misfit(line: &str) -> Option<String> {
    if let Some(rest) = line.strip_prefix("Can't cast value ") {
        let (value, to) = rest.rsplit_once(" to type ")?;
        return Some(format!("{value} does not fit {to}"));
    }
    for (before, middle, after) in
        [("Cannot cast string ", " to value of ", " type"), ("Cannot cast value ", " to value of ", " type")]
    {
        if let Some(rest) = line.strip_prefix(before) {
            let (value, to) = rest.rsplit_once(middle)?;
            return Some(format!("{value} does not fit {}", to.strip_suffix(after).unwrap_or(to)));
        }
    }
    None
}

fn reworded(line: &str) -> Option<String> {
    let other = match line {
        line if line.starts_with("There is only support Literal types for field") => {
            "an argument of this window function has to be a constant"
        }
        line if line.starts_with("Unable to cast to Date32 for converting") => "this text is no date",
        line if line.starts_with("Too many columns! The subquery should only return one column") => {
            "a query in the place of a value gives one column"
        }
        _ => return None,
    };
    Some(other.to_string())
}

/// A regular expression shows where it is wrong in lines of their own, and ends with why.
fn regex(text: &str) -> Option<String> {
    let (_, rest) = text.split_once(REGEX)?;
    let why = rest.lines().rev().find_map(|line| line.trim().strip_prefix("error: "))?;
    Some(format!("this is no regular expression: {why}"))
}

/// A part of SQL that is not planned is written out as the parser has it.
fn syntax_tree(line: &str) -> Option<String> {
    let tree = ["Span(Location", "quote_style: ", "Field {", "Column {", "Expr::"];
    if !tree.iter().any(|mark| line.contains(mark)) {
        return None;
    }
    let end = line.find([' ', '(']).into_iter().chain(line.find(['{', '('])).max()?;
    let said = line[..end].trim_end();
    let unsupported = said.strip_prefix("Unsupported ").map(|what| {
        let what = what.trim_start_matches("ast node ").trim_start_matches("SQL ");
        format!("`{}` is not supported", what.to_lowercase())
    });
    Some(unsupported.unwrap_or_else(|| said.to_string()))
}

/// The text with types as they are declared. Types are words of their own, of which Arrow's begin with capitals.
pub(crate) fn in_types(text: &str) -> Cow<'_, str> {
    let mut written = String::new();
    let (mut rest, mut changed) = (text, false);
    while !rest.is_empty() {
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (head, tail) = rest.split_at(word.max(rest.chars().next().map_or(0, char::len_utf8)));
        match type_of(head) {
            Some((name, false)) => {
                written.push_str(name);
                (rest, changed) = (tail, true);
            }
            Some((name, true)) if tail.starts_with('(') && tail.contains(')') => {
                written.push_str(name);
                rest = tail.split_once(')').map_or("", |(_, rest)| rest);
                changed = true;
            }
            _ => {
                written.push_str(head);
                rest = tail;
            }
        }
    }
    if changed { Cow::Owned(written) } else { Cow::Borrowed(text) }
}

/// How a type of Arrow's is declared, and whether its parameters are to be left out.
fn type_of(word: &str) -> Option<(&'static str, bool)> {
    Some(match word {
        "Utf8" | "Utf8View" | "LargeUtf8" => ("string", false),
        "Int64" => ("bigint", false),
        "Int32" => ("int", false),
        "Float64" => ("double", false),
        "Float32" => ("float", false),
        "Date32" => ("date", false),
        "Binary" | "BinaryView" | "LargeBinary" => ("binary", false),
        "Boolean" => ("boolean", false),
        "Decimal128" | "Decimal256" => ("decimal", false),
        "Timestamp" => ("timestamp", true),
        "Interval" => ("interval", true),
        "Duration" => ("duration", true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages() {
        for (text, expected) in [
            ("Error during planning: Invalid function 'x'.\nDid you mean 'y'?", "Invalid function 'x'"),
            (
                "Cannot coerce arithmetic expression Utf8 + Int64 to valid types",
                "Cannot coerce arithmetic expression string + bigint to valid types",
            ),
            (
                "Timestamp(µs) - Interval(MonthDayNano), Decimal128(10, 2), Timestamps(1)",
                "timestamp - interval, decimal(10, 2), Timestamps(1)",
            ),
            ("Physical plan does not support logical expression ScalarSubquery(<subquery>)", NO_JOIN),
            (
                "Physical plan does not support logical expression OuterReferenceColumn(Field { name: \"i\" }, Column { relation: None })",
                NO_JOIN,
            ),
            (
                "Function 'lower' expects 1 arguments but received 2. No function matches the given name and argument types 'lower(Utf8, Int64)'. You might need to add explicit type casts",
                "`lower` does not take (string, bigint)",
            ),
            (
                "Internal error: Function 'sum' failed to match any signature, errors: Error during planning: Function 'sum' requires Decimal, but received String (DataType: Utf8).,Error",
                "`sum` does not take (string)",
            ),
            (
                "Column in SELECT must be in GROUP BY or an aggregate function: While expanding wildcard, column \"m.i\" must appear in the GROUP BY clause or must be part of an aggregate function, currently only \"m.k\" appears in the SELECT clause satisfies this requirement",
                "`m.i` must be in `group by` or within an aggregate",
            ),
            ("table 'datafusion.public.s' not found", "there is no stream or table `s` here"),
            ("Cast error: Can't cast value 3000000003 to type Int32", "3000000003 does not fit int"),
            ("Cast error: Cannot cast value 'a' to value of Boolean type", "'a' does not fit boolean"),
            (
                "External error: regex parse error:\n    (\n    ^\nerror: unclosed group",
                "this is no regular expression: unclosed group",
            ),
            (
                "Unsupported ast node Pivot { table: Table { name: ObjectName([Identifier(Ident { value: \"m\", quote_style: None })]) } }",
                "`pivot` is not supported",
            ),
            (
                "Unsupported JOIN operator AsOf { match_condition: BinaryOp { left: CompoundIdentifier([Ident { value: \"m\", quote_style: None",
                "`join operator asof` is not supported",
            ),
            ("", ""),
        ] {
            assert_eq!(said(text), expected);
        }
    }

    proptest! {
        #[test]
        fn what_names_no_type_stays(text in "[a-z ()'µ{}.,0-9\n]{0,40}") {
            prop_assert_eq!(in_types(&text), text.as_str());
        }

        #[test]
        fn any_message(text in "(Utf8|Interval|\\(|\\)|Unsupported |Span\\(Location|\\{|regex parse error:|Function '|\n| |é|No function matches the given name and argument types '|'. You might){0,12}") {
            said(&text);
        }
    }
}
