//! Scalar functions that plans need and SQL does not have. Users cannot name them.

use datafusion::arrow::array::{AsArray, ListBuilder, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// The pieces of a text (Utf8) as Java's and Scala's `split` give them for a plain separator: trailing empty pieces
/// are dropped, all others kept; a text without the separator is one piece, also when it is empty. Null gives null.
pub(crate) fn split(text: Expr, by: &str) -> Expr {
    let signature = Signature::exact(vec![DataType::Utf8], Volatility::Immutable);
    ScalarUDF::from(Split { by: by.to_string(), signature }).call(vec![text])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Split {
    by: String,
    signature: Signature,
}

impl ScalarUDFImpl for Split {
    fn name(&self) -> &str {
        "split"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [text] =
            ColumnarValue::values_to_arrays(&args.args)?.try_into().or_else(|_| exec_err!("`split` takes one text"))?;
        let mut lists = ListBuilder::new(StringBuilder::new());
        for text in text.as_string::<i32>() {
            if let Some(text) = text {
                split_into(text, &self.by, lists.values());
            }
            lists.append(text.is_some());
        }
        Ok(ColumnarValue::Array(Arc::new(lists.finish())))
    }
}

fn split_into(text: &str, by: &str, pieces: &mut StringBuilder) {
    if by.is_empty() {
        return text.char_indices().for_each(|(at, c)| pieces.append_value(&text[at..at + c.len_utf8()]));
    }
    if !text.contains(by) {
        return pieces.append_value(text);
    }
    // Empty pieces are held back until one that is not empty follows.
    let mut empty = 0;
    for piece in text.split(by) {
        if piece.is_empty() {
            empty += 1;
            continue;
        }
        (0..empty).for_each(|_| pieces.append_value(""));
        empty = 0;
        pieces.append_value(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_as_scala_does() {
        let pieces = |text, by| -> Vec<String> {
            let mut builder = StringBuilder::new();
            split_into(text, by, &mut builder);
            builder.finish().iter().flatten().map(str::to_string).collect()
        };
        assert_eq!(pieces("a b  c", " "), ["a", "b", "", "c"]);
        assert_eq!(pieces(" a  ", " "), ["", "a"]);
        assert_eq!(pieces("", " "), [""]);
        assert_eq!(pieces("  ", " "), Vec::<String>::new());
        assert_eq!(pieces("a, b", ", "), ["a", "b"]);
        assert_eq!(pieces("aé", ""), ["a", "é"]);
    }
}
