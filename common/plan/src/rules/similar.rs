//! `similar to`: the pattern of the SQL standard has to match the whole text, with `%` and `_` for any text and any
//! character. DataFusion looks for a regular expression anywhere in it.

use datafusion::arrow::array::{ArrayRef, AsArray, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::expr::Like;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::Arc;

/// What takes its meaning from the next character, if `escape` names no other.
const ESCAPE: char = '\\';

/// What is around a pattern, for which it has to match the whole text.
const BEGIN: &str = r"\A(?s:";
const END: &str = r")\z";

/// The same as a regular expression.
///
/// # Errors
/// When a pattern that is written there is none.
pub(super) fn as_regex(similar: Like) -> Result<Expr> {
    let Like { negated, expr, pattern, escape_char, .. } = similar;
    let escape = escape_char.unwrap_or(ESCAPE);
    let written = match pattern.as_ref() {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(|pattern| regex(pattern, escape)),
        _ => None,
    };
    let regex = match written {
        Some(Ok(regex)) => lit(regex),
        Some(Err(wrong)) => return plan_err!("the pattern of `similar to` {wrong}"),
        None => ScalarUDF::from(SimilarPattern { escape, signature: Signature::string(1, Volatility::Immutable) })
            .call(vec![*pattern]),
    };
    let op = if negated { Operator::RegexNotMatch } else { Operator::RegexMatch };
    Ok(Expr::BinaryExpr(BinaryExpr::new(expr, op, Box::new(regex))))
}

/// The pattern that an expression was made of: `Some(None)` if it is a constant, of which the regular expression is left.
pub(crate) fn similar_pattern(expr: &Arc<dyn PhysicalExpr>) -> Option<Option<Arc<dyn PhysicalExpr>>> {
    if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
        return call.fun().inner().is::<SimilarPattern>().then(|| call.args().first().cloned());
    }
    let constant = expr.downcast_ref::<Literal>()?.value().try_as_str().flatten()?;
    (constant.starts_with(BEGIN) && constant.ends_with(END)).then_some(None)
}

/// A pattern as a regular expression. Users cannot name this function.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SimilarPattern {
    escape: char,
    signature: Signature,
}

impl ScalarUDFImpl for SimilarPattern {
    fn name(&self) -> &str {
        "similar_pattern"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [found] if found.is_string() || found.is_null() => Ok(DataType::Utf8),
            _ => plan_err!("the pattern of `similar to` is a text"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [patterns] = &args.args[..] else {
            return exec_err!("`similar to` takes one pattern");
        };
        let translated = |patterns: &ArrayRef| -> Result<ArrayRef> {
            let patterns = cast(patterns, &DataType::Utf8)?;
            let regexes = patterns.as_string::<i32>().iter().map(|pattern| {
                let regex = pattern.map(|pattern| regex(pattern, self.escape)).transpose();
                regex.or_else(|wrong| exec_err!("the pattern of `similar to` {wrong}"))
            });
            Ok(Arc::new(regexes.collect::<Result<StringArray>>()?))
        };
        match patterns {
            ColumnarValue::Array(patterns) => Ok(ColumnarValue::Array(translated(patterns)?)),
            ColumnarValue::Scalar(pattern) => {
                let regex = translated(&pattern.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&regex, 0)?))
            }
        }
    }
}

fn regex(pattern: &str, escape: char) -> Result<String, &'static str> {
    let mut regex = String::from(BEGIN);
    let mut rest = pattern.chars().peekable();
    let mut brackets = false;
    while let Some(next) = rest.next() {
        match next {
            next if next == escape => match rest.next() {
                Some(meant) => push_plain(meant, &mut regex),
                None => return Err("ends with its escape character"),
            },
            ']' if brackets => {
                brackets = false;
                regex.push(']');
            }
            // A class of characters by name, as `[:alpha:]`.
            '[' if brackets && rest.peek() == Some(&':') => {
                let name: String = rest.by_ref().skip(1).take_while(|c| *c != ']').collect();
                regex.push_str(&format!("[:{name}]"));
            }
            '-' | '^' if brackets => regex.push(next),
            '[' if !brackets => {
                brackets = true;
                regex.push('[');
                if rest.next_if_eq(&'^').is_some() {
                    regex.push('^');
                }
                // It cannot be empty: a bracket that comes first is one of the characters.
                if rest.next_if_eq(&']').is_some() {
                    regex.push_str(r"\]");
                }
            }
            _ if brackets => push_plain(next, &mut regex),
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '(' => regex.push_str("(?:"),
            '|' | '*' | '+' | '?' | ')' | '{' | '}' => regex.push(next),
            other => push_plain(other, &mut regex),
        }
    }
    if brackets {
        return Err("has a `[` without its `]`");
    }
    regex.push_str(END);
    match regex::Regex::new(&regex) {
        Ok(_) => Ok(regex),
        Err(_) => Err("is none: look at its brackets, `{..}` and what is repeated"),
    }
}

/// A character that means itself.
fn push_plain(character: char, regex: &mut String) {
    regex.push_str(&regex::escape(character.encode_utf8(&mut [0; 4])));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(text: &str, pattern: &str) -> bool {
        regex::Regex::new(&regex(pattern, ESCAPE).unwrap()).unwrap().is_match(text)
    }

    /// What PostgreSQL says.
    #[test]
    fn the_whole_text_has_to_match() {
        for (text, pattern, expected) in [
            ("abc", "abc", true),
            ("abc", "a", false),
            ("abc", "b", false),
            ("abc", "%(b|d)%", true),
            ("abc", "(b|c)%", false),
            ("abc", "a_c", true),
            ("a.c", "a.c", true),
            ("abc", "a.c", false),
            ("abc", "^abc$", false),
            ("aaa", "a{3}", true),
            ("aaa", "a{2}", false),
            ("aaa", "a{1,}", true),
            ("ab|c", r"ab\|c", true),
            ("100%", r"100\%", true),
            ("1000", r"100\%", false),
            ("x\ny", "x%", true),
            ("", "%", true),
            ("", "", true),
            ("b", "[a-c]", true),
            ("b", "[^a-c]", false),
            ("]", "[]]", true),
            ("7", "[[:digit:]]", true),
            ("a", "[[:digit:]x]", false),
            ("&", "[a&&b]", true),
            ("%", "[%_]", true),
            ("a", "[%_]", false),
            ("foobar", "(foo|bar)+", true),
            ("a", "a|bc", true),
            ("abc", "a|bc", false),
            (r"a\b", r"a\\b", true),
        ] {
            assert_eq!(matches(text, pattern), expected, "{text} {pattern}");
        }
    }

    #[test]
    fn patterns_that_are_none() {
        for pattern in ["a(", "*a", "[a", r"a\", "a{3,2}", "a)b", "[z-a]"] {
            regex(pattern, ESCAPE).unwrap_err();
        }
        assert_eq!(regex("a#%", '#').unwrap(), r"\A(?s:a%)\z");
    }

    /// Without what only one of them knows, it is `like`.
    fn like(text: &[char], pattern: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['%', rest @ ..] => (0..=text.len()).any(|from| like(&text[from..], rest)),
            [first, rest @ ..] => {
                text.split_first().is_some_and(|(head, tail)| (*first == '_' || head == first) && like(tail, rest))
            }
        }
    }

    proptest! {
        #[test]
        fn as_like_does(text in "[ab.%\n^$]{0,8}", pattern in "[ab.%_^$]{0,6}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&text, &pattern), like(&chars(&text), &chars(&pattern)));
        }

        #[test]
        fn any_pattern_is_one_or_refused(pattern in "[]ab%_|*+?(){}\\[^:0-9,&~.$\\\\-]{0,12}", text in "[ab]{0,4}") {
            if let Ok(regex) = regex(&pattern, ESCAPE) {
                regex::Regex::new(&regex).unwrap().is_match(&text);
            }
        }
    }
}
